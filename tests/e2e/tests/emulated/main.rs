//! Enclaves as the images that a deployment runs, booted and measured by an emulator: the main job,
//! and what must not break it.
//!
//! A boot takes seconds of every core there is, so one stack serves many of these tests, one after
//! the other.

#![allow(clippy::unwrap_used, reason = "what cannot go on in a test fails it")]

mod burst;
mod clock;
mod guest;
mod killed;
mod load;
mod other_images;
mod pod_killed;

use cloister_e2e::{Local, eventually, log_scan, memory};
use cloister_local::demo::{self, Format, Report};
use cloister_local::part::Part;
use cloister_local::stack::Emulation;
use tokio::sync::Mutex;

/// Held while a test runs emulators.
static TURN: Mutex<()> = Mutex::const_new(());

#[tokio::test(flavor = "multi_thread")]
async fn the_main_job_through_images() {
    let _turn = TURN.lock().await;
    let mut local = Local::start_emulated(Emulation::default()).await;
    // The altered image, the policy and the forged documents are steps of it.
    demo::run(&local.stack, &mut Report::new(Format::Json))
        .await
        .unwrap();
    burst::run(&local).await;
    load::run(&local).await;
    memory::no_key_stays(&local).await;
    other_images::run(&local).await;
    killed::run(&local).await;
    pod_killed::run(&mut local).await;
    // Usage can be measured only inside the enclaves.
    for pod in [Part::SignerPod, Part::KeyGeneratorPod] {
        eventually("the enclave's metrics", async || {
            local.log(pod).contains("\"enclave_cpu_utilization_user\":")
        })
        .await;
    }
    // Of consoles, emulators and enclaves that were never ready, too.
    log_scan::no_secret_is_written_down(&local).await;
}
