//! Calls to AWS per warm signature.

use cloister_e2e::{Local, TRANSFER};
use cloister_local::part::Part;

#[tokio::test(flavor = "multi_thread")]
async fn a_warm_signature_is_one_read_and_no_kms_call() {
    let local = Local::start().await;
    let key = local.generate().await;
    local.sign(&key, TRANSFER).await;
    let (reads, decrypts) = (
        calls(&local, Part::Table, "GetItem"),
        calls(&local, Part::Kms, "Decrypt"),
    );
    assert!(reads > 0 && decrypts > 0, "the logs name the operations");

    let others =
        ["PutItem", "Scan", "DescribeTable"].map(|operation| calls(&local, Part::Table, operation));
    let kms = [
        "GenerateDataKey",
        "DescribeKey",
        "GetKeyPolicy",
        "ListGrants",
    ];
    let kms_before = kms.map(|operation| calls(&local, Part::Kms, operation));
    for _ in 0..20 {
        local.sign(&key, TRANSFER).await;
    }
    assert_eq!(calls(&local, Part::Table, "GetItem"), reads + 20);
    assert_eq!(calls(&local, Part::Kms, "Decrypt"), decrypts);
    assert_eq!(
        ["PutItem", "Scan", "DescribeTable"].map(|operation| calls(&local, Part::Table, operation)),
        others
    );
    assert_eq!(
        kms.map(|operation| calls(&local, Part::Kms, operation)),
        kms_before
    );
}

/// A burst on one cold key asks KMS once.
#[tokio::test(flavor = "multi_thread")]
async fn a_burst_on_a_cold_key_is_one_decrypt() {
    let local = Local::start().await;
    let key = local.generate().await;
    let before = calls(&local, Part::Kms, "Decrypt");
    local.sign_at_once(&key, TRANSFER, 32).await;
    assert_eq!(calls(&local, Part::Kms, "Decrypt"), before + 1);
}

fn calls(local: &Local, part: Part, operation: &str) -> usize {
    // Escapes for colours never split a word.
    local
        .log(part)
        .lines()
        .filter(|line| {
            line.split(|c: char| !c.is_ascii_alphanumeric())
                .any(|word| word == operation)
        })
        .count()
}
