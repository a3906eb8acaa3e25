//! Assembles images from a release and settings.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use cloister_contract::{Architecture, Service};
use cloister_key_policy::{Form, Pcr0, render};
use cloister_settings::{Settings, for_key_generator, for_signer};
use openssl::x509::X509;
use serde::Serialize;
use serde_json::Value;

use crate::image::{Image, ImageRecord};
use crate::output;
use crate::release::Release;
use crate::signing::SigningKey;

/// Makes both images of a deployment and `measurements.json`. The signer's is first, because the
/// key generator's settings have its PCR0.
pub(crate) fn both(
    release: &Release,
    settings: &Path,
    directory: &Path,
    key: Option<&SigningKey>,
) -> Result<()> {
    let wrong = || format!("{} is refused", settings.display());
    let file = output::read(settings, MAX_SETTINGS)?;
    let for_signer = for_signer(&file).with_context(wrong)?;
    let parsed = Settings::parse(&for_signer).with_context(wrong)?;
    check_roots(&parsed).with_context(wrong)?;

    output::directory(directory)?;
    let signer = Image::build(release, SIGNER, &for_signer, key, directory)?;
    let signer_pcr0 = Pcr0::try_from(signer.measurements().pcr0)?;
    let for_key_generator = for_key_generator(&file, signer_pcr0).with_context(wrong)?;
    let key_generator = Image::build(release, KEY_GENERATOR, &for_key_generator, key, directory)?;
    check_roles(
        &parsed,
        signer_pcr0,
        Pcr0::try_from(key_generator.measurements().pcr0)?,
    )
    .with_context(wrong)?;

    let mut images = BTreeMap::new();
    for (name, image) in [(SIGNER, signer), (KEY_GENERATOR, key_generator)] {
        let file = format!("{name}.eif");
        images.insert(name, image.record(&file));
        image.finish(&directory.join(file))?;
    }
    let measurements = MeasurementsFile {
        format: 1,
        architecture: release.architecture(),
        settings: serde_json::from_slice(&for_signer)?,
        inputs: release.inputs()?,
        images,
    };
    output::write(
        directory,
        "measurements.json",
        &output::json(&measurements)?,
    )?;
    println!("{}", serde_json::to_string_pretty(&measurements.images)?);
    Ok(())
}

/// Makes one image with unchecked settings.
pub(crate) fn one(
    release: &Release,
    application: &str,
    settings: &Path,
    path: &Path,
) -> Result<()> {
    let settings = output::read(settings, MAX_SETTINGS)?;
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    output::directory(parent)?;
    let image = Image::build(release, application, &settings, None, parent)?;
    let name = path
        .file_name()
        .with_context(|| format!("{} names no file", path.display()))?;
    println!(
        "{}",
        serde_json::to_string_pretty(&image.record(&name.to_string_lossy()))?
    );
    image.finish(path)
}

/// Checks that the roots are certificates. The enclaves check only PEM; a root that is not a
/// certificate would be noticed when TLS fails.
fn check_roots(settings: &Settings) -> Result<()> {
    for (index, root) in settings.tls_roots.iter().enumerate() {
        let certificate = X509::from_der(root)
            .with_context(|| format!("`tls_roots[{index}]` is not an X.509 certificate"))?;
        ensure!(
            certificate.to_der()? == **root,
            "`tls_roots[{index}]` is more than an X.509 certificate"
        );
    }
    Ok(())
}

/// Checks that a key policy can be made for the roles. An image with other roles would start and
/// never adopt a key.
fn check_roles(settings: &Settings, signer: Pcr0, generator: Pcr0) -> Result<()> {
    let measurements = cloister_key_policy::Measurements::new(signer, generator);
    render(&settings.deployment, &measurements, Form::Open)
        .context("no key policy can be made for these roles")?;
    Ok(())
}

/// `measurements.json`: the measurements, and the inputs that determine them.
#[derive(Serialize)]
struct MeasurementsFile {
    format: u32,
    architecture: Architecture,
    settings: Value,
    inputs: Value,
    images: BTreeMap<&'static str, ImageRecord>,
}

const SIGNER: &str = Service::Signer.name();
const KEY_GENERATOR: &str = Service::KeyGenerator.name();
const MAX_SETTINGS: u64 = 1 << 20;
