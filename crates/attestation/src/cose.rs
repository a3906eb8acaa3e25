//! The signed envelope: COSE_Sign1 with ES384, RFC 9052 section 4.2 and RFC 9053 section 2.1.

use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED, UnparsedPublicKey};

use crate::cbor::{Reader, write_bytes};
use crate::certificate::P384Key;
use crate::error::{AttestationError, CborError, Malformed};

/// A COSE_Sign1 whose only header is `alg: ES384`, in the protected part.
#[derive(Debug)]
pub(crate) struct Sign1<'a> {
    protected: &'a [u8],
    payload: &'a [u8],
    signature: &'a [u8; SIGNATURE_LEN],
}

impl<'a> Sign1<'a> {
    /// `[protected: bstr, unprotected: {}, payload: bstr, signature: bstr]`, with or without tag
    /// 18.
    pub(crate) fn parse(input: &'a [u8]) -> Result<Self, Malformed> {
        let envelope = |source| Malformed::Cbor {
            part: "the envelope",
            source,
        };
        let mut reader = Reader::new(input);
        reader.skip_tag(COSE_SIGN1_TAG).map_err(envelope)?;
        if !reader.array().map_err(envelope)?.are_exactly(4) {
            return Err(Malformed::NotSign1);
        }
        let protected = reader.bytes().map_err(envelope)?;
        let unprotected_is_empty = reader.map().map_err(envelope)?.are_exactly(0);
        if !unprotected_is_empty {
            return Err(Malformed::UnprotectedHeader);
        }
        let payload = reader.bytes().map_err(envelope)?;
        let signature = reader.bytes().map_err(envelope)?;
        reader.finish().map_err(envelope)?;

        let is_es384 = is_only_es384(protected);
        if !is_es384.map_err(|source| Malformed::Cbor {
            part: "the protected header",
            source,
        })? {
            return Err(Malformed::Algorithm);
        }
        let signature = signature
            .try_into()
            .map_err(|_| Malformed::SignatureLength {
                len: signature.len(),
            })?;
        Ok(Self {
            protected,
            payload,
            signature,
        })
    }

    /// The payload. Its signature is checked by [`Sign1::verify`] only.
    pub(crate) fn payload(&self) -> &'a [u8] {
        self.payload
    }

    pub(crate) fn verify(&self, key: &P384Key) -> Result<(), AttestationError> {
        UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, key.point())
            .verify(&self.to_be_signed(), self.signature)
            .map_err(|_| AttestationError::BadSignature)
    }

    /// Sig_structure = ["Signature1", protected, external_aad = h'', payload], from the bytes as
    /// they came.
    fn to_be_signed(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.protected.len() + self.payload.len() + 32);
        out.push(0x84);
        out.push(0x6a);
        out.extend(b"Signature1");
        write_bytes(&mut out, self.protected);
        write_bytes(&mut out, b"");
        write_bytes(&mut out, self.payload);
        out
    }
}

fn is_only_es384(protected: &[u8]) -> Result<bool, CborError> {
    let mut reader = Reader::new(protected);
    if !reader.map()?.are_exactly(1) {
        return Ok(false);
    }
    let is_es384 = reader.integer()? == ALG && reader.integer()? == ES384;
    reader.finish()?;
    Ok(is_es384)
}

const COSE_SIGN1_TAG: u64 = 18;
const ALG: i64 = 1;
const ES384: i64 = -35;
const SIGNATURE_LEN: usize = 96;
