//! The signed payload, member by member, as AWS specifies it.
//!
//! Types, sizes and values are those of section 3.2.2 of the Nitro Enclaves attestation process,
//! <https://github.com/aws/aws-nitro-enclaves-nsm-api/blob/main/docs/attestation_process.md>.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use rustls_pki_types::UnixTime;

use crate::cbor::Reader;
use crate::error::{CborError, Malformed};

/// A well-formed document, not yet verified.
#[derive(Debug)]
pub(crate) struct Document<'a> {
    pub(crate) module_id: &'a str,
    pub(crate) timestamp_ms: u64,
    pub(crate) pcrs: BTreeMap<u8, &'a [u8; PCR_LEN]>,
    pub(crate) certificate: &'a [u8],
    /// The root first; never empty.
    pub(crate) cabundle: Vec<&'a [u8]>,
    pub(crate) public_key: Option<&'a [u8]>,
    pub(crate) user_data: Option<&'a [u8]>,
    pub(crate) nonce: Option<&'a [u8]>,
}

impl<'a> Document<'a> {
    pub(crate) fn parse(payload: &'a [u8]) -> Result<Self, Malformed> {
        let mut members = Members::default();
        let mut reader = Reader::new(payload);
        let mut entries = reader.map().map_err(in_payload)?;
        while entries.more(&mut reader).map_err(in_payload)? {
            members.read(&mut reader)?;
        }
        reader.finish().map_err(in_payload)?;
        members.complete()
    }

    pub(crate) fn time(&self) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_millis(self.timestamp_ms))
    }
}

/// The members read so far.
#[derive(Default)]
struct Members<'a> {
    module_id: Option<&'a str>,
    digest: Option<&'a str>,
    timestamp_ms: Option<u64>,
    pcrs: Option<BTreeMap<u8, &'a [u8; PCR_LEN]>>,
    certificate: Option<&'a [u8]>,
    cabundle: Option<Vec<&'a [u8]>>,
    public_key: Option<Option<&'a [u8]>>,
    user_data: Option<Option<&'a [u8]>>,
    nonce: Option<Option<&'a [u8]>>,
}

impl<'a> Members<'a> {
    fn read(&mut self, reader: &mut Reader<'a>) -> Result<(), Malformed> {
        match reader.text().map_err(in_payload)? {
            "module_id" => {
                let module_id = reader.text().map_err(in_member("module_id"))?;
                check_len("module_id", module_id.as_bytes(), &MODULE_ID_LEN)?;
                once(&mut self.module_id, "module_id", module_id)
            }
            "digest" => {
                let digest = reader.text().map_err(in_member("digest"))?;
                once(&mut self.digest, "digest", digest)
            }
            "timestamp" => {
                let timestamp = reader.unsigned().map_err(in_member("timestamp"))?;
                once(&mut self.timestamp_ms, "timestamp", timestamp)
            }
            "pcrs" => once(&mut self.pcrs, "pcrs", pcrs(reader)?),
            "certificate" => once(
                &mut self.certificate,
                "certificate",
                certificate(reader, "certificate")?,
            ),
            "cabundle" => once(&mut self.cabundle, "cabundle", cabundle(reader)?),
            "public_key" => once(
                &mut self.public_key,
                "public_key",
                optional(reader, "public_key", &PUBLIC_KEY_LEN)?,
            ),
            "user_data" => once(
                &mut self.user_data,
                "user_data",
                optional(reader, "user_data", &USER_DATA_LEN)?,
            ),
            "nonce" => once(
                &mut self.nonce,
                "nonce",
                optional(reader, "nonce", &NONCE_LEN)?,
            ),
            "nitrotpm_pcrs" => Err(Malformed::NitroTpm),
            other => Err(Malformed::UnknownMember {
                name: other.to_owned(),
            }),
        }
    }

    fn complete(self) -> Result<Document<'a>, Malformed> {
        if required(self.digest, "digest")? != "SHA384" {
            return Err(Malformed::Digest);
        }
        let timestamp_ms = required(self.timestamp_ms, "timestamp")?;
        if timestamp_ms == 0 {
            return Err(Malformed::ZeroTimestamp);
        }
        Ok(Document {
            module_id: required(self.module_id, "module_id")?,
            timestamp_ms,
            pcrs: required(self.pcrs, "pcrs")?,
            certificate: required(self.certificate, "certificate")?,
            cabundle: required(self.cabundle, "cabundle")?,
            public_key: self.public_key.flatten(),
            user_data: self.user_data.flatten(),
            nonce: self.nonce.flatten(),
        })
    }
}

