//! `cargo xtask test`: one step after the other, each with its time; the first that fails ends the
//! run.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::build::{self, cargo, cloister_local, workspace_root};
use crate::cache;
use crate::containers;
use crate::debian;
use crate::deployment;
use crate::emulator::Emulator;
use crate::examples;
use crate::image::{self, Architecture};
use crate::kernel::Kernels;
use crate::kubernetes;
use crate::lambda;
use crate::newman;
use crate::openapi;
use crate::rehearsal;
use crate::run::succeed;
use crate::twice;

/// Which of the steps.
#[derive(Clone, Copy)]
pub(crate) enum Selection<'a> {
    Daily,
    Full,
    Only(&'a str),
}

impl Selection<'_> {
    fn includes(self, step: &Step) -> bool {
        match self {
            Self::Daily => !step.full_only,
            Self::Full => true,
            Self::Only(name) => step.name == name,
        }
    }
}

/// Runs the steps, then prints how long each took.
pub(crate) fn run(selection: Selection<'_>) -> Result<(), String> {
    let steps = steps();
    if !steps.iter().any(|step| selection.includes(step)) {
        let names: Vec<_> = steps.iter().map(|step| step.name).collect();
        return Err(format!(
            "there is no such step; the steps are: {}",
            names.join(", ")
        ));
    }
    if let Selection::Only(_) = selection {
        // In a whole run the step of that name has done it before those that need it.
        build::programs()?;
    }
    let started = Instant::now();
    let clean_before = working_tree();
    let mut times = Vec::new();
    for step in steps.iter().filter(|step| selection.includes(step)) {
        println!("\n── {} ──", step.name);
        let step_started = Instant::now();
        let outcome = (step.run)();
        let took = step_started.elapsed();
        times.push((step.name, took));
        if let Err(problem) = outcome {
            summary(&times, started.elapsed());
            return Err(format!("FAILED: {} ({problem})", step.name));
        }
        println!("── {}: {:.1} s ──", step.name, took.as_secs_f64());
    }
    if working_tree() != clean_before {
        summary(&times, started.elapsed());
        return Err(
            "FAILED: the tests changed files of the working tree; `git status` shows which"
                .to_owned(),
        );
    }
    summary(&times, started.elapsed());
    println!(
        "{}",
        if matches!(selection, Selection::Only(_)) {
            "this step held"
        } else {
            "every step held"
        }
    );
    Ok(())
}

struct Step {
    name: &'static str,
    full_only: bool,
    run: fn() -> Result<(), String>,
}

fn steps() -> Vec<Step> {
    let step = |name, run| Step {
        name,
        full_only: false,
        run,
    };
    let long_step = |name, run| Step {
        name,
        full_only: true,
        run,
    };
    vec![
        step("crates", || {
            succeed(cargo().args(["fetch", "--locked"]))?;
            succeed(&mut image::tool_cargo(&["fetch"])?)
        }),
        step("format", || {
            succeed(cargo().args(["fmt", "--all", "--check"]))?;
            succeed(cargo().args(["fmt", "--check", "--manifest-path", image::TOOL_MANIFEST]))
        }),
        step("lints", || {
            let denied = ["--", "-D", "warnings"];
            succeed(
                cargo()
                    .args(["clippy", "--workspace", "--all-targets", "--locked"])
                    .args(denied),
            )?;
            succeed(image::tool_cargo(&["clippy", "--all-targets"])?.args(denied))
        }),
        step("documentation", || {
            let denied = "-D warnings -D rustdoc::broken_intra_doc_links";
            succeed(
                cargo()
                    .args(["doc", "--workspace", "--no-deps", "--locked"])
                    .env("RUSTDOCFLAGS", denied),
            )?;
            succeed(image::tool_cargo(&["doc", "--no-deps"])?.env("RUSTDOCFLAGS", denied))
        }),
        step("build", || {
            succeed(cargo().args(["build", "--workspace", "--bins", "--locked"]))
        }),
        step("npm packages", || {
            succeed(Command::new(cloister_local()).arg("set-up"))
        }),
        step("layering", || {
            succeed(cargo().args(["test", "--workspace", "--locked", "--test", "layering"]))
        }),
        step("postman", newman::test),
        step("openapi", openapi::test),
        step("examples", examples::test),
        step("demo", || {
            succeed(Command::new(cloister_local()).arg("demo"))
        }),
        step("deployment", deployment::check),
        step("kubernetes objects", kubernetes::check_objects),
        step("image tool", || succeed(&mut image::tool_cargo(&["test"])?)),
        step("emulator", || Emulator::kept().map(drop)),
        step("images", image::build_for_emulator),
        step("lambda package", lambda::test),
        step("rehearsal", rehearsal::run),
        step("images twice", || twice::check(Architecture::Amd64)),
        step("tests", || {
            succeed(cargo().args(["test", "--workspace", "--locked", "--no-fail-fast"]))
        }),
        long_step("openapi at length", openapi::test_at_length),
        long_step("kernel twice", || Kernels::build_twice(Architecture::Amd64)),
        long_step("images for arm64", image::build_for_arm64),
        long_step("volume", image::test_volume),
        long_step("every deployment", deployment::check_all),
        long_step("bridge beside socat", || {
            debian::require(&["socat"])?;
            succeed(cargo().args([
                "bench",
                "--locked",
                "--package",
                "cloister-vsock-bridge",
                "--bench",
                "beside_socat",
            ]))
        }),
        long_step("many property cases", || {
            succeed(
                cargo()
                    .args(["test", "--workspace", "--locked", "--lib"])
                    .env("PROPTEST_CASES", "20000"),
            )
        }),
        long_step("licences and sources", dependencies),
        long_step("container images", containers::test),
    ]
}

/// Checks bans, licences and sources of every dependency with cargo-deny, which is built once and
/// kept.
fn dependencies() -> Result<(), String> {
    let root = cache::directory()?.join(format!("cargo-deny-{CARGO_DENY_VERSION}"));
    let program = root.join("bin").join("cargo-deny");
    if !program.exists() {
        println!("building cargo-deny {CARGO_DENY_VERSION}, once");
        succeed(
            cargo()
                .args([
                    "install",
                    "cargo-deny",
                    "--locked",
                    "--version",
                    CARGO_DENY_VERSION,
                    "--root",
                ])
                .arg(&root),
        )?;
    }
    for manifest in ["Cargo.toml", image::TOOL_MANIFEST] {
        let mut deny = Command::new(&program);
        deny.current_dir(workspace_root()).args([
            "--manifest-path",
            manifest,
            "--config",
            "deny.toml",
        ]);
        // One list of exceptions for both: each has some that the other has no use for.
        succeed(deny.args([
            "check",
            "--allow",
            "unused-wrapper",
            "bans",
            "licenses",
            "sources",
        ]))?;
    }
    Ok(())
}

/// What git thinks of the working tree; `None` outside of a git repository. Compared before and
/// after, so that a developer's own changes are no failure.
fn working_tree() -> Option<Vec<u8>> {
    let output = Command::new("git")
        .current_dir(workspace_root())
        .args(["status", "--porcelain"])
        .output()
        .ok()?;
    output.status.success().then_some(output.stdout)
}

fn summary(times: &[(&str, Duration)], total: Duration) {
    println!();
    for (name, took) in times {
        println!("{:>8.1} s  {name}", took.as_secs_f64());
    }
    println!("{:>8.1} s  in all", total.as_secs_f64());
}

const CARGO_DENY_VERSION: &str = "0.20.2";
