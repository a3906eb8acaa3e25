//! Images that are not the deployment's: the pod does not start one with other measurements, KMS
//! releases nothing to one that was started anyway, and one whose measurements are equal but whose
//! sections are cut elsewhere does not boot.

use std::fs;
use std::path::Path;

use cloister_contract::events;
use cloister_e2e::guest::BOOT;
use cloister_e2e::{Local, within};
use cloister_eif::Eif;
use cloister_local::Service;
use cloister_local::emulator::Images;
use cloister_local::stack::{AnotherSigner, readiness};
use serde_json::{Value, json};

pub(crate) async fn run(local: &Local) {
    let ours = local.stack.images().unwrap();
    let eif = fs::read(ours.image(Service::Signer)).unwrap();
    measured_otherwise(local, ours, &eif).await;
    sections_cut_elsewhere(local, ours, &eif).await;
}

async fn measured_otherwise(local: &Local, ours: &Images, eif: &[u8]) {
    let directory = tempfile::tempdir().unwrap();
    let tampered = Images::open(directory.path());
    // One bit of a ramdisk's gzip time, which the kernel ignores: the enclave boots as ever.
    let mut sections = Sections::of(eif);
    let settings = sections.contents.last_mut().unwrap();
    assert_eq!(settings[..4], [0x1f, 0x8b, 8, 0], "not gzip");
    settings[GZIP_TIME] ^= 1;
    fs::write(tampered.image(Service::Signer), sections.image()).unwrap();
    let measured = Eif::read(&tampered.image(Service::Signer))
        .unwrap()
        .measurements();
    assert_ne!(
        measured.pcr0,
        Eif::read(&ours.image(Service::Signer))
            .unwrap()
            .measurements()
            .pcr0
    );

    // With the measurements of the deployment the pod refuses it.
    fs::copy(ours.measurements_file(), tampered.measurements_file()).unwrap();
    let mut refused = local.stack.start_signer_of(tampered.clone()).await.unwrap();
    let cause = "\"cause\":\"image_refused\"";
    within(BOOT, "the pod's refusal", async || {
        says(&mut refused, cause)
    })
    .await;
    not_ready(&refused).await;
    assert!(!says(&mut refused, "cloister_init"), "it was started");
    drop(refused);

    // A pod that was lied to starts it. It runs, and adopts no CMK.
    measure_as(
        &tampered.measurements_file(),
        &measured.pcr0,
        &measured.pcr2,
    );
    let mut started = local.stack.start_signer_of(tampered).await.unwrap();
    within(BOOT, "the refused adoption", async || {
        started.speaker().logged(events::CMK_NOT_ADOPTED).unwrap()
    })
    .await;
    not_ready(&started).await;
}

/// The beginning of the command line becomes the end of the kernel, where it has no effect. No PCR
/// differs, so the pod starts it.
async fn sections_cut_elsewhere(local: &Local, ours: &Images, eif: &[u8]) {
    let directory = tempfile::tempdir().unwrap();
    let moved = Images::open(directory.path());
    let mut sections = Sections::of(eif);
    let kept = b"rdinit=/init";
    assert!(sections.contents[COMMAND_LINE].ends_with(kept));
    let cut = sections.contents[COMMAND_LINE].len() - kept.len();
    let lost: Vec<u8> = sections.contents[COMMAND_LINE].drain(..cut).collect();
    sections.contents[KERNEL].extend(lost);
    fs::write(moved.image(Service::Signer), sections.image()).unwrap();
    fs::copy(ours.measurements_file(), moved.measurements_file()).unwrap();
    let read = Eif::read(&moved.image(Service::Signer)).unwrap();
    assert_eq!(
        read.measurements(),
        Eif::parse(eif.to_owned()).unwrap().measurements()
    );
    assert_eq!(read.command_line(), kept);

    let mut refused = local.stack.start_signer_of(moved).await.unwrap();
    // The lost words include those that silence the console. The pod is not greeted: to it, the
    // enclave does not start.
    let console = local.stack.data().logs().join("another-signer-enclave.log");
    within(BOOT, "the end of the boot", async || {
        fs::read_to_string(&console).is_ok_and(|text| text.contains("\"reason\":\"boot_failed\""))
    })
    .await;
    within(BOOT, "the pod's report", async || {
        says(&mut refused, "\"cause\":\"start_failed\"")
    })
    .await;
    not_ready(&refused).await;
}

fn says(signer: &mut AnotherSigner, words: &str) -> bool {
    assert!(
        signer.pod.ended().is_none(),
        "{:#}",
        signer.pod.failure("it ended")
    );
    signer.speaker().output().unwrap().contains(words)
}

async fn not_ready(signer: &AnotherSigner) {
    let (status, body) = readiness(signer.health).await.unwrap();
    assert_eq!(status, 503, "{body}");
}

/// An EIF taken apart.
struct Sections {
    header: Vec<u8>,
    /// Kinds and flags, in the order of the file.
    kinds: Vec<[u8; 4]>,
    contents: Vec<Vec<u8>>,
}

impl Sections {
    fn of(eif: &[u8]) -> Self {
        let (header, mut rest) = eif.split_at(HEADER_LEN);
        let (mut kinds, mut contents) = (Vec::new(), Vec::new());
        while let Some((kind, after)) = rest.split_first_chunk() {
            let (len, after) = after.split_first_chunk().unwrap();
            let len = usize::try_from(u64::from_be_bytes(*len)).unwrap();
            kinds.push(*kind);
            contents.push(after[..len].to_owned());
            rest = &after[len..];
        }
        Self {
            header: header.to_owned(),
            kinds,
            contents,
        }
    }

    /// Puts it together again, with offsets, lengths and checksum that are right.
    fn image(&self) -> Vec<u8> {
        let mut eif = self.header.clone();
        for (index, (kind, contents)) in self.kinds.iter().zip(&self.contents).enumerate() {
            let (offset, len) = (eif.len() as u64, (contents.len() as u64).to_be_bytes());
            eif[OFFSETS_AT + 8 * index..][..8].copy_from_slice(&offset.to_be_bytes());
            eif[LENS_AT + 8 * index..][..8].copy_from_slice(&len);
            eif.extend([&kind[..], &len, contents].concat());
        }
        let mut checksum = crc32fast::Hasher::new();
        checksum.update(&eif[..CHECKSUM_AT]);
        checksum.update(&eif[HEADER_LEN..]);
        eif[CHECKSUM_AT..HEADER_LEN].copy_from_slice(&checksum.finalize().to_be_bytes());
        eif
    }
}

/// Writes other measurements of the signer into `measurements.json`.
fn measure_as(file: &Path, pcr0: &[u8], pcr2: &[u8]) {
    let mut measurements: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    let signer = &mut measurements["images"]["signer"];
    signer["pcr0"] = json!(const_hex::encode(pcr0));
    signer["pcr2"] = json!(const_hex::encode(pcr2));
    fs::write(file, measurements.to_string()).unwrap();
}

// The first sections of an EIF.
const KERNEL: usize = 0;
const COMMAND_LINE: usize = 1;
// Of an EIF's header.
const OFFSETS_AT: usize = 28;
const LENS_AT: usize = OFFSETS_AT + 8 * 32;
const CHECKSUM_AT: usize = HEADER_LEN - 4;
const HEADER_LEN: usize = 548;
/// RFC 1952: the time is four bytes, little-endian; zero is none.
const GZIP_TIME: usize = 4;
