//! Artefacts of the target directory, each with the command that builds it and the inputs that
//! decide its content.

use anyhow::{Context as _, Result};
use fs_err as fs;
use serde_json::Value;

use crate::commands::{Commands, Line};
use crate::deployment::Deployment;
use crate::error::Error;
use crate::stamp::Stamp;

/// Something that is built unless it is there already.
pub(crate) struct Artefact {
    name: String,
    line: Line,
    /// Files and directories of the repository.
    inputs: Vec<String>,
    /// A file that is written with it.
    output: String,
}

impl Artefact {
    pub(crate) fn is_current(&self, commands: &Commands) -> Result<bool> {
        Ok(self.stamp(commands)?.is_current())
    }

    pub(crate) fn build(&self, commands: &Commands) -> Result<()> {
        if !commands.is_dry() && self.is_current(commands)? {
            return Ok(());
        }
        commands.run(&self.line, &format!("building {}", self.name))?;
        match commands.is_dry() {
            true => Ok(()),
            false => self.stamp(commands)?.write(),
        }
    }

    fn stamp(&self, commands: &Commands) -> Result<Stamp> {
        Stamp::new(
            commands,
            &self.name,
            &self.inputs,
            &self.line.to_string(),
            &self.output,
        )
    }
}

/// The enclave images; none if `CDK_IMAGES` names some.
///
/// # Errors
/// If it names another deployment's.
pub(crate) fn images(deployment: &Deployment, commands: &Commands) -> Result<Vec<Artefact>> {
    if let Some(directory) = deployment.given("CDK_IMAGES") {
        refuse_others(directory, commands)?;
        return Ok(Vec::new());
    }
    let architecture = deployment.architecture.name();
    let line = Line::new(["cargo", "xtask", "image", "--architecture", architecture])
        .args(["--settings", SETTINGS]);
    Ok(vec![Artefact {
        name: "images".to_owned(),
        line,
        inputs: inputs(&[
            "enclaves",
            "tools/image/Cargo.lock",
            "tools/image/Cargo.toml",
            "tools/image/src",
            SETTINGS,
        ]),
        output: format!("{IMAGES}/measurements.json"),
    }])
}

/// The front door's package; none if `CDK_FRONT_DOOR` names one.
pub(crate) fn function(deployment: &Deployment) -> Vec<Artefact> {
    if deployment.given("CDK_FRONT_DOOR").is_some() {
        return Vec::new();
    }
    let architecture = deployment.architecture.name();
    vec![Artefact {
        name: "front-door".to_owned(),
        line: Line::new(["cargo", "xtask", "lambda", "--architecture", architecture]),
        inputs: inputs(&["lambdas"]),
        output: format!("target/lambda/front-door-{architecture}.zip"),
    }]
}

/// The pods' container images with the enclave images of one release.
pub(crate) struct Containers {
    pub(crate) artefact: Artefact,
    layout: String,
    /// The variable that names them once they are pushed.
    variable: &'static str,
}

impl Containers {
    /// Pushes them; later commands get their digests.
    pub(crate) fn push(&self, deployment: &Deployment, commands: &mut Commands) -> Result<()> {
        let line = Line::new(["cargo", "xtask", "push", "--layout", self.layout.as_str()])
            .args(["--repository".to_owned(), deployment.repository()]);
        commands.export(self.variable, &line, POD_IMAGES)
    }
}

/// The container images of the present and of the next release, as far as no variable names them.
pub(crate) fn containers(deployment: &Deployment) -> Vec<Containers> {
    let present = directory(deployment);
    let next = deployment.given("CDK_NEXT_IMAGES");
    [
        (Some(present), POD_IMAGES, "oci"),
        (next, "CDK_NEXT_POD_IMAGES", "oci-next"),
    ]
    .into_iter()
    .filter(|(_, variable, _)| deployment.given(variable).is_none())
    .filter_map(|(images, variable, name)| {
        let layout = format!("target/containers/{name}");
        let line = Line::new(["cargo", "xtask", "containers", "--images", images?])
            .args(["--oci", layout.as_str()]);
        let measurements = format!("{}/measurements.json", images?);
        let artefact = Artefact {
            name: format!("containers-{name}"),
            line,
            inputs: inputs(&["pods", "cdk/containers", &measurements]),
            output: format!("{layout}/index.json"),
        };
        Some(Containers {
            artefact,
            layout,
            variable,
        })
    })
    .collect()
}

/// The directory of the present release's images.
pub(crate) fn directory(deployment: &Deployment) -> &str {
    deployment.given("CDK_IMAGES").unwrap_or(IMAGES)
}

