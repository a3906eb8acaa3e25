//! A release replaces another: both are admitted while the enclaves are exchanged, then the new one
//! alone.

use cloister_contract::events;
use cloister_e2e::{Local, TRANSFER, eventually};
use cloister_key_policy::{Measurements, NextRelease, Pcr0};
use cloister_local::part::Part;
use cloister_local::stack::{OTHER, readiness};

#[tokio::test(flavor = "multi_thread")]
async fn both_releases_serve_while_enclaves_are_exchanged() {
    let mut local = Local::start().await;
    let key = local.generate().await;
    let signature = local.sign(&key, TRANSFER).await;
    let present = *local.stack.measurements();
    let next = NextRelease {
        signer: pcr0(OTHER),
        generator: pcr0([0x22; 48]),
    };

    // It opens the canary that the present release sealed, for which KMS has to release the data
    // key to it.
    local
        .stack
        .admit(&Measurements {
            next: Some(next),
            ..present
        })
        .await
        .unwrap();
    let signer = local.stack.start_another_signer().await.unwrap();
    eventually("the next signer serving", async || {
        readiness(signer.health).await.unwrap().0 == 200
    })
    .await;
    // An enclave of the present release that starts now adopts the same policy.
    restart_signer(&mut local).await;
    eventually("the present signer serving", async || {
        signs(&local, &key).await
    })
    .await;
    assert_eq!(local.sign(&key, TRANSFER).await, signature);
    drop(signer);

    local
        .stack
        .admit(&Measurements::new(next.signer, next.generator))
        .await
        .unwrap();
    let signer = local.stack.start_another_signer().await.unwrap();
    eventually("the new signer serving", async || {
        readiness(signer.health).await.unwrap().0 == 200
    })
    .await;
    restart_signer(&mut local).await;
    eventually("the old signer refusing the CMK", async || {
        local.logged(Part::SignerEnclave, events::CMK_NOT_ADOPTED)
    })
    .await;
    assert!(!signs(&local, &key).await);
}

async fn restart_signer(local: &mut Local) {
    local.stack.stop(Part::SignerEnclave).unwrap();
    local.stack.resume(Part::SignerEnclave).await.unwrap();
}

async fn signs(local: &Local, key: &cloister_e2e::Key) -> bool {
    local
        .post("/sign_transaction", &key.sign_body(TRANSFER))
        .await
        .status
        == 200
}

fn pcr0(bytes: [u8; 48]) -> Pcr0 {
    Pcr0::try_from(bytes).unwrap()
}
