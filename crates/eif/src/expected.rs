//! `measurements.json`: the expected measurements of images.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::{Difference, Measurements};

/// The expected measurements of one service's image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExpectedMeasurements(Measurements);

impl ExpectedMeasurements {
    /// Reads the part of `service`, such as `signer`, from a `measurements.json`.
    ///
    /// # Errors
    /// [`ExpectedMeasurementsError`], which names file and service.
    pub fn read(path: &Path, service: &str) -> Result<Self, ExpectedMeasurementsError> {
        let unreadable = |source| ExpectedMeasurementsError::File {
            path: path.to_owned(),
            source,
        };
        let mut bytes = Vec::new();
        let file = File::open(path).map_err(unreadable)?;
        file.take(MAX_LEN + 1)
            .read_to_end(&mut bytes)
            .map_err(unreadable)?;
        Self::parse(&bytes, service)
    }

    /// As [`ExpectedMeasurements::read`], from the file's bytes.
    ///
    /// # Errors
    /// [`ExpectedMeasurementsError`], which names the service.
    pub fn parse(json: &[u8], service: &str) -> Result<Self, ExpectedMeasurementsError> {
        if json.len() as u64 > MAX_LEN {
            return Err(ExpectedMeasurementsError::TooLong);
        }
        let mut file: MeasurementsFile = serde_json::from_slice(json)?;
        if file.format != FORMAT {
            return Err(ExpectedMeasurementsError::Format(file.format));
        }
        let image = file
            .images
            .remove(service)
            .ok_or_else(|| ExpectedMeasurementsError::Service(service.to_owned()))?;
        let register =
            |name, text: &str| digest(text).ok_or(ExpectedMeasurementsError::Register(name));
        Ok(Self(Measurements {
            pcr0: register("pcr0", &image.pcr0)?,
            pcr1: register("pcr1", &image.pcr1)?,
            pcr2: register("pcr2", &image.pcr2)?,
            pcr8: image.pcr8.map(|text| register("pcr8", &text)).transpose()?,
        }))
    }

    /// Compares an image with these.
    ///
    /// # Errors
    /// [`Difference`], the first register that differs. An image that is signed or not, against
    /// expectation, differs in PCR8.
    pub fn compare(&self, image: &Measurements) -> Result<(), Difference> {
        image.difference(&self.0).map_or(Ok(()), Err)
    }

    /// The expected values.
    pub fn measurements(&self) -> &Measurements {
        &self.0
    }
}

