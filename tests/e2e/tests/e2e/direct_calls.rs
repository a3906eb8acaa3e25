//! Calls of the pods by somebody who reaches them without API Gateway and front door.

use cloister_contract::{Service, events};
use cloister_e2e::{Local, random_secret};
use cloister_local::part::Part;
use cloister_protocol::FrontDoorKey;
use cloister_protocol::front_door::{HEADER, RequestHead};
use reqwest::{Certificate, Client};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn nobody_but_the_front_door_creates_keys_at_a_pod() {
    let local = Local::start().await;
    local.generate().await;
    let before = local.rows().await.len();
    let ca = Certificate::from_pem(local.stack.root_certificate().as_bytes()).unwrap();
    let client = Client::builder().tls_certs_only([ca]).no_proxy().build();
    let client = client.unwrap();
    let pod = |service| format!("https://{}", local.stack.pod_address(service));
    let body = json!({ "secret": random_secret() }).to_string();
    let create = format!("{}/v1/generate_key", pod(Service::KeyGenerator));
    // The MAC of a guessed key, and one of the front door's for another path.
    let mac = |key: &str, target| {
        let now = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH);
        let head = RequestHead {
            request_id: b"",
            method: "POST",
            target,
            content_length: body.len().try_into().unwrap(),
        };
        head.sign(
            &FrontDoorKey::from_hex(key).unwrap(),
            now.unwrap().as_secs(),
        )
    };
    let ours = local.stack.front_door_key().expose();
    let guessed = mac(&random_secret(), "/v1/generate_key");
    let other_path = mac(ours, "/v1/set_key");
    let status = async |mac: Option<&str>| {
        let mut request = client.post(&create).body(body.clone());
        if let Some(mac) = mac {
            request = request.header(HEADER, mac);
        }
        request.send().await.unwrap().status()
    };
    for mac in [None, Some(&*guessed), Some(&*other_path)] {
        assert_eq!(status(mac).await, 401);
    }
    let sign = format!(
        "{}/v1/sign_transaction/7e99e372-0eba-4001-8002-35e6a1478070",
        pod(Service::Signer)
    );
    for request in [
        client.post(sign).body(body.clone()),
        client.get(format!("{}/v1/health", pod(Service::Signer))),
    ] {
        assert_eq!(request.send().await.unwrap().status(), 401);
    }
    assert_eq!(local.rows().await.len(), before);
    for part in [Part::KeyGeneratorPod, Part::SignerPod] {
        assert!(local.logged(part, events::NOT_FROM_FRONT_DOOR), "{part}");
    }

    // The same call with the key of the stack creates one: nothing else kept it from doing so.
    assert_eq!(status(Some(&mac(ours, "/v1/generate_key"))).await, 200);
    assert_eq!(local.rows().await.len(), before + 1);
}
