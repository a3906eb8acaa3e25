//! A hundred signatures at the same time.

use std::time::Instant;

use cloister_e2e::{Local, TRANSFER, json_body};

pub(crate) async fn run(local: &Local) {
    let key = local.generate().await;
    let expected = local.sign(&key, TRANSFER).await;
    let started = Instant::now();
    let burst: Vec<_> = (0..100)
        .map(|_| {
            let (client, body) = (local.client.clone(), key.sign_body(TRANSFER));
            tokio::spawn(async move { client.post("/sign_transaction", body).await.unwrap() })
        })
        .collect();
    for answer in burst {
        let answer = answer.await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(json_body(&answer)["transaction_signed"], expected["transaction_signed"]);
    }
    eprintln!("100 concurrent signatures took {:.2} s", started.elapsed().as_secs_f64());
}
