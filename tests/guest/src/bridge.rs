//! The bridge between TCP and vsock: both of its halves, with AF_VSOCK between them.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cloister_bridge::{BoundForward, Counters, Forward, ForwardLimits, ListenAddress};
use cloister_transport::Stream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::report::Report;
use crate::vsock::{local, within};

/// A TCP connection of an enclave to its parent.
pub(crate) async fn check(report: &mut Report) {
    report.add("bridge: TCP, vsock, TCP", within(both_halves(6010)).await);
    report.add(
        "bridge: a stranger's context id",
        within(stranger(6011)).await,
    );
}

async fn both_halves(port: u32) -> Result<String> {
    let server = TcpListener::bind(LOOPBACK).await?;
    let parent = parents_half(port, &server, LOCAL_CID).await?;
    let enclave = Forward::new(
        ListenAddress::Tcp(LOOPBACK),
        format!("vsock:{LOCAL_CID}:{port}").parse()?,
        LIMITS,
    );
    let enclave = enclave.bind().await?;
    let ListenAddress::Tcp(entrance) = *enclave.address() else {
        anyhow::bail!("it listens elsewhere")
    };
    let (parent, enclave) = (Running::start(parent), Running::start(enclave));
    let served = tokio::spawn(serve(server));

    let mut open = Vec::new();
    for index in 0..CONNECTIONS {
        let mut stream = TcpStream::connect(entrance).await?;
        stream.write_u32(index).await?;
        ensure!(
            stream.read_u32().await? == index,
            "an answer to another connection"
        );
        open.push(stream);
    }
    // All of them are open now.
    let mut exchanges = JoinSet::new();
    for (index, mut stream) in (0..).zip(open) {
        exchanges.spawn(async move {
            let sent: Vec<u8> = (0..4096_u32)
                .flat_map(|at| (at ^ index).to_le_bytes())
                .collect();
            stream.write_all(&sent).await?;
            stream.shutdown().await?;
            let mut received = Vec::new();
            stream.read_to_end(&mut received).await?;
            received.reverse();
            ensure!(received == sent, "{} bytes came back", received.len());
            Ok(())
        });
    }
    while let Some(exchange) = exchanges.join_next().await {
        exchange??;
    }
    served.abort();
    for counters in [parent.stop().await?, enclave.stop().await?] {
        let totals = counters.totals();
        ensure!(totals.opened == u64::from(CONNECTIONS), "{totals:?}");
        ensure!(
            totals.open + totals.failed + totals.broken + totals.stopped == 0,
            "{totals:?}"
        );
    }
    Ok(format!("{CONNECTIONS} at once, half-closed by both sides"))
}

async fn stranger(port: u32) -> Result<&'static str> {
    let server = TcpListener::bind(LOOPBACK).await?;
    let parent = Running::start(parents_half(port, &server, LOCAL_CID + 15).await?);
    let mut stream = Stream::connect(&local(port)).await?;
    ensure!(stream.read_u8().await.is_err(), "a byte for a stranger");
    let totals = parent.stop().await?.totals();
    ensure!(
        (totals.refused_source, totals.opened) == (1, 0),
        "{totals:?}"
    );
    Ok("refused")
}

/// From vsock to a TCP server, for one context id.
async fn parents_half(port: u32, server: &TcpListener, source: u32) -> Result<BoundForward> {
    let connect = format!("tcp:{}", server.local_addr()?).parse()?;
    let forward = Forward::new(format!("vsock:any:{port}").parse()?, connect, LIMITS);
    forward
        .only_from([source])
        .bind()
        .await
        .context("the parent's half")
}

/// Returns the first four bytes at once, and the rest in reverse after its end.
async fn serve(listener: TcpListener) -> Result<()> {
    loop {
        let (mut stream, _) = listener.accept().await?;
        tokio::spawn(async move {
            let first = stream.read_u32().await?;
            stream.write_u32(first).await?;
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).await?;
            rest.reverse();
            stream.write_all(&rest).await?;
            stream.shutdown().await
        });
    }
}

struct Running {
    task: JoinHandle<()>,
    counters: Counters,
    shutdown: CancellationToken,
}

impl Running {
    fn start(forward: BoundForward) -> Self {
        let (counters, shutdown) = (forward.counters().clone(), CancellationToken::new());
        Self {
            task: tokio::spawn(forward.run(shutdown.clone())),
            counters,
            shutdown,
        }
    }

    /// The counters after all connections have ended.
    async fn stop(self) -> Result<Counters> {
        self.shutdown.cancel();
        self.task.await?;
        Ok(self.counters)
    }
}

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
/// VMADDR_CID_LOCAL; see vsock(7).
const LOCAL_CID: u32 = 1;
/// Each has six descriptors here, of the 4096 that an application may have.
const CONNECTIONS: u32 = 400;
const LIMITS: ForwardLimits = ForwardLimits {
    connections: 1024,
    connect: Duration::from_secs(10),
    idle: None,
    drain: Duration::from_secs(10),
};
