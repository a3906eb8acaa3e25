//! The enclaves of a stack and their measurements.

use cloister_contract::Service;
use cloister_key_policy::Measurements;

use super::Location;
use crate::emulator::{Images, Tools};
use crate::identity::table_arn;
use crate::settings::{Processes, deployment_settings};

/// The kind of a stack's enclaves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Enclaves {
    /// Processes of this machine, with a software NSM.
    #[default]
    Processes,
    /// Images in an emulator, which measures them.
    Emulated(Emulation),
}

/// Settings of emulated enclaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Emulation {
    /// Memory of each, in MiB.
    pub memory_mib: u32,
    /// Seconds by which the clock of the signer's machine is ahead of this machine's.
    pub signer_clock_ahead: i64,
    /// The same of the key generator's.
    pub key_generator_clock_ahead: i64,
}

impl Emulation {
    pub(super) fn clock_ahead(&self, service: Service) -> i64 {
        match service {
            Service::Signer => self.signer_clock_ahead,
            Service::KeyGenerator => self.key_generator_clock_ahead,
        }
    }
}

impl Default for Emulation {
    fn default() -> Self {
        Self {
            memory_mib: 128,
            signer_clock_ahead: 0,
            key_generator_clock_ahead: 0,
        }
    }
}

/// The enclaves, ready to be started.
#[derive(Debug)]
pub(super) enum Measured {
    Processes(Processes),
    Images(Image),
}

/// Images and how they are run.
#[derive(Debug)]
pub(super) struct Image {
    tools: Tools,
    pub(super) images: Images,
    pub(super) emulation: Emulation,
    measurements: Measurements,
}

impl Measured {
    pub(super) fn new(enclaves: Enclaves, location: &Location) -> anyhow::Result<Self> {
        match enclaves {
            Enclaves::Processes => {
                Processes::new(location.authority.certificate()).map(Self::Processes)
            }
            Enclaves::Emulated(emulation) => {
                Image::new(Tools::find()?, emulation, location).map(Self::Images)
            }
        }
    }

    pub(super) fn measurements(&self) -> &Measurements {
        match self {
            Self::Processes(processes) => &processes.measurements,
            Self::Images(image) => &image.measurements,
        }
    }
}

impl Image {
    fn new(tools: Tools, emulation: Emulation, location: &Location) -> anyhow::Result<Self> {
        let settings =
            deployment_settings(location.authority.certificate(), &table_arn()).to_string();
        let images = Images::assemble(&tools, &settings, &location.data.path("images/stack"))?;
        let measurements = images.measurements()?;
        Ok(Self {
            tools,
            images,
            emulation,
            measurements,
        })
    }

    /// Other images, run alike.
    pub(super) fn with(&self, images: Images) -> anyhow::Result<Self> {
        let measurements = images.measurements()?;
        Ok(Self {
            tools: self.tools.clone(),
            images,
            emulation: self.emulation.clone(),
            measurements,
        })
    }

    /// Images whose settings differ in one byte, of no consequence but for what is measured: the
    /// last of the table's name.
    pub(super) fn altered(&self, location: &Location) -> anyhow::Result<Images> {
        let mut table = table_arn();
        table.pop();
        table.push('z');
        let settings = deployment_settings(location.authority.certificate(), &table).to_string();
        Images::assemble(
            &self.tools,
            &settings,
            &location.data.path("images/altered"),
        )
    }
}
