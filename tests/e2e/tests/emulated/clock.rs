//! A parent whose clock is wrong by an hour: enclaves take the time from their NSM. And half the
//! memory is enough.

use cloister_contract::enclave_log::{InitEvent, InitLine};
use cloister_e2e::{Local, TRANSFER};
use cloister_local::part::Part;
use cloister_local::stack::Emulation;
use serde_json::Value;

use crate::{TURN, burst};

#[tokio::test(flavor = "multi_thread")]
async fn a_parents_wrong_clock_is_nobodys_business() {
    let _turn = TURN.lock().await;
    let emulation = Emulation {
        memory_mib: 64,
        signer_clock_ahead: HOUR,
        key_generator_clock_ahead: -HOUR,
    };
    let local = Local::start_emulated(emulation).await;
    // TLS and SigV4 to KMS and the table, freshness of documents and of requests: all of it depends
    // on the time.
    let key = local.generate().await;
    local.sign(&key, TRANSFER).await;
    burst::run(&local).await;

    // The machines did boot with another time.
    for (pod, ahead) in [(Part::SignerPod, HOUR), (Part::KeyGeneratorPod, -HOUR)] {
        let corrected = corrected_by(&local.log(pod));
        assert!(
            (corrected + ahead).abs() < 60,
            "{pod}: the clock was corrected by {corrected} s"
        );
    }
}

/// Seconds by which init corrected the clock at boot, from its pod's log.
fn corrected_by(log: &str) -> i64 {
    let offset_ms = log.lines().find_map(|line| {
        let line: Value = serde_json::from_str(line).ok()?;
        let line: InitLine = serde_json::from_str(line["enclave"].as_str()?).ok()?;
        match line.event {
            InitEvent::ClockSet { offset_ms } => Some(offset_ms),
            _ => None,
        }
    });
    offset_ms.expect("init sets the clock") / 1000
}

const HOUR: i64 = 3600;
