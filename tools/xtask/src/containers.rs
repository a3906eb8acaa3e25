//! `cargo xtask containers`: the pods' container images, from static programs and the enclave
//! images of a deployment.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::build::{target_directory, workspace_root};
use crate::debian;
use crate::image::{self, Architecture};
use crate::measured::{Program, Site};
use crate::npm;
use crate::run::{output, succeed};

/// How `cargo xtask containers` is called.
pub(crate) const USAGE: &str = "\
usage: cargo xtask containers [OPTIONS]
  --images DIRECTORY            what `cargo xtask image --settings` left; again for another architecture [target/images/deployment]
  --oci DIRECTORY               also build the container images, as an OCI layout, without a Docker engine
  --nitro-cli DIRECTORY         for --oci: a root directory with usr/bin/nitro-cli and the libraries it needs

Leaves in each DIRECTORY/containers/SERVICE what the Dockerfile needs; `cdk deploy` builds from there.";

/// Runs `cargo xtask containers`.
pub(crate) fn run(arguments: &[&str]) -> Result<(), String> {
    let options = Options::parse(arguments)?;
    let images = options
        .images
        .iter()
        .map(|images| Ok((images.as_path(), architecture_of(images)?)));
    let images = images.collect::<Result<Vec<_>, String>>()?;
    for (directory, architecture) in &images {
        contexts(directory, *architecture)?;
    }
    if let Some((layout, nitro_cli)) = &options.oci {
        build_layout(&images, nitro_cli, layout)?;
        println!("{}", layout.display());
    }
    Ok(())
}

/// Builds the pods' container images twice, compares them, and starts what they hold as Kubernetes
/// would.
pub(crate) fn test() -> Result<(), String> {
    let work = target_directory().join("containers");
    let mut images = Vec::new();
    for architecture in [Architecture::Amd64, Architecture::Arm64] {
        let directory = work.join(format!("images-{architecture}"));
        image::assemble_example(architecture, &directory)?;
        contexts(&directory, architecture)?;
        images.push((directory, architecture));
    }
    let images: Vec<_> = images
        .iter()
        .map(|(directory, architecture)| (directory.as_path(), *architecture))
        .collect();
    let nitro_cli = work.join("nitro-cli");
    let program = nitro_cli.join("usr/bin/nitro-cli");
    let stand_in = workspace_root().join("pods/tests/nitro-cli/nitro-cli");
    fs::create_dir_all(nitro_cli.join("usr/bin"))
        .and_then(|()| fs::copy(stand_in, &program))
        .map_err(|error| format!("cannot write {}: {error}", program.display()))?;
    let layouts = [work.join("oci"), work.join("oci-again")];
    for layout in &layouts {
        build_layout(&images, &nitro_cli, layout)?;
    }
    let [first, again] = layouts
        .each_ref()
        .map(|layout| fs::read(layout.join("index.json")));
    match (first, again) {
        (Ok(first), Ok(again)) if first == again => {}
        _ => {
            return Err(format!(
                "{} and {} differ: an image is not reproducible",
                layouts[0].display(),
                layouts[1].display()
            ));
        }
    }
    debian::require(&["crun"])?;
    succeed(
        npm::node()
            .current_dir(cdk())
            .args(["--import", "tsx", "containers/check-layout.ts"])
            .arg(&layouts[0]),
    )
}

/// Builds the pods and lays out what the Dockerfile needs.
fn contexts(images: &Path, architecture: Architecture) -> Result<(), String> {
    let site = Site::here(image::directory().join("build"))?;
    npm::install(&cdk())?;
    for (service, pod) in PODS {
        let program = site.build(pod, architecture)?;
        let mut node = npm::node();
        node.current_dir(cdk())
            .args(["--import", "tsx", "containers/context.ts"]);
        succeed(node.arg(images).arg(service).arg(program))?;
    }
    Ok(())
}

