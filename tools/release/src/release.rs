//! A release: what the images of all deployments share.

use std::path::{Path, PathBuf};

use anyhow::Result;
use cloister_contract::Architecture;
use cloister_toolchain::command::succeed;
use fs_err as fs;
use serde_json::{Map, Value};

use crate::image_tool;
use crate::kernel::Kernel;
use crate::measured::{self, BuildEnvironment, Program};

/// Everything a release consists of, except for the kernel.
pub(crate) struct Inputs {
    pub(crate) architecture: Architecture,
    pub(crate) cmdline: PathBuf,
    pub(crate) module: Option<PathBuf>,
    pub(crate) bridge: Option<PathBuf>,
    pub(crate) init: PathBuf,
    /// Name and program.
    pub(crate) applications: Vec<(String, PathBuf)>,
    /// Versions of sources and compilers, for `release.json`.
    origin: Map<String, Value>,
}

impl Inputs {
    /// Builds the measured programs.
    pub(crate) fn build(
        environment: &BuildEnvironment,
        architecture: Architecture,
        applications: &[Program],
        cmdline: PathBuf,
    ) -> Result<Self> {
        let init = environment.build(&measured::INIT, architecture)?;
        let applications = applications.iter().map(|program| {
            let path = environment.build(program, architecture)?;
            Ok((program.name.to_owned(), path))
        });
        let mut inputs = Self {
            architecture,
            cmdline,
            module: None,
            bridge: None,
            init,
            applications: applications.collect::<Result<_>>()?,
            origin: Map::new(),
        };
        inputs.record_all(measured::inputs()?);
        Ok(inputs)
    }

    /// Adds an origin to `release.json`.
    pub(crate) fn record(&mut self, name: &str, value: impl Into<Value>) {
        self.origin.insert(name.to_owned(), value.into());
    }

    /// Adds origins to `release.json`.
    pub(crate) fn record_all<const N: usize>(&mut self, origins: [(&str, String); N]) {
        for (name, value) in origins {
            self.record(name, value);
        }
    }

    /// Makes a release in `output`.
    pub(crate) fn make_release(&self, kernel: &Kernel, output: &Path) -> Result<()> {
        let origin = output.with_added_extension("inputs.json");
        fs::write(&origin, serde_json::to_vec_pretty(&self.origin)?)?;
        let mut tool = image_tool::command()?;
        tool.args(["release", "--architecture", self.architecture.name()]);
        tool.arg("--kernel")
            .arg(&kernel.image)
            .arg("--kernel-config")
            .arg(&kernel.config);
        tool.arg("--cmdline")
            .arg(&self.cmdline)
            .arg("--init")
            .arg(&self.init);
        if let Some(module) = &self.module {
            tool.arg("--module").arg(module);
        }
        if let Some(bridge) = &self.bridge {
            tool.arg("--bridge").arg(bridge);
        }
        for (name, program) in &self.applications {
            tool.arg("--application")
                .arg(format!("{name}={}", program.display()));
        }
        succeed(
            tool.arg("--inputs")
                .arg(&origin)
                .arg("--output")
                .arg(output),
        )
    }
}
