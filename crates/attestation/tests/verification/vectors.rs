//! The vectors in `tests/vectors/attestation`, one file per case. Other languages read the same
//! files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use cloister_attestation::{
    AttestationError, DebugMode, Expectations, TrustRoot, UnixTime, VerifiedDocument,
    document_time, verify,
};
use serde::Deserialize;

#[test]
fn every_vector_comes_out_as_it_says() {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(directory()).unwrap() {
        let path = entry.unwrap().path();
        let case = Case::read(&path);
        assert_eq!(path.file_stem().unwrap().to_str(), Some(case.name.as_str()));
        let found = case.run();
        match (&case.verified, &case.refused) {
            (Some(expected), None) => {
                assert_eq!(
                    found.as_ref().map(Verified::from),
                    Ok(expected.clone()),
                    "{}",
                    case.name
                )
            }
            (None, Some(expected)) => {
                assert_eq!(
                    found.as_ref().map_err(reason),
                    Err(expected.clone()),
                    "{}",
                    case.name
                )
            }
            _ => panic!("{} says both or neither", case.name),
        }
        names.push(case.name);
    }
    assert!(names.len() > 70, "only {} vectors", names.len());
}

/// A document from the vectors.
pub(crate) fn document(name: &str) -> Vec<u8> {
    Case::read(&directory().join(format!("{name}.json"))).document()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    #[serde(rename = "why")]
    _why: String,
    #[serde(rename = "source")]
    _source: String,
    document: String,
    /// "aws", or a certificate, DER in base64.
    root: String,
    at: At,
    expectations: Expected,
    verified: Option<Verified>,
    refused: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum At {
    Seconds(u64),
    /// "document": the time that the document itself says.
    Document(#[allow(dead_code, reason = "there is only one")] String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    #[serde(default)]
    pcrs: BTreeMap<u8, String>,
    debug: Option<String>,
    nonce: Option<String>,
    max_age_seconds: Option<u64>,
    user_data: Option<String>,
    public_key: Option<String>,
    signing_certificate: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Verified {
    module_id: String,
    timestamp_ms: u64,
    pcrs: BTreeMap<u8, String>,
    public_key: Option<String>,
    user_data: Option<String>,
    nonce: Option<String>,
}

impl Case {
    fn read(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).unwrap();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    fn document(&self) -> Vec<u8> {
        BASE64_STANDARD.decode(&self.document).unwrap()
    }

    fn run(&self) -> Result<VerifiedDocument, AttestationError> {
        let document = self.document();
        let root = match self.root.as_str() {
            "aws" => TrustRoot::aws(),
            der => TrustRoot::explicit(BASE64_STANDARD.decode(der).unwrap()),
        };
        let at = match &self.at {
            At::Seconds(seconds) => UnixTime::since_unix_epoch(Duration::from_secs(*seconds)),
            At::Document(word) => {
                assert_eq!(word, "document");
                // A malformed document has no time; any will do, for it is refused before time
                // matters.
                document_time(&document).unwrap_or(UnixTime::since_unix_epoch(Duration::ZERO))
            }
        };
        verify(&document, &root, at, &self.expectations.parse())
    }
}

impl Expected {
    fn parse(&self) -> Expectations {
        let hex =
            |text: &Option<String>| text.as_ref().map(|text| const_hex::decode(text).unwrap());
        Expectations {
            pcrs: self
                .pcrs
                .iter()
                .map(|(index, pcr)| (*index, const_hex::decode_to_array(pcr).unwrap()))
                .collect(),
            debug: match self.debug.as_deref() {
                None => DebugMode::Refuse,
                Some("allow") => DebugMode::Allow,
                Some(other) => panic!("debug: {other}"),
            },
            nonce: hex(&self.nonce),
            max_age: self.max_age_seconds.map(Duration::from_secs),
            user_data: hex(&self.user_data),
            public_key: hex(&self.public_key),
            signing_certificate: self
                .signing_certificate
                .as_ref()
                .map(|der| BASE64_STANDARD.decode(der).unwrap()),
        }
    }
}

impl From<&VerifiedDocument> for Verified {
    fn from(document: &VerifiedDocument) -> Self {
        let hex = |bytes: Option<&[u8]>| bytes.map(const_hex::encode);
        Self {
            module_id: document.module_id().to_owned(),
            timestamp_ms: document.timestamp_ms(),
            pcrs: document
                .pcrs()
                .iter()
                .map(|(index, value)| (*index, const_hex::encode(value)))
                .collect(),
            public_key: hex(document.public_key()),
            user_data: hex(document.user_data()),
            nonce: hex(document.nonce()),
        }
    }
}

/// `Group/Reason`, or `BadSignature`, from the names of the error's variants.
fn reason(error: &AttestationError) -> String {
    let debug = format!("{error:?}");
    let mut names = debug.split(|character: char| !character.is_ascii_alphanumeric());
    let group = names.next().unwrap();
    match names.next() {
        Some(reason) => format!("{group}/{reason}"),
        None => group.to_owned(),
    }
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors/attestation")
}
