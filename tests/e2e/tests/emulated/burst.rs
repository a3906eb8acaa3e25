//! A hundred signatures at the same time.

use std::time::Instant;

use cloister_e2e::{Local, TRANSFER};

pub(crate) async fn run(local: &Local) {
    let key = local.generate().await;
    let expected = local.sign(&key, TRANSFER).await;
    let started = Instant::now();
    for signed in local.sign_at_once(&key, TRANSFER, 100).await {
        assert_eq!(signed, expected);
    }
    eprintln!(
        "100 concurrent signatures took {:.2} s",
        started.elapsed().as_secs_f64()
    );
}
