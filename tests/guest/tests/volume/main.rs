//! The volume profile: what an application writes is there when its enclave boots again, and no enclave boots without its volume.
//!
//! `cargo xtask test --full` builds what this needs and runs it. The NFS server opens files by their handles, which only root may.

#![allow(clippy::unwrap_used, reason = "what cannot go on in a test fails it")]

mod machine;
mod server;

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use serde_json::Value;

use crate::machine::Machine;
use crate::server::{Bridge, Server, USER};

#[test]
fn a_volume_outlives_its_enclave() {
    let tools = Tools::find();
    let directory = tempfile::tempdir().unwrap();
    let image = directory.path().join("volume.eif");
    tools.assemble(&image);

    let server = Server::start();
    let machine = Machine::new(&tools, directory.path(), &image);
    let bridge = Bridge::start(&tools, &machine.parent_socket(PORT), server.port());
    for name in ["volume: written", "volume: read back"] {
        let lines = machine.run();
        let told = |message: &str| lines.iter().find(|line| line["message"] == message);
        let report = told("self-test").unwrap_or_else(|| panic!("no report: {lines:#?}"));
        let checks = report["checks"].as_array().unwrap();
        assert!(checks.iter().all(|check| check["held"] == true), "{report:#}");
        assert!(checks.iter().any(|check| check["name"] == name), "{report:#}");
        assert_eq!(end(&lines)["reason"], "application_exited");
        assert_eq!(end(&lines)["status"], 0);

        let kept = server.directory().join("kept");
        let on_host: Vec<u8> = (0..3_000_000_u32).map(|at| u8::try_from(at % 251).unwrap()).collect();
        assert!(fs::read(&kept).unwrap() == on_host, "the server has something else");
        assert_eq!(fs::metadata(kept).unwrap().uid(), USER);
    }

    // The bridge is there, but not what it leads to.
    drop(server);
    refused(&machine);
    // Nor the bridge.
    drop(bridge);
    refused(&machine);
}

fn refused(machine: &Machine) {
    let started = Instant::now();
    let lines = machine.run();
    println!("refused after {:.1} s: {}", started.elapsed().as_secs_f64(), end(&lines));
    assert_eq!(end(&lines)["reason"], "boot_failed", "{lines:#?}");
    let error = end(&lines)["error"].as_str().unwrap();
    assert!(error.starts_with("the volume /volume on the parent's port 2049 cannot be mounted: "), "{error}");
}

fn end(lines: &[Value]) -> &Value {
    lines.last().unwrap()
}

/// What `cargo xtask` has built.
struct Tools {
    target: PathBuf,
    /// `emulation.json`.
    emulation: Value,
}

impl Tools {
    fn find() -> Self {
        // TARGET/debug/deps/volume-…
        let target = std::env::current_exe().unwrap().ancestors().nth(3).unwrap().to_owned();
        let file = target.join("images/emulation.json");
        let text = fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}: {BUILD}", file.display()));
        Self { target, emulation: serde_json::from_slice(&text).unwrap() }
    }

    fn program(&self, name: &str) -> Command {
        Command::new(self.emulation[name].as_str().unwrap_or_else(|| panic!("no {name}: {BUILD}")))
    }

    fn assemble(&self, image: &Path) {
        let settings = image.with_extension("json");
        fs::write(&settings, "{}").unwrap();
        let mut tool = self.program("image_tool");
        tool.args(["one", "--application", "guest-self-test", "--release"]);
        tool.arg(self.target.join("images/volume-release-amd64")).arg("--settings").arg(settings);
        let output = tool.arg("--output").arg(image).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

const BUILD: &str = "run `cargo xtask test --full`, which builds everything first";
/// As `enclaves/image/volume.cmdline` has it.
const PORT: u32 = 2049;
