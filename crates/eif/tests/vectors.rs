//! The vectors in `tests/vectors/eif`, one file per case. Other implementations read the same
//! files.

#![allow(clippy::unwrap_used, reason = "what cannot go on in a test fails it")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cloister_eif::{Architecture, Eif, Measurements};
use proptest::prelude::*;
use proptest::sample::Index;
use serde::Deserialize;

#[test]
fn every_vector_comes_out_as_it_says() {
    let mut count = 0;
    for entry in fs::read_dir(VECTORS).unwrap() {
        let path = entry.unwrap().path();
        let vector: Vector = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        assert_eq!(path.file_stem().unwrap().to_str().unwrap(), vector.name);
        let found = Eif::parse(STANDARD.decode(&vector.image).unwrap());
        let found = found
            .map(|eif| registers(&eif.measurements()))
            .map_err(|error| error.to_string());
        match (vector.measurements, vector.refused) {
            (Some(expected), None) => assert_eq!(found, Ok(expected), "{}", vector.name),
            (None, Some(expected)) => assert_eq!(found, Err(expected), "{}", vector.name),
            _ => panic!("{} says both or neither", vector.name),
        }
        count += 1;
    }
    assert!(count > 60, "only {count} vectors");
}

#[test]
fn an_image_tells_its_parts() {
    let eif = Eif::parse(image("accepted-arm64")).unwrap();
    assert_eq!(eif.architecture(), Architecture::Arm64);
    assert_eq!(eif.command_line(), b"reboot=k panic=30 rdinit=/init");
    assert_eq!(
        eif.ramdisks().collect::<Vec<_>>(),
        [b"ramdisk 0", b"ramdisk 1"]
    );
    assert_eq!(eif.signing_certificate(), None);
    // DER, a sequence: not the PEM that stands in the file.
    let signed = Eif::parse(image("accepted-signed")).unwrap();
    assert_eq!(signed.signing_certificate().unwrap()[0], 0x30);
}

#[test]
fn no_register_shows_a_moved_boundary() {
    let whole = Eif::parse(image("accepted-three-ramdisks")).unwrap();
    let moved = Eif::parse(image("accepted-moved-boundary")).unwrap();
    assert_eq!(whole.measurements(), moved.measurements());
    assert_eq!(whole.command_line(), b"reboot=k panic=30 rdinit=/init");
    assert_eq!(moved.command_line(), b"rdinit=/init");
}

#[test]
fn a_certificate_that_has_expired_or_soon_will_is_warned_about() {
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    let unsigned = Eif::parse(image("accepted-three-ramdisks")).unwrap();
    assert_eq!(unsigned.certificate_warning(SystemTime::now()), None);

    let signed = Eif::parse(image("accepted-signed")).unwrap();
    // The vector's certificate ends with the year 9999.
    let far = SystemTime::UNIX_EPOCH + 9000 * 365 * DAY;
    let end = signed.certificate_warning(far).unwrap().not_after();
    let warning = |now: SystemTime| Some(signed.certificate_warning(now)?.to_string());
    assert_eq!(warning(end - 30 * DAY), None);
    for soon in [30 * DAY - Duration::from_secs(1), Duration::ZERO] {
        let text = warning(end - soon).unwrap();
        let time = text.strip_prefix("the signing certificate expires soon, at ");
        assert!(
            time.is_some_and(|time| time.starts_with("9999-12-31")),
            "{text}"
        );
    }
    let text = warning(end + Duration::from_secs(1)).unwrap();
    assert!(
        text.starts_with("the signing certificate expired at 9999-12-31"),
        "{text}"
    );
}

#[test]
fn a_file_is_read_and_named_when_it_cannot_be() {
    let path = Path::new(VECTORS).join("accepted-signed.json");
    assert_eq!(
        Eif::read(&path).unwrap_err().to_string(),
        "not an enclave image: it does not begin with `.eif`"
    );
    let missing = Eif::read(Path::new("/nowhere/signer.eif"))
        .unwrap_err()
        .to_string();
    assert_eq!(missing, "failed to read the image /nowhere/signer.eif");
}

