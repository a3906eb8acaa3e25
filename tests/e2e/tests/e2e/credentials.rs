//! Credentials of the pods and enclaves that expire while the stack runs.

use std::time::{Duration, Instant};

use cloister_contract::events;
use cloister_e2e::{Local, TRANSFER};
use cloister_local::part::Part;

/// Every lifetime of the credentials is outlived several times, and no request fails. With
/// `CLOISTER_SOAK=1` they live a minute, for ten minutes.
#[tokio::test(flavor = "multi_thread")]
async fn no_request_fails_while_credentials_expire() {
    let soak = std::env::var_os("CLOISTER_SOAK").is_some();
    let (lifetime, time) = if soak { (60, 600) } else { (12, 40) };
    let local = Local::start_with_credentials(Duration::from_secs(lifetime)).await;
    let end = Instant::now() + Duration::from_secs(time);
    let mut requests = 0;
    while Instant::now() < end {
        // A new key is not in the signer's cache: each signature asks KMS with current credentials.
        let key = local.generate().await;
        local.sign(&key, TRANSFER).await;
        requests += 2;
    }
    assert!(requests > 20, "{requests}");
    for pod in [Part::SignerPod, Part::KeyGeneratorPod] {
        let log = local.log(pod);
        let configured = log
            .lines()
            .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
            .filter(|line| line["event"] == events::ENCLAVE_CONFIGURED)
            .count();
        assert!(configured > 3, "{pod}: {configured}");
    }
}
