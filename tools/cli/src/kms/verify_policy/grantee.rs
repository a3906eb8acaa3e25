//! Grantees of a policy: principals in an image, and which of them include others.

use std::collections::BTreeSet;

use cloister_key_policy::{Deployment, Measurements, Pcr0};

use super::super::table::{Account, Caller, Image, Role};

/// A principal, or a group of them, in an image or without an enclave.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Grantee {
    principal: Principal,
    image: Option<Image>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Principal {
    /// Any principal of the deployment's account that IAM allows the action.
    OwnAccount,
    OtherAccounts,
    /// One principal, by its ARN.
    Arn(String),
}

impl Grantee {
    /// The grantee that a caller of the table represents.
    pub(super) fn of(caller: &Caller, deployment: &Deployment, measured: &Measurements) -> Self {
        let Deployment {
            signer_role,
            generator_role,
            retirement_role,
            administrator_role,
            ..
        } = deployment;
        let principal = match (caller.account, caller.role) {
            (Account::Another, _) => Principal::OtherAccounts,
            (Account::Own, Role::Signer) => Principal::Arn(signer_role.clone()),
            (Account::Own, Role::Generator) => Principal::Arn(generator_role.clone()),
            (Account::Own, Role::Retirement) => Principal::Arn(retirement_role.clone()),
            (Account::Own, Role::Administrator) => Principal::Arn(administrator_role.clone()),
            (Account::Own, Role::Lambda | Role::Another | Role::Root) => Principal::OwnAccount,
        };
        let image = caller.image.map(|image| match image {
            Image::Zeros => Image::Zeros,
            // An image that the policy does not name is like any other.
            image if pcr0(image, measured).is_none() => Image::Other,
            image => image,
        });
        Self { principal, image }
    }

    /// One principal without an enclave.
    pub(super) fn principal(arn: String) -> Self {
        Self {
            principal: Principal::Arn(arn),
            image: None,
        }
    }

    /// Returns whether this grantee includes `other`: an account includes its principals, and a principal
    /// without an enclave the same one in any image.
    fn includes(&self, other: &Self, deployment: &Deployment) -> bool {
        let principal = match (&self.principal, &other.principal) {
            (Principal::OwnAccount, Principal::Arn(arn)) => {
                arn.split(':').nth(4) == Some(deployment.account.as_str())
            }
            (Principal::OtherAccounts, Principal::Arn(arn)) => {
                arn.split(':').nth(4) != Some(deployment.account.as_str())
            }
            (one, other) => one == other,
        };
        principal && (self.image.is_none() || self.image == other.image)
    }

    fn text(&self, deployment: &Deployment, measured: &Measurements) -> String {
        let principal = match &self.principal {
            Principal::OwnAccount => {
                format!(
                    "any principal of account {} that IAM allows",
                    deployment.account
                )
            }
            Principal::OtherAccounts => "principals of other accounts".to_owned(),
            Principal::Arn(arn) => arn.clone(),
        };
        let Some(image) = self.image else {
            return principal;
        };
        let name = match image {
            Image::Signer => "the signer's image",
            Image::Generator => "the key generator's image",
            Image::Previous => "the previous key generator's image",
            Image::NextSigner => "the next signer's image",
            Image::NextGenerator => "the next key generator's image",
            Image::Other => return format!("{principal}, in any image"),
            Image::Zeros => return format!("{principal}, in any image in debug mode"),
        };
        match pcr0(image, measured) {
            Some(pcr0) => format!("{principal}, in {name} {}", short(&pcr0)),
            None => format!("{principal}, in any image"),
        }
    }
}

/// The texts of `grantees`, without those that another one includes.
pub(super) fn texts(
    grantees: &BTreeSet<Grantee>,
    deployment: &Deployment,
    measured: &Measurements,
) -> Vec<String> {
    let included = |grantee: &Grantee| {
        grantees
            .iter()
            .any(|other| other != grantee && other.includes(grantee, deployment))
    };
    let texts: BTreeSet<_> = grantees
        .iter()
        .filter(|grantee| !included(grantee))
        .map(|grantee| grantee.text(deployment, measured))
        .collect();
    texts.into_iter().collect()
}

/// The start of a measurement, long enough to distinguish it.
pub(super) fn short(pcr0: &Pcr0) -> String {
    format!("{}…", const_hex::encode(&pcr0.as_bytes()[..6]))
}

fn pcr0(image: Image, measured: &Measurements) -> Option<Pcr0> {
    match image {
        Image::Signer => Some(measured.signer),
        Image::Generator => Some(measured.generator),
        Image::Previous => measured.previous_generator,
        Image::NextSigner => measured.next.map(|next| next.signer),
        Image::NextGenerator => measured.next.map(|next| next.generator),
        Image::Other | Image::Zeros => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{deployment, measurements};
    use super::*;

    fn grantee(principal: &str, image: Option<Image>) -> Grantee {
        let principal = match principal {
            "own" => Principal::OwnAccount,
            "others" => Principal::OtherAccounts,
            arn => Principal::Arn(arn.to_owned()),
        };
        Grantee { principal, image }
    }

    #[test]
    fn a_wider_grantee_includes_narrower_ones_and_no_others() {
        let own = "arn:aws:iam::111122223333:role/x, in y";
        let foreign = "arn:aws:iam::999999999999:role/z";
        let signer = Some(Image::Signer);
        for (wide, narrow, expected) in [
            (grantee("own", None), grantee(own, None), true),
            (grantee("own", None), grantee(own, signer), true),
            (grantee("own", signer), grantee(own, signer), true),
            (grantee("own", signer), grantee(own, None), false),
            (grantee("own", None), grantee(foreign, None), false),
            (grantee("own", None), grantee("others", None), false),
            (grantee("others", None), grantee("own", None), false),
            (grantee("others", None), grantee(foreign, None), true),
            (grantee(own, None), grantee(own, signer), true),
            (
                grantee(own, Some(Image::Other)),
                grantee(own, signer),
                false,
            ),
        ] {
            assert_eq!(
                wide.includes(&narrow, &deployment()),
                expected,
                "{wide:?} {narrow:?}"
            );
        }
    }

    #[test]
    fn included_grantees_are_left_out() {
        let grantees = [
            grantee("own", None),
            grantee("others", None),
            grantee("arn:aws:iam::111122223333:role/x", Some(Image::Signer)),
        ];
        assert_eq!(
            texts(&grantees.into(), &deployment(), &measurements()),
            [
                "any principal of account 111122223333 that IAM allows",
                "principals of other accounts"
            ]
        );
    }
}
