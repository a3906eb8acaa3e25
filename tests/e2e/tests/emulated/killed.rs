//! An emulator that is killed in the midst of a request: an error that may be tried again, and a
//! new enclave that opens the same keys.

use std::time::Instant;

use cloister_e2e::guest::BOOT;
use cloister_e2e::{Key, Local, Refused, TRANSFER, eventually, within};
use cloister_local::Service;
use cloister_local::part::Part;
use rustix::process::Signal;

pub(crate) async fn run(local: &Local) {
    let key = local.generate().await;
    let signature = local.sign(&key, TRANSFER).await;

    // Stopped, it cannot answer before it is killed. The pod reads the row right before it asks the
    // enclave.
    local
        .stack
        .signal_emulator(Service::Signer, Signal::STOP)
        .unwrap();
    let reads = rows_read(local);
    let (client, body) = (local.client.clone(), key.sign_body(TRANSFER));
    let asked = tokio::spawn(async move { client.post("/sign_transaction", body).await.unwrap() });
    eventually("the request reaching the pod", async || {
        rows_read(local) > reads
    })
    .await;
    let killed = Instant::now();
    local
        .stack
        .signal_emulator(Service::Signer, Signal::KILL)
        .unwrap();
    let refused = Refused::new(&asked.await.unwrap());
    assert_eq!(
        (refused.status, &*refused.code, refused.retryable),
        (503, "enclave_unavailable", true)
    );
    let answered = killed.elapsed();

    // Nobody else is hurt, and the signer comes back by itself.
    local.generate().await;
    within(BOOT, "signing again", async || signs(local, &key).await).await;
    assert_eq!(local.sign(&key, TRANSFER).await, signature);
    eprintln!(
        "killed: the request was refused after {:.2} s, the signer was back after {:.1} s",
        answered.as_secs_f64(),
        killed.elapsed().as_secs_f64()
    );
}

async fn signs(local: &Local, key: &Key) -> bool {
    let answer = local
        .post("/sign_transaction", &key.sign_body(TRANSFER))
        .await;
    if answer.status != 200 {
        let refused = Refused::new(&answer);
        assert!(refused.retryable, "{}", answer.text());
    }
    answer.status == 200
}

fn rows_read(local: &Local) -> usize {
    local.log(Part::Table).matches("GetItem").count()
}
