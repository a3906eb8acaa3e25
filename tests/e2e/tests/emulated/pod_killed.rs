//! A pod that is killed: the next one ends the enclave that it cannot know the session of, and serves
//! with another one.

use cloister_contract::events;
use cloister_e2e::guest::BOOT;
use cloister_e2e::{Local, TRANSFER, eventually, within};
use cloister_local::Service;
use cloister_local::part::Part;
use cloister_protocol::frame::Purpose;
use cloister_transport::{Session, TransportError};
use rustix::process::{Pid, Signal, kill_process};

pub(crate) async fn run(local: &mut Local) {
    let key = local.generate().await;
    let signature = local.sign(&key, TRANSFER).await;
    let before = local.stack.emulators(Service::Signer);
    assert_eq!(before.len(), 1, "{before:?}");
    let session = local.stack.enclave_session(Service::Signer).unwrap();

    let pod = local.stack.process_id(Part::SignerPod).unwrap();
    let pod = Pid::from_raw(i32::try_from(pod).unwrap()).unwrap();
    kill_process(pod, Signal::KILL).unwrap();
    local.stack.stop(Part::SignerPod).unwrap();
    local.stack.resume(Part::SignerPod).await.unwrap();
    let running = within(BOOT, "another emulator", async || {
        let running = local.stack.emulators(Service::Signer);
        assert!(running.len() < 2, "two at once: {running:?}");
        running != before && !running.is_empty()
    });
    running.await;
    within(BOOT, "signing again", async || {
        let body = key.sign_body(TRANSFER);
        local.post("/sign_transaction", &body).await.status == 200
    })
    .await;
    assert_eq!(local.sign(&key, TRANSFER).await, signature);
    let after = local.stack.emulators(Service::Signer);
    assert!(after.len() == 1 && after != before, "{before:?} {after:?}");

    // Until here, everything that this stack went through raised no alarm.
    for pod in [Part::SignerPod, Part::KeyGeneratorPod] {
        assert!(!local.logged(pod, events::SESSION_MISMATCH), "{pod}");
    }
    // The value of the pod that was killed is of no use any more.
    let renewed = local.stack.enclave_session(Service::Signer).unwrap();
    assert!(!renewed.matches(&session));
    let address = local.stack.enclave_address(Service::Signer);
    let former = Session::new(session);
    let refused = former.connect(&address, Purpose::Requests).await;
    assert!(matches!(refused, Err(TransportError::OtherSession)));
    // The enclave tells its pod, whose log alarms.
    eventually("the stranger's event", async || {
        local.logged(Part::SignerPod, events::SESSION_MISMATCH)
    })
    .await;
}
