//! The ARN of a CMK, in the one accepted form: of a single-region key, not of an alias.

use cloister_contract::Arn;

/// Parses `arn:PARTITION:kms:REGION:ACCOUNT:key/UUID`. `None` for everything else: aliases,
/// multi-region keys (`mrk-…`), bare key ids.
pub(crate) fn key_arn(text: &str) -> Option<Arn> {
    let arn: Arn = text.parse().ok()?;
    is_uuid(arn.regional("kms", "key/")?).then_some(arn)
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
        let parsed = key_arn(arn).unwrap();
        assert_eq!(parsed.partition(), "aws");
        assert_eq!(parsed.region().unwrap().as_str(), "eu-central-1");
        assert_eq!(parsed.account().unwrap().as_str(), "111122223333");
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
            assert!(key_arn(other).is_none(), "{other}");
        }
    }
}