/// The measurements of the images in a directory.
pub(crate) fn measurements(directory: &str, commands: &Commands) -> Result<Value> {
    let file = commands.path(directory).join("measurements.json");
    let text = fs::read(&file)?;
    serde_json::from_slice(&text).with_context(|| format!("{} is not JSON", file.display()))
}

/// Compares the measured settings with this deployment's. The CDK app compares the rest.
fn refuse_others(directory: &str, commands: &Commands) -> Result<()> {
    if commands.is_dry() {
        return Ok(());
    }
    let settings: Value = serde_json::from_slice(&fs::read(commands.path(SETTINGS))?)?;
    let of = |settings: &Value| {
        settings["table_arn"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    let measured = measurements(directory, commands)?;
    let (found, expected) = (of(&measured["settings"]), of(&settings));
    if found == expected {
        return Ok(());
    }
    Err(Error::OtherImages {
        directory: directory.to_owned(),
        found,
        expected,
    }
    .into())
}

fn inputs(own: &[&str]) -> Vec<String> {
    let all = SOURCES.iter().chain(own);
    all.map(|input| (*input).to_owned()).collect()
}

/// Inputs of every build.
const SOURCES: &[&str] = &[
    "Cargo.lock",
    "Cargo.toml",
    "cdk/policies",
    "crates",
    "rust-toolchain.toml",
    "tools/release/src",
    "tools/toolchain/src",
];

/// The measured settings.
pub(crate) const SETTINGS: &str = "target/settings.json";
const IMAGES: &str = "target/images/deployment";
const POD_IMAGES: &str = "CDK_POD_IMAGES";

#[cfg(test)]
mod tests {
    use std::path::{Component, Path, PathBuf};

    use cloister_toolchain::cargo::workspace_root;
    use cloister_toolchain::sha256_of_tree;

    use super::*;
    use crate::Environment;
    use crate::deployment::Target;

    fn artefacts() -> Vec<Artefact> {
        let target = Target {
            account: Some("123456789012".to_owned()),
            region: Some("eu-central-1".to_owned()),
            ..Target::default()
        };
        let deployment = Deployment::new(&target, &Environment::new()).unwrap();
        let commands = Commands::dry(deployment.variables());
        let containers = containers(&deployment).into_iter();
        let mut all = images(&deployment, &commands).unwrap();
        all.extend(function(&deployment));
        all.extend(containers.map(|each| each.artefact));
        all
    }

    /// The files that a source takes in, relative to the root.
    fn included(source: &Path) -> Vec<PathBuf> {
        let text = fs::read_to_string(workspace_root().join(source)).unwrap();
        let calls = ["include_str!(", "include_bytes!(", "include!("];
        let calls = calls.iter().flat_map(|call| text.split(call).skip(1));
        calls
            .filter_map(|rest| {
                let name = rest.trim_start().strip_prefix('"')?.split('"').next()?;
                let mut file = source.parent()?.to_owned();
                for component in Path::new(name).components() {
                    match component {
                        Component::ParentDir => assert!(file.pop(), "{name}"),
                        other => file.push(other),
                    }
                }
                Some(file)
            })
            .collect()
    }

    /// A file that another one includes, a manifest or a lock beside a source.
    #[test]
    fn whatever_decides_an_artefacts_content_is_an_input() {
        for artefact in artefacts() {
            let Artefact { name, inputs, .. } = &artefact;
            let root = workspace_root();
            let is_input = |file: &Path| inputs.iter().any(|input| file.starts_with(input));
            let mut includes = 0;
            for input in inputs.iter().filter(|input| root.join(input).is_dir()) {
                for file in sha256_of_tree(&root.join(input)).unwrap().keys() {
                    let source = Path::new(input).join(file);
                    let is_test = source.iter().any(|part| part == "tests");
                    if is_test || source.extension().is_none_or(|kind| kind != "rs") {
                        continue;
                    }
                    for file in included(&source) {
                        let (from, to) = (source.display(), file.display());
                        assert!(root.join(&file).is_file(), "{from} includes {to}");
                        // A text in the documentation is in no program.
                        let is_documentation = file.extension().is_some_and(|kind| kind == "md");
                        assert!(
                            is_documentation || is_input(&file),
                            "{name}: {from} includes {to}"
                        );
                        includes += 1;
                    }
                }
            }
            assert!(includes > 0, "{name}");
            assert_eq!(
                artefact.line.to_string().contains("xtask image"),
                is_input(Path::new(IMAGE_TOOL_LOCK)),
                "{name}"
            );
        }
    }

    /// A workspace of its own: nothing else has its locked dependencies.
    const IMAGE_TOOL_LOCK: &str = "tools/image/Cargo.lock";
}
