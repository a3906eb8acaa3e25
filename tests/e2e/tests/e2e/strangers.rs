//! Other processes that connect to an enclave: they get nothing, take nothing from the pod, and are
//! reported without filling the log.

use std::time::Instant;

use cloister_contract::{Service, events};
use cloister_e2e::{Local, TRANSFER, eventually};
use cloister_local::part::Part;
use cloister_protocol::frame::Purpose;
use cloister_protocol::message::Request;
use cloister_protocol::{Code, Operation, SessionValue};
use cloister_transport::{Client, Session, Stream, TransportError};
use tokio::io::AsyncWriteExt as _;

#[tokio::test(flavor = "multi_thread")]
async fn strangers_get_nothing_and_take_nothing() {
    let began = Instant::now();
    let local = Local::start().await;
    let key = local.generate().await;
    for (service, part) in [
        (Service::Signer, Part::SignerEnclave),
        (Service::KeyGenerator, Part::KeyGeneratorEnclave),
    ] {
        assert!(local.logged(part, events::ENCLAVE_BOUND));
        assert!(!local.logged(part, events::SESSION_MISMATCH));
        let address = local.stack.enclave_address(service);
        let stranger = Session::new(SessionValue::new([8; 32]));
        let client = Client::new(address.clone(), stranger.clone());
        for operation in [
            Operation::Health,
            Operation::Configure,
            Operation::ProveBoot,
        ] {
            let parts = vec![b"{}".to_vec().into()];
            let refused = client.call(Request { operation, parts }).await;
            assert_eq!(refused.unwrap_err().code, Code::EnclaveUnavailable);
        }
        // Some say nothing, some say nonsense, and some would like to be the way out.
        let mut strangers = Vec::new();
        for round in 0..300 {
            let mut stream = Stream::connect(&address).await.unwrap();
            if round % 3 == 0 {
                // An error means that it is closed already.
                let _ = stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await;
            }
            strangers.push(stream);
            let offered = stranger.connect(&address, Purpose::Egress).await;
            assert!(matches!(offered, Err(TransportError::OtherSession)));
        }
        eventually("the event", async || {
            local.logged(part, events::SESSION_MISMATCH)
        })
        .await;
        // KMS is asked for a new key, over a way out that is not a stranger's.
        local.generate().await;
        local.sign(&key, TRANSFER).await;
        drop(strangers);
    }
    // A pod that comes later is let in all the same.
    let mut local = local;
    local.stack.stop(Part::SignerPod).unwrap();
    local.stack.resume(Part::SignerPod).await.unwrap();
    let body = key.sign_body(TRANSFER);
    eventually("signing through another pod", async || {
        local.post("/sign_transaction", &body).await.status == 200
    })
    .await;

    let minutes = began.elapsed().as_secs() / 60;
    for part in [Part::SignerEnclave, Part::KeyGeneratorEnclave] {
        let event = format!(r#""event":"{}""#, events::SESSION_MISMATCH);
        let lines = local.log(part).matches(&event).count();
        let most = usize::try_from(1 + minutes).unwrap();
        assert!((1..=most).contains(&lines), "{part}: {lines} lines");
    }
}
