//! AF_VSOCK itself, from this machine to itself.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use cloister_protocol::message::Request;
use cloister_protocol::{Operation, Rejection, SessionValue};
use cloister_transport::{Address, Client, EgressPool, Handler, Listener, Server, Session, Stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::report::Report;

/// Frames, half-closed connections, many connections.
pub(crate) async fn check(report: &mut Report) {
    report.add("vsock: nobody listens", within(nobody(6000)).await);
    report.add(
        "vsock: requests share a connection",
        within(requests(6001)).await,
    );
    report.add(
        "vsock: half-closed connections",
        within(half_close(6002)).await,
    );
    report.add("vsock: many connections", within(many(6003)).await);
    report.add("vsock: an end shows", within(abandoned(6004)).await);
}

pub(crate) async fn within<T>(check: impl Future<Output = Result<T>>) -> Result<T> {
    timeout(DEADLINE, check).await.context("no end in sight")?
}

async fn nobody(port: u32) -> Result<String> {
    let error = Stream::connect(&local(port))
        .await
        .err()
        .context("somebody answered")?;
    let kinds = [
        io::ErrorKind::ConnectionRefused,
        io::ErrorKind::ConnectionReset,
    ];
    ensure!(kinds.contains(&error.kind()), "{error}");
    Ok(error.to_string())
}

/// Answers with the length of what it is asked, as JSON.
struct Measure;

impl Handler for Measure {
    async fn handle(&self, request: Request) -> Result<Vec<u8>, Rejection> {
        Ok(request
            .parts
            .iter()
            .map(Bytes::len)
            .sum::<usize>()
            .to_string()
            .into_bytes())
    }
}

async fn requests(port: u32) -> Result<&'static str> {
    let listener = Listener::bind(&local(port)).await?;
    let shutdown = CancellationToken::new();
    let server = Server::new(Arc::new(Measure), EgressPool::new());
    let server = tokio::spawn(server.run(listener, shutdown.clone()));
    let client = Client::new(local(port), Session::new(SessionValue::new([7; 32])));
    let mut calls = JoinSet::new();
    for len in 0..200_usize {
        let client = client.clone();
        calls.spawn(async move {
            let request = Request {
                operation: Operation::GenerateKey,
                parts: vec![vec![7; len * 100].into()],
            };
            (len * 100, client.call(request).await)
        });
    }
    while let Some(call) = calls.join_next().await {
        let (len, answer) = call?;
        let answer = answer.map_err(|rejection| anyhow::anyhow!("{}", rejection.error))?;
        ensure!(
            answer == len.to_string(),
            "{len} bytes were answered with {answer:?}"
        );
    }
    shutdown.cancel();
    drop(client);
    server.await?;
    Ok("200 at once, 0 to 19900 bytes")
}

async fn half_close(port: u32) -> Result<&'static str> {
    let listener = Listener::bind(&local(port)).await?;
    let server = tokio::spawn(async move {
        let mut stream = listener.accept().await?;
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await?;
        all.reverse();
        stream.write_all(&all).await?;
        stream.shutdown().await
    });
    let mut stream = Stream::connect(&local(port)).await?;
    let sent: Vec<u8> = (0..1 << 20)
        .map(|index: u32| index.to_le_bytes()[index as usize % 3])
        .collect();
    stream.write_all(&sent).await?;
    stream.shutdown().await?;
    let mut received = Vec::new();
    stream.read_to_end(&mut received).await?;
    server.await??;
    received.reverse();
    ensure!(received == sent, "{} bytes came back", received.len());
    Ok("a megabyte there, then a megabyte back")
}

async fn many(port: u32) -> Result<String> {
    let listener = Listener::bind(&local(port)).await?;
    let server = tokio::spawn(async move {
        let mut open = Vec::new();
        while open.len() < CONNECTIONS {
            open.push(listener.accept().await?);
        }
        // All of them are open now.
        for stream in &mut open {
            let byte = stream.read_u8().await?;
            stream.write_u8(byte.wrapping_add(1)).await?;
        }
        io::Result::Ok(())
    });
    // One after the other: a listener keeps 128 waiting, and vsock resets the next one.
    let mut clients = Vec::new();
    while clients.len() < CONNECTIONS {
        clients.push(Stream::connect(&local(port)).await?);
    }
    for (byte, client) in (0..=u8::MAX).cycle().zip(&mut clients) {
        client.write_u8(byte).await?;
    }
    for (byte, client) in (0..=u8::MAX).cycle().zip(&mut clients) {
        ensure!(
            client.read_u8().await? == byte.wrapping_add(1),
            "an answer to another connection"
        );
    }
    server.await??;
    Ok(format!("{CONNECTIONS} at once"))
}

async fn abandoned(port: u32) -> Result<&'static str> {
    let listener = Listener::bind(&local(port)).await?;
    let client = tokio::spawn(async move { Stream::connect(&local(port)).await.map(drop) });
    let mut stream = listener.accept().await?;
    client.await??;
    let read = stream.read_u8().await;
    ensure!(read.is_err(), "a byte from nobody");
    Ok("reading ends")
}

/// VMADDR_CID_LOCAL: this machine. See vsock(7).
pub(crate) fn local(port: u32) -> Address {
    Address::Vsock { cid: 1, port }
}

const CONNECTIONS: usize = 1000;
const DEADLINE: Duration = Duration::from_secs(60);
