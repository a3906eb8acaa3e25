//! The process: its address file, its stop, its data and its log.

use std::{
    fs::{self, File},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, ExitStatus},
};

use aws_sdk_kms::{primitives::Blob, types::DataKeySpec};
use base64::{Engine, prelude::BASE64_STANDARD};
use cloister_contract::events;
use cloister_key_policy::Form;

use crate::{
    deployment::{GENERATOR, SIGNER, policy},
    setup::{Enclave, Files, REGION, create_key, credentials, wait_for_json},
};

#[tokio::test]
async fn keys_survive_a_restart_and_the_log_keeps_secrets() {
    let files = Files::new();
    let (generator, signer) = (
        Enclave::new(&files.pki, GENERATOR),
        Enclave::new(&files.pki, SIGNER),
    );

    let first = Process::start(&files, "first");
    let key = create_key(
        &files.client(first.address, "administrator"),
        &policy(Form::Locked),
    )
    .await;
    let sealing = generator.recipient();
    let sealed = files
        .client(first.address, "key-generator")
        .generate_data_key()
        .key_id(&key)
        .key_spec(DataKeySpec::Aes256)
        .encryption_context("purpose", "wallet")
        .recipient(sealing.clone())
        .send()
        .await
        .unwrap();
    let data_key = generator.open(&sealed.ciphertext_for_recipient.unwrap());
    let planted = files
        .client(first.address, "signer")
        .encrypt()
        .key_id(&key)
        .plaintext(Blob::new(data_key.clone()));
    assert!(planted.send().await.is_err());
    let (status, mut log) = first.terminate();
    assert!(status.success(), "{log}");

    let second = Process::start(&files, "second");
    let opening = signer.recipient();
    let opened = files
        .client(second.address, "signer")
        .decrypt()
        .ciphertext_blob(sealed.ciphertext_blob.clone().unwrap())
        .encryption_context("purpose", "wallet")
        .recipient(opening.clone())
        .send()
        .await
        .unwrap();
    assert_eq!(
        signer.open(&opened.ciphertext_for_recipient.unwrap()),
        data_key
    );
    let (status, second_log) = second.terminate();
    assert!(status.success(), "{second_log}");
    log.push_str(&second_log);

    let stored = fs::read_dir(files.path("data"))
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let stored: Vec<_> = stored
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    let [stored] = &stored[..] else {
        panic!("one file per key")
    };
    let material = serde_json::from_str::<serde_json::Value>(stored).unwrap()["material"]
        .as_str()
        .unwrap()
        .to_owned();

    for line in [
        r#""decision":"allow","statement":"Generator""#,
        r#""decision":"explicit deny","statement":"Attested""#,
        r#""statement":"Signer""#,
    ] {
        assert!(log.contains(line), "{line} in {log}");
    }
    let mut secrets = vec![material];
    for bytes in [
        &data_key,
        opening.attestation_document.unwrap().as_ref(),
        sealing.attestation_document.unwrap().as_ref(),
    ] {
        secrets.extend([
            BASE64_STANDARD.encode(bytes),
            const_hex::encode(bytes),
            format!("{bytes:?}"),
        ]);
    }
    for role in ["signer", "key-generator", "administrator"] {
        let (_, secret, token) = credentials(role);
        secrets.extend([secret, token]);
    }
    for secret in secrets {
        assert!(!log.contains(&secret), "{secret}");
    }
}

#[test]
fn a_start_that_fails_is_logged_with_its_causes() {
    let files = Files::new();
    fs::remove_file(files.path("principals.json")).unwrap();
    let output = Process::command(&files, "failed").output().unwrap();
    assert!(!output.status.success());
    let line: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(line["event"], events::PROGRAM_FAILED);
    assert_eq!(
        line["error"],
        format!(
            "failed to read or write {}: No such file or directory (os error 2)",
            files.path("principals.json").display()
        )
    );
}

struct Process {
    child: Child,
    address: SocketAddr,
    log: PathBuf,
}

impl Process {
    fn start(files: &Files, name: &str) -> Self {
        let (address_file, log) = (
            files.path(&format!("{name}.json")),
            files.path(&format!("{name}.log")),
        );
        let child = Self::command(files, name)
            .stdout(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let address = wait_for_json(&address_file)["https"]
            .as_str()
            .unwrap()
            .parse()
            .unwrap();
        Self {
            child,
            address,
            log,
        }
    }

    fn command(files: &Files, name: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cloister-local-kms"));
        command
            .env("RUST_LOG", "trace")
            .args(["--region", REGION, "--account", "111122223333"])
            .arg("--address-file")
            .arg(files.path(&format!("{name}.json")))
            .arg("--data")
            .arg(files.path("data"))
            .arg("--tls-cert")
            .arg(files.path("cert.pem"))
            .arg("--tls-key")
            .arg(files.path("key.pem"))
            .arg("--nsm-root")
            .arg(files.path("root.der"))
            .arg("--principals")
            .arg(files.path("principals.json"));
        command
    }

    /// Sends SIGTERM and waits; returns the log.
    fn terminate(mut self) -> (ExitStatus, String) {
        let sent = Command::new("kill")
            .args(["-TERM", &self.child.id().to_string()])
            .status()
            .unwrap();
        assert!(sent.success());
        (
            self.child.wait().unwrap(),
            fs::read_to_string(&self.log).unwrap(),
        )
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Already gone, unless the test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
