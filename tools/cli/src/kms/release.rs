//! The files of a release from which a key policy is rendered.

use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::Args;
use cloister_contract::{ErrorChain, Service};
use cloister_eif::ExpectedMeasurements;
use cloister_key_policy::{Deployment, Form, Measurements, NextRelease, Pcr0};
use cloister_settings::Settings;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::failure::Failure;

#[derive(Args, Clone, Debug)]
pub(crate) struct ReleaseFiles {
    /// The release's measurements.json, which names its images and the settings they measure
    #[arg(
        long,
        value_name = "FILE",
        default_value = "target/images/deployment/measurements.json"
    )]
    measurements: PathBuf,
    /// Settings file to compare with the settings of the measurements
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
}

/// The deployment, the measurements and the policy form that a release accepts.
#[derive(Debug)]
pub(super) struct Release {
    pub(super) deployment: Deployment,
    pub(super) measurements: Measurements,
    accept_open_policy: bool,
}

impl ReleaseFiles {
    pub(super) fn read(&self) -> Result<Release, Failure> {
        let json = read(&self.measurements, "give the release's with --measurements")?;
        let settings = settings_of(&json).and_then(|settings| parse(settings.get().as_bytes()));
        let settings = settings.map_err(|problem| wrong(&self.measurements, &problem))?;
        let (signer, generator) = images(&self.measurements, &json)?;
        let measurements = Measurements::new(signer, generator);
        if let Some(file) = &self.settings {
            let given = parse(&read(
                file,
                "give the settings with --settings, or leave it out",
            )?);
            if given.map_err(|problem| wrong(file, &problem))?.deployment != settings.deployment {
                let (file, measurements) = (file.display(), self.measurements.display());
                return Err(Failure::Input(format!(
                    "{file} belongs to another deployment than {measurements}: build the images with these settings first"
                )));
            }
        }
        Ok(Release {
            deployment: settings.deployment,
            measurements,
            accept_open_policy: settings.accept_open_policy,
        })
    }
}

impl Release {
    #[cfg(test)]
    pub(super) fn new(
        deployment: Deployment,
        measurements: Measurements,
        accept_open_policy: bool,
    ) -> Self {
        Self {
            deployment,
            measurements,
            accept_open_policy,
        }
    }

    /// The reasons for which the enclaves of this release refuse a key with such a policy, although
    /// it is a rendering.
    pub(super) fn why_not_adopted(&self, form: Form, previous: bool) -> Vec<&'static str> {
        let open = "the enclaves of this release do not adopt a key with the open form (accept_open_policy is false)";
        let admits = "no enclave adopts a key whose policy admits a previous key generator yet";
        [
            (form == Form::Open && !self.accept_open_policy, open),
            (previous, admits),
        ]
        .into_iter()
        .filter_map(|(applies, why)| applies.then_some(why))
        .collect()
    }
}

/// The images of a next release, from its measurements.json.
pub(super) fn next(file: &Path, deployment: &Deployment) -> Result<NextRelease, Failure> {
    let json = read(file, "give the next release's with --next")?;
    let settings = settings_of(&json).and_then(|settings| parse(settings.get().as_bytes()));
    if settings
        .map_err(|problem| wrong(file, &problem))?
        .deployment
        != *deployment
    {
        return Err(wrong(
            file,
            "the next release belongs to another deployment: account, region and roles must be the same",
        ));
    }
    let (signer, generator) = images(file, &json)?;
    Ok(NextRelease { signer, generator })
}

fn images(file: &Path, json: &[u8]) -> Result<(Pcr0, Pcr0), Failure> {
    Ok((
        pcr0(file, json, Service::Signer)?,
        pcr0(file, json, Service::KeyGenerator)?,
    ))
}

/// PCR0 of a previous key generator.
#[derive(Clone, Copy, Debug)]
pub(super) struct Previous(pub(super) Pcr0);

impl FromStr for Previous {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.len() == 96 {
            return text
                .parse()
                .map(Self)
                .map_err(|error| ErrorChain(&error).to_string());
        }
        let file = Path::new(text);
        let json =
            fs::read(file).map_err(|error| format!("neither 96 hex digits nor a file: {error}"))?;
        pcr0(file, &json, Service::KeyGenerator)
            .map(Self)
            .map_err(|error| error.to_string())
    }
}

fn pcr0(file: &Path, json: &[u8], service: Service) -> Result<Pcr0, Failure> {
    let expected = ExpectedMeasurements::parse(json, service.name())
        .map_err(|error| wrong(file, &ErrorChain(&error).to_string()))?;
    Pcr0::try_from(expected.measurements().pcr0)
        .map_err(|error| wrong(file, &ErrorChain(&error).to_string()))
}

fn settings_of(json: &[u8]) -> Result<Box<RawValue>, String> {
    #[derive(Deserialize)]
    struct File {
        settings: Box<RawValue>,
    }

    let file = serde_json::from_slice::<File>(json);
    file.map(|file| file.settings)
        .map_err(|error| format!("not the measurements of a release: {error}"))
}

fn parse(settings: &[u8]) -> Result<Settings, String> {
    Settings::parse(settings).map_err(|error| ErrorChain(&error).to_string())
}

fn read(file: &Path, advice: &str) -> Result<Vec<u8>, Failure> {
    fs::read(file).map_err(|error| {
        Failure::Input(format!(
            "failed to read {} ({error}): {advice}",
            file.display()
        ))
    })
}

fn wrong(file: &Path, problem: &str) -> Failure {
    Failure::Input(format!("{}: {problem}", file.display()))
}
