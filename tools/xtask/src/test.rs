//! `cargo xtask test`: one step after the other, each with its time; the first failure ends the
//! run.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use cloister_contract::Architecture;
use cloister_toolchain::cargo::{build_programs, cargo, program, target_directory, workspace_root};
use cloister_toolchain::command::{output, succeed};
use cloister_toolchain::node::Node;
use cloister_toolchain::{cache, debian};
use fs_err as fs;

use crate::background::{Background, EarlyStep};
use crate::{deployment, examples, kubernetes, lambda, newman, openapi};

/// Options of `cargo xtask test`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Also run the long steps
    #[arg(long, conflicts_with = "step")]
    full: bool,
    /// Run one step; earlier steps must have been run
    #[arg(long, value_name = "NAME", value_parser = step_names())]
    step: Option<String>,
}

/// Runs the steps, then prints the time of each.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let selected = |step: &Step| match &arguments.step {
        Some(name) => step.name == name,
        None => step.run_in == RunIn::Daily || (arguments.full && step.run_in == RunIn::Full),
    };
    let selected: Vec<_> = steps().into_iter().filter(selected).collect();
    let started = Instant::now();
    let clean_before = working_tree();
    let _background = match arguments.step {
        Some(_) => None,
        None => Some(Background::start()?),
    };
    if arguments.step.is_some() && selected.iter().any(|step| step.needs_programs) {
        // In a whole run, the step "build" has done it.
        build_programs()?;
    }
    let mut times = Vec::new();
    let mut early = Vec::new();
    let outcome: Result<()> = selected.iter().try_for_each(|step| {
        if arguments.step.is_none() {
            for other in selected
                .iter()
                .filter(|other| other.beside == Some(step.name))
            {
                early.push((other.name, EarlyStep::start(other.name)?));
            }
        }
        println!("\n── {} ──", step.name);
        let step_started = Instant::now();
        let started_early = early.iter().position(|(name, _)| *name == step.name);
        let (outcome, took) = match started_early {
            Some(index) => early.swap_remove(index).1.finish(),
            None => ((step.run)(), step_started.elapsed()),
        };
        times.push((step.name, took));
        outcome.with_context(|| format!("FAILED: {}", step.name))?;
        println!("── {}: {:.1} s ──", step.name, took.as_secs_f64());
        Ok(())
    });
    print_summary(&times, started.elapsed());
    outcome?;
    ensure!(
        working_tree() == clean_before,
        "FAILED: the tests changed files of the working tree; see `git status`"
    );
    println!("all of these steps passed");
    Ok(())
}

struct Step {
    name: &'static str,
    run_in: RunIn,
    /// Set if it calls programs of the workspace.
    needs_programs: bool,
    /// In a whole run, starts together with this earlier step, which leaves processors idle.
    beside: Option<&'static str>,
    run: fn() -> Result<()>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum RunIn {
    /// Every run.
    Daily,
    /// `--full`.
    Full,
    /// `--step`: needs the internet.
    Step,
}

impl Step {
    fn with_programs(self) -> Self {
        Self {
            needs_programs: true,
            ..self
        }
    }

    fn beside(self, earlier: &'static str) -> Self {
        Self {
            beside: Some(earlier),
            ..self
        }
    }
}

fn steps() -> Vec<Step> {
    let step_in = |run_in, name, run| Step {
        name,
        run_in,
        needs_programs: false,
        beside: None,
        run,
    };
    let step = |name, run| step_in(RunIn::Daily, name, run);
    let long_step = |name, run| step_in(RunIn::Full, name, run);
    vec![
        step("crates", || {
            succeed(cargo().args(["fetch", "--locked"]).args(TARGETS))?;
            succeed(&mut cloister_release::image_tool_cargo(&["fetch"])?)
        }),
        step("format", || {
            let tool = ["--manifest-path", cloister_release::IMAGE_TOOL_MANIFEST];
            succeed(cargo().args(["fmt", "--all", "--check"]))?;
            succeed(cargo().args(["fmt", "--check"]).args(tool))?;
            deployment::check_format()
        }),
        step("lints", || {
            let denied = ["--", "-D", "warnings"];
            succeed(
                cargo()
                    .args(["clippy", "--workspace", "--all-targets", "--locked"])
                    .args(denied),
            )?;
            succeed(cloister_release::image_tool_cargo(&["clippy", "--all-targets"])?.args(denied))
        }),
        step("documentation", || {
            let denied = "-D warnings -D rustdoc::broken_intra_doc_links";
            succeed(
                cargo()
                    .args(["doc", "--workspace", "--no-deps", "--locked"])
                    .env("RUSTDOCFLAGS", denied),
            )?;
            succeed(
                cloister_release::image_tool_cargo(&["doc", "--no-deps"])?
                    .env("RUSTDOCFLAGS", denied),
            )
        }),
        step("build", || {
            succeed(cargo().args(["build", "--workspace", "--bins", "--locked"]))
        }),
        step("npm packages", install_local_packages),
        step("layering", || cargo_test(&["--test", "layering"])),
        step("postman", newman::test).with_programs(),
        step("openapi", openapi::test).with_programs(),
        step("examples", examples::test).with_programs(),
        step("demo", || {
            succeed(Command::new(program("cloister-local")).arg("demo"))
        })
        .with_programs(),
        step("deployment", deployment::check).beside("postman"),
        step("kubernetes objects", kubernetes::check_objects).beside("examples"),
        step("image tool", || {
            succeed(&mut cloister_release::image_tool_cargo(&["test"])?)
        }),
        step("lambda package", lambda::test).with_programs(),
        step("rehearsal", rehearsal).with_programs(),
        step("emulator", cloister_release::build_emulator),
        step("images", cloister_release::build_for_emulator),
        step("tests", || cargo_test(&["--no-fail-fast"])).with_programs(),
        step("images twice", || {
            cloister_release::check_reproducible(Architecture::Amd64)
        })
        .beside("tests"),
        long_step("openapi at length", openapi::test_at_length).with_programs(),
        long_step("expiring credentials", || {
            succeed(
                cargo()
                    .args([
                        "test",
                        "--workspace",
                        "--locked",
                        "--test",
                        "e2e",
                        "credentials::",
                    ])
                    .env("CLOISTER_SOAK", "1"),
            )
        })
        .with_programs(),
        long_step("kernel twice", || {
            cloister_release::build_kernel_twice(Architecture::Amd64)
        }),
        long_step("images for arm64", cloister_release::build_for_arm64),
        long_step("volume", volume).with_programs(),
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
        long_step("licences and sources", || {
            cargo_deny(&["bans", "licenses", "sources"])
        }),
        long_step(
            "nitro-cli without Docker",
            cloister_release::check_nitro_cli,
        ),
        long_step("container images", container_images),
        step_in(RunIn::Step, "advisories", || cargo_deny(&["advisories"])),
    ]
}

fn step_names() -> Vec<&'static str> {
    steps().iter().map(|step| step.name).collect()
}