/// One image for each service, with every architecture there is, in an OCI layout. Debian's buildah
/// needs no engine and no network.
fn build_layout(
    images: &[(&Path, Architecture)],
    nitro_cli: &Path,
    layout: &Path,
) -> Result<(), String> {
    debian::require(&["buildah"])?;
    if !nitro_cli.join("usr/bin/nitro-cli").exists() {
        return Err(format!(
            "{} has no usr/bin/nitro-cli: give --nitro-cli the root directory that the stage `amazon-linux` of cdk/containers/Dockerfile makes",
            nitro_cli.display()
        ));
    }
    let storage = target_directory().join("containers").join("storage");
    for directory in [layout, &storage] {
        remove(directory)?;
    }
    fs::create_dir_all(&storage)
        .map_err(|error| format!("cannot create {}: {error}", storage.display()))?;
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
        for (directory, architecture) in images {
            let context = directory.join("containers").join(service);
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
            remove(&context.join("nitro-cli"))?;
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
    remove(&storage)
}

fn cdk() -> PathBuf {
    workspace_root().join("cdk")
}

/// As measurements.json says it.
fn architecture_of(images: &Path) -> Result<Architecture, String> {
    let path = images.join("measurements.json");
    let text = fs::read_to_string(&path).map_err(|error| {
        format!(
            "cannot read {}: {error}; `cargo xtask image --settings FILE` writes it",
            path.display()
        )
    })?;
    let value = text
        .split_once("\"architecture\":")
        .and_then(|(_, rest)| rest.split('"').nth(1));
    value
        .ok_or_else(|| format!("{} names no architecture", path.display()))
        .and_then(Architecture::parse)
}

fn copy(from: &Path, to: &Path) -> Result<(), String> {
    remove(to)?;
    succeed(Command::new("cp").arg("--recursive").arg(from).arg(to))
}

fn remove(directory: &Path) -> Result<(), String> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(format!("cannot remove {}: {error}", directory.display()))
        }
        _ => Ok(()),
    }
}

#[derive(Debug)]
struct Options {
    images: Vec<PathBuf>,
    /// Where the layout goes, and where nitro-cli is.
    oci: Option<(PathBuf, PathBuf)>,
}

impl Options {
    fn parse(arguments: &[&str]) -> Result<Self, String> {
        let (mut images, mut oci, mut nitro_cli) = (Vec::new(), None, None);
        let mut rest = arguments.iter();
        while let Some(&name) = rest.next() {
            let value = rest
                .next()
                .ok_or_else(|| format!("{name} needs a value\n{USAGE}"))?;
            // cargo runs this program where the user is.
            let path = std::path::absolute(value).unwrap_or_else(|_| value.into());
            match name {
                "--images" => images.push(path),
                "--oci" => oci = Some(path),
                "--nitro-cli" => nitro_cli = Some(path),
                _ => return Err(format!("unknown option {name}\n{USAGE}")),
            }
        }
        if images.is_empty() {
            images.push(image::directory().join("deployment"));
        }
        let oci = match (oci, nitro_cli) {
            (Some(oci), Some(nitro_cli)) => Some((oci, nitro_cli)),
            (None, None) => None,
            _ => return Err(format!("--oci and --nitro-cli go together\n{USAGE}")),
        };
        Ok(Self { images, oci })
    }
}

/// Service and program.
const PODS: &[(&str, Program)] = &[
    (
        "signer",
        Program {
            name: "signer-pod",
            package: "cloister-pods",
            binary: "signer-pod",
        },
    ),
    (
        "key-generator",
        Program {
            name: "key-generator-pod",
            package: "cloister-pods",
            binary: "key-generator-pod",
        },
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_are_named() {
        for (arguments, problem) in [
            (
                &["--oci", "o"] as &[&str],
                "--oci and --nitro-cli go together",
            ),
            (&["--images"], "--images needs a value"),
            (&["--image", "i"], "unknown option --image"),
        ] {
            let said = Options::parse(arguments).unwrap_err();
            assert!(said.starts_with(problem), "{said}");
        }
        assert_eq!(
            Options::parse(&[]).unwrap().images,
            [image::directory().join("deployment")]
        );
    }
}
