//! `cloister-local up` as a person runs it: ports, files, interruptions, and parts that end.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use cloister_client::{Client, Credentials, Response};
use cloister_e2e::{Key, Refused, TRANSFER, json_body, random_secret};
use cloister_local::child::{Program, Running, binary};
use cloister_local::part::Part;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn every_start_is_alike_whatever_the_directories_are_called() {
    let temporary = tempfile::tempdir().unwrap();
    // Longer than the path of a unix socket.
    let tmpdir = temporary.path().join("t".repeat(120));
    fs::create_dir(&tmpdir).unwrap();
    let data = temporary.path().join("it's a \"directory\"");
    let port = free_block();

    let mut first = Up::start(&data, &tmpdir, port);
    let variables = first.variables();
    let endpoint = variables["CLOISTER_ENDPOINT"].clone();
    assert_eq!(endpoint, format!("http://127.0.0.1:{port}"));
    let chain = format!("http://127.0.0.1:{}", port + 1);
    assert_eq!(variables["CLOISTER_CHAIN_RPC"], chain);
    let ca = fs::canonicalize(&data).unwrap().join("pki/ca.pem");
    assert_eq!(Path::new(&variables["CLOISTER_POD_CA_FILE"]), ca);
    assert_eq!(variables["CLOISTER_POD_KEY"].len(), 64);
    let key = generate(&client(&variables)).await;

    let said = first.interrupt();
    assert!(said.contains("stopping\n"), "{said}");
    let kept = format!("data kept in {}\n", data.display());
    assert!(said.ends_with(&kept), "{said}");
    assert!(!data.join("endpoint.env").exists());

    // As a full disk leaves it.
    fs::write(data.join("chain.json"), "").unwrap();
    let mut second = Up::start(&data, &tmpdir, port);
    let variables = second.variables();
    assert_eq!(variables["CLOISTER_ENDPOINT"], endpoint);
    let signed = sign(&client(&variables), &key).await;
    assert_eq!(signed.status, 200, "{}", signed.text());
    let said = second.interrupt();
    assert!(said.contains("chain.json is damaged"), "{said}");

    let _taken = TcpListener::bind((Ipv4Addr::LOCALHOST, port + 1)).unwrap();
    let mut third = Up::start(&data, &tmpdir, port);
    let variables = third.variables();
    assert_ne!(variables["CLOISTER_ENDPOINT"], endpoint);
    let said = third.interrupt();
    assert!(said.contains("are taken: using the next"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_that_are_killed_come_back() {
    let temporary = tempfile::tempdir().unwrap();
    let data = temporary.path().join("data");
    let mut up = Up::start(&data, temporary.path(), 0);
    let variables = up.variables();
    let client = client(&variables);
    let key = generate(&client).await;
    let first = json_body(&sign(&client, &key).await);
    for part in [
        Part::SignerPod,
        Part::SignerEnclave,
        Part::KeyGeneratorPod,
        Part::KeyGeneratorEnclave,
        Part::Kms,
        Part::Table,
        Part::Dynalite,
        Part::Gateway,
    ] {
        up.kill(part);
        up.wait_for_line(&format!("{part} is back"));
        // What a caller does that is told to try again.
        let deadline = Instant::now() + Duration::from_secs(60);
        let signed = loop {
            let answer = sign(&client, &key).await;
            if answer.status == 200 {
                break answer;
            }
            let refused = Refused::new(&answer);
            assert_eq!((refused.status, refused.retryable), (503, true), "{part}");
            assert!(Instant::now() < deadline, "{part}");
            tokio::time::sleep(Duration::from_secs(1)).await;
        };
        assert_eq!(json_body(&signed), first, "{part}");
        loop {
            let answer = post_generate(&client, &random_secret()).await;
            if answer.status == 200 {
                break;
            }
            let refused = Refused::new(&answer);
            assert_eq!((refused.status, refused.retryable), (503, true), "{part}");
            assert!(Instant::now() < deadline, "{part}");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
    up.kill(Part::Anvil);
    up.wait_for_line("anvil is back");
    let chain_id = json!({ "jsonrpc": "2.0", "id": 1, "method": "eth_chainId", "params": [] });
    let answer = reqwest::Client::new()
        .post(&variables["CLOISTER_CHAIN_RPC"])
        .header("content-type", "application/json")
        .body(chain_id.to_string())
        .send()
        .await
        .unwrap();
    assert!(answer.text().await.unwrap().contains("0x539"));
    up.interrupt();
}

/// A running `cloister-local up`.
struct Up {
    process: Running,
    data: PathBuf,
}

impl Up {
    fn start(data: &Path, tmpdir: &Path, port: u16) -> Self {
        let logs = data.parent().unwrap();
        let home = std::env::var_os("HOME").unwrap();
        let mut program = Program::new("up", binary("cloister-local").unwrap())
            .argument("up")
            .option("data-dir", data)
            .option("port", port.to_string())
            .variable("TMPDIR", tmpdir)
            .variable("HOME", home);
        if let Some(cache) = std::env::var_os("XDG_CACHE_HOME") {
            program = program.variable("XDG_CACHE_HOME", cache);
        }
        let process = program.start(logs).unwrap();
        Self {
            process,
            data: data.to_owned(),
        }
    }

    /// The variables of `endpoint.env` as a shell reads them, once the stack answers.
    fn variables(&mut self) -> BTreeMap<String, String> {
        let file = self.data.join("endpoint.env");
        self.wait("the stack answers", |_| file.exists());
        let output = Command::new("/bin/sh")
            .args(["-c", "set -a; . \"$0\"; exec env"])
            .arg(&file)
            .env_clear()
            .output()
            .unwrap();
        assert!(output.status.success() && output.stderr.is_empty());
        let text = String::from_utf8(output.stdout).unwrap();
        let pairs = text.lines().filter_map(|line| line.split_once('='));
        pairs
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    }

    fn kill(&self, part: Part) {
        let parent = self.process.id();
        let name = match part {
            Part::Gateway => "cloister-local-gateway",
            Part::SignerPod => "signer-pod",
            Part::SignerEnclave => "cloister-local-signer-enclave",
            Part::KeyGeneratorPod => "key-generator-pod",
            Part::KeyGeneratorEnclave => "cloister-local-key-generator-enclave",
            Part::Kms => "cloister-local-kms",
            Part::Table => "cloister-local-table",
            Part::Dynalite => "dynalite/cli.js",
            Part::Anvil => "bin/anvil",
        };
        let children = fs::read_dir("/proc").unwrap().filter_map(|entry| {
            let pid: i32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            let of: u32 = stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()?;
            let command = fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
            let program = command.split('\0').take(2);
            (of == parent && program.into_iter().any(|word| word.ends_with(name))).then_some(pid)
        });
        let [pid] = children.collect::<Vec<_>>()[..] else {
            panic!("{part} is not one process")
        };
        kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    }

    fn wait_for_line(&mut self, line: &str) {
        self.wait(line, |up| {
            up.output().unwrap().lines().any(|found| found == line)
        });
    }

    /// Sends SIGINT and waits for a successful end; returns the output.
    fn interrupt(&mut self) -> String {
        self.process.signal(Signal::INT);
        let deadline = Instant::now() + TIMEOUT;
        loop {
            if let Some(status) = self.process.ended() {
                let output = self.process.output().unwrap();
                assert!(status.success(), "{output}");
                return output;
            }
            assert!(Instant::now() < deadline, "the stack does not stop");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn wait(&mut self, what: &str, condition: impl Fn(&Running) -> bool) {
        let deadline = Instant::now() + TIMEOUT;
        while !condition(&self.process) {
            let ended = self.process.ended();
            assert!(
                ended.is_none() && Instant::now() < deadline,
                "{}",
                self.process.failure(what)
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn client(variables: &BTreeMap<String, String>) -> Client {
    let credentials = Credentials::new(
        &variables["AWS_ACCESS_KEY_ID"],
        &variables["AWS_SECRET_ACCESS_KEY"],
        Some(&variables["AWS_SESSION_TOKEN"]),
    );
    let endpoint = &variables["CLOISTER_ENDPOINT"];
    Client::new(endpoint, &variables["AWS_REGION"], credentials, None).unwrap()
}

async fn post_generate(client: &Client, secret: &str) -> Response {
    let body = json!({ "secret": secret }).to_string();
    client.post("/generate_key", body).await.unwrap()
}

async fn generate(client: &Client) -> Key {
    let secret = random_secret();
    Key::new(&post_generate(client, &secret).await, secret)
}

async fn sign(client: &Client, key: &Key) -> Response {
    let body = key.sign_body(TRANSFER);
    client.post("/sign_transaction", body).await.unwrap()
}

/// A block of ten ports, all of them free now; another process of this test begins elsewhere.
fn free_block() -> u16 {
    let free = |port: u16| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
    let own = u16::try_from(std::process::id() % 1_000).expect("at most 999");
    let mut blocks = (20_000 + 10 * own..32_000).step_by(10);
    blocks
        .find(|block| (*block..*block + 10).all(free))
        .expect("ten free ports")
}

const TIMEOUT: Duration = Duration::from_secs(120);
