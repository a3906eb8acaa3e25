//! The memory that reading costs, in allocated bytes: it is bounded by what is valid, not by what
//! a stranger sends. This is the only test of its binary, because it counts every allocation.

#![allow(clippy::unwrap_used, reason = "what cannot go on in a test fails it")]

use std::alloc::System;

use cloister_protocol::limits::MAX_BODY_LEN;
use cloister_protocol::payload::SigningPayload;
use cloister_protocol::request::{AuthenticatedRequest, SignRequest};
use cloister_protocol::{CallerSecret, Code, KeyId, Verifier};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Bytes that a refusal may allocate.
const SMALL: usize = 16 * 1024;
const ADDRESS: &str = "0xa5D3241A1591061F2a4bB69CA0215F66520E67cf";
const SECRET: &str = "9779d2b8f0bc495b1691ce1a2baf8004";

#[test]
fn reading_costs_in_proportion_to_what_is_valid() {
    let largest = MAX_BODY_LEN - 1024;
    let zeros = format!("[0{}]", ",0".repeat(largest / 2));
    let pairs = format!("[[]{}]", ",[]".repeat(largest / 3));
    let members = (0..largest / 12).map(|index| format!(r#""m{index:06}":0"#));
    let members = format!("{{{}}}", members.collect::<Vec<_>>().join(","));
    // Each level of nesting costs serde_json a byte.
    let depth = "[".repeat(largest / 2) + &"]".repeat(largest / 2);
    for (what, access_list, most) in [
        ("numbers", zeros.clone(), SMALL),
        ("empty pairs", pairs.clone(), SMALL),
        ("members", members.clone(), SMALL),
        ("an object of members", format!("[{members}]"), SMALL),
        ("depth", depth, 4 * largest),
        (
            "keys that are numbers",
            format!(r#"[{{"address":"{ADDRESS}","storageKeys":{zeros}}}]"#),
            SMALL,
        ),
        (
            "keys that are arrays",
            format!(r#"[["{ADDRESS}",{pairs}]]"#),
            SMALL,
        ),
    ] {
        let payload = format!(
            r#"{{"type":2,"chainId":1,"nonce":0,"gas":1,"maxFeePerGas":1,"maxPriorityFeePerGas":1,"to":"{ADDRESS}","accessList":{access_list}}}"#
        );
        let (refused, bytes) = allocated(|| SigningPayload::parse(&payload).unwrap_err());
        assert_eq!(refused.code, Code::InvalidField, "{what}: {refused}");
        assert!(bytes < most, "{what}: {bytes} bytes are allocated");

        let body = format!(r#"{{"secret":"{SECRET}","transaction_payload":{payload}}}"#);
        let (_, bytes) = allocated(|| SignRequest::parse(body.as_bytes()).unwrap_err());
        assert!(bytes < most, "{what}: {bytes} bytes for the body");

        // In the enclave the payload is copied out of its JSON string, and not read before its MAC.
        let key_id = KeyId::from_random_bytes([1; 16]);
        let verifier = |secret: &str| {
            let secret = CallerSecret::new(secret.to_owned().into()).unwrap();
            (Verifier::derive(&secret, key_id), secret)
        };
        let (_, stranger) = verifier("a wrong secret of 26 chars");
        let request = AuthenticatedRequest::new(key_id, &stranger, 0, &payload).to_json();
        let (verifier, _) = verifier(SECRET);
        let (refused, bytes) = allocated(|| {
            let request = AuthenticatedRequest::parse(&request).unwrap();
            request.verify(&verifier).unwrap_err()
        });
        assert_eq!(refused.code, Code::AuthenticationFailed, "{what}");
        assert!(
            bytes < 4 * request.len(),
            "{what}: {bytes} bytes for an authenticated request of {}",
            request.len()
        );
    }
}

fn allocated<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let region = Region::new(ALLOCATOR);
    let result = work();
    let change = region.change();
    (result, change.bytes_allocated)
}
