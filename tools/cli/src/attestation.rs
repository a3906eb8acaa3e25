//! `cloister attestation`: verifies an enclave's proof of its image.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use aws_lc_rs::digest::{SHA384, digest};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand};
use cloister_attestation::{
    Expectations, LIVE_MAX_AGE, TrustRoot, UnixTime, document_time, verify,
};
use cloister_contract::{ErrorChain, Service, pcr};
use cloister_eif::{ExpectedMeasurements, Measurements};
use cloister_protocol::message::BootProof;
use serde_json::json;

use crate::answer::{Answer, fields};
use crate::failure::Failure;
use crate::secret::is_standard_input;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Verify a pod's response to /attestation/NONCE: the image of its enclave, under AWS's root
    Verify(Verify),
}

/// Verify a pod's response to /attestation/NONCE
#[derive(Args, Debug)]
pub(crate) struct Verify {
    /// File with the response; - for standard input
    proof: PathBuf,
    /// The nonce that the proof was requested with, 16 to 64 random bytes in hex
    #[arg(long, value_name = "HEX", value_parser = nonce)]
    nonce: Nonce,
    /// The enclave: signer or key-generator
    #[arg(long)]
    service: Service,
    /// The release's measurements.json
    #[arg(
        long,
        value_name = "FILE",
        default_value = "target/images/deployment/measurements.json"
    )]
    measurements: PathBuf,
}

#[derive(Clone, Debug)]
struct Nonce(Vec<u8>);

fn nonce(text: &str) -> Result<Nonce, String> {
    match const_hex::decode(text) {
        Ok(bytes) if (16..=64).contains(&bytes.len()) => Ok(Nonce(bytes)),
        _ => Err("expected 16 to 64 bytes in hex".into()),
    }
}

pub(crate) fn run(command: &Command) -> Result<Answer, Failure> {
    let Command::Verify(command) = command;
    let proof = read(&command.proof)?;
    let proof: BootProof = serde_json::from_slice(&proof)
        .map_err(|error| Failure::Input(format!("the proof is not a pod's response: {error}")))?;
    let expected = ExpectedMeasurements::read(&command.measurements, command.service.name())
        .map_err(|error| Failure::Input(ErrorChain(&error).to_string()))?;
    let Nonce(nonce) = &command.nonce;
    let found = verified(
        &proof,
        nonce,
        expected.measurements(),
        &TrustRoot::aws(),
        UnixTime::now(),
    );
    Ok(match found {
        Ok(proven) => Answer::new(
            fields([
                (
                    "image",
                    const_hex::encode(expected.measurements().pcr0).as_str(),
                ),
                ("enclave", &proven.module_id),
                ("age", &format!("{} s", proven.age.as_secs())),
            ]),
            &json!({
                "ok": true,
                "pcr0": const_hex::encode(expected.measurements().pcr0),
                "module_id": proven.module_id,
                "age_seconds": proven.age.as_secs(),
            }),
        ),
        Err(problem) => {
            Answer::new(&problem, &json!({ "ok": false, "problem": problem })).held(false)
        }
    })
}

/// Facts that a proof shows.
#[derive(Debug)]
struct Proven {
    module_id: String,
    age: Duration,
}

/// The document is a live one for the nonce, of an enclave of the expected image; PCR16 vouches for
/// the boot key; and the enclave holds that key.
fn verified(
    proof: &BootProof,
    nonce: &[u8],
    expected: &Measurements,
    root: &TrustRoot,
    now: UnixTime,
) -> Result<Proven, String> {
    let document = STANDARD
        .decode(&proof.document)
        .map_err(|_| "the document is not base64")?;
    let expectations = Expectations {
        pcrs: [(0, expected.pcr0), (1, expected.pcr1), (2, expected.pcr2)].into(),
        nonce: Some(nonce.to_vec()),
        max_age: Some(LIVE_MAX_AGE),
        user_data: Some(DOCUMENT_TAG.to_vec()),
        ..Expectations::default()
    };
    let text = |error| ErrorChain(&error).to_string();
    let found = verify(&document, root, now, &expectations).map_err(text)?;
    let key = found.public_key().ok_or("the document has no boot key")?;
    let register = digest(&SHA384, &[&[0; 48], key].concat());
    let index = u8::try_from(pcr::BOOT_KEY).expect("a register's index is below 32");
    if found.pcr(index).map(|value| &value[..]) != Some(register.as_ref()) {
        return Err(format!("PCR{index} is not the boot key's"));
    }
    let signature = const_hex::decode(&proof.signature).map_err(|_| "the signature is not hex")?;
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key)
        .verify(&[PROOF_DOMAIN, nonce].concat(), &signature)
        .map_err(|_| "the signature is not the boot key's")?;
    let made = document_time(&document).map_err(text)?;
    Ok(Proven {
        module_id: found.module_id().to_owned(),
        age: Duration::from_secs(now.as_secs().saturating_sub(made.as_secs())),
    })
}

fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let mut stdin = io::stdin().take(MAX_LEN);
    let outcome = match is_standard_input(file) {
        true => stdin.read_to_end(&mut bytes),
        false => fs::File::open(file).and_then(|file| file.take(MAX_LEN).read_to_end(&mut bytes)),
    };
    outcome
        .map_err(|error| Failure::Input(format!("failed to read {}: {error}", file.display())))?;
    Ok(bytes)
}

