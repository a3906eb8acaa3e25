//! `cargo xtask containers`: the pods' container images, from static programs and the enclave
//! images of a deployment.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use cloister_contract::{Architecture, Service};
use cloister_toolchain::cargo::{target_directory, workspace_root};
use cloister_toolchain::command::{output, succeed};
use cloister_toolchain::node::Node;
use cloister_toolchain::{cache, debian};
use fs_err as fs;
use serde::Deserialize;

use crate::image;
use crate::measured::{BuildEnvironment, Program};
use crate::nitro_cli;
use crate::paths;

/// Options of `cargo xtask containers`.
///
/// Leaves in each DIRECTORY/containers/SERVICE what the Dockerfile needs; `cdk deploy` builds from
/// there, unless CDK_POD_IMAGES names images that `cargo xtask push` has pushed.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Output of `cargo xtask image --settings`; again for another architecture [default:
    /// target/images/deployment]
    #[arg(long, value_name = "DIRECTORY", value_parser = paths::absolute)]
    images: Vec<PathBuf>,
    /// Also build the container images, as an OCI layout, without a Docker engine
    #[arg(long, value_name = "DIRECTORY", value_parser = paths::absolute)]
    oci: Option<PathBuf>,
    /// For --oci: a root directory with usr/bin/nitro-cli and the libraries it needs [default: made
    /// from the signed repository of Amazon Linux 2023]
    #[arg(long, value_name = "DIRECTORY", value_parser = paths::absolute, requires = "oci")]
    nitro_cli: Option<PathBuf>,
    /// For --oci: the version of Amazon Linux 2023 that has the same nitro-cli for everybody
    #[arg(
        long,
        value_name = "VERSION",
        default_value_t,
        requires = "oci",
        conflicts_with = "nitro_cli"
    )]
    amazon_linux: nitro_cli::Version,
}

/// Runs `cargo xtask containers`.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let mut directories = arguments.images.clone();
    if directories.is_empty() {
        directories.push(paths::default_output());
    }
    let images = directories
        .iter()
        .map(|directory| Ok((directory.as_path(), architecture_of(directory)?)))
        .collect::<Result<Vec<_>>>()?;
    for (directory, architecture) in &images {
        contexts(directory, *architecture)?;
    }
    if let Some(layout) = &arguments.oci {
        let images = images
            .into_iter()
            .map(|(directory, architecture)| {
                let nitro_cli = match &arguments.nitro_cli {
                    Some(root) => root.clone(),
                    None => nitro_cli::root(architecture, &arguments.amazon_linux)?,
                };
                Ok(Context {
                    directory,
                    architecture,
                    nitro_cli,
                })
            })
            .collect::<Result<Vec<_>>>()?;
        build_layout(&images, layout)?;
        println!("{}", layout.display());
    }
    Ok(())
}

/// Builds the example deployment's container images for every architecture twice, compares them,
/// and returns the layout.
///
/// # Errors
/// If they cannot be built or differ.
pub fn build_twice() -> Result<PathBuf> {
    let work = target_directory().join("containers");
    let mut images = Vec::new();
    for architecture in [Architecture::Amd64, Architecture::Arm64] {
        let directory = work.join(format!("images-{architecture}"));
        image::assemble_example(architecture, &directory)?;
        contexts(&directory, architecture)?;
        images.push((directory, architecture));
    }
    let nitro_cli = work.join("nitro-cli");
    let stand_in = workspace_root().join("pods/tests/nitro-cli/nitro-cli");
    fs::create_dir_all(nitro_cli.join("usr/bin"))?;
    fs::copy(stand_in, nitro_cli.join("usr/bin/nitro-cli"))?;
    let images: Vec<_> = images
        .iter()
        .map(|(directory, architecture)| Context {
            directory,
            architecture: *architecture,
            nitro_cli: nitro_cli.clone(),
        })
        .collect();
    let [first, again] = ["oci", "oci-again"].map(|name| work.join(name));
    for layout in [&first, &again] {
        build_layout(&images, layout)?;
    }
    ensure!(
        fs::read(first.join("index.json"))? == fs::read(again.join("index.json"))?,
        "{} and {} differ: an image is not reproducible",
        first.display(),
        again.display()
    );
    Ok(first)
}

