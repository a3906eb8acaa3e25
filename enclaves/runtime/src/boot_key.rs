//! The boot key: a P-256 key that lives as long as this boot. Init makes it, extends PCR16 with its
//! public half, locks the register, and hands the private half to the application. Every attestation
//! document of this boot therefore binds it.

use std::fmt;

use aws_lc_rs::agreement::{ECDH_P256, PrivateKey};
use aws_lc_rs::digest::{Context, SHA384};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cloister_contract::{ErrorChain, events, pcr};
use cloister_nsm::{Claims, Nsm, NsmError};
use cloister_protocol::message::BootProof;
use cloister_protocol::{Code, Rejection};

/// User data of the attestation document of a boot proof: separates it from documents of other
/// kinds.
const BOOT_DOCUMENT_TAG: &[u8] = b"boot";
/// Prefix of the nonce in what a boot proof signs: separates its signature from those of other
/// kinds.
const PROOF_DOMAIN: &[u8] = b"cloister/boot/v1";

/// The private half, with the public half that the NSM attests.
pub(crate) struct BootKey {
    key: EcdsaKeyPair,
    /// SEC 1, uncompressed.
    public: Vec<u8>,
}

impl BootKey {
    /// Takes the 32-byte private key from init if PCR16 is locked to it.
    pub(crate) fn receive(scalar: &[u8], nsm: &dyn Nsm) -> Result<Self, BootKeyError> {
        let public = PrivateKey::from_private_key(&ECDH_P256, scalar)
            .ok()
            .and_then(|key| key.compute_public_key().ok())
            .ok_or(BootKeyError::Key)?;
        let public = public.as_ref().to_vec();
        let key = EcdsaKeyPair::from_private_key_and_public_key(
            &ECDSA_P256_SHA256_FIXED_SIGNING,
            scalar,
            &public,
        )
        .map_err(|_| BootKeyError::Key)?;
        let register = nsm.describe_pcr(pcr::BOOT_KEY).map_err(BootKeyError::Nsm)?;
        let mut expected = Context::new(&SHA384);
        expected.update(&[0; 48]);
        expected.update(&public);
        if !register.locked || register.value != expected.finish().as_ref() {
            return Err(BootKeyError::Register);
        }
        Ok(Self { key, public })
    }

    /// Proves to the caller who chose `nonce` which image this is and that it holds its boot key.
    /// Blocks.
    pub(crate) fn prove(&self, nonce: &[u8], nsm: &dyn Nsm) -> Result<BootProof, Rejection> {
        if !NONCE_LEN.contains(&nonce.len()) {
            return Err(Rejection::invalid("nonce", "expected 16 to 64 bytes"));
        }
        let claims = Claims {
            user_data: Some(BOOT_DOCUMENT_TAG.to_vec()),
            nonce: Some(nonce.to_vec()),
            public_key: Some(self.public.clone()),
        };
        let document = nsm.attest(&claims).map_err(|error| {
            tracing::warn!(
                event = events::BOOT_KEY_NOT_ATTESTED,
                error = %ErrorChain(&error),
                "the NSM did not attest the boot key"
            );
            Rejection::new(Code::Internal, "the NSM failed to attest")
        })?;
        let signed = [PROOF_DOMAIN, nonce].concat();
        let signature = self
            .key
            .sign(&SystemRandom::new(), &signed)
            .map_err(|_| Rejection::new(Code::Internal, "the boot key failed to sign"))?;
        Ok(BootProof {
            document: STANDARD.encode(document),
            signature: const_hex::encode_prefixed(signature),
        })
    }
}

impl fmt::Debug for BootKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BootKey(..)")
    }
}

/// The reason for which the boot key of init is refused.
#[derive(Debug, thiserror::Error)]
pub enum BootKeyError {
    /// The scalar is zero, too large, or has a wrong length.
    #[error("the boot key from init is not a P-256 private key")]
    Key,
    /// PCR16 is unlocked or holds another value.
    #[error("PCR16 is not locked to the boot key")]
    Register,
    /// The NSM refused to describe the register.
    #[error("failed to read PCR16")]
    Nsm(#[source] NsmError),
}

/// Bytes of a nonce, requirement A4 of crates/attestation: shorter ones can be guessed.
const NONCE_LEN: std::ops::RangeInclusive<usize> = 16..=64;

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
    use cloister_attestation::{Expectations, TrustRoot, verify};
    use cloister_nsm_software::{Pki, SoftwareNsm};
    use rustls_pki_types::UnixTime;

    use super::*;

    fn nsm() -> (Pki, SoftwareNsm) {
        let pki = Pki::generate().unwrap();
        let nsm = SoftwareNsm::new(&pki, [0, 1, 2].map(|index| (index, [7; 48])).into()).unwrap();
        (pki, nsm)
    }

    #[test]
    fn a_proof_binds_image_nonce_and_key() {
        let (pki, nsm) = nsm();
        let key = BootKey::receive(nsm.make_boot_key().unwrap().as_ref(), &nsm).unwrap();
        let nonce = [9; 32];
        let proof = key.prove(&nonce, &nsm).unwrap();
        let register = nsm.describe_pcr(pcr::BOOT_KEY).unwrap().value;
        let expected = Expectations {
            pcrs: [(0, [7; 48]), (16, register)].into(),
            nonce: Some(nonce.to_vec()),
            user_data: Some(BOOT_DOCUMENT_TAG.to_vec()),
            public_key: Some(key.public.clone()),
            ..Expectations::default()
        };
        let document = STANDARD.decode(&proof.document).unwrap();
        verify(
            &document,
            &TrustRoot::explicit(pki.root_der().to_vec()),
            UnixTime::now(),
            &expected,
        )
        .unwrap();
        let signature = const_hex::decode(&proof.signature).unwrap();
        let signed = [b"cloister/boot/v1".as_slice(), &nonce].concat();
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &key.public)
            .verify(&signed, &signature)
            .unwrap();
    }

    #[test]
    fn nonces_have_16_to_64_bytes() {
        let (_, nsm) = nsm();
        let key = BootKey::receive(nsm.make_boot_key().unwrap().as_ref(), &nsm).unwrap();
        for (len, taken) in [(0, false), (15, false), (16, true), (64, true), (65, false)] {
            assert_eq!(key.prove(&vec![1; len], &nsm).is_ok(), taken, "{len}");
        }
    }

    #[test]
    fn a_key_that_no_locked_register_holds_is_refused() {
        let (_, other) = nsm();
        let scalar = other.make_boot_key().unwrap();
        let (_, fresh) = nsm();
        assert!(matches!(
            BootKey::receive(scalar.as_ref(), &fresh),
            Err(BootKeyError::Register)
        ));
        fresh.make_boot_key().unwrap();
        assert!(matches!(
            BootKey::receive(scalar.as_ref(), &fresh),
            Err(BootKeyError::Register)
        ));
        for wrong in [&[][..], &[0; 32], &[0xff; 32], &[1; 31]] {
            assert!(
                matches!(BootKey::receive(wrong, &other), Err(BootKeyError::Key)),
                "{wrong:?}"
            );
        }
        // Extended but not locked: the application could still change it.
        let (_, unlocked) = nsm();
        let public = BootKey::receive(scalar.as_ref(), &other).unwrap().public;
        unlocked.extend_pcr(pcr::BOOT_KEY, &public).unwrap();
        assert!(matches!(
            BootKey::receive(scalar.as_ref(), &unlocked),
            Err(BootKeyError::Register)
        ));
    }
}
