//! The requests of README.md, run as they are printed there.

use std::fs;
use std::process::Command;

use cloister_e2e::Local;
use cloister_local::data_dir::ENDPOINT_FILE;
use cloister_local::endpoint;
use serde_json::Value;

#[tokio::test(flavor = "multi_thread")]
async fn pasted_lines_generate_a_key_and_sign_with_it() {
    let local = Local::start().await;
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join(".cloister/local");
    fs::create_dir_all(&data).unwrap();
    fs::write(data.join(ENDPOINT_FILE), endpoint::variables(&local.stack)).unwrap();

    let output = Command::new("bash")
        .args(["-euo", "pipefail", "-c", lines()])
        .current_dir(directory.path())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let answers: Vec<Value> = serde_json::Deserializer::from_slice(&output.stdout)
        .into_iter()
        .map(Result::unwrap)
        .collect();
    let [key, signed] = &answers[..] else {
        panic!("{answers:?}");
    };
    assert!(key["address"].as_str().unwrap().starts_with("0x"), "{key}");
    let transaction = signed["transaction_signed"].as_str().unwrap();
    assert!(transaction.starts_with("0x02"), "{signed}");
}

/// The shell block of the README.
fn lines() -> &'static str {
    let readme = include_str!("../../../../README.md");
    let (_, block) = readme.split_once("```bash\n").unwrap();
    block.split_once("```").unwrap().0
}
