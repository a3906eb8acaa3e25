//! Failures on demand.

use serde_json::json;

use crate::setup::{Harness, exception};

#[tokio::test]
async fn the_next_calls_fail_as_asked() {
    let harness = Harness::start();
    let client = harness.client("administrator");
    let key = client
        .create_key()
        .send()
        .await
        .unwrap()
        .key_metadata
        .unwrap()
        .arn
        .unwrap();
    let ask = async |fault: serde_json::Value| {
        let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
        harness
            .files
            .send(
                harness.kms.address(),
                "/_local/faults",
                headers,
                fault.to_string().into_bytes(),
            )
            .await
            .0
    };
    for error in [
        "ThrottlingException",
        "AccessDeniedException",
        "KMSInternalException",
    ] {
        assert_eq!(
            ask(json!({ "operation": "DescribeKey", "error": error, "count": 2 })).await,
            204
        );
        for _ in 0..2 {
            assert_eq!(
                exception(client.describe_key().key_id(&key).send().await),
                error
            );
            assert!(client.list_grants().key_id(&key).send().await.is_ok());
        }
        assert!(client.describe_key().key_id(&key).send().await.is_ok());
    }
    for refused in [
        json!({ "operation": "DescribeKey", "error": "NoSuchException", "count": 1 }),
        json!({ "operation": "DescribeKey", "error": "ThrottlingException", "count": -1 }),
        json!({ "operation": "DescribeKey", "error": "ThrottlingException", "count": 1, "more": 1 }),
    ] {
        assert_eq!(ask(refused).await, 422);
    }
}
