//! The volume profile: what an application writes is there when its enclave boots again, and no
//! enclave boots without its volume.
//!
//! `cargo xtask test --full` builds what this needs and runs it. The NFS server opens files by
//! their handles, which only root may.

#![allow(clippy::unwrap_used, reason = "what cannot go on in a test fails it")]

mod server;

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Instant;

use cloister_e2e::eventually;
use cloister_e2e::guest::{Guest, assemble};
use cloister_local::child::{Program, Running, binary};
use cloister_local::emulator::Tools;

use crate::server::{Server, USER};

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_outlives_its_enclave() {
    let directory = tempfile::tempdir().unwrap();
    let tools = Tools::find().unwrap();
    let image = directory.path().join("volume.eif");
    assemble(
        &tools,
        &tools.guest_release.with_file_name("volume-release-amd64"),
        &image,
    );

    let server = Server::start(directory.path()).await;
    let mut guest = Guest::new(tools, image, directory.path());
    let bridge = bridge(directory.path(), &guest.parent_socket(PORT), server.port()).await;
    for name in ["volume: written", "volume: read back"] {
        let mut log = guest.boot().await;
        let checks = log.checks().await;
        assert!(
            checks.iter().any(|check| check["name"] == name),
            "{checks:#?}"
        );
        let end = log.end().await;
        assert_eq!(
            (end["reason"].as_str(), end["status"].as_i64()),
            (Some("application_exited"), Some(0)),
            "{end}"
        );

        let kept = server.directory().join("kept");
        let written: Vec<u8> = (0..3_000_000_u32)
            .map(|at| u8::try_from(at % 251).unwrap())
            .collect();
        assert!(
            fs::read(&kept).unwrap() == written,
            "the server has something else"
        );
        assert_eq!(fs::metadata(kept).unwrap().uid(), USER);
    }

    // The bridge is there, but not what it leads to.
    drop(server);
    refused(&mut guest).await;
    // Nor the bridge.
    drop(bridge);
    refused(&mut guest).await;
}

/// `vsock-bridge` at the parent. The emulated vsock device shows the enclave's connections as those
/// to a unix socket.
async fn bridge(logs: &Path, socket: &Path, port: u16) -> Running {
    let server = format!("127.0.0.1:{port}");
    let program = Program::new("bridge", binary("vsock-bridge").unwrap())
        .option("listen", format!("unix:{}", socket.display()))
        .option("connect", format!("tcp:{server}"))
        .option("allow", server);
    let mut bridge = program.start(logs).unwrap();
    eventually("the bridge listening", async || {
        assert!(bridge.ended().is_none(), "{:#}", bridge.failure("it ended"));
        socket.exists()
    })
    .await;
    bridge
}

async fn refused(guest: &mut Guest) {
    let started = Instant::now();
    let end = guest.boot().await.end().await;
    eprintln!(
        "refused after {:.1} s: {end}",
        started.elapsed().as_secs_f64()
    );
    assert_eq!(end["reason"], "boot_failed", "{end}");
    let error = end["error"].as_str().unwrap();
    assert!(
        error.starts_with("the volume /volume on the parent's port 2049 cannot be mounted: "),
        "{error}"
    );
}

/// As `enclaves/image/volume.cmdline` has it.
const PORT: u32 = 2049;
