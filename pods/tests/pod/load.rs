//! More requests, bytes and connections than a pod can hold.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use cloister_pods::KeyGenerator;
use cloister_protocol::FrontDoorKey;
use cloister_protocol::front_door::{HEADER, RequestHead};
use cloister_protocol::limits::MAX_BODY_LEN;
use reqwest::StatusCode;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::binary::{KEY_GENERATOR_POD, configured, ready};
use crate::enclave::Enclave;
use crate::pod::{KEY, NAME, Pod, eventually, now, signed};

const REQUESTS: usize = 200;
const BUDGET_MIB: usize = 16;

/// Two hundred bodies of the largest size are four times the budget.
#[tokio::test]
async fn memory_follows_the_byte_budget_and_not_the_number_of_requests() {
    let directory = tempfile::tempdir().unwrap();
    let enclave = Enclave::start(directory.path(), "key-generator").await;
    let mut child = configured(KEY_GENERATOR_POD, directory.path())
        .env("AWS_ACCESS_KEY_ID", "AKIDBINARY")
        .env("AWS_SECRET_ACCESS_KEY", "topsecretaccesskey")
        .env("CLOISTER_LOG", "warn")
        .env("CLOISTER_REQUEST_MEMORY_MIB", BUDGET_MIB.to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let (_addresses, client) = ready(directory.path()).await;
    let before = memory_mib(child.id(), "VmRSS");
    enclave.mind.close_gate();
    let requests: Vec<_> = (0..REQUESTS)
        .map(|_| {
            let request = client
                .post(format!("https://{NAME}/v1/set_key"))
                .body(vec![b' '; MAX_BODY_LEN]);
            let request = signed(request);
            tokio::spawn(async move { request.send().await.unwrap() })
        })
        .collect();
    let fit = BUDGET_MIB * 1024 * 1024 / MAX_BODY_LEN;
    eventually(async || {
        let answered = requests
            .iter()
            .filter(|request| request.is_finished())
            .count();
        (answered + fit >= REQUESTS).then_some(())
    })
    .await;
    enclave.mind.open_gate();
    let (mut good, mut busy) = (0, 0);
    for request in requests {
        let answer = request.await.unwrap();
        match answer.status() {
            StatusCode::OK => good += 1,
            StatusCode::SERVICE_UNAVAILABLE => {
                assert_eq!(answer.headers()["retry-after"], "1");
                assert!(answer.text().await.unwrap().contains("\"busy\""));
                busy += 1;
            }
            other => panic!("{other}"),
        }
    }
    let small = client.post(format!("https://{NAME}/v1/set_key")).body("{}");
    assert_eq!(signed(small).send().await.unwrap().status(), 200);
    let (most, after) = (
        memory_mib(child.id(), "VmHWM"),
        memory_mib(child.id(), "VmRSS"),
    );
    eprintln!(
        "{REQUESTS} requests of {MAX_BODY_LEN} bytes: {good} answered, {busy} busy; {before} MiB before, {most} MiB at most, {after} MiB after"
    );
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(good >= fit / 2, "{good}");
    // Body and encoded frame, the connections' buffers, and what the allocator keeps.
    assert!(most < before + 4 * BUDGET_MIB + REQUESTS / 8, "{most}");
}

/// More than a pod has places for, and nothing but a head and one byte of a body from each.
#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_do_not_arrive_delay_no_request() {
    let directory = tempfile::tempdir().unwrap();
    let enclave = Enclave::start(directory.path(), "key-generator").await;
    let pod = Pod::start_configured(&directory, KeyGenerator, |config| {
        config.max_connections = 4096;
    })
    .await;
    pod.becomes(true).await;
    let mac = RequestHead {
        request_id: b"",
        method: "POST",
        target: "/v1/set_key",
        content_length: MAX_BODY_LEN.try_into().unwrap(),
    }
    .sign(&FrontDoorKey::from_hex(KEY).unwrap(), now());
    let head = format!(
        "POST /v1/set_key HTTP/1.1\r\nhost: {NAME}\r\n{HEADER}: {mac}\r\ncontent-length: {MAX_BODY_LEN}\r\n\r\n{{"
    );
    let tls = client_config(directory.path());
    let address = pod.addresses.https;
    let opening = Instant::now();
    let open = tokio::task::spawn_blocking(move || {
        (0..1100)
            .map(|_| {
                let mut connection = connect(&tls, address);
                connection.write_all(head.as_bytes()).unwrap();
                connection
            })
            .collect::<Vec<_>>()
    });
    // While they open, and while the bodies of the last ones are still being waited for.
    let (mut requests, mut slowest) = (0, Duration::ZERO);
    while !open.is_finished() || requests < 27 {
        let began = Instant::now();
        let answer = pod.post("/v1/set_key", "{}").send().await.unwrap();
        assert_eq!(answer.status(), 200, "request {requests}");
        slowest = slowest.max(began.elapsed());
        requests += 1;
    }
    eprintln!(
        "1100 half-open requests within {:?}: {requests} good ones answered, the slowest in {slowest:?}",
        opening.elapsed()
    );
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    drop(open.await.unwrap());
    assert_eq!(enclave.mind.begun.load(Ordering::SeqCst), requests);
    pod.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_over_the_ceiling_closes_the_one_that_has_been_idle_longest() {
    let directory = tempfile::tempdir().unwrap();
    let enclave = Enclave::start(directory.path(), "key-generator").await;
    let pod = Pod::start_configured(&directory, KeyGenerator, |config| {
        config.max_connections = 16;
    })
    .await;
    pod.becomes(true).await;
    enclave.mind.close_gate();
    let in_flight = tokio::spawn(pod.post("/v1/set_key", "{}").send());
    eventually(async || (enclave.mind.begun.load(Ordering::SeqCst) == 1).then_some(())).await;
    let tls = client_config(directory.path());
    let address = pod.addresses.https;
    let mut idle = tokio::task::spawn_blocking(move || {
        (0..60).map(|_| connect(&tls, address)).collect::<Vec<_>>()
    })
    .await
    .unwrap();
    enclave.mind.open_gate();
    assert_eq!(in_flight.await.unwrap().unwrap().status(), 200);
    let open = eventually(async || {
        let open: Vec<_> = idle.iter_mut().map(is_open).collect();
        (open.iter().filter(|open| **open).count() <= 16).then_some(open)
    })
    .await;
    assert!(open[..44].iter().all(|open| !open), "{open:?}");
    assert!(open[46..].iter().all(|open| *open), "{open:?}");
    assert_eq!(
        pod.post("/v1/set_key", "{}").send().await.unwrap().status(),
        200
    );
    pod.stop().await;
}

pub(crate) type Connection = StreamOwned<ClientConnection, TcpStream>;

/// A new TLS connection after its handshake.
pub(crate) fn connect(tls: &Arc<ClientConfig>, address: SocketAddr) -> Connection {
    let name = ServerName::try_from(NAME).unwrap();
    let session = ClientConnection::new(tls.clone(), name).unwrap();
    let mut connection = StreamOwned::new(session, TcpStream::connect(address).unwrap());
    connection.conn.complete_io(&mut connection.sock).unwrap();
    connection
}

fn is_open(connection: &mut Connection) -> bool {
    connection.sock.set_nonblocking(true).unwrap();
    match connection.read(&mut [0]) {
        Err(error) => error.kind() == std::io::ErrorKind::WouldBlock,
        Ok(read) => read > 0,
    }
}

pub(crate) fn client_config(directory: &Path) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let ca = CertificateDer::from_pem_file(directory.join("ca.pem")).unwrap();
    roots.add(ca).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

/// See proc_pid_status(5).
fn memory_mib(process: u32, name: &str) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .unwrap();
    let kib: usize = line.trim().strip_suffix(" kB").unwrap().parse().unwrap();
    kib / 1024
}
