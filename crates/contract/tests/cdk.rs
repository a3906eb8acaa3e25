//! `cdk/contract.json`: the facts that TypeScript needs.

#![allow(clippy::unwrap_used, reason = "a failure ends the test")]

use std::path::Path;

use cloister_contract::{AccountId, Region, RequestId, Service, events, metrics, nsm, pcr, ports};
use serde_json::json;

#[test]
fn the_file_for_cdk_has_the_facts_of_this_crate() {
    let facts = json!({
        "generated": "by UPDATE_CONTRACT=1 cargo test -p cloister-contract; do not edit",
        "services": Service::ALL,
        "ports": {
            "requests": ports::REQUESTS,
            "log": ports::LOG,
            "heartbeat": ports::HEARTBEAT,
            "podHttps": ports::POD_HTTPS,
            "podHealth": ports::POD_HEALTH,
        },
        "pcrs": {
            "image": pcr::IMAGE,
            "kernel": pcr::KERNEL,
            "application": pcr::APPLICATION,
            "instanceRole": pcr::INSTANCE_ROLE,
            "instanceId": pcr::INSTANCE_ID,
            "signingCertificate": pcr::SIGNING_CERTIFICATE,
            "bootKey": pcr::BOOT_KEY,
        },
        "metrics": {
            "namespace": metrics::NAMESPACE,
            "cpuUser": metrics::CPU_USER,
            "cpuSystem": metrics::CPU_SYSTEM,
            "memoryUsed": metrics::MEMORY_USED,
            "memoryCached": metrics::MEMORY_CACHED,
        },
        "emulatorModuleIdPrefix": nsm::EMULATOR_MODULE_ID_PREFIX,
        "patterns": {
            "accountId": AccountId::pattern(),
            "region": Region::pattern(),
            "requestId": RequestId::pattern(),
        },
        "events": events::ALL,
    });
    let expected = format!("{}\n", serde_json::to_string_pretty(&facts).unwrap());
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../cdk/contract.json");
    if std::env::var_os("UPDATE_CONTRACT").is_some() {
        std::fs::write(&path, &expected).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == expected,
        "cdk/contract.json is out of date: run `UPDATE_CONTRACT=1 cargo test -p cloister-contract`"
    );
}
