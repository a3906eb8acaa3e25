//! Amazon Resource Names (ARNs) and their parts.
//!
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference-arns.html>

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::syntax::{InvalidText, Syntax, text_type};

/// An ARN: `arn:PARTITION:SERVICE:REGION:ACCOUNT:RESOURCE`. Its `Display` is the text that was
/// parsed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Arn {
    partition: String,
    service: String,
    region: Option<Region>,
    account: Option<AccountId>,
    resource: String,
}

impl Arn {
    /// The partition, such as `aws` or `aws-cn`.
    pub fn partition(&self) -> &str {
        &self.partition
    }

    /// The AWS service, such as `kms`.
    pub fn service(&self) -> &str {
        &self.service
    }

    /// The region; global services such as IAM have none.
    pub fn region(&self) -> Option<&Region> {
        self.region.as_ref()
    }

    /// The account; a few services, such as S3, have none.
    pub fn account(&self) -> Option<&AccountId> {
        self.account.as_ref()
    }

    /// The resource, such as `key/1234abcd-…`.
    pub fn resource(&self) -> &str {
        &self.resource
    }

    /// The resource's name after `kind`, for a regional service: with `("dynamodb", "table/")`, a
    /// table's name. `None` for an ARN of another service or kind, or without region or account.
    pub fn regional(&self, service: &str, kind: &str) -> Option<&str> {
        self.region.as_ref()?;
        self.account.as_ref()?;
        let name = self.resource.strip_prefix(kind)?;
        (self.service == service && !name.is_empty()).then_some(name)
    }
}

impl FromStr for Arn {
    type Err = InvalidArn;

    fn from_str(text: &str) -> Result<Self, InvalidArn> {
        let mut parts = text.splitn(6, ':');
        let mut next = || parts.next().ok_or(InvalidArn::Form);
        let ("arn", partition, service, region, account, resource) =
            (next()?, next()?, next()?, next()?, next()?, next()?)
        else {
            return Err(InvalidArn::Form);
        };
        for (syntax, part) in [
            (PARTITION, partition),
            (SERVICE, service),
            (RESOURCE, resource),
        ] {
            syntax.check(part).map_err(InvalidArn::Part)?;
        }
        Ok(Self {
            partition: partition.to_owned(),
            service: service.to_owned(),
            region: optional(region)?,
            account: optional(account)?,
            resource: resource.to_owned(),
        })
    }
}

fn optional<T: FromStr<Err = InvalidText>>(part: &str) -> Result<Option<T>, InvalidArn> {
    if part.is_empty() {
        Ok(None)
    } else {
        part.parse().map(Some).map_err(InvalidArn::Part)
    }
}

impl fmt::Display for Arn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let region = self.region.as_ref().map_or("", Region::as_str);
        let account = self.account.as_ref().map_or("", AccountId::as_str);
        let Self {
            partition,
            service,
            resource,
            ..
        } = self;
        write!(f, "arn:{partition}:{service}:{region}:{account}:{resource}")
    }
}

impl TryFrom<String> for Arn {
    type Error = InvalidArn;

    fn try_from(text: String) -> Result<Self, InvalidArn> {
        text.parse()
    }
}

impl From<Arn> for String {
    fn from(arn: Arn) -> Self {
        arn.to_string()
    }
}

/// A text that is not an ARN. The text itself is not repeated.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum InvalidArn {
    /// Fewer than six parts, or another prefix than `arn:`.
    Form,
    /// A part has an invalid length or character.
    Part(InvalidText),
}

impl fmt::Display for InvalidArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Form => "ARN is invalid: expected arn:PARTITION:SERVICE:REGION:ACCOUNT:RESOURCE",
            Self::Part(_) => "ARN is invalid",
        })
    }
}

impl std::error::Error for InvalidArn {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Form => None,
            Self::Part(part) => Some(part),
        }
    }
}

text_type! {
    /// An AWS account: twelve digits.
    AccountId,
    Syntax { name: "account id", min_len: 12, max_len: 12, alphabet: &[(b'0', b'9')] }
}

