//! Waits for parts: until a condition holds, the part ends, or the deadline passes. A failure
//! names the part and shows the end of its log.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde::Deserialize;
use tokio::net::UnixStream;

use crate::child::Running;

/// The addresses on which a part listens; each part fills in what it has.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Addresses {
    /// Plain HTTP.
    pub http: Option<SocketAddr>,
    /// HTTPS.
    pub https: Option<SocketAddr>,
    /// The plain port with /healthz and /readyz.
    pub health: Option<SocketAddr>,
}

/// Calls `condition` until it succeeds.
///
/// # Errors
/// If the part ends, or the deadline passes; with the last reason of `condition`.
pub(crate) async fn until<T>(
    running: &mut Running,
    deadline: Instant,
    mut condition: impl AsyncFnMut(&Running) -> Result<T, String>,
) -> anyhow::Result<T> {
    loop {
        let reason = match condition(running).await {
            Ok(value) => return Ok(value),
            Err(reason) => reason,
        };
        if running.ended().is_some() {
            return Err(running.failure("it ended while it started"));
        }
        if Instant::now() > deadline {
            return Err(running.failure(&format!("it is not ready in time: {reason}")));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Waits for a part's address file.
pub(crate) async fn addresses(
    running: &mut Running,
    file: &Path,
    deadline: Instant,
) -> anyhow::Result<Addresses> {
    until(running, deadline, async |_| {
        let text = std::fs::read(file).map_err(|_| "it does not listen".to_owned())?;
        serde_json::from_slice(&text)
            .map_err(|error| format!("its address file is malformed: {error}"))
    })
    .await
}

/// Connects to a unix socket, to see that it is listened on.
pub(crate) async fn connect(socket: &Path) -> Result<(), String> {
    UnixStream::connect(socket)
        .await
        .map(drop)
        .map_err(|_| "it does not listen".to_owned())
}

/// The answer of a pod's /readyz: the status, and the body.
///
/// # Errors
/// If the pod does not answer.
pub async fn readiness(health: SocketAddr) -> anyhow::Result<(u16, String)> {
    let client = reqwest::Client::builder()
        .no_proxy()
        .build()
        .context("failed to make an HTTP client")?;
    let response = client
        .get(format!("http://{health}/readyz"))
        .send()
        .await
        .context("no answer")?;
    let status = response.status().as_u16();
    Ok((status, response.text().await.context("half an answer")?))
}

const PAUSE: Duration = Duration::from_millis(10);
/// Time for the whole stack to be ready. Emulated enclaves take a while on a machine that
/// is busy.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(180);