/// User data of a boot proof's document, and prefix of what the boot key signs:
/// `enclaves/runtime/src/boot_key.rs`.
const DOCUMENT_TAG: &[u8] = b"boot";
const PROOF_DOMAIN: &[u8] = b"cloister/boot/v1";
/// A document is at most 16 KiB.
const MAX_LEN: u64 = 64 * 1024;

#[cfg(test)]
mod tests {
    use aws_lc_rs::agreement::{ECDH_P256, PrivateKey};
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
    use cloister_nsm::{Claims, Nsm as _};
    use cloister_nsm_software::{Pki, SoftwareNsm};

    use super::*;

    struct Enclave {
        pki: Pki,
        nsm: SoftwareNsm,
        key: EcdsaKeyPair,
        public: Vec<u8>,
    }

    impl Enclave {
        fn new() -> Self {
            let pki = Pki::generate().unwrap();
            let pcrs = [0, 1, 2].map(|index| (index, [7; 48]));
            let nsm = SoftwareNsm::new(&pki, pcrs.into()).unwrap();
            let scalar = nsm.make_boot_key().unwrap();
            let private = PrivateKey::from_private_key(&ECDH_P256, scalar.as_ref()).unwrap();
            let public = private.compute_public_key().unwrap().as_ref().to_vec();
            let key = EcdsaKeyPair::from_private_key_and_public_key(
                &ECDSA_P256_SHA256_FIXED_SIGNING,
                scalar.as_ref(),
                &public,
            );
            let key = key.unwrap();
            Self {
                pki,
                nsm,
                key,
                public,
            }
        }

        fn proof(&self, tag: &[u8], public: &[u8], signed: &[u8]) -> BootProof {
            let claims = Claims {
                user_data: Some(tag.to_vec()),
                nonce: Some(NONCE.to_vec()),
                public_key: Some(public.to_vec()),
            };
            let signature = self.key.sign(&SystemRandom::new(), signed).unwrap();
            BootProof {
                document: STANDARD.encode(self.nsm.attest(&claims).unwrap()),
                signature: const_hex::encode_prefixed(signature),
            }
        }

        fn honest(&self) -> BootProof {
            self.proof(
                b"boot",
                &self.public,
                &[b"cloister/boot/v1".as_slice(), &NONCE].concat(),
            )
        }

        fn root(&self) -> TrustRoot {
            TrustRoot::explicit(self.pki.root_der().to_vec())
        }
    }

    fn measurements(pcr: u8) -> Measurements {
        Measurements {
            pcr0: [pcr; 48],
            pcr1: [7; 48],
            pcr2: [7; 48],
            pcr8: None,
        }
    }

    fn later(seconds: u64) -> UnixTime {
        let now = UnixTime::now().as_secs();
        UnixTime::since_unix_epoch(Duration::from_secs(now + seconds))
    }

    const NONCE: [u8; 32] = [9; 32];

    #[test]
    fn an_honest_proof_is_verified() {
        let enclave = Enclave::new();
        let found = verified(
            &enclave.honest(),
            &NONCE,
            &measurements(7),
            &enclave.root(),
            later(0),
        );
        assert!(found.unwrap().age < Duration::from_secs(60));
    }

    #[test]
    fn whatever_is_not_proven_is_refused() {
        let enclave = Enclave::new();
        let signed = [b"cloister/boot/v1".as_slice(), &NONCE].concat();
        let honest = enclave.honest();
        let root = enclave.root();
        let refused = |proof: &BootProof, nonce: &[u8], pcr0, root: &TrustRoot, now| {
            assert!(
                verified(proof, nonce, &measurements(pcr0), root, now).is_err(),
                "{proof:?}"
            );
        };
        refused(&honest, &NONCE, 7, &TrustRoot::aws(), later(0));
        refused(&honest, &NONCE, 8, &root, later(0));
        refused(&honest, &[8; 32], 7, &root, later(0));
        refused(&honest, &NONCE, 7, &root, later(3600));
        let other = Enclave::new();
        // Another kind of document; a key that the register does not hold; another key's signature.
        refused(
            &enclave.proof(b"kms", &enclave.public, &signed),
            &NONCE,
            7,
            &root,
            later(0),
        );
        refused(
            &enclave.proof(b"boot", &other.public, &signed),
            &NONCE,
            7,
            &root,
            later(0),
        );
        refused(
            &enclave.proof(b"boot", &enclave.public, &NONCE),
            &NONCE,
            7,
            &root,
            later(0),
        );
        let signature = other.honest().signature;
        refused(
            &BootProof {
                signature,
                ..honest
            },
            &NONCE,
            7,
            &root,
            later(0),
        );
    }

    #[test]
    fn nonces_have_16_to_64_bytes() {
        for (len, taken) in [(15, false), (16, true), (64, true), (65, false)] {
            assert_eq!(nonce(&"ab".repeat(len)).is_ok(), taken, "{len}");
        }
        assert!(nonce("not hex, of a sufficient length").is_err());
    }
}
