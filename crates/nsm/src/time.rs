//! The time, as the hypervisor writes it into attestation documents.

use std::time::{Duration, SystemTime};

use aws_nitro_enclaves_nsm_api::api::AttestationDoc;

use crate::claims::Claims;
use crate::error::NsmError;
use crate::module::Nsm;

/// When the module made the attestation document that it is asked for here.
///
/// The document is not verified: it comes straight from the device. Verifiers of documents that
/// travelled need `cloister-attestation`.
///
/// # Errors
/// [`NsmError::NoTime`] if the document is invalid or its time is before this code was written;
/// otherwise as every call.
pub fn time(nsm: &dyn Nsm) -> Result<SystemTime, NsmError> {
    let document = nsm.attest(&Claims::default())?;
    let statement =
        payload(&document).and_then(|payload| AttestationDoc::from_binary(payload).ok());
    let since_epoch = Duration::from_millis(statement.ok_or(NsmError::NoTime)?.timestamp);
    if !(EARLIEST..LATEST).contains(&since_epoch.as_secs()) {
        return Err(NsmError::NoTime);
    }
    Ok(SystemTime::UNIX_EPOCH + since_epoch)
}

/// COSE_Sign1 = [protected: bstr, unprotected: {}, payload: bstr, signature: bstr] RFC 9052 §4.2
///
/// With or without its tag, 18.
fn payload(document: &[u8]) -> Option<&[u8]> {
    let members = document
        .strip_prefix(&[0xd2])
        .unwrap_or(document)
        .strip_prefix(&[0x84])?;
    let (_protected, rest) = byte_string(members)?;
    let (payload, rest) = byte_string(rest.strip_prefix(&[0xa0])?)?;
    let (_signature, rest) = byte_string(rest)?;
    rest.is_empty().then_some(payload)
}

/// A CBOR byte string of definite length, and what follows it.
fn byte_string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (head, rest) = bytes.split_first()?;
    let (len, rest) = match head {
        0x40..=0x57 => (usize::from(head - 0x40), rest),
        0x58 => rest
            .split_first()
            .map(|(len, rest)| (usize::from(*len), rest))?,
        0x59 => rest
            .split_first_chunk()
            .map(|(len, rest)| (usize::from(u16::from_be_bytes(*len)), rest))?,
        _ => return None,
    };
    rest.split_at_checked(len)
}

/// 2024-01-01T00:00:00Z: an earlier clock was never set.
const EARLIEST: u64 = 1_704_067_200;
/// 2100-01-01T00:00:00Z: what comes after overflows other people's clocks.
const LATEST: u64 = 4_102_444_800;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use aws_nitro_enclaves_nsm_api::api;

    use super::*;
    use crate::description::{Description, Pcr};

    /// Attests anything.
    struct FixedDocument(Vec<u8>);

    impl Nsm for FixedDocument {
        fn attest(&self, _: &Claims) -> Result<Vec<u8>, NsmError> {
            Ok(self.0.clone())
        }

        fn describe(&self) -> Result<Description, NsmError> {
            unreachable!("only documents carry the time")
        }

        fn random(&self, _: &mut [u8]) -> Result<(), NsmError> {
            unreachable!("only documents carry the time")
        }

        fn describe_pcr(&self, _: u16) -> Result<Pcr, NsmError> {
            unreachable!("only documents carry the time")
        }

        fn extend_pcr(&self, _: u16, _: &[u8]) -> Result<[u8; 48], NsmError> {
            unreachable!("only documents carry the time")
        }

        fn lock_pcr(&self, _: u16) -> Result<(), NsmError> {
            unreachable!("only documents carry the time")
        }

        fn lock_pcrs(&self, _: u16) -> Result<(), NsmError> {
            unreachable!("only documents carry the time")
        }
    }

    fn document(timestamp: u64) -> Vec<u8> {
        let pcrs = (0..16)
            .map(|index| (index, vec![0; 48]))
            .collect::<BTreeMap<usize, Vec<u8>>>();
        let mut statement = AttestationDoc::new(
            "i-1-enc2".into(),
            api::Digest::SHA384,
            0,
            pcrs,
            vec![1; 600],
            vec![vec![2; 500]],
            None,
            None,
            None,
        );
        statement.timestamp = timestamp;
        let payload = statement.to_binary();
        let len = u16::try_from(payload.len()).unwrap().to_be_bytes();
        let signature = [0; 96];
        [
            &[0x84, 0x44, 0xa1, 0x01, 0x38, 0x22, 0xa0, 0x59],
            &len[..],
            &payload,
            &[0x58, 96],
            &signature,
        ]
        .concat()
    }

    #[test]
    fn the_time_is_that_of_the_document() {
        let millis = 1_763_726_400_123;
        let expected = SystemTime::UNIX_EPOCH + Duration::from_millis(millis);
        assert_eq!(time(&FixedDocument(document(millis))).unwrap(), expected);
        assert_eq!(
            time(&FixedDocument(
                [&[0xd2], document(millis).as_slice()].concat()
            ))
            .unwrap(),
            expected
        );
    }

    #[test]
    fn a_time_that_cannot_be_is_refused() {
        for (seconds, taken) in [
            (0, false),
            (EARLIEST - 1, false),
            (EARLIEST, true),
            (LATEST - 1, true),
            (LATEST, false),
        ] {
            assert_eq!(
                time(&FixedDocument(document(seconds * 1000))).is_ok(),
                taken,
                "{seconds}"
            );
        }
        assert!(matches!(
            time(&FixedDocument(document(u64::MAX))),
            Err(NsmError::NoTime)
        ));
    }

    #[test]
    fn whatever_is_not_a_document_is_refused() {
        let whole = document(1_763_726_400_123);
        for len in 0..whole.len() {
            assert!(
                matches!(
                    time(&FixedDocument(whole[..len].to_vec())),
                    Err(NsmError::NoTime)
                ),
                "{len}"
            );
        }
        let longer = [&whole, &[0][..]].concat();
        let other_array = [&[0x85], &whole[1..]].concat();
        let endless = [&whole[..7], &[0x5f], &whole[8..]].concat();
        for wrong in [
            longer,
            other_array,
            endless,
            vec![0x84, 0x40, 0xa0, 0x40, 0x40],
        ] {
            assert!(matches!(time(&FixedDocument(wrong)), Err(NsmError::NoTime)));
        }
    }
}
