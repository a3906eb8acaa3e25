//! An attestation document as the device writes it.
//!
//! The members and their order are those of the Nitro Enclaves attestation process document,
//! <https://github.com/aws/aws-nitro-enclaves-nsm-api/blob/main/docs/attestation_process.md>.

use ciborium::Value;
use cloister_nsm::Claims;
use coset::{CborSerializable, CoseSign1Builder, HeaderBuilder, iana};

use crate::leaf::Leaf;
use crate::pki::Pki;
use crate::registers::Registers;

/// Signs what `registers` and `claims` say at `timestamp_ms`, milliseconds since 1970.
///
/// `None` when the cryptographic library fails.
pub(crate) fn sign(
    pki: &Pki,
    leaf: &Leaf,
    module_id: &str,
    timestamp_ms: u64,
    registers: &Registers,
    claims: &Claims,
) -> Option<Vec<u8>> {
    let pcrs = registers
        .reported()
        .map(|(index, value)| (index.into(), Value::Bytes(value.to_vec())))
        .collect();
    let optional = |claim: &Option<Vec<u8>>| claim.clone().map_or(Value::Null, Value::Bytes);
    let members = [
        ("module_id", module_id.into()),
        ("digest", "SHA384".into()),
        ("timestamp", timestamp_ms.into()),
        ("pcrs", Value::Map(pcrs)),
        ("certificate", Value::Bytes(leaf.der().to_vec())),
        (
            "cabundle",
            pki.bundle()
                .map(|der| Value::Bytes(der.to_vec()))
                .to_vec()
                .into(),
        ),
        ("public_key", optional(&claims.public_key)),
        ("user_data", optional(&claims.user_data)),
        ("nonce", optional(&claims.nonce)),
    ];
    let members = members.map(|(name, value)| (name.into(), value)).to_vec();
    let mut payload = Vec::new();
    ciborium::into_writer(&Value::Map(members), &mut payload).ok()?;
    let document = CoseSign1Builder::new()
        .protected(
            HeaderBuilder::new()
                .algorithm(iana::Algorithm::ES384)
                .build(),
        )
        .payload(payload)
        .try_create_signature(b"", |to_be_signed| leaf.sign(to_be_signed));
    document.ok()?.build().to_vec().ok()
}
