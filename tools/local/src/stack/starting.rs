//! A stack on its way up: what is started so far, and waiting for it.

use std::path::Path;
use std::time::Instant;

use anyhow::Context as _;
use tokio::net::UnixStream;

use super::{Parts, Site, Started, readiness};
use crate::chain::Chain;
use crate::child::{Program, Running};
use crate::part::Part;
use crate::ready::{self, Addresses};

/// A stack that is not complete.
pub(super) struct Starting {
    pub(super) parts: Parts,
    pub(super) site: Site,
    pub(super) deadline: Instant,
}

impl Starting {
    pub(super) fn start(&mut self, part: Part, program: Program) -> anyhow::Result<()> {
        let running = program.start(&self.site.data.logs())?;
        self.parts.0.push(Started {
            part,
            program,
            running: Some(running),
            addresses: None,
        });
        Ok(())
    }

    fn running(&mut self, part: Part) -> (&mut Running, &mut Option<Addresses>) {
        let started = self
            .parts
            .0
            .iter_mut()
            .find(|started| started.part == part)
            .expect("it was started before");
        (
            started
                .running
                .as_mut()
                .expect("nothing stops it while the stack starts"),
            &mut started.addresses,
        )
    }

    pub(super) async fn wait_for_address(&mut self, part: Part) -> anyhow::Result<Addresses> {
        let (deadline, file) = (self.deadline, self.site.address_file(part.as_str()));
        let (running, addresses) = self.running(part);
        Ok(addresses
            .insert(ready::addresses(running, &file, deadline).await?)
            .clone())
    }

    pub(super) async fn wait_for_socket(&mut self, part: Part) -> anyhow::Result<()> {
        let (deadline, socket) = (self.deadline, self.site.socket(part.as_str()));
        ready::until(self.running(part).0, deadline, async |_| {
            connect(&socket).await
        })
        .await
    }

    pub(super) async fn wait_for_chain(&mut self) -> anyhow::Result<Chain> {
        let deadline = self.deadline;
        ready::until(self.running(Part::Anvil).0, deadline, async |running| {
            let output = running.output().map_err(|error| error.to_string())?;
            let address = output
                .lines()
                .find_map(|line| line.strip_prefix("Listening on "));
            let address = address.ok_or_else(|| "it does not listen".to_owned())?;
            let chain =
                Chain::new(format!("http://{address}")).map_err(|error| error.to_string())?;
            chain.id().await.map_err(|error| format!("{error:#}"))?;
            Ok(chain)
        })
        .await
    }

    pub(super) async fn wait_for_pod(&mut self, part: Part) -> anyhow::Result<()> {
        let deadline = self.deadline;
        let (running, addresses) = self.running(part);
        let health = addresses
            .as_ref()
            .and_then(|addresses| addresses.health)
            .context("a pod has no health port")?;
        ready::until(running, deadline, async |_| match readiness(health).await {
            Ok((200, _)) => Ok(()),
            Ok((status, body)) => Err(format!("/readyz says {status} {body}")),
            Err(error) => Err(format!("/readyz: {error:#}")),
        })
        .await
    }
}

/// Whether somebody listens at a unix socket.
pub(super) async fn connect(socket: &Path) -> Result<(), String> {
    UnixStream::connect(socket)
        .await
        .map(drop)
        .map_err(|_| "it does not listen".to_owned())
}
