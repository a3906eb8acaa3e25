//! The npm packages of the stack: a DynamoDB (dynalite), an Ethereum node (anvil) and compiled
//! contracts. Installed once per lock file into the cache directory.

use std::path::{Path, PathBuf};

use anyhow::ensure;
use cloister_toolchain::node::Node;

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
    /// If a package cannot be installed; the error names it.
    pub fn install() -> anyhow::Result<Self> {
        let node = Node::find()?;
        let packages = Self {
            modules: node.packages("local-stack-packages", MANIFEST, LOCK)?,
            node: node.path().to_owned(),
        };
        for needed in [packages.dynalite(), packages.anvil()] {
            ensure!(
                needed.exists(),
                "npm installed no {}: anvil's package has no program for this machine ({} {})",
                needed.display(),
                std::env::consts::OS,
                std::env::consts::ARCH
            );
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

const MANIFEST: &str = include_str!("../node/package.json");
const LOCK: &str = include_str!("../node/package-lock.json");
