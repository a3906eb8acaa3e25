//! The bytes of an envelope, around the ciphertext. `SPEC.md` §1.

use aws_lc_rs::aead::NONCE_LEN;
use cloister_protocol::row::Envelope;

use super::contents::CONTENTS_LEN;
use super::{Origin, ROW_FORMAT};
use crate::data_key::{DekId, MAX_WRAPPED_LEN};

/// Bytes of the tag of AES-256-GCM.
pub(super) const TAG_LEN: usize = 16;

/// The name of an envelope's data key and its wrapped form, as KMS takes it. Neither is authenticated
/// before the envelope has been opened.
///
/// # Errors
/// [`MalformedEnvelope`].
pub fn wrapped_data_key(envelope: &Envelope) -> Result<(DekId, &[u8]), MalformedEnvelope> {
    let parts = Parts::decode(&envelope.0)?;
    Ok((parts.dek_id, parts.wrapped))
}

/// The parts of an envelope. None is trusted before the ciphertext has been opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Parts<'a> {
    pub(crate) origin: Origin,
    pub(crate) dek_id: DekId,
    pub(crate) wrapped: &'a [u8],
    pub(crate) nonce: [u8; NONCE_LEN],
    /// Ciphertext ‖ tag.
    pub(crate) sealed: &'a [u8],
}

impl<'a> Parts<'a> {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let wrapped_len = u16::try_from(self.wrapped.len())
            .expect("a wrapped data key has at most MAX_WRAPPED_LEN bytes");
        let mut out = vec![ROW_FORMAT, self.origin as u8];
        out.extend_from_slice(self.dek_id.as_bytes());
        out.extend_from_slice(&wrapped_len.to_be_bytes());
        out.extend_from_slice(self.wrapped);
        out.extend_from_slice(&self.nonce);
        out.extend_from_slice(self.sealed);
        out
    }

    pub(crate) fn decode(bytes: &'a [u8]) -> Result<Self, MalformedEnvelope> {
        let truncated = MalformedEnvelope::Length;
        let (format, rest) = bytes.split_first().ok_or(truncated)?;
        if *format != ROW_FORMAT {
            return Err(MalformedEnvelope::Format(*format));
        }
        let (origin, rest) = rest.split_first().ok_or(truncated)?;
        let origin = Origin::from_byte(*origin).ok_or(MalformedEnvelope::Origin)?;
        let (dek_id, rest) = rest.split_first_chunk().ok_or(truncated)?;
        let (wrapped_len, rest) = rest.split_first_chunk().ok_or(truncated)?;
        let wrapped_len = usize::from(u16::from_be_bytes(*wrapped_len));
        if !(1..=MAX_WRAPPED_LEN).contains(&wrapped_len) {
            return Err(truncated);
        }
        let (wrapped, rest) = rest.split_at_checked(wrapped_len).ok_or(truncated)?;
        let (nonce, sealed) = rest.split_first_chunk().ok_or(truncated)?;
        if sealed.len() != CONTENTS_LEN + TAG_LEN {
            return Err(truncated);
        }
        Ok(Self {
            origin,
            dek_id: DekId::from_bytes(*dek_id),
            wrapped,
            nonce: *nonce,
            sealed,
        })
    }
}

/// The bytes are not an envelope of a known format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MalformedEnvelope {
    /// Unknown format.
    #[error("unknown row format {0}")]
    Format(u8),
    /// An unknown origin.
    #[error("unknown origin")]
    Origin,
    /// Too short, too long, or a length inside that does not fit.
    #[error("wrong length")]
    Length,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic_and_re_encode_alike(mut bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = Parts::decode(&bytes);
            // Most arbitrary bytes fail at the first of them: help them over it.
            if bytes.len() > 20 {
                bytes[0] = ROW_FORMAT;
                bytes[1] %= 4;
                bytes[18] = 0;
            }
            if let Ok(parts) = Parts::decode(&bytes) {
                prop_assert_eq!(parts.encode(), bytes);
            }
        }

        #[test]
        fn round_trip(origin in 1u8..4, dek_id: [u8; 16], wrapped in proptest::collection::vec(any::<u8>(), 1..300), nonce: [u8; 12]) {
            let parts = Parts {
                origin: Origin::from_byte(origin).unwrap(),
                dek_id: DekId::from_bytes(dek_id),
                wrapped: &wrapped,
                nonce,
                sealed: &[5; CONTENTS_LEN + TAG_LEN],
            };
            let bytes = parts.encode();
            prop_assert_eq!(Parts::decode(&bytes), Ok(parts));
            prop_assert!(Parts::decode(&bytes[..bytes.len() - 1]).is_err());
            prop_assert!(Parts::decode(&[&bytes[..], &[0]].concat()).is_err());
        }
    }
}
