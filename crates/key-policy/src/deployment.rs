//! The input of a rendering: deployment, measurements and form.

use cloister_contract::AccountId;

use crate::Pcr0;
use crate::error::RenderError;

/// The account and the roles that the policy names. Role ARNs are
/// `arn:PARTITION:iam::ACCOUNT:role/[path/]name`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deployment {
    /// `aws`, `aws-cn` or `aws-us-gov`.
    pub partition: String,
    /// Twelve digits.
    pub account: String,
    /// The region of the key. The policy does not name it; adoption compares it with the key's ARN.
    pub region: String,
    /// The role of the signer's pods.
    pub signer_role: String,
    /// The role of the key-generator's pods.
    pub generator_role: String,
    /// The only role that may schedule the key's deletion.
    pub retirement_role: String,
    /// The role that may replace the policy, in the open form only.
    pub administrator_role: String,
}

/// The images that the policy admits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Measurements {
    /// PCR0 of the signer.
    pub signer: Pcr0,
    /// PCR0 of the key generator.
    pub generator: Pcr0,
    /// PCR0 of the previous release's key generator, which seals for both keys during a hand-over.
    pub previous_generator: Option<Pcr0>,
    /// The release that is about to replace this one: both are admitted while the enclaves are
    /// exchanged. The open form only.
    pub next: Option<NextRelease>,
}

/// The images of the next release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NextRelease {
    /// PCR0 of its signer; the present one's when that did not change.
    pub signer: Pcr0,
    /// PCR0 of its key generator.
    pub generator: Pcr0,
}

impl Measurements {
    /// Of one release alone.
    pub fn new(signer: Pcr0, generator: Pcr0) -> Self {
        Self {
            signer,
            generator,
            previous_generator: None,
            next: None,
        }
    }
}

/// The form of a policy: replaceable or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// The administrator role may replace the policy.
    Open,
    /// No principal may replace the policy.
    Locked,
}

/// Refuses wildcards and policy variables, which IAM would interpret.
pub(crate) fn refuse_ambiguity(
    deployment: &Deployment,
    measurements: &Measurements,
) -> Result<(), RenderError> {
    let Deployment {
        partition, account, ..
    } = deployment;
    if partition.is_empty()
        || !partition
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte == b'-')
    {
        return Err(RenderError::Partition(partition.clone()));
    }
    if account.parse::<AccountId>().is_err() {
        return Err(RenderError::Account(account.clone()));
    }

    let roles = format!("arn:{partition}:iam::{account}:role/");
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"+=,.@_-/".contains(&byte);
    for role in [
        &deployment.signer_role,
        &deployment.generator_role,
        &deployment.retirement_role,
        &deployment.administrator_role,
    ] {
        let name = role
            .strip_prefix(&roles)
            .ok_or_else(|| RenderError::Role(role.clone()))?;
        if name.is_empty() || name.ends_with('/') || !name.bytes().all(plain) {
            return Err(RenderError::Role(role.clone()));
        }
    }

    let Measurements {
        signer,
        generator,
        previous_generator,
        next,
    } = *measurements;
    let slots = [
        ("signer", Some(signer)),
        ("key generator", Some(generator)),
        ("previous key generator", previous_generator),
        (NEXT_SIGNER, next.map(|next| next.signer)),
        ("next key generator", next.map(|next| next.generator)),
    ];
    for (index, (one, pcr0)) in slots.iter().enumerate() {
        for (other, same) in &slots[..index] {
            // A signer may be the same in two releases: it has the same rights in both slots.
            if pcr0.is_some() && pcr0 == same && (*other, *one) != ("signer", NEXT_SIGNER) {
                return Err(RenderError::SameImage(other, one));
            }
        }
    }
    Ok(())
}

const NEXT_SIGNER: &str = "next signer";
