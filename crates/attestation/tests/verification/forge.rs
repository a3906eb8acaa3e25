//! Documents that no module would sign: a chain and a payload of which every part can be bent
//! before it is signed.

use std::time::{Duration, SystemTime};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair};
use ciborium::Value;
use cloister_attestation::{
    AttestationError, Expectations, TrustRoot, UnixTime, VerifiedDocument, verify,
};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P384_SHA384, SignatureAlgorithm,
};

/// When forged documents are made, seconds since 1970.
pub(crate) const NOW: u64 = 1_800_000_000;

pub(crate) fn at(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

/// Verifies at [`NOW`] with nothing expected.
pub(crate) fn verify_now(
    document: &[u8],
    root: &TrustRoot,
) -> Result<VerifiedDocument, AttestationError> {
    verify(document, root, at(NOW), &Expectations::default())
}

/// A certificate with its private key.
pub(crate) struct Certified {
    pub(crate) der: Vec<u8>,
    name: DistinguishedName,
    key: KeyPair,
}

impl Certified {
    pub(crate) fn root() -> Self {
        Self::root_with(|_| {})
    }

    pub(crate) fn root_with(bend: impl FnOnce(&mut CertificateParams)) -> Self {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
        let mut params = authority_params("root");
        bend(&mut params);
        let der = params.self_signed(&key).unwrap().der().to_vec();
        Self {
            der,
            name: params.distinguished_name,
            key,
        }
    }

    pub(crate) fn authority(&self, name: &str) -> Self {
        self.authority_with(name, |_| {})
    }

    pub(crate) fn authority_with(
        &self,
        name: &str,
        bend: impl FnOnce(&mut CertificateParams),
    ) -> Self {
        self.issue(&PKCS_ECDSA_P384_SHA384, authority_params(name), bend)
    }

    pub(crate) fn signer(&self) -> Self {
        self.signer_with(|_| {})
    }

    pub(crate) fn signer_with(&self, bend: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut params = params("signer");
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        self.issue(&PKCS_ECDSA_P384_SHA384, params, bend)
    }

    pub(crate) fn issue(
        &self,
        algorithm: &'static SignatureAlgorithm,
        mut params: CertificateParams,
        bend: impl FnOnce(&mut CertificateParams),
    ) -> Self {
        bend(&mut params);
        let key = KeyPair::generate_for(algorithm).unwrap();
        // The issuer as the library wants it, whatever its own certificate says.
        let mut issuer = authority_params("");
        issuer.distinguished_name = self.name.clone();
        let der = params
            .signed_by(&key, &Issuer::new(issuer, &self.key))
            .unwrap()
            .der()
            .to_vec();
        Self {
            der,
            name: params.distinguished_name,
            key,
        }
    }
}

pub(crate) fn authority_params(name: &str) -> CertificateParams {
    let mut params = params(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    set_validity(&mut params, NOW - 60, NOW + 3 * 60 * 60);
    params
}

pub(crate) fn set_validity(params: &mut CertificateParams, from: u64, to: u64) {
    params.not_before = (SystemTime::UNIX_EPOCH + Duration::from_secs(from)).into();
    params.not_after = (SystemTime::UNIX_EPOCH + Duration::from_secs(to)).into();
}

/// A document before it is signed.
pub(crate) struct Draft {
    root: Vec<u8>,
    key: EcdsaKeyPair,
    pub(crate) members: Vec<(Value, Value)>,
    /// The encoded protected header.
    pub(crate) protected: Vec<u8>,
}

impl Draft {
    /// A good one: root, intermediate, signer.
    pub(crate) fn new() -> Self {
        let root = Certified::root();
        let intermediate = root.authority("intermediate");
        let signer = intermediate.signer();
        Self::under(&[&root, &intermediate], &signer)
    }

    /// A good one as far as these certificates are.
    pub(crate) fn under(bundle: &[&Certified], signer: &Certified) -> Self {
        let key = EcdsaKeyPair::from_pkcs8(
            &ECDSA_P384_SHA384_FIXED_SIGNING,
            signer.key.serialized_der(),
        );
        // A signer with another kind of key is refused before its signature matters.
        let key = key
            .unwrap_or_else(|_| EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap());
        let bundle_der = bundle
            .iter()
            .map(|certified| Value::Bytes(certified.der.clone()))
            .collect();
        let members = [
            (
                "module_id",
                Value::from("i-0123456789abcdef0-enc0123456789abcdef"),
            ),
            ("digest", Value::from("SHA384")),
            ("timestamp", Value::from(NOW * 1000)),
            ("pcrs", pcrs(0..16, 48)),
            ("certificate", Value::Bytes(signer.der.clone())),
            ("cabundle", Value::Array(bundle_der)),
            ("public_key", Value::Null),
            ("user_data", Value::Null),
            ("nonce", Value::Null),
        ];
        Self {
            root: bundle[0].der.clone(),
            key,
            members: members.map(|(name, value)| (name.into(), value)).to_vec(),
            protected: const_hex::decode("a1013822").unwrap(),
        }
    }

    pub(crate) fn trust_root(&self) -> TrustRoot {
        TrustRoot::explicit(self.root.clone())
    }

    /// Replaces a member.
    pub(crate) fn set(mut self, name: &str, value: impl Into<Value>) -> Self {
        let member = self
            .members
            .iter_mut()
            .find(|(key, _)| key.as_text() == Some(name))
            .unwrap();
        member.1 = value.into();
        self
    }

    /// Adds a member at the end, whether or not it is there.
    pub(crate) fn add(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.members.push((name.into(), value.into()));
        self
    }

    pub(crate) fn remove(mut self, name: &str) -> Self {
        self.members.retain(|(key, _)| key.as_text() != Some(name));
        self
    }

    pub(crate) fn payload(&self) -> Vec<u8> {
        encode(&Value::Map(self.members.clone()))
    }

    pub(crate) fn sign(&self) -> Vec<u8> {
        self.sign_payload(&self.payload())
    }

    /// A signed document of any payload.
    pub(crate) fn sign_payload(&self, payload: &[u8]) -> Vec<u8> {
        let signature = self.signature(payload);
        encode(&Value::Array(vec![
            Value::Bytes(self.protected.clone()),
            Value::Map(Vec::new()),
            Value::Bytes(payload.to_vec()),
            Value::Bytes(signature),
        ]))
    }

    pub(crate) fn signature(&self, payload: &[u8]) -> Vec<u8> {
        let to_be_signed = encode(&Value::Array(vec![
            "Signature1".into(),
            Value::Bytes(self.protected.clone()),
            Value::Bytes(Vec::new()),
            Value::Bytes(payload.to_vec()),
        ]));
        self.key
            .sign(&SystemRandom::new(), &to_be_signed)
            .unwrap()
            .as_ref()
            .to_vec()
    }

    /// Verifies the signed document with nothing expected.
    pub(crate) fn verify(&self) -> Result<VerifiedDocument, AttestationError> {
        self.verify_with(&Expectations::default())
    }

    pub(crate) fn verify_with(
        &self,
        expectations: &Expectations,
    ) -> Result<VerifiedDocument, AttestationError> {
        verify(&self.sign(), &self.trust_root(), at(NOW), expectations)
    }
}

/// Registers that are not zero, each with its own value.
pub(crate) fn pcrs(indices: impl IntoIterator<Item = u8>, len: usize) -> Value {
    let pcr = |index: u8| (Value::from(index), Value::Bytes(vec![index + 1; len]));
    Value::Map(indices.into_iter().map(pcr).collect())
}

pub(crate) fn encode(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    ciborium::into_writer(value, &mut out).unwrap();
    out
}
