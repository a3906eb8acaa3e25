//! Nothing secret is written down, at any level, in any form: every log and every stored file of a
//! full run is searched.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use cloister_local::part::Part;
use serde_json::json;

use crate::{Key, Local, TRANSFER, random_secret};

/// Files whose purpose it is to hold credentials: the laptop's own key material.
const KEEPERS: &[&str] = &[
    "identities.json",
    "principals.json",
    "callers.json",
    "front-door-key",
];

/// Uses keys in every way, the wrong ones included, and searches every log and every stored file
/// for what must not be there.
///
/// # Panics
/// When something is there.
pub async fn no_secret_is_written_down(local: &Local) {
    let eth_key = random_secret();
    let imported = local.import(&eth_key).await;
    let generated = local.generate().await;
    let wrong = Key {
        secret: random_secret(),
        ..generated.clone()
    };
    let mut sensitive = vec![
        (
            "the imported key",
            const_hex::decode(&eth_key).expect("hex digits"),
        ),
        ("the imported key's digits", eth_key.clone().into_bytes()),
    ];
    for (what, key) in [
        ("an importer's secret", &imported),
        ("a secret", &generated),
        ("a wrong secret", &wrong),
    ] {
        local
            .post("/sign_transaction", &key.sign_body(TRANSFER))
            .await;
        local
            .post(
                "/sign_transaction",
                &key.sign_body(r#"{"userOpHash":"00"}"#),
            )
            .await;
        local.post("/sign_transaction", &key.sign_body("{")).await;
        local
            .post(
                &format!("/key/{}/tx_signature", key.id),
                &key.sign_body(TRANSFER),
            )
            .await;
        sensitive.push((what, key.secret.clone().into_bytes()));
    }
    local
        .post(
            "/set_key",
            &json!({ "secret": imported.secret, "eth_key": eth_key, "x": 1 }).to_string(),
        )
        .await;
    local
        .post(
            "/",
            &json!({ "operation": "x", "payload": { "secret": imported.secret } }).to_string(),
        )
        .await;

    let identities = local.stack.identities();
    for identity in [
        &identities.administrator,
        &identities.signer,
        &identities.key_generator,
        &identities.caller,
    ] {
        sensitive.push((
            "a secret access key",
            identity.secret_access_key.clone().into_bytes(),
        ));
        sensitive.push((
            "a session token",
            identity.session_token.clone().into_bytes(),
        ));
    }
    let key = local.stack.front_door_key().expose();
    sensitive.push(("the front door's key's digits", key.as_bytes().to_vec()));
    sensitive.push((
        "the front door's key",
        const_hex::decode(key).expect("hex digits"),
    ));
    let data = local.stack.data().root().to_owned();
    let files: Vec<_> = files(&data)
        .into_iter()
        .filter(|file| !keeps(file))
        .collect();
    let logs = files
        .iter()
        .filter(|file| file.extension().is_some_and(|extension| extension == "log"))
        .count();
    assert!(logs >= 8, "only {logs} logs");
    assert!(local.log(Part::Gateway).len() > 1000, "nothing is logged");

    let mut found = Vec::new();
    for file in &files {
        let contents = std::fs::read(file).expect("a readable file");
        for (what, secret) in &sensitive {
            for (form, needle) in forms(secret) {
                if contains(&contents, &needle) {
                    found.push(format!("{what} as {form} in {}", file.display()));
                }
            }
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

/// The forms in which bytes may be logged.
fn forms(secret: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let decimal = |separator: &str| {
        secret
            .iter()
            .map(u8::to_string)
            .collect::<Vec<_>>()
            .join(separator)
            .into_bytes()
    };
    let mut forms = vec![
        ("itself", secret.to_vec()),
        ("hex", const_hex::encode(secret).into_bytes()),
        (
            "upper-case hex",
            const_hex::encode_upper(secret).into_bytes(),
        ),
        ("decimal bytes", decimal(", ")),
        ("decimal bytes", decimal(",")),
        ("decimal bytes", decimal(" ")),
    ];
    // Inside a longer text base64 depends on the position modulo 3; the characters at the ends
    // depend on their neighbours.
    for offset in 0..3 {
        for engine in [STANDARD_NO_PAD, URL_SAFE_NO_PAD] {
            let encoded = engine.encode([&vec![0; offset][..], secret].concat());
            forms.push((
                "base64",
                encoded.as_bytes()[(4 * offset).div_ceil(3)..encoded.len() - 1].to_vec(),
            ));
        }
    }
    if let Ok(number) = <[u8; 32]>::try_from(secret) {
        forms.push((
            "a decimal number",
            alloy_primitives::U256::from_be_bytes(number)
                .to_string()
                .into_bytes(),
        ));
    }
    forms
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    memchr::memmem::find(haystack, needle).is_some()
}

fn keeps(file: &Path) -> bool {
    file.file_name()
        .and_then(|name| name.to_str())
        .is_some_and(|name| KEEPERS.contains(&name))
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).expect("a readable directory");
    let entries = entries.map(|entry| entry.expect("an entry").path());
    entries
        .flat_map(|path| {
            if path.is_dir() {
                files(&path)
            } else {
                vec![path]
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The scan sees what it is meant to see.
    #[test]
    fn every_form_is_found() {
        let secret = b"correct horse battery staple";
        for prefix in ["", "x", "xy"] {
            let around = format!("{prefix}correct horse battery staple and more");
            let shown = [
                around.clone(),
                const_hex::encode(&around),
                const_hex::encode_upper(&around),
                STANDARD_NO_PAD.encode(&around),
                URL_SAFE_NO_PAD.encode(&around),
                format!("{:?}", around.as_bytes()),
            ];
            for text in shown {
                assert!(
                    forms(secret)
                        .iter()
                        .any(|(_, needle)| contains(text.as_bytes(), needle)),
                    "{text}"
                );
            }
        }
    }
}