fn cargo_test(arguments: &[&str]) -> Result<()> {
    succeed(
        cargo()
            .args(["test", "--workspace", "--locked"])
            .args(arguments),
    )
}

/// Installs the npm packages of the local stack.
fn install_local_packages() -> Result<()> {
    let directory = workspace_root().join("tools/local/node");
    let manifest = fs::read_to_string(directory.join("package.json"))?;
    let lock = fs::read_to_string(directory.join("package-lock.json"))?;
    Node::find()?
        .packages("local-stack-packages", &manifest, &lock)
        .map(drop)
}

/// Deploys to a stand-in for AWS.
fn rehearsal() -> Result<()> {
    cloister_release::package_lambda(Architecture::Amd64)?;
    Node::find()?.install(&workspace_root().join("cdk"))?;
    cargo_test(&["--test", "rehearsal"])
}

/// Boots an image that mounts a directory of an NFS server on this machine.
fn volume() -> Result<()> {
    cloister_release::build_volume_for_test()?;
    debian::require(&["nfs-ganesha", "nfs-ganesha-vfs"])?;
    cargo_test(&["--test", "volume"])
}

/// Builds the pods' container images twice, starts their programs as Kubernetes would, and pushes
/// them to a registry, from where Kubernetes is told to run them.
fn container_images() -> Result<()> {
    let layout = cloister_release::build_containers_twice()?;
    debian::require(&["crun"])?;
    let mut check = Node::find()?.node()?;
    check.current_dir(workspace_root().join("cdk")).args([
        "--import",
        "tsx",
        "containers/check-layout.ts",
    ]);
    succeed(check.arg(&layout))?;
    let pushed = cloister_release::check_push(&layout)?;
    let images = target_directory().join("containers/images-amd64");
    kubernetes::check_images(&images, &pushed.value())
}

/// Runs checks of cargo-deny, which is built once and kept.
fn cargo_deny(checks: &[&str]) -> Result<()> {
    let root = cache::directory()?.join(format!("cargo-deny-{CARGO_DENY_VERSION}"));
    let cargo_deny = root.join("bin").join("cargo-deny");
    if !cargo_deny.exists() {
        println!("building cargo-deny {CARGO_DENY_VERSION}, once");
        let mut install = cargo();
        install.args(["install", "cargo-deny", "--locked", "--version"]);
        succeed(install.arg(CARGO_DENY_VERSION).arg("--root").arg(&root))?;
    }
    // One list of exceptions for both workspaces: each has some that the other has no use for.
    for (manifest, duplicates) in [
        ("Cargo.toml", "--deny"),
        (cloister_release::IMAGE_TOOL_MANIFEST, "--warn"),
    ] {
        let mut deny = Command::new(&cargo_deny);
        deny.current_dir(workspace_root())
            .args([
                "--manifest-path",
                manifest,
                "--config",
                "deny.toml",
                "check",
            ])
            .args([duplicates, "duplicate"])
            .args(["--allow", "unused-wrapper", "--allow", "unmatched-skip"]);
        succeed(deny.args(checks))?;
    }
    Ok(())
}

/// The state of the working tree; `None` outside of a git repository. Compared before and after, so
/// that a developer's own changes are no failure.
fn working_tree() -> Option<String> {
    let mut git = Command::new("git");
    git.current_dir(workspace_root());
    output(git.args(["status", "--porcelain"])).ok()
}

fn print_summary(times: &[(&str, Duration)], total: Duration) {
    println!();
    for (name, took) in times {
        println!("{:>8.1} s  {name}", took.as_secs_f64());
    }
    println!("{:>8.1} s  total", total.as_secs_f64());
}

/// The targets that are built: crates of others are not downloaded.
const TARGETS: &[&str] = &[
    "--target=x86_64-unknown-linux-gnu",
    "--target=x86_64-unknown-linux-musl",
    "--target=aarch64-unknown-linux-gnu",
    "--target=aarch64-unknown-linux-musl",
];

const CARGO_DENY_VERSION: &str = "0.20.2";
