//! The caller's expectations of a document.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{Context, SHA384, digest};
use rustls_pki_types::UnixTime;

use crate::document::Document;
use crate::error::{AttestationError, Misuse, Unexpected};

/// The caller's expectations of a document. Empty or `None` members are **not checked**; a document
/// in debug mode is refused unless [`DebugMode::Allow`] is set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expectations {
    /// Registers by index below 32, each of which the document has to list with exactly this value.
    /// PCR0, PCR1 and PCR2 together identify an image; PCR0 alone covers all of it.
    pub pcrs: BTreeMap<u8, [u8; 48]>,
    /// Policy for enclaves in debug mode.
    pub debug: DebugMode,
    /// The fresh random value that the document was requested with, at least [`MIN_NONCE_LEN`]
    /// bytes. Compared in constant time.
    pub nonce: Option<Vec<u8>>,
    /// Maximum age of the document at the time of the verification; [`LIVE_MAX_AGE`] for live
    /// checks.
    pub max_age: Option<Duration>,
    /// Exactly the `user_data` of the document.
    pub user_data: Option<Vec<u8>>,
    /// Exactly the `public_key` of the document.
    pub public_key: Option<Vec<u8>>,
    /// The certificate, DER, that the image was signed with: PCR8 = SHA-384(0^48 ‖
    /// SHA-384(certificate)).
    pub signing_certificate: Option<Vec<u8>>,
}

/// Policy for documents of enclaves in debug mode, which report zeros for their measurements.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DebugMode {
    /// Refuses them: the host reads such an enclave's memory and console.
    #[default]
    Refuse,
    /// Accepts them: for development, with nothing at stake.
    Allow,
}

impl Expectations {
    /// Refuses expectations that would accept more than their author meant.
    pub(crate) fn check_themselves(&self) -> Result<(), Misuse> {
        if let Some(nonce) = &self.nonce
            && nonce.len() < MIN_NONCE_LEN
        {
            return Err(Misuse::ShortNonce { len: nonce.len() });
        }
        if self.debug == DebugMode::Refuse {
            for index in IMAGE_PCRS {
                if self.pcrs.get(&index).is_some_and(is_zero) {
                    return Err(Misuse::ZeroPcr { index });
                }
            }
        }
        Ok(())
    }

    pub(crate) fn check(
        &self,
        document: &Document<'_>,
        at: UnixTime,
    ) -> Result<(), AttestationError> {
        self.check_pcrs(document)?;
        self.check_age(document, at)?;
        check_equal("nonce", self.nonce.as_deref(), document.nonce)?;
        check_equal("user_data", self.user_data.as_deref(), document.user_data)?;
        check_equal(
            "public_key",
            self.public_key.as_deref(),
            document.public_key,
        )?;
        Ok(())
    }

    fn check_pcrs(&self, document: &Document<'_>) -> Result<(), Unexpected> {
        let pcr = |index: u8| document.pcrs.get(&index).copied();
        if self.debug == DebugMode::Refuse && is_debug(pcr) {
            return Err(Unexpected::DebugMode);
        }
        for (index, expected) in &self.pcrs {
            if pcr(*index) != Some(expected) {
                return Err(Unexpected::Pcr { index: *index });
            }
        }
        match &self.signing_certificate {
            Some(der) if pcr(SIGNING_CERTIFICATE_PCR) != Some(&signing_certificate_pcr(der)) => {
                Err(Unexpected::SigningCertificate)
            }
            _ => Ok(()),
        }
    }

    fn check_age(&self, document: &Document<'_>, at: UnixTime) -> Result<(), Unexpected> {
        let made = Duration::from_millis(document.timestamp_ms);
        let at = Duration::from_secs(at.as_secs());
        let ahead = made.saturating_sub(at);
        if ahead > ALLOWED_SKEW {
            return Err(Unexpected::FromTheFuture { ahead });
        }
        let age = at.saturating_sub(made);
        match self.max_age {
            Some(max) if age > max => Err(Unexpected::TooOld { age, max }),
            _ => Ok(()),
        }
    }
}

/// An enclave in debug mode reports zeros as the measurements of its image. One register missing or
/// zero is as bad.
pub(crate) fn is_debug<'a>(pcr: impl Fn(u8) -> Option<&'a [u8; 48]>) -> bool {
    IMAGE_PCRS
        .into_iter()
        .any(|index| pcr(index).is_none_or(is_zero))
}

fn is_zero(pcr: &[u8; 48]) -> bool {
    *pcr == [0; 48]
}

/// `None` expects nothing. Constant time in the contents, for a nonce is a secret until it is used.
fn check_equal(
    member: &'static str,
    expected: Option<&[u8]>,
    found: Option<&[u8]>,
) -> Result<(), Unexpected> {
    let Some(expected) = expected else {
        return Ok(());
    };
    match found {
        Some(found) if verify_slices_are_equal(expected, found).is_ok() => Ok(()),
        _ => Err(Unexpected::Member { member }),
    }
}

/// PCR8 = SHA-384(0^48 ‖ SHA-384(certificate)), the extension of an empty register.
fn signing_certificate_pcr(der: &[u8]) -> [u8; 48] {
    let mut context = Context::new(&SHA384);
    context.update(&[0; 48]);
    context.update(digest(&SHA384, der).as_ref());
    context
        .finish()
        .as_ref()
        .try_into()
        .expect("SHA-384 has 48 bytes")
}

/// In bytes: enough that a nonce is not repeated or guessed.
pub const MIN_NONCE_LEN: usize = 16;

/// [`Expectations::max_age`] of a live check.
pub const LIVE_MAX_AGE: Duration = Duration::from_secs(5 * 60);

/// Maximum lead of a module's clock over the verifier's.
pub const ALLOWED_SKEW: Duration = Duration::from_secs(60);

/// The whole image, kernel with boot ramdisk, application.
const IMAGE_PCRS: [u8; 3] = [0, 1, 2];

const SIGNING_CERTIFICATE_PCR: u8 = 8;
