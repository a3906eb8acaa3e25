//! The function's environment variables. All mistakes are reported together.

use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cloister_protocol::FrontDoorKey;
use reqwest::Url;
use zeroize::Zeroizing;

use crate::error::SettingsError;

/// The pods' addresses and their CA, and the key of this function.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `https://host:port` of the signer's pods: `CLOISTER_SIGNER_URL`.
    pub signer: Url,
    /// `https://host:port` of the key generator's pods: `CLOISTER_KEY_GENERATOR_URL`.
    pub key_generator: Url,
    /// The private CA of the pods.
    pub pod_ca: PodCa,
    /// The key that authenticates requests to pods: `CLOISTER_POD_KEY`. Shared, because it is never
    /// copied.
    pub pod_key: Arc<FrontDoorKey>,
}

/// Source of the private CA's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PodCa {
    /// A PEM file: `CLOISTER_POD_CA_FILE`.
    File(PathBuf),
    /// PEM text: `CLOISTER_POD_CA`, base64 as in a Kubernetes secret.
    Pem(Vec<u8>),
}

impl Settings {
    /// Reads the settings; `variable` returns the value of an environment variable.
    ///
    /// # Errors
    /// [`SettingsError`] lists every missing or invalid variable.
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Self, SettingsError> {
        let mut mistakes = Vec::new();
        let given = |name: &str| variable(name).filter(|value| !value.is_empty());
        let mut required = |name: &str| {
            let value = given(name);
            if value.is_none() {
                mistakes.push(format!("{name} is not set"));
            }
            value
        };
        let signer = required("CLOISTER_SIGNER_URL");
        let key_generator = required("CLOISTER_KEY_GENERATOR_URL");
        let pod_key = required("CLOISTER_POD_KEY").map(Zeroizing::new);
        let pod_ca = match given("CLOISTER_POD_CA") {
            None => required("CLOISTER_POD_CA_FILE").map(|path| PodCa::File(path.into())),
            Some(_) if given("CLOISTER_POD_CA_FILE").is_some() => {
                mistakes.push("CLOISTER_POD_CA and CLOISTER_POD_CA_FILE are both set".to_owned());
                None
            }
            Some(text) => match STANDARD.decode(text) {
                Ok(pem) => Some(PodCa::Pem(pem)),
                Err(_) => {
                    mistakes.push("CLOISTER_POD_CA must be base64 of a PEM certificate".to_owned());
                    None
                }
            },
        };
        let pod_key = pod_key.and_then(|text| match FrontDoorKey::from_hex(&text) {
            Ok(key) => Some(Arc::new(key)),
            Err(invalid) => {
                mistakes.push(format!("CLOISTER_POD_KEY {invalid}"));
                None
            }
        });
        let mut origin = |name: &str, value: Option<String>| {
            let origin = value.as_deref().map(origin);
            if origin == Some(None) {
                mistakes.push(format!("{name} must be https://host:port"));
            }
            origin.flatten()
        };
        let signer = origin("CLOISTER_SIGNER_URL", signer);
        let key_generator = origin("CLOISTER_KEY_GENERATOR_URL", key_generator);
        match (signer, key_generator, pod_ca, pod_key) {
            (Some(signer), Some(key_generator), Some(pod_ca), Some(pod_key)) => Ok(Self {
                signer,
                key_generator,
                pod_ca,
                pod_key,
            }),
            _ => Err(SettingsError(mistakes.join("; "))),
        }
    }
}

/// Parses an https URL of scheme, host and port only.
fn origin(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let plain = url.scheme() == "https"
        && url.path() == "/"
        && url.query().is_none()
        && url.fragment().is_none()
        && url.username().is_empty()
        && url.password().is_none();
    (plain && url.has_host()).then_some(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a";

    fn read(variables: &[(&str, &str)]) -> Result<Settings, String> {
        Settings::read(|name| {
            variables
                .iter()
                .find(|(variable, _)| *variable == name)
                .map(|(_, value)| (*value).to_owned())
        })
        .map_err(|error| error.to_string())
    }

    #[test]
    fn all_mistakes_are_reported_together() {
        assert_eq!(
            read(&[
                ("CLOISTER_SIGNER_URL", "http://signer:8443"),
                ("CLOISTER_POD_CA_FILE", "")
            ])
            .unwrap_err(),
            "CLOISTER_KEY_GENERATOR_URL is not set; CLOISTER_POD_KEY is not set; \
             CLOISTER_POD_CA_FILE is not set; CLOISTER_SIGNER_URL must be https://host:port"
        );
        let settings = read(&[
            ("CLOISTER_SIGNER_URL", "https://signer.internal:8443"),
            ("CLOISTER_KEY_GENERATOR_URL", "https://127.0.0.1:9000/"),
            ("CLOISTER_POD_CA_FILE", "/etc/ca.pem"),
            ("CLOISTER_POD_KEY", KEY),
        ])
        .unwrap();
        assert_eq!(settings.signer.as_str(), "https://signer.internal:8443/");
        assert_eq!(settings.pod_ca, PodCa::File("/etc/ca.pem".into()));
    }

    #[test]
    fn the_ca_is_a_file_or_base64_and_not_both() {
        let urls = [
            ("CLOISTER_SIGNER_URL", "https://s:1"),
            ("CLOISTER_KEY_GENERATOR_URL", "https://k:1"),
            ("CLOISTER_POD_KEY", KEY),
        ];
        let with =
            |ca: &[(&str, &str)]| read(&[&urls[..], ca].concat()).map(|settings| settings.pod_ca);
        assert_eq!(
            with(&[("CLOISTER_POD_CA", "UEVN")]),
            Ok(PodCa::Pem(b"PEM".to_vec()))
        );
        assert_eq!(
            with(&[("CLOISTER_POD_CA", "?")]).unwrap_err(),
            "CLOISTER_POD_CA must be base64 of a PEM certificate"
        );
        let both = [
            ("CLOISTER_POD_CA", "UEVN"),
            ("CLOISTER_POD_CA_FILE", "/etc/ca.pem"),
        ];
        assert_eq!(
            with(&both).unwrap_err(),
            "CLOISTER_POD_CA and CLOISTER_POD_CA_FILE are both set"
        );
    }

    #[test]
    fn a_malformed_key_is_refused_and_not_repeated() {
        let error = read(&[
            ("CLOISTER_SIGNER_URL", "https://s:1"),
            ("CLOISTER_KEY_GENERATOR_URL", "https://k:1"),
            ("CLOISTER_POD_CA_FILE", "/etc/ca.pem"),
            ("CLOISTER_POD_KEY", &KEY.to_uppercase()),
        ]);
        assert_eq!(
            error.unwrap_err(),
            "CLOISTER_POD_KEY must be 64 hex digits in lower case"
        );
    }

    #[test]
    fn only_origins_are_urls_of_pods() {
        for wrong in [
            "",
            "signer:8443",
            "http://h",
            "https://h/x",
            "https://u@h",
            "https://h?q",
            "https://h#f",
        ] {
            assert_eq!(origin(wrong), None, "{wrong}");
        }
    }
}
