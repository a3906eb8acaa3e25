use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};

use alloy_primitives::Address;
use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Region, RuntimeComponents};
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::body::SdkBody;
use cloister_protocol::row::Envelope;
use cloister_protocol::{Code, Rejection};
use serde_json::{Value, json};

use super::*;

const TABLE: &str = "arn:aws:dynamodb:eu-central-1:111122223333:table/keys";
const CMK: &str = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";

/// A table of one item, for the SDK to talk to. Checks the conditions that this crate writes.
#[derive(Clone)]
struct FakeTable(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    item: Option<Value>,
    /// Host, operation and body of every request so far.
    calls: Vec<(String, String, Value)>,
    /// Answers given instead, first one first.
    failures: Vec<Failure>,
}

#[derive(Clone)]
enum Failure {
    /// HTTP status and name of the exception.
    Refuse(u16, &'static str),
    /// HTTP status and a body that is not JSON.
    Answer(u16, &'static str),
    /// The request is carried out, but its answer is lost.
    LoseAnswer,
}

impl FakeTable {
    fn new() -> Self {
        Self(Arc::default())
    }

    fn store(&self) -> DynamoDb {
        let config = aws_sdk_dynamodb::Config::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .region(Region::new("eu-central-1"))
            .credentials_provider(Credentials::new(
                "AKIDEXAMPLE",
                "example",
                None,
                None,
                "test",
            ))
            .http_client(self.clone())
            .build();
        DynamoDb::new(Client::from_conf(config), TABLE)
    }

    fn fail(&self, failures: impl IntoIterator<Item = Failure>) {
        self.0.lock().unwrap().failures = failures.into_iter().collect();
    }

    fn set_item(&self, item: Option<Value>) {
        self.0.lock().unwrap().item = item;
    }

    fn item(&self) -> Option<Value> {
        self.0.lock().unwrap().item.clone()
    }

    fn calls(&self) -> Vec<(String, String, Value)> {
        self.0.lock().unwrap().calls.clone()
    }

    fn answer(&self, request: &HttpRequest) -> Result<HttpResponse, ConnectorError> {
        let host = request.uri().split('/').nth(2).unwrap().to_owned();
        let target = request.headers().get("x-amz-target").unwrap();
        let operation = target
            .strip_prefix("DynamoDB_20120810.")
            .unwrap()
            .to_owned();
        let body: Value = serde_json::from_slice(request.body().bytes().unwrap()).unwrap();
        let mut state = self.0.lock().unwrap();
        state.calls.push((host, operation.clone(), body.clone()));
        let failure = (!state.failures.is_empty()).then(|| state.failures.remove(0));
        let (status, answer) = match failure {
            Some(Failure::Refuse(status, name)) => {
                (status, json!({ "__type": name, "message": "words of AWS" }))
            }
            Some(Failure::Answer(status, text)) => {
                let status = status.try_into().unwrap();
                return Ok(HttpResponse::new(status, SdkBody::from(text)));
            }
            _ => state.carry_out(&operation, &body),
        };
        if matches!(failure, Some(Failure::LoseAnswer)) {
            return Err(ConnectorError::io("connection reset".into()));
        }
        Ok(HttpResponse::new(
            status.try_into().unwrap(),
            SdkBody::from(answer.to_string()),
        ))
    }
}

impl State {
    fn carry_out(&mut self, operation: &str, request: &Value) -> (u16, Value) {
        assert_eq!(request["TableName"], TABLE);
        if operation == "GetItem" {
            return (
                200,
                self.item
                    .as_ref()
                    .map_or_else(|| json!({}), |item| json!({ "Item": item })),
            );
        }
        assert_eq!(operation, "PutItem");
        let names = &request["ExpressionAttributeNames"];
        let holds = match (request["ConditionExpression"].as_str().unwrap(), &self.item) {
            ("attribute_not_exists(#key_id)", item) => {
                assert_eq!(names["#key_id"], "key_id");
                item.is_none()
            }
            ("#version = :expected", Some(item)) => {
                assert_eq!(names["#version"], "version");
                item["version"] == request["ExpressionAttributeValues"][":expected"]
            }
            ("#version = :expected", None) => false,
            ("#version = :found", Some(item)) => {
                assert_eq!(names["#version"], "version");
                item["version"] == request["ExpressionAttributeValues"][":found"]
            }
            ("attribute_exists(#key_id) AND attribute_not_exists(#version)", Some(item)) => {
                assert_eq!(names["#key_id"], "key_id");
                item.get("version").is_none()
            }
            (other, _) => panic!("{other}"),
        };
        if holds {
            self.item = Some(request["Item"].clone());
            return (200, json!({}));
        }
        let mut failed = json!({ "__type": "ConditionalCheckFailedException", "message": "The conditional request failed" });
        if let (Some(item), "ALL_OLD") = (
            &self.item,
            request["ReturnValuesOnConditionCheckFailure"]
                .as_str()
                .unwrap(),
        ) {
            failed["Item"] = item.clone();
        }
        (400, failed)
    }
}

impl HttpClient for FakeTable {
    fn http_connector(
        &self,
        _: &HttpConnectorSettings,
        _: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl HttpConnector for FakeTable {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        HttpConnectorFuture::ready(self.answer(&request))
    }
}

impl fmt::Debug for FakeTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FakeTable")
    }
}

fn row(version: u64) -> SealedRow {
    SealedRow {
        key_id: "7e99e372-0eba-4001-8002-35e6a1478070".parse().unwrap(),
        address: Address::repeat_byte(0xab),
        version,
        created_at: 1_700_000_000,
        sealed: BTreeMap::from([(CMK.to_owned(), Envelope(vec![1, 2, 3]))]),
    }
}

/// The item as the README describes it.
#[tokio::test]
async fn a_row_is_written_and_read() {
    let table = FakeTable::new();
    let store = table.store();
    store.insert(&row(1)).await.unwrap();
    let expected = json!({
        "key_id": { "S": "7e99e372-0eba-4001-8002-35e6a1478070" },
        "address": { "S": "0xABaBaBaBABabABabAbAbABAbABabababaBaBABaB" },
        "version": { "N": "1" },
        "created_at": { "N": "1700000000" },
        "sealed": { "M": { CMK: { "B": "AQID" } } },
    });
    assert_eq!(table.item(), Some(expected));
    assert_eq!(
        store.fetch(row(1).key_id, Consistency::Eventual).await,
        Ok(Some(row(1)))
    );
    assert_eq!(
        store.fetch(row(1).key_id, Consistency::Strong).await,
        Ok(Some(row(1)))
    );

    let calls = table.calls();
    let reads: Vec<_> = calls
        .iter()
        .skip(1)
        .map(|(_, _, body)| body["ConsistentRead"].clone())
        .collect();
    assert_eq!(reads, [json!(false), json!(true)]);
    assert_eq!(
        calls[1].2["Key"],
        json!({ "key_id": { "S": "7e99e372-0eba-4001-8002-35e6a1478070" } })
    );
    for (host, ..) in &calls {
        assert_eq!(
            host, "dynamodb.eu-central-1.amazonaws.com",
            "not an endpoint of the account"
        );
    }
}

#[tokio::test]
async fn no_row_is_not_an_error() {
    assert_eq!(
        FakeTable::new()
            .store()
            .fetch(KeyId::CANARY, Consistency::Strong)
            .await,
        Ok(None)
    );
}

#[tokio::test]
async fn writes_are_conditional() {
    let table = FakeTable::new();
    let store = table.store();
    assert_eq!(
        store.replace(&row(2), 1).await,
        Err(StoreError::VersionConflict),
        "nothing there"
    );
    store.insert(&row(1)).await.unwrap();
    let other = SealedRow {
        created_at: 3,
        ..row(1)
    };
    assert_eq!(
        store.insert(&other).await,
        Err(StoreError::VersionConflict),
        "there already"
    );
    store.replace(&row(2), 1).await.unwrap();
    let other = SealedRow {
        created_at: 3,
        ..row(2)
    };
    assert_eq!(
        store.replace(&other, 1).await,
        Err(StoreError::VersionConflict),
        "changed meanwhile"
    );
    assert_eq!(
        store.fetch(row(2).key_id, Consistency::Strong).await,
        Ok(Some(row(2)))
    );
}

#[tokio::test]
async fn a_repetition_that_meets_its_own_row_has_succeeded() {
    let table = FakeTable::new();
    let store = table.store();
    table.fail([Failure::LoseAnswer]);
    store.insert(&row(1)).await.unwrap();
    table.fail([Failure::LoseAnswer, Failure::LoseAnswer]);
    store.replace(&row(2), 1).await.unwrap();
    assert_eq!(table.calls().len(), 2 + 3);
    assert_eq!(
        store.fetch(row(2).key_id, Consistency::Strong).await,
        Ok(Some(row(2)))
    );
}

#[tokio::test]
async fn rows_that_are_not_ours() {
    let table = FakeTable::new();
    let store = table.store();
    store.insert(&row(1)).await.unwrap();
    let item = table.item().unwrap();

    table.set_item(Some(json!({
        "key_id": item["key_id"], "address": item["address"], "ciphertext": { "S": "AQICAHg=" },
    })));
    let reference = store
        .fetch(row(1).key_id, Consistency::Eventual)
        .await
        .unwrap_err();
    assert_eq!(reference, StoreError::NotMigrated);
    assert_eq!(Rejection::from(reference).code, Code::NotMigrated);

    let mut damaged = item.clone();
    damaged["sealed"] = json!({ "B": "AQID" });
    table.set_item(Some(damaged));
    let damaged = store
        .fetch(row(1).key_id, Consistency::Eventual)
        .await
        .unwrap_err();
    assert_eq!(damaged, StoreError::Malformed("sealed"));
    assert_eq!(Rejection::from(damaged).code, Code::SealedRowRefused);

    table.set_item(Some(item));
    let foreign = store.fetch(KeyId::CANARY, Consistency::Eventual).await;
    assert_eq!(
        foreign,
        Err(StoreError::Malformed("key_id")),
        "another row than was asked for"
    );
}

#[tokio::test]
async fn failures_are_sorted_and_transient_ones_repeated() {
    for (status, name, expected, code, calls) in [
        (
            400,
            "ProvisionedThroughputExceededException",
            StoreError::Throttled,
            Code::StorageThrottled,
            3,
        ),
        (
            400,
            "ThrottlingException",
            StoreError::Throttled,
            Code::StorageThrottled,
            3,
        ),
        (
            400,
            "RequestLimitExceeded",
            StoreError::Throttled,
            Code::StorageThrottled,
            3,
        ),
        (
            500,
            "InternalServerError",
            StoreError::Unavailable,
            Code::StorageUnavailable,
            3,
        ),
        (
            400,
            "ResourceNotFoundException",
            StoreError::Unavailable,
            Code::StorageUnavailable,
            1,
        ),
        (
            400,
            "AccessDeniedException",
            StoreError::Unavailable,
            Code::StorageUnavailable,
            1,
        ),
    ] {
        let table = FakeTable::new();
        let failures = || vec![Failure::Refuse(status, name); 3];
        table.fail(failures());
        let read = table
            .store()
            .fetch(KeyId::CANARY, Consistency::Eventual)
            .await
            .unwrap_err();
        assert_eq!((read, table.calls().len()), (expected, calls), "{name}");
        table.fail(failures());
        assert_eq!(table.store().insert(&row(1)).await, Err(expected), "{name}");
        let rejection = Rejection::from(read);
        assert_eq!(rejection.code, code);
        assert!(!rejection.error.contains("words"));
    }
}

#[tokio::test]
async fn replies_that_are_not_the_tables_have_a_reason_each() {
    let html = "<html><body>words of a proxy</body></html>";
    for (failure, expected, calls) in [
        (Failure::Answer(429, ""), StoreError::Throttled, 3),
        (Failure::Answer(429, html), StoreError::Throttled, 3),
        (Failure::Answer(200, html), StoreError::Unavailable, 1),
        (Failure::Answer(403, html), StoreError::Unavailable, 1),
        (Failure::Answer(503, html), StoreError::Unavailable, 3),
        (
            Failure::Refuse(403, "RequestTimeTooSkewed"),
            StoreError::Unavailable,
            3,
        ),
        (
            Failure::Refuse(400, "ExpiredTokenException"),
            StoreError::Unavailable,
            3,
        ),
    ] {
        let table = FakeTable::new();
        table.fail(vec![failure; 3]);
        let read = table
            .store()
            .fetch(KeyId::CANARY, Consistency::Eventual)
            .await;
        assert_eq!(read, Err(expected));
        assert_eq!(table.calls().len(), calls);
        assert!(!Rejection::from(expected).error.contains("words"));
    }
}

#[tokio::test]
async fn an_unreadable_row_is_replaced_and_a_readable_one_is_not() {
    let table = FakeTable::new();
    let store = table.store();
    let newer = row(7);
    let replace = || store.replace_unreadable(&newer);
    assert_eq!(replace().await, Err(StoreError::VersionConflict));

    store.insert(&row(1)).await.unwrap();
    assert_eq!(replace().await, Err(StoreError::VersionConflict));

    let readable = table.item().unwrap();
    for (attribute, value) in [
        ("sealed", json!({ "B": "AQID" })),
        ("version", json!({ "S": "one" })),
        ("version", Value::Null),
    ] {
        let mut unreadable = readable.clone();
        unreadable[attribute] = value;
        if unreadable[attribute].is_null() {
            unreadable.as_object_mut().unwrap().remove(attribute);
        }
        table.set_item(Some(unreadable));
        replace().await.unwrap();
        let id = row(7).key_id;
        let read = store.fetch(id, Consistency::Strong).await.unwrap();
        assert_eq!(read, Some(row(7)), "{attribute}");
    }
}

#[tokio::test]
async fn one_refusal_of_the_table_is_survived() {
    let table = FakeTable::new();
    table.fail([
        Failure::Refuse(400, "ThrottlingException"),
        Failure::Refuse(500, "InternalServerError"),
    ]);
    table.store().insert(&row(1)).await.unwrap();
}