/// Builds the pods and lays out what the Dockerfile needs.
fn contexts(images: &Path, architecture: Architecture) -> Result<()> {
    let environment = BuildEnvironment::here()?;
    let cdk = workspace_root().join("cdk");
    let node = Node::find()?;
    node.install(&cdk)?;
    for (service, pod) in PODS {
        let program = environment.build(pod, architecture)?;
        let mut context = node.node()?;
        context
            .current_dir(&cdk)
            .args(["--import", "tsx", "containers/context.ts"]);
        succeed(context.arg(images).arg(service.name()).arg(program))?;
    }
    Ok(())
}

/// Sources of the container images of one architecture.
struct Context<'a> {
    /// A deployment's enclave images, with `containers/SERVICE`.
    directory: &'a Path,
    architecture: Architecture,
    /// A root directory.
    nitro_cli: PathBuf,
}

/// Builds one image for each service, with every given architecture, in an OCI layout. Debian's
/// buildah needs no engine and no network.
fn build_layout(images: &[Context<'_>], layout: &Path) -> Result<()> {
    debian::require(&["buildah"])?;
    for Context { nitro_cli, .. } in images {
        ensure!(
            nitro_cli.join("usr/bin/nitro-cli").exists(),
            "{} has no usr/bin/nitro-cli: give --nitro-cli a root directory that has it, or leave \
             the option out",
            nitro_cli.display()
        );
    }
    let storage = target_directory().join("containers").join("storage");
    for directory in [layout, &storage] {
        cache::remove_dir_all(directory)?;
    }
    fs::create_dir_all(&storage)?;
    let buildah = || {
        let mut buildah = Command::new("buildah");
        buildah
            .arg("--root")
            .arg(storage.join("root"))
            .arg("--runroot")
            .arg(storage.join("run"));
        buildah.args(["--storage-driver", "vfs"]);
        buildah
    };
    for (service, pod) in PODS {
        for Context {
            directory,
            architecture,
            nitro_cli,
        } in images
        {
            let context = directory.join("containers").join(service.name());
            copy(nitro_cli, &context.join("nitro-cli"))?;
            let mut build = buildah();
            build.args([
                "build",
                "--quiet",
                "--isolation",
                "chroot",
                "--timestamp",
                "0",
                "--build-arg",
                "NITRO_CLI=directory",
            ]);
            build
                .arg(format!("--platform=linux/{architecture}"))
                .args(["--manifest", pod.name]);
            output(build.arg(&context))?;
            cache::remove_dir_all(&context.join("nitro-cli"))?;
        }
        let destination = format!("oci:{}:{}", layout.display(), pod.name);
        output(
            buildah()
                .args([
                    "manifest", "push", "--quiet", "--all", "--format", "oci", pod.name,
                ])
                .arg(destination),
        )?;
    }
    cache::remove_dir_all(&storage)
}

/// The architecture in measurements.json.
fn architecture_of(images: &Path) -> Result<Architecture> {
    #[derive(Deserialize)]
    struct Measurements {
        architecture: Architecture,
    }
    let path = images.join("measurements.json");
    let text = fs::read(&path).context("`cargo xtask image --settings FILE` writes it")?;
    let measurements: Measurements = serde_json::from_slice(&text)
        .with_context(|| format!("{} is malformed", path.display()))?;
    Ok(measurements.architecture)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    cache::remove_dir_all(to)?;
    succeed(Command::new("cp").arg("--recursive").arg(from).arg(to))
}

/// Service and program; an image in a layout has the program's name.
pub(crate) const PODS: &[(Service, Program)] = &[
    (
        Service::Signer,
        Program {
            name: "signer-pod",
            package: "cloister-pods",
            binary: "signer-pod",
        },
    ),
    (
        Service::KeyGenerator,
        Program {
            name: "key-generator-pod",
            package: "cloister-pods",
            binary: "key-generator-pod",
        },
    ),
];