fn pcrs<'a>(reader: &mut Reader<'a>) -> Result<BTreeMap<u8, &'a [u8; PCR_LEN]>, Malformed> {
    let cbor = in_member("pcrs");
    let mut pcrs = BTreeMap::new();
    let mut entries = reader.map().map_err(cbor)?;
    while entries.more(reader).map_err(cbor)? {
        let index = reader.unsigned().map_err(cbor)?;
        let index = u8::try_from(index)
            .ok()
            .filter(|index| *index < MAX_PCRS)
            .ok_or(Malformed::PcrIndex { index })?;
        let value = reader.bytes().map_err(cbor)?;
        let value = value.try_into().map_err(|_| Malformed::PcrLength {
            index,
            len: value.len(),
        })?;
        if pcrs.insert(index, value).is_some() {
            return Err(Malformed::DuplicatePcr { index });
        }
    }
    if pcrs.is_empty() {
        Err(Malformed::Empty { member: "pcrs" })
    } else {
        Ok(pcrs)
    }
}

fn cabundle<'a>(reader: &mut Reader<'a>) -> Result<Vec<&'a [u8]>, Malformed> {
    let cbor = in_member("cabundle");
    let mut bundle = Vec::new();
    let mut items = reader.array().map_err(cbor)?;
    while items.more(reader).map_err(cbor)? {
        if bundle.len() == MAX_BUNDLE_LEN {
            return Err(Malformed::BundleLength);
        }
        bundle.push(certificate(reader, "cabundle")?);
    }
    if bundle.is_empty() {
        Err(Malformed::Empty { member: "cabundle" })
    } else {
        Ok(bundle)
    }
}

fn certificate<'a>(reader: &mut Reader<'a>, member: &'static str) -> Result<&'a [u8], Malformed> {
    let certificate = reader.bytes().map_err(in_member(member))?;
    check_len(member, certificate, &CERTIFICATE_LEN)?;
    Ok(certificate)
}

/// A member that may be null or missing, which are equivalent.
fn optional<'a>(
    reader: &mut Reader<'a>,
    member: &'static str,
    len: &RangeInclusive<usize>,
) -> Result<Option<&'a [u8]>, Malformed> {
    let value = reader.bytes_or_null().map_err(in_member(member))?;
    if let Some(value) = value {
        check_len(member, value, len)?;
    }
    Ok(value)
}

fn once<T>(slot: &mut Option<T>, member: &'static str, value: T) -> Result<(), Malformed> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(Malformed::DuplicateMember { member }),
    }
}

fn required<T>(slot: Option<T>, member: &'static str) -> Result<T, Malformed> {
    slot.ok_or(Malformed::MissingMember { member })
}

fn check_len(
    member: &'static str,
    value: &[u8],
    allowed: &RangeInclusive<usize>,
) -> Result<(), Malformed> {
    let len = value.len();
    if allowed.contains(&len) {
        Ok(())
    } else {
        Err(Malformed::Length { member, len })
    }
}

fn in_payload(source: CborError) -> Malformed {
    Malformed::Cbor {
        part: "the payload",
        source,
    }
}

fn in_member(part: &'static str) -> impl Fn(CborError) -> Malformed + Copy {
    move |source| Malformed::Cbor { part, source }
}

const PCR_LEN: usize = 48;
const MAX_PCRS: u8 = 32;
/// Certificates above the signer. AWS has four: root, region, zone, instance.
const MAX_BUNDLE_LEN: usize = 6;
const CERTIFICATE_LEN: RangeInclusive<usize> = 1..=1024;
const MODULE_ID_LEN: RangeInclusive<usize> = 1..=256;
const PUBLIC_KEY_LEN: RangeInclusive<usize> = 1..=1024;
/// Section 3.2.2 says 512 and the device accepts 1024: so documents with 1024 bytes exist.
const USER_DATA_LEN: RangeInclusive<usize> = 0..=1024;
const NONCE_LEN: RangeInclusive<usize> = 0..=1024;
