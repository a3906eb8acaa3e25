//! Connections to an enclave that bypass its pod.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use cloister_contract::Service;
use cloister_keystore::{Consistency, DynamoDb, KeyStore as _};
use cloister_local::identity::table_arn;
use cloister_protocol::frame::Purpose;
use cloister_protocol::message::Request;
use cloister_protocol::request::AuthenticatedRequest;
use cloister_protocol::{CallerSecret, Operation};
use cloister_transport::{Session, Stream};

use crate::{Key, Local};

/// A connection for requests, within the session of the pod.
///
/// # Panics
/// If the enclave does not listen.
pub async fn connect(local: &Local, service: Service) -> Stream {
    let address = local.stack.enclave_address(service);
    let session = local.stack.enclave_session(service).expect("a session");
    Session::new(session)
        .connect(&address, Purpose::Requests)
        .await
        .expect("an enclave")
}

/// The frame body of a request for a signature, as the front door and the pod make it.
///
/// # Panics
/// If the key has no row.
pub async fn sign_request(local: &Local, key: &Key, payload: &str) -> Bytes {
    let key_id = key.id.parse().expect("a key id");
    let secret = CallerSecret::new(key.secret.clone().into()).expect("a secret");
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("a time after 1970")
        .as_secs();
    let request = AuthenticatedRequest::new(key_id, &secret, now, payload);
    let row = DynamoDb::new(local.table(), table_arn())
        .fetch(key_id, Consistency::Strong)
        .await
        .expect("the table")
        .expect("a row");
    let json = |value| serde_json::to_vec(value).expect("plain data");
    let request = Request {
        operation: Operation::SignTransaction,
        parts: vec![
            json(&serde_json::to_value(&request).expect("plain data")).into(),
            json(&serde_json::to_value(&row).expect("plain data")).into(),
        ],
    };
    request.encode()
}
