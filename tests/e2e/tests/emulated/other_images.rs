//! Images that are not the deployment's: the pod does not start what measures otherwise than it was
//! told, and what is started anyway gets nothing from KMS.

use std::fs;
use std::path::Path;

use cloister_e2e::guest::BOOT;
use cloister_e2e::{Local, within};
use cloister_eif::Eif;
use cloister_local::Service;
use cloister_local::emulator::Images;
use cloister_local::stack::{AnotherSigner, readiness};
use serde_json::{Value, json};

pub(crate) async fn run(local: &Local) {
    let ours = local.stack.images().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let tampered = Images::open(directory.path());
    let eif = fs::read(ours.image(Service::Signer)).unwrap();
    // One bit of the command line, which changes nothing that matters: the enclave boots as ever.
    fs::write(
        tampered.image(Service::Signer),
        with_a_flipped_bit(eif, b"panic=30"),
    )
    .unwrap();
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
    let told = "it is not the image that was measured";
    within(BOOT, "the pod's refusal", async || says(&mut refused, told)).await;
    not_ready(&refused).await;
    assert!(!says(&mut refused, "cloister_init"), "it was started");
    drop(refused);

    // A pod that was lied to starts it. It runs, and adopts no CMK.
    measure_as(
        &tampered.measurements_file(),
        &measured.pcr0,
        &measured.pcr1,
    );
    let mut started = local.stack.start_signer_of(tampered).await.unwrap();
    within(BOOT, "the refused adoption", async || {
        says(&mut started, "the CMK was not adopted")
    })
    .await;
    not_ready(&started).await;
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

/// The bit is the last of the byte behind which `text` ends; the checksum is made right.
fn with_a_flipped_bit(mut eif: Vec<u8>, text: &[u8]) -> Vec<u8> {
    let found = eif
        .windows(text.len())
        .position(|window| window == text)
        .unwrap();
    eif[found + text.len() - 1] ^= 1;
    let mut checksum = crc32fast::Hasher::new();
    checksum.update(&eif[..HEADER_LEN - CHECKSUM_LEN]);
    checksum.update(&eif[HEADER_LEN..]);
    eif[HEADER_LEN - CHECKSUM_LEN..HEADER_LEN].copy_from_slice(&checksum.finalize().to_be_bytes());
    eif
}

/// Changes what `measurements.json` says of the signer.
fn measure_as(file: &Path, pcr0: &[u8], pcr1: &[u8]) {
    let mut measurements: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    let signer = &mut measurements["images"]["signer"];
    signer["pcr0"] = json!(const_hex::encode(pcr0));
    signer["pcr1"] = json!(const_hex::encode(pcr1));
    fs::write(file, measurements.to_string()).unwrap();
}

/// Of an EIF; the checksum is its last member.
const HEADER_LEN: usize = 548;
const CHECKSUM_LEN: usize = 4;
