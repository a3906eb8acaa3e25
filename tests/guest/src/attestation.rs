//! Attestation documents, as far as they can be looked at without a chain of certificates: an
//! emulator's has none.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use ciborium::Value;
use cloister_nsm::{Claims, Device, Nsm, NsmError};

use crate::report::Report;

/// Documents with and without claims.
pub(crate) fn check(report: &mut Report, nsm: &Device) {
    let no_claims = Claims::default();
    let few = Claims {
        user_data: Some(b"user data".into()),
        nonce: Some(b"nonce".into()),
        public_key: Some(b"key".into()),
    };
    let most = Claims {
        user_data: Some(vec![1; 512]),
        nonce: Some(vec![2; 512]),
        public_key: Some(vec![3; 1024]),
    };
    report.add("attestation: no claims", echoed(nsm, &no_claims));
    report.add("attestation: all claims", echoed(nsm, &few));
    report.add("attestation: the longest claims", echoed(nsm, &most));
    let too_long = nsm.attest(&Claims {
        nonce: Some(vec![0; 513]),
        ..Claims::default()
    });
    report.add(
        "attestation: a claim that is too long is refused",
        match too_long {
            Err(NsmError::ClaimLength { claim: "nonce", .. }) => Ok("513 bytes"),
            other => Err(anyhow::anyhow!("{other:?}")),
        },
    );
}

fn echoed(nsm: &Device, claims: &Claims) -> Result<String> {
    let document = nsm.attest(claims)?;
    let members = members(&document)?;
    for (name, expected) in [
        ("user_data", &claims.user_data),
        ("nonce", &claims.nonce),
        ("public_key", &claims.public_key),
    ] {
        let found = match members.get(name) {
            Some(Value::Bytes(found)) => Some(found),
            Some(Value::Null) | None => None,
            other => bail!("{name} is {other:?}"),
        };
        ensure!(
            found == expected.as_ref(),
            "{name} is not what was asked for"
        );
    }
    ensure!(
        members.get("module_id") == Some(&nsm.describe()?.module_id.into()),
        "another module"
    );
    ensure!(
        members.get("digest") == Some(&"SHA384".into()),
        "another digest"
    );
    let Some(Value::Map(registers)) = members.get("pcrs") else {
        bail!("no registers")
    };
    for (index, value) in registers {
        let index = index
            .as_integer()
            .and_then(|index| u16::try_from(index).ok())
            .context("a register without a number")?;
        ensure!(
            value.as_bytes().map(Vec::as_slice) == Some(&nsm.describe_pcr(index)?.value),
            "PCR{index} differs"
        );
    }
    ensure!(registers.len() == 32, "{} registers", registers.len());
    Ok(format!("{} bytes", document.len()))
}

/// The members of the payload of a COSE_Sign1.
fn members(document: &[u8]) -> Result<BTreeMap<String, Value>> {
    let parts = ciborium::from_reader::<Value, _>(document)?;
    let parts = match parts {
        Value::Tag(18, parts) => *parts,
        untagged => untagged,
    };
    let parts = parts
        .into_array()
        .map_err(|_| anyhow::anyhow!("no array"))?;
    let payload = parts
        .get(2)
        .and_then(Value::as_bytes)
        .context("no payload")?;
    let payload = ciborium::from_reader::<Value, _>(payload.as_slice())?;
    let members = payload.into_map().map_err(|_| anyhow::anyhow!("no map"))?;
    members
        .into_iter()
        .map(|(name, value)| {
            Ok((
                name.into_text().map_err(|_| anyhow::anyhow!("no name"))?,
                value,
            ))
        })
        .collect()
}
