//! Verifies a document: the only place where a [`VerifiedDocument`] is made.

use std::collections::BTreeMap;
use std::time::Duration;

use rustls_pki_types::UnixTime;

use crate::chain;
use crate::cose::Sign1;
use crate::document::Document;
use crate::error::{AttestationError, Malformed};
use crate::expectations::{Expectations, is_debug};
use crate::root::TrustRoot;

/// Verifies an attestation document: an untagged or tagged COSE_Sign1, nothing before or after it.
///
/// `at` is when the certificates have to be valid and against what the document's age counts. For a
/// live document that is now; for one kept as evidence, whose signing certificate has long ended,
/// the caller chooses [`document_time`] on purpose.
///
/// Members that `expectations` does not set are not checked: with empty ones a valid document of
/// *any* enclave passes, except one in debug mode.
///
/// # Errors
/// [`AttestationError`], grouped by the party at fault.
pub fn verify(
    document: &[u8],
    root: &TrustRoot,
    at: UnixTime,
    expectations: &Expectations,
) -> Result<VerifiedDocument, AttestationError> {
    expectations.check_themselves()?;
    let envelope = parse_envelope(document)?;
    let document = Document::parse(envelope.payload())?;
    let key = chain::verify(&document, root, at)?;
    envelope.verify(&key)?;
    expectations.check(&document, at)?;
    Ok(VerifiedDocument::assertion(&document))
}

/// The time that a document claims, **unverified**: for callers who choose to verify a document at
/// its own time.
///
/// # Errors
/// [`AttestationError::Malformed`] for bytes that are not an attestation document.
pub fn document_time(document: &[u8]) -> Result<UnixTime, AttestationError> {
    let envelope = parse_envelope(document)?;
    Ok(Document::parse(envelope.payload())?.time())
}

fn parse_envelope(document: &[u8]) -> Result<Sign1<'_>, Malformed> {
    if document.len() > MAX_DOCUMENT_LEN {
        return Err(Malformed::TooLong {
            len: document.len(),
        });
    }
    Sign1::parse(document)
}

/// The contents of a verified document. Only [`verify`] makes one, so having one is the proof that it
/// was accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedDocument {
    module_id: String,
    timestamp_ms: u64,
    pcrs: BTreeMap<u8, [u8; 48]>,
    public_key: Option<Vec<u8>>,
    user_data: Option<Vec<u8>>,
    nonce: Option<Vec<u8>>,
}

impl VerifiedDocument {
    /// The only constructor; its caller has verified `document`.
    fn assertion(document: &Document<'_>) -> Self {
        Self {
            module_id: document.module_id.to_owned(),
            timestamp_ms: document.timestamp_ms,
            pcrs: document
                .pcrs
                .iter()
                .map(|(index, value)| (*index, **value))
                .collect(),
            public_key: document.public_key.map(<[u8]>::to_vec),
            user_data: document.user_data.map(<[u8]>::to_vec),
            nonce: document.nonce.map(<[u8]>::to_vec),
        }
    }

    /// The id of the module that signed: `i-<instance>-enc<enclave>`.
    pub fn module_id(&self) -> &str {
        &self.module_id
    }

    /// The time of the signature by the module's clock, in milliseconds since 1970.
    pub fn timestamp_ms(&self) -> u64 {
        self.timestamp_ms
    }

    /// The time of the signature, to the second.
    pub fn time(&self) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_millis(self.timestamp_ms))
    }

    /// One register, if the document lists it.
    pub fn pcr(&self, index: u8) -> Option<&[u8; 48]> {
        self.pcrs.get(&index)
    }

    /// Every register that the document lists, by index below 32.
    pub fn pcrs(&self) -> &BTreeMap<u8, [u8; 48]> {
        &self.pcrs
    }

    /// True for an enclave in debug mode, whose memory and console the host can read. Always false
    /// without [`DebugMode::Allow`](crate::DebugMode::Allow).
    pub fn is_debug(&self) -> bool {
        is_debug(|index| self.pcr(index))
    }

    /// The public key that the enclave put in, 1 to 1024 bytes.
    pub fn public_key(&self) -> Option<&[u8]> {
        self.public_key.as_deref()
    }

    /// The user data that the enclave put in, at most 1024 bytes.
    pub fn user_data(&self) -> Option<&[u8]> {
        self.user_data.as_deref()
    }

    /// The nonce that the enclave put in, at most 1024 bytes.
    pub fn nonce(&self) -> Option<&[u8]> {
        self.nonce.as_deref()
    }
}

/// In bytes; more than the device's answers hold.
pub const MAX_DOCUMENT_LEN: usize = 16 * 1024;
