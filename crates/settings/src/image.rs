//! From the one file of a deployment to the bytes that each image measures.

use std::collections::BTreeMap;

use cloister_key_policy::Pcr0;
use serde_json::Value;

use crate::{Settings, SettingsError};

/// The settings of the signer's image: the members of a deployment's file, sorted and without white
/// space, so that layout changes no measurement.
///
/// # Errors
/// [`SettingsError`] when an enclave would refuse them; [`SettingsError::Form`] for `signer_pcr0`,
/// which follows from the signer's image and is in no file.
pub fn for_signer(file: &[u8]) -> Result<Vec<u8>, SettingsError> {
    Ok(serde_json::to_vec(&members(file)?)?)
}

/// The settings of the key generator's image: the same and the signer's PCR0.
///
/// # Errors
/// As [`for_signer`].
pub fn for_key_generator(file: &[u8], signer: Pcr0) -> Result<Vec<u8>, SettingsError> {
    let mut members = members(file)?;
    members.insert(SIGNER_PCR0.to_owned(), signer.to_string().into());
    Ok(serde_json::to_vec(&members)?)
}

fn members(file: &[u8]) -> Result<BTreeMap<String, Value>, SettingsError> {
    // The enclave's own parser, which also refuses duplicate members.
    Settings::parse(file)?;

    let members: BTreeMap<String, Value> = serde_json::from_slice(file)?;
    match members.get(SIGNER_PCR0) {
        None => Ok(members),
        Some(value) => Err(SettingsError::Form {
            member: SIGNER_PCR0,
            value: value.to_string(),
        }),
    }
}

const SIGNER_PCR0: &str = "signer_pcr0";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::settings::tests::settings;

    #[test]
    fn layout_changes_nothing_and_content_does() {
        let file = settings();
        let loose = serde_json::to_vec_pretty(&file).unwrap();
        assert_eq!(
            for_signer(&loose).unwrap(),
            for_signer(file.to_string().as_bytes()).unwrap()
        );
        let mut changed = file.clone();
        changed["accept_open_policy"] = false.into();
        assert_ne!(
            for_signer(&loose).unwrap(),
            for_signer(changed.to_string().as_bytes()).unwrap()
        );
    }

    #[test]
    fn the_generator_alone_measures_the_signer() {
        let file = settings().to_string();
        let signer = Pcr0::try_from([7; 48]).unwrap();
        let generator = for_key_generator(file.as_bytes(), signer).unwrap();
        assert_eq!(
            Settings::parse(&generator).unwrap().signer_pcr0,
            Some(signer)
        );
        assert_eq!(
            Settings::parse(&for_signer(file.as_bytes()).unwrap())
                .unwrap()
                .signer_pcr0,
            None
        );
    }

    #[test]
    fn a_file_that_names_the_signer_is_refused() {
        let mut file = settings();
        file["signer_pcr0"] = json!("07".repeat(48));
        let error = for_signer(file.to_string().as_bytes()).unwrap_err();
        assert!(error.to_string().contains("signer_pcr0"), "{error}");
    }

    #[test]
    fn what_an_enclave_refuses_is_refused() {
        let file = settings().to_string();
        let twice = file.replacen('{', r#"{"region":"eu-west-1","#, 1);
        assert!(for_signer(twice.as_bytes()).is_err());
    }
}
