//! Data outlives the processes.

use cloister_e2e::{Local, TRANSFER};

#[tokio::test(flavor = "multi_thread")]
async fn keys_survive_a_restart_of_everything() {
    let local = Local::start().await;
    let key = local.generate().await;
    let signature = local.sign(&key, TRANSFER).await;
    let rows = local.rows().await.len();

    let local = local.restart().await;
    assert_eq!(local.sign(&key, TRANSFER).await, signature);
    assert_eq!(local.rows().await.len(), rows);
}