/// Measurements that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExpectedMeasurementsError {
    /// Failed to read the file.
    #[error("failed to read the measurements {}", path.display())]
    File {
        /// The file's path.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Longer than 1 MiB.
    #[error("the measurements have more than {MAX_LEN} bytes")]
    TooLong,
    /// Not JSON, or with other members than expected.
    #[error("the measurements are not the expected JSON object")]
    Json(#[from] serde_json::Error),
    /// Unsupported format.
    #[error("format {0} of the measurements is unsupported, only format {FORMAT} is read")]
    Format(u32),
    /// Missing image.
    #[error("the measurements have no image `{0}`")]
    Service(String),
    /// A register is not 96 hexadecimal digits, or is zero as only that of a debug enclave is.
    #[error("`{0}` is not 96 lower-case hexadecimal digits other than zeros")]
    Register(&'static str),
}

/// The members that are read; settings and inputs are for people.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MeasurementsFile {
    format: u32,
    #[serde(rename = "architecture")]
    _architecture: IgnoredAny,
    #[serde(rename = "settings")]
    _settings: IgnoredAny,
    #[serde(rename = "inputs")]
    _inputs: IgnoredAny,
    images: BTreeMap<String, Image>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Image {
    #[serde(rename = "file")]
    _file: IgnoredAny,
    #[serde(rename = "size")]
    _size: IgnoredAny,
    #[serde(rename = "sha256")]
    _sha256: IgnoredAny,
    pcr0: String,
    pcr1: String,
    pcr2: String,
    pcr8: Option<String>,
}

fn digest(text: &str) -> Option<[u8; 48]> {
    let lower = text
        .bytes()
        .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let mut digest = [0; 48];
    (lower && const_hex::decode_to_slice(text, &mut digest).is_ok() && digest != [0; 48])
        .then_some(digest)
}

const FORMAT: u32 = 1;
const MAX_LEN: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn the_first_register_that_differs_is_named() {
        let expected = parse(&file()).unwrap();
        let equal = *expected.measurements();
        assert_eq!(expected.compare(&equal), Ok(()));
        for (register, changed) in [
            (
                0,
                Measurements {
                    pcr0: [9; 48],
                    pcr2: [9; 48],
                    ..equal
                },
            ),
            (
                1,
                Measurements {
                    pcr1: [9; 48],
                    ..equal
                },
            ),
            (
                2,
                Measurements {
                    pcr2: [9; 48],
                    ..equal
                },
            ),
            (
                8,
                Measurements {
                    pcr8: Some([9; 48]),
                    ..equal
                },
            ),
            (
                8,
                Measurements {
                    pcr8: None,
                    ..equal
                },
            ),
        ] {
            let difference = expected.compare(&changed).unwrap_err();
            assert_eq!(difference.register, register);
            assert!(
                difference
                    .to_string()
                    .starts_with(&format!("PCR{register} is ")),
                "{difference}"
            );
        }
        let mut unsigned = file();
        unsigned["images"]["signer"]
            .as_object_mut()
            .unwrap()
            .remove("pcr8");
        let difference = parse(&unsigned).unwrap().compare(&equal).unwrap_err();
        assert!(
            difference
                .to_string()
                .ends_with("expected was unset (not signed)"),
            "{difference}"
        );
    }

    #[test]
    fn what_is_not_expected_is_refused() {
        for (pointer, value, error) in [
            ("/format", json!(2), "format 2"),
            ("/images/signer/pcr0", json!("00".repeat(48)), "`pcr0`"),
            ("/images/signer/pcr1", json!("AA".repeat(48)), "`pcr1`"),
            ("/images/signer/pcr2", json!("aa".repeat(47)), "`pcr2`"),
            ("/images/signer/pcr8", json!(""), "`pcr8`"),
            ("/images/signer/pcr0", json!(1), "JSON object"),
            ("/images", json!({}), "no image `signer`"),
            ("", json!([]), "JSON object"),
        ] {
            let mut changed = file();
            *changed.pointer_mut(pointer).unwrap() = value;
            let refused = parse(&changed).unwrap_err().to_string();
            assert!(refused.contains(error), "{pointer}: {refused}");
        }
        let twice = file().to_string().replace(
            r#""pcr0":"#,
            &format!(r#""pcr0":"{}","pcr0":"#, "99".repeat(48)),
        );
        assert!(ExpectedMeasurements::parse(twice.as_bytes(), "signer").is_err());
        let endless = vec![b' '; usize::try_from(MAX_LEN).unwrap() + 1];
        assert!(matches!(
            ExpectedMeasurements::parse(&endless, "signer"),
            Err(ExpectedMeasurementsError::TooLong)
        ));
    }

    fn parse(file: &Value) -> Result<ExpectedMeasurements, ExpectedMeasurementsError> {
        ExpectedMeasurements::parse(file.to_string().as_bytes(), "signer")
    }

    fn file() -> Value {
        let [pcr0, pcr1, pcr2, pcr8] = ["10", "11", "12", "18"].map(|byte| byte.repeat(48));
        json!({
            "format": 1,
            "architecture": "amd64",
            "settings": {"region": "eu-central-1"},
            "inputs": {},
            "images": {
                "signer": {
                    "file": "signer.eif", "size": 1, "sha256": "", "pcr0": pcr0, "pcr1": pcr1, "pcr2": pcr2, "pcr8": pcr8,
                },
            },
        })
    }
}