#[test]
fn a_file_longer_than_any_image_is_not_read() {
    let error = Eif::read(Path::new("/dev/zero")).unwrap_err();
    assert_eq!(error.to_string(), "the image has more than 134217728 bytes");
}

proptest! {
    /// An image can be changed unnoticed, checksum included, exactly where no register covers it.
    #[test]
    fn every_change_is_refused_or_measured(at in any::<Index>(), xor in 1..=u8::MAX, signed in any::<bool>()) {
        let original = image(if signed { "accepted-signed" } else { "accepted-three-ramdisks" });
        let before = Eif::parse(original.clone()).unwrap();
        let mut changed = original.clone();
        let at = at.index(changed.len());
        changed[at] ^= xor;
        prop_assert!(Eif::parse(changed.clone()).is_err(), "the checksum covers byte {at}");

        repair_checksum(&mut changed);
        if let Ok(after) = Eif::parse(changed) {
            let metadata = find(&original, br#"{"ImageName""#);
            let unmeasured = match at {
                // The architecture; default memory and processors; the checksum, which was
                // repaired.
                7..24 | 544..548 => true,
                _ => (metadata..find(&original, b"ramdisk 0") - 12).contains(&at),
            };
            let cose = signed && at > find(&original, &[0x69]) && after.signing_certificate() == before.signing_certificate();
            prop_assert!(unmeasured || cose || after.measurements() != before.measurements(), "byte {at}");
        }
    }

    #[test]
    fn hostile_bytes_do_no_harm(
        changes in prop::collection::vec((any::<Index>(), any::<u8>()), 0..16),
        cut in any::<Index>(),
        tail in prop::collection::vec(any::<u8>(), 0..64),
        signed in any::<bool>(),
    ) {
        let mut bytes = image(if signed { "accepted-signed" } else { "accepted-three-ramdisks" });
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        bytes.truncate(bytes.len() - cut.index(bytes.len()) / 8);
        bytes.extend(tail);
        repair_checksum(&mut bytes);
        if let Ok(eif) = Eif::parse(bytes) {
            eif.measurements();
        }
    }

    #[test]
    fn arbitrary_bytes_do_no_harm(mut bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        let _ = Eif::parse(bytes.clone());
        if let Some(magic) = bytes.get_mut(..8) {
            magic.copy_from_slice(b".eif\0\x04\0\0");
        }
        let _ = Eif::parse(bytes);
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Vector {
    name: String,
    #[serde(rename = "why")]
    _why: String,
    #[serde(rename = "source")]
    _source: String,
    image: String,
    measurements: Option<BTreeMap<String, String>>,
    refused: Option<String>,
}

fn image(name: &str) -> Vec<u8> {
    let path = Path::new(VECTORS).join(format!("{name}.json"));
    let vector: Vector = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    STANDARD.decode(vector.image).unwrap()
}

fn registers(measurements: &Measurements) -> BTreeMap<String, String> {
    let Measurements {
        pcr0,
        pcr1,
        pcr2,
        pcr8,
    } = measurements;
    let registers = [
        ("pcr0", Some(pcr0)),
        ("pcr1", Some(pcr1)),
        ("pcr2", Some(pcr2)),
        ("pcr8", pcr8.as_ref()),
    ];
    let set = registers
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), const_hex::encode(value?))));
    set.collect()
}

/// CRC-32 over everything but itself.
fn repair_checksum(bytes: &mut [u8]) {
    if bytes.len() < 548 {
        return;
    }
    let mut crc = crc32fast::Hasher::new();
    crc.update(&bytes[..544]);
    crc.update(&bytes[548..]);
    bytes[544..548].copy_from_slice(&crc.finalize().to_be_bytes());
}

fn find(bytes: &[u8], what: &[u8]) -> usize {
    bytes
        .windows(what.len())
        .position(|window| window == what)
        .unwrap()
}

const VECTORS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/vectors/eif");