text_type! {
    /// An AWS region, such as `eu-central-1`. Safe as a label of a host name.
    Region,
    Syntax {
        name: "region",
        min_len: 1,
        max_len: 63,
        alphabet: &[(b'a', b'z'), (b'0', b'9'), (b'-', b'-')],
    }
}

const PARTITION: &Syntax = &Syntax {
    name: "partition",
    min_len: 1,
    max_len: 63,
    alphabet: &[(b'a', b'z'), (b'-', b'-')],
};
const SERVICE: &Syntax = &Syntax {
    name: "service",
    min_len: 1,
    max_len: 63,
    alphabet: &[(b'a', b'z'), (b'0', b'9'), (b'-', b'-')],
};
/// Graphic ASCII: what a resource may be called depends on its service.
const RESOURCE: &Syntax = &Syntax {
    name: "resource",
    min_len: 1,
    max_len: 2048,
    alphabet: &[(b'!', b'~')],
};

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CMK: &str = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd";
    const ROLE: &str = "arn:aws-cn:iam::111122223333:role/wallet/signer";

    #[test]
    fn parts_are_taken_apart() {
        let cmk: Arn = CMK.parse().unwrap();
        assert_eq!((cmk.partition(), cmk.service()), ("aws", "kms"));
        assert_eq!(cmk.region().unwrap().as_str(), "eu-central-1");
        assert_eq!(cmk.account().unwrap().as_str(), "111122223333");
        assert_eq!(cmk.regional("kms", "key/"), Some("1234abcd"));
        assert_eq!(cmk.regional("kms", "alias/"), None);
        assert_eq!(cmk.regional("dynamodb", "key/"), None);
        let role: Arn = ROLE.parse().unwrap();
        assert_eq!(
            (role.region(), role.resource()),
            (None, "role/wallet/signer")
        );
        assert_eq!(role.regional("iam", "role/"), None);
        let bucket: Arn = "arn:aws:s3:::bucket/a:b".parse().unwrap();
        assert_eq!((bucket.account(), bucket.resource()), (None, "bucket/a:b"));
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "arn",
            "arn:aws:kms:eu-central-1:111122223333",
            "ARN:aws:kms:eu-central-1:111122223333:key/1",
            "arn::kms:eu-central-1:111122223333:key/1",
            "arn:aws::eu-central-1:111122223333:key/1",
            "arn:AWS:kms:eu-central-1:111122223333:key/1",
            "arn:aws:kms:eu-central-1/:111122223333:key/1",
            "arn:aws:kms:EU-central-1:111122223333:key/1",
            "arn:aws:kms:eu-central-1:11112222333:key/1",
            "arn:aws:kms:eu-central-1:1111222233334:key/1",
            "arn:aws:kms:eu-central-1:11112222333x:key/1",
            "arn:aws:kms:eu-central-1:111122223333:",
            "arn:aws:kms:eu-central-1:111122223333:key/1 ",
            "arn:aws:kms:eu-central-1:111122223333:key/1\n",
        ] {
            assert!(text.parse::<Arn>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_accepted_is_written_as_it_was_read(
            text in "arn:[a-z-]{0,8}:[a-z0-9]{0,8}:[a-z0-9-]{0,14}:[0-9]{0}|arn:aws:[a-z]{1,4}:([a-z]{2}-1)?:([0-9]{12})?:[ -~]{0,20}",
        ) {
            if let Ok(arn) = text.parse::<Arn>() {
                prop_assert_eq!(arn.to_string(), text.clone());
                let json = serde_json::to_value(&arn).unwrap();
                prop_assert_eq!(&json, &text);
                prop_assert_eq!(serde_json::from_value::<Arn>(json).unwrap(), arn);
            }
        }

        #[test]
        fn any_text_is_parsed_or_refused(text in "\\PC{0,80}") {
            let _ = text.parse::<Arn>();
            if let Ok(account) = text.parse::<AccountId>() {
                prop_assert_eq!(account.as_str().len(), 12);
            }
        }
    }
}
