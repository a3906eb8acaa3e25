//! Sources of secrets: a file, standard input or an environment variable. Never an argument, which
//! every user of the machine can read in the process list and which the shell's history keeps.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use clap::Args;
use cloister_protocol::{CallerSecret, PrivateKey};
use zeroize::Zeroizing;

use crate::failure::Failure;

/// Source of the caller's secret.
#[derive(Args, Clone, Debug)]
#[group(multiple = false)]
pub(crate) struct SecretSource {
    /// File with the wallet key's secret, - for standard input [default: the variable
    /// CLOISTER_SECRET]
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
    /// Environment variable with the wallet key's secret
    #[arg(long, value_name = "NAME", default_value = "CLOISTER_SECRET")]
    secret_env: String,
}

impl SecretSource {
    pub(crate) fn read(&self) -> Result<CallerSecret, Failure> {
        let (text, place) = match &self.secret_file {
            Some(file) => (
                read(file, "--secret-file")?,
                "the file given with --secret-file".to_owned(),
            ),
            None => (
                variable(&self.secret_env)?,
                format!("the variable {}", self.secret_env),
            ),
        };
        CallerSecret::new(text)
            .map_err(|problem| Failure::Input(format!("the secret in {place} {problem}")))
    }

    pub(crate) fn is_standard_input(&self) -> bool {
        self.secret_file.as_deref().is_some_and(is_standard_input)
    }
}

/// Source of the private key to import.
#[derive(Args, Clone, Debug)]
#[group(required = true, multiple = false)]
pub(crate) struct PrivateKeySource {
    /// File with the private key, 64 hex digits with or without 0x; - for standard input
    #[arg(long, value_name = "FILE")]
    eth_key_file: Option<PathBuf>,
    /// Environment variable with the private key
    #[arg(long, value_name = "NAME")]
    eth_key_env: Option<String>,
}

impl PrivateKeySource {
    pub(crate) fn read(&self) -> Result<PrivateKey, Failure> {
        let text = match (&self.eth_key_file, &self.eth_key_env) {
            (Some(file), _) => read(file, "--eth-key-file")?,
            (None, Some(name)) => variable(name)?,
            (None, None) => {
                return Err(Failure::input(
                    "give the private key with --eth-key-file or --eth-key-env",
                ));
            }
        };
        PrivateKey::from_hex(&text)
            .map_err(|problem| Failure::Input(format!("the private key is {problem}")))
    }

    pub(crate) fn is_standard_input(&self) -> bool {
        self.eth_key_file.as_deref().is_some_and(is_standard_input)
    }
}

pub(crate) fn is_standard_input(file: &Path) -> bool {
    file == Path::new("-")
}

fn variable(name: &str) -> Result<Zeroizing<String>, Failure> {
    match std::env::var(name) {
        Ok(text) => Ok(Zeroizing::new(text)),
        Err(std::env::VarError::NotPresent) => Err(Failure::Input(format!(
            "no secret: the variable {name} is not set; set it, or give a file (- for standard input)"
        ))),
        Err(std::env::VarError::NotUnicode(_)) => {
            Err(Failure::Input(format!("the variable {name} is not text")))
        }
    }
}

/// The file's only line. Errors do not repeat its name, which may be the secret given by mistake.
fn read(file: &Path, option: &str) -> Result<Zeroizing<String>, Failure> {
    let unreadable = |error: io::Error| {
        Failure::Input(format!(
            "failed to read the file given with {option}: {error}"
        ))
    };
    // Never more than the capacity: a reallocation would leave a copy of the secret.
    let mut text = Zeroizing::new(String::with_capacity(MAX_LEN + 1));
    let limit = MAX_LEN as u64 + 1;
    match is_standard_input(file) {
        true => io::stdin().lock().take(limit).read_to_string(&mut text),
        false => File::open(file)
            .map_err(unreadable)?
            .take(limit)
            .read_to_string(&mut text),
    }
    .map_err(unreadable)?;
    if text.len() > MAX_LEN {
        return Err(Failure::Input(format!(
            "the file given with {option} has more than {MAX_LEN} bytes"
        )));
    }
    let line = text.trim_end_matches(['\r', '\n']).len();
    text.truncate(line);
    Ok(text)
}

/// Longest file, in bytes; above the longest secret.
const MAX_LEN: usize = 1024;

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn file(content: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(content.as_bytes()).unwrap();
        file
    }

    fn source(file: &Path) -> SecretSource {
        SecretSource {
            secret_file: Some(file.to_owned()),
            secret_env: "CLOISTER_SECRET".to_owned(),
        }
    }

    #[test]
    fn the_end_of_the_line_is_not_part_of_the_secret() {
        for end in ["", "\n", "\r\n"] {
            let file = file(&format!("a secret of some length{end}"));
            assert_eq!(
                source(file.path()).read().unwrap().expose(),
                "a secret of some length"
            );
        }
    }

    #[test]
    fn errors_do_not_repeat_the_secret() {
        for content in [
            "short",
            &"x".repeat(257),
            &"x".repeat(5000),
            "two lines of a secret\nfollow each other",
        ] {
            let error = source(file(content).path()).read().unwrap_err().to_string();
            assert!(
                !error.contains(content) && error.contains("--secret-file"),
                "{error}"
            );
        }
        let error = source(Path::new("/the/secret/itself"))
            .read()
            .unwrap_err()
            .to_string();
        assert!(
            !error.contains("itself") && error.contains("failed to read"),
            "{error}"
        );
        let keys = file("0xnothex");
        let keys = PrivateKeySource {
            eth_key_file: Some(keys.path().to_owned()),
            eth_key_env: None,
        };
        assert!(!keys.read().unwrap_err().to_string().contains("nothex"));
    }
}
