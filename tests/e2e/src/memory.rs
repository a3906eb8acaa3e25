//! Searches the memory of a running enclave, from outside, for a key.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::time::{Duration, Instant};

use cloister_contract::Service;
use cloister_protocol::frame::{Frame, Kind};
use cloister_transport::Stream;
use memchr::memmem::Finder;
use tokio::io::AsyncWriteExt as _;
use tokio::task::yield_now;

use crate::{Local, TRANSFER, enclave, eventually};

/// Imports a key and signs with it; afterwards neither enclave's memory has it, in bytes or in hex.
///
/// # Panics
/// If a key is found, or a key that was planted before is not.
pub async fn no_key_stays(local: &Local) {
    for service in Service::ALL.iter().copied() {
        a_planted_key_is_found(local, service).await;
    }
    let key = random_key();
    let imported = local.import(&const_hex::encode_prefixed(key)).await;
    for _ in 0..3 {
        local.sign(&imported, TRANSFER).await;
    }
    for service in Service::ALL.iter().copied() {
        // The end of a request is not the end of its tasks.
        let hex = const_hex::encode(key);
        for (form, needle) in [("bytes", &key[..]), ("hex", hex.as_bytes())] {
            let deadline = Instant::now() + TIMEOUT;
            while let Some(place) = find(local, service, needle) {
                assert!(
                    Instant::now() < deadline,
                    "{service} has the key in {form} at {place}"
                );
                yield_now().await;
            }
        }
    }
}

/// Proves that the search finds a key: one in a request that does not end is in memory.
async fn a_planted_key_is_found(local: &Local, service: Service) {
    let key = random_key();
    let hex = const_hex::encode(key);
    assert!(!holds(local, service, &key));
    let mut stream = enclave::connect(local, service).await;
    let frame = Frame {
        kind: Kind::Request,
        id: 1,
        body: [&key[..], hex.as_bytes(), &[0; 1000]].concat().into(),
    };
    let head = frame.head().expect("a short frame");
    let half = [&head[..], &frame.body[..500]].concat();
    stream.write_all(&half).await.expect("a connection");
    eventually("the planted key", async || {
        holds(local, service, &key) && holds(local, service, hex.as_bytes())
    })
    .await;
    end(stream).await;
    eventually("a memory without the planted key", async || {
        !holds(local, service, &key) && !holds(local, service, hex.as_bytes())
    })
    .await;
}

async fn end(mut stream: Stream) {
    // The enclave may have closed the connection before.
    let _ = stream.shutdown().await;
}

fn random_key() -> [u8; 32] {
    let mut key = [0; 32];
    getrandom::fill(&mut key).expect("randomness");
    // Within the order of the curve, which begins with seventeen bytes of ones.
    key[0] &= 0x7f;
    key
}

/// True if the memory of an enclave has `needle` somewhere. See proc_pid_mem(5).
fn holds(local: &Local, service: Service, needle: &[u8]) -> bool {
    find(local, service, needle).is_some()
}

/// The mapping in which the memory of an enclave has `needle`, with the offset.
fn find(local: &Local, service: Service, needle: &[u8]) -> Option<String> {
    let process = local.stack.enclave_process(service).expect("an enclave");
    let directory = format!("/proc/{}", process.as_raw_nonzero());
    let maps = fs::read_to_string(format!("{directory}/maps")).expect("a process of ours");
    let memory = File::open(format!("{directory}/mem")).expect("a process of ours");
    let finder = Finder::new(needle);
    let mut piece = vec![0; PIECE_LEN + needle.len()];
    let mut searched = 0;
    for line in maps.lines() {
        let mut parts = line.split_ascii_whitespace();
        let (range, access) = (
            parts.next().expect("a range"),
            parts.next().expect("access"),
        );
        if !access.starts_with("rw") {
            continue;
        }
        let (start, end) = range.split_once('-').expect("a range");
        let number = |text| u64::from_str_radix(text, 16).expect("an address");
        let (mut at, end) = (number(start), number(end));
        while at < end {
            // Pieces overlap by the needle's length.
            let length = piece
                .len()
                .min(usize::try_from(end - at).expect("a length"));
            // A page may be gone by now.
            if memory.read_exact_at(&mut piece[..length], at).is_ok() {
                searched += length;
                if let Some(found) = finder.find(&piece[..length]) {
                    let offset = at + found as u64 - number(start);
                    return Some(format!("{offset:#x} of {line}"));
                }
            }
            at += PIECE_LEN as u64;
        }
    }
    assert!(searched > 1024 * 1024, "{searched} bytes were readable");
    None
}

/// For the tasks of a request to end.
const TIMEOUT: Duration = Duration::from_secs(10);
const PIECE_LEN: usize = 1024 * 1024;
