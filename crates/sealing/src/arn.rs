//! The ARN of a CMK, in the one form that is accepted: a key's own, of a single-region key.

/// A key ARN taken apart: `arn:PARTITION:kms:REGION:ACCOUNT:key/UUID`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KeyArn<'a> {
    pub(crate) partition: &'a str,
    pub(crate) region: &'a str,
    pub(crate) account: &'a str,
}

impl<'a> KeyArn<'a> {
    /// `None` for everything else: aliases, multi-region keys (`mrk-…`), bare key ids.
    pub(crate) fn parse(arn: &'a str) -> Option<Self> {
        let mut parts = arn.splitn(6, ':');
        let mut next = || parts.next().filter(|part| !part.is_empty());
        let ("arn", partition, "kms", region, account, resource) =
            (next()?, next()?, next()?, next()?, next()?, next()?)
        else {
            return None;
        };
        is_uuid(resource.strip_prefix("key/")?).then_some(Self {
            partition,
            region,
            account,
        })
    }
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(place, byte)| match place {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_key_arns() {
        let arn = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";
        let parsed = KeyArn {
            partition: "aws",
            region: "eu-central-1",
            account: "111122223333",
        };
        assert_eq!(KeyArn::parse(arn), Some(parsed));
        for other in [
            "",
            "1234abcd-12ab-34cd-56ef-1234567890ab",
            "arn:aws:kms:eu-central-1:111122223333:alias/wallet",
            "arn:aws:kms:eu-central-1:111122223333:key/mrk-1234abcd12ab34cd56ef1234567890ab",
            "arn:aws:kms:eu-central-1:111122223333:key/1234ABCD-12ab-34cd-56ef-1234567890ab",
            "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab/x",
            "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab ",
            "arn:aws:kms:eu-central-1::key/1234abcd-12ab-34cd-56ef-1234567890ab",
            "arn:aws:s3:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab",
            "urn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab",
        ] {
            assert_eq!(KeyArn::parse(other), None, "{other}");
        }
    }
}
