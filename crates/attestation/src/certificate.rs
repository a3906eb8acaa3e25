//! The checks that webpki leaves to its callers: key usage, the root's own constraints, and the key
//! that signs documents.

use std::time::Duration;

use rustls_pki_types::UnixTime;
use x509_cert::der::asn1::ObjectIdentifier;
use x509_cert::der::{self, Decode};
use x509_cert::ext::pkix::{BasicConstraints, KeyUsage};

use crate::error::{ChainError, Position};

/// A parsed certificate, not yet trusted.
pub(crate) struct Certificate {
    position: Position,
    parsed: x509_cert::Certificate,
}

impl Certificate {
    pub(crate) fn parse(position: Position, der: &[u8]) -> Result<Self, ChainError> {
        let parsed = x509_cert::Certificate::from_der(der);
        let parsed = parsed.map_err(|source| ChainError::Encoding { position, source })?;
        Ok(Self { position, parsed })
    }

    /// Checks that `at` is within the validity, both ends included (RFC 5280, section 4.1.2.5).
    pub(crate) fn check_validity(&self, at: UnixTime) -> Result<(), ChainError> {
        let validity = self.parsed.tbs_certificate().validity();
        let at = Duration::from_secs(at.as_secs());
        let position = self.position;
        if at < validity.not_before.to_unix_duration() {
            return Err(ChainError::NotYetValid { position });
        }
        if at > validity.not_after.to_unix_duration() {
            return Err(ChainError::Expired { position });
        }
        Ok(())
    }

    /// A certificate authority that may have `below` authorities under it, not counting the signer
    /// of documents.
    pub(crate) fn check_authority(&self, below: usize) -> Result<(), ChainError> {
        let position = self.position;
        let constraints = match self.extension::<BasicConstraints>()? {
            Some((true, constraints)) if constraints.ca => constraints,
            _ => return Err(ChainError::BasicConstraints { position }),
        };
        if constraints
            .path_len_constraint
            .is_some_and(|len| below > usize::from(len))
        {
            return Err(ChainError::PathLength { position });
        }
        match self.extension::<KeyUsage>()? {
            Some((_, usage)) if usage.key_cert_sign() => Ok(()),
            _ => Err(ChainError::KeyUsage { position }),
        }
    }

    /// A signer of documents, not an authority; and its key.
    pub(crate) fn check_signer(&self) -> Result<P384Key, ChainError> {
        let position = self.position;
        if self
            .extension::<BasicConstraints>()?
            .is_some_and(|(_, constraints)| constraints.ca)
        {
            return Err(ChainError::BasicConstraints { position });
        }
        match self.extension::<KeyUsage>()? {
            Some((_, usage)) if usage.digital_signature() && !usage.key_cert_sign() => {}
            _ => return Err(ChainError::KeyUsage { position }),
        }
        let key = self.parsed.tbs_certificate().subject_public_key_info();
        let curve = key
            .algorithm
            .parameters
            .as_ref()
            .and_then(|curve| curve.decode_as::<ObjectIdentifier>().ok());
        let point: Option<[u8; 97]> = key
            .subject_public_key
            .as_bytes()
            .and_then(|point| point.try_into().ok());
        match point {
            Some(point) if key.algorithm.oid == EC_PUBLIC_KEY && curve == Some(SECP384R1) => {
                Ok(P384Key(point))
            }
            _ => Err(ChainError::PublicKey { position }),
        }
    }

    /// An extension and whether it is critical. Twice the same one is an error.
    fn extension<T>(&self) -> Result<Option<(bool, T)>, ChainError>
    where
        T: for<'a> Decode<'a, Error = der::Error> + der::oid::AssociatedOid,
    {
        let extension = self.parsed.tbs_certificate().get_extension::<T>();
        extension.map_err(|source| ChainError::Encoding {
            position: self.position,
            source,
        })
    }
}

/// An uncompressed point that claims to be on P-384; the verification of a signature checks that it
/// is.
#[derive(Debug)]
pub(crate) struct P384Key([u8; 97]);

impl P384Key {
    pub(crate) fn point(&self) -> &[u8] {
        &self.0
    }
}

/// RFC 5480, section 2.1.1.
const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const SECP384R1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
