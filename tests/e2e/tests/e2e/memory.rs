//! Keys in the memory of enclaves.

use cloister_e2e::{Local, memory};

#[tokio::test(flavor = "multi_thread")]
async fn no_key_stays_in_the_memory_of_an_enclave() {
    memory::no_key_stays(&Local::start().await).await;
}
