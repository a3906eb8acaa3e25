//! The keys of the front door: read from a file or a secret, and again while the pod runs.

use std::path::{Path, PathBuf};
use std::time::Duration;

use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::operation::get_secret_value::GetSecretValueError;
use cloister_aws_calls::log_failure;
use cloister_contract::{Arn, ErrorChain, events};
use cloister_protocol::FrontDoorKey;
use cloister_protocol::front_door::FrontDoorKeys;
use cloister_protocol::secret::InvalidFrontDoorKey;
use tokio::sync::watch;
use tokio::time::sleep;
use zeroize::Zeroizing;

use crate::backoff::{Backoff, jittered};
use crate::error::PodError;

/// The keys that are accepted at the moment; `None` until they have been read.
pub(crate) type Keyring = watch::Receiver<Option<FrontDoorKeys>>;

/// Source of the front door's keys.
#[derive(Clone, Debug)]
pub enum FrontDoorKeySource {
    /// A file of the current key, and the previous one on a second line while that is accepted.
    File(PathBuf),
    /// A secret of Secrets Manager, whose versions `AWSCURRENT` and `AWSPREVIOUS` are the keys.
    Secret {
        /// The client.
        client: Client,
        /// The secret.
        arn: Arn,
        /// Least time between two reads; jitter lengthens it by up to its own length.
        interval: Duration,
    },
}

impl FrontDoorKeySource {
    /// Reads a file of keys. A secret is read by [`Self::follow`] only: while AWS does not answer,
    /// the pod runs and is not ready.
    ///
    /// # Errors
    /// [`PodError`] if the file is unusable.
    pub(crate) fn at_start(&self) -> Result<Option<FrontDoorKeys>, PodError> {
        match self {
            Self::File(path) => Ok(Some(parse_file(path, &read_file(path)?)?)),
            Self::Secret { .. } => Ok(None),
        }
    }

    /// Keeps the keys up to date. What is unusable changes nothing.
    pub(crate) async fn follow(self, keys: watch::Sender<Option<FrontDoorKeys>>) {
        match self {
            Self::File(path) => follow_file(&path, &keys).await,
            Self::Secret {
                client,
                arn,
                interval,
            } => follow_secret(&client, &arn, interval, &keys).await,
        }
    }
}

async fn follow_file(path: &Path, keys: &watch::Sender<Option<FrontDoorKeys>>) {
    let mut seen = read_file(path).ok();
    loop {
        sleep(POLL_INTERVAL).await;
        let text = read_file(path);
        if text.as_ref().ok() == seen.as_ref() {
            continue;
        }
        let parsed = text.and_then(|text| {
            let parsed = parse_file(path, &text);
            seen = Some(text);
            parsed
        });
        match parsed {
            Ok(found) => {
                keys.send_replace(Some(found));
                tracing::info!(
                    event = events::FRONT_DOOR_KEYS_READ,
                    file = %path.display(),
                    "accepting the keys of the replaced file"
                );
            }
            Err(error) => {
                tracing::warn!(
                    event = events::FRONT_DOOR_KEYS_NOT_READ,
                    error = %ErrorChain(&error),
                    "the file of the front door's key is unusable; still accepting the previous keys"
                );
            }
        }
    }
}

fn read_file(path: &Path) -> Result<Zeroizing<String>, PodError> {
    std::fs::read_to_string(path)
        .map(Zeroizing::new)
        .map_err(|source| PodError::Read {
            path: path.to_owned(),
            source,
        })
}

fn parse_file(path: &Path, text: &str) -> Result<FrontDoorKeys, PodError> {
    let parse = || {
        let mut lines = text.lines();
        let current = FrontDoorKey::from_hex(lines.next().unwrap_or_default())?;
        let previous = lines.next().map(FrontDoorKey::from_hex).transpose()?;
        match lines.next() {
            None => Ok(FrontDoorKeys::new(current, previous)),
            Some(_) => Err(InvalidFrontDoorKey),
        }
    };
    parse().map_err(|_| PodError::FrontDoorKeyFile {
        path: path.to_owned(),
    })
}

async fn follow_secret(
    client: &Client,
    arn: &Arn,
    interval: Duration,
    keys: &watch::Sender<Option<FrontDoorKeys>>,
) {
    let mut retries = Backoff::new(FIRST_RETRY, LONGEST_RETRY);
    let mut refreshes = jittered(interval);
    let mut seen = None;
    loop {
        let delay = match read_secret(client, arn).await {
            Ok((found, versions)) => {
                retries.reset();
                keys.send_replace(Some(found));
                if seen.as_ref() != Some(&versions) {
                    tracing::info!(
                        event = events::FRONT_DOOR_KEYS_READ,
                        current = versions.current,
                        previous = versions.previous,
                        "accepting these versions of the front door's key"
                    );
                    seen = Some(versions);
                }
                refreshes.next().unwrap_or(interval)
            }
            Err(_) => retries.next(),
        };
        sleep(delay).await;
    }
}

/// Ids of the versions, which are no secrets.
#[derive(Debug, PartialEq, Eq)]
struct Versions {
    current: String,
    previous: Option<String>,
}

/// The current version first: if the key is replaced between the two reads, its predecessor is
/// accepted until the next read, and the front door does not use the successor that early.
async fn read_secret(client: &Client, arn: &Arn) -> Result<(FrontDoorKeys, Versions), NotRead> {
    let (current, current_id) = read_version(client, arn, CURRENT).await?;
    let (previous, previous_id) = match read_version(client, arn, PREVIOUS).await {
        Ok(found) => Some(found).unzip(),
        Err(NotRead::Absent | NotRead::Malformed) => (None, None),
        Err(NotRead::Failed) => return Err(NotRead::Failed),
    };
    let versions = Versions {
        current: current_id,
        previous: previous_id,
    };
    Ok((FrontDoorKeys::new(current, previous), versions))
}

/// The key of a version, and the version's id. A failure has been logged, unless it is the absence
/// of a previous version.
async fn read_version(
    client: &Client,
    arn: &Arn,
    stage: &'static str,
) -> Result<(FrontDoorKey, String), NotRead> {
    let call = client
        .get_secret_value()
        .secret_id(arn.to_string())
        .version_stage(stage);
    let reply = call.send().await.map_err(|error| {
        let absent = error
            .as_service_error()
            .is_some_and(GetSecretValueError::is_resource_not_found_exception);
        if absent && stage == PREVIOUS {
            return NotRead::Absent;
        }
        log_failure(events::FRONT_DOOR_KEYS_NOT_READ, "GetSecretValue", &error);
        NotRead::Failed
    })?;
    let id = reply.version_id.unwrap_or_default();
    let text = Zeroizing::new(reply.secret_string.unwrap_or_default());
    let key = FrontDoorKey::from_hex(&text).map_err(|invalid| {
        tracing::warn!(
            event = events::FRONT_DOOR_KEYS_NOT_READ,
            error = %ErrorChain(&invalid),
            version = id,
            "a version of the front door's key is malformed"
        );
        NotRead::Malformed
    })?;
    Ok((key, id))
}

/// The reason why a version yields no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NotRead {
    /// The call failed.
    Failed,
    /// No version has this stage.
    Absent,
    /// The version is not a key.
    Malformed,
}

/// Staging labels of Secrets Manager:
/// <https://docs.aws.amazon.com/secretsmanager/latest/userguide/whats-in-a-secret.html>.
const CURRENT: &str = "AWSCURRENT";
const PREVIOUS: &str = "AWSPREVIOUS";
/// Delay between two reads of a file.
const POLL_INTERVAL: Duration = Duration::from_secs(5);
/// Delay after a failed read of the secret.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// Longest delay after failed reads of the secret, without jitter.
const LONGEST_RETRY: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_one_key_or_two() {
        let path = Path::new("front-door-key");
        let key = "0a".repeat(32);
        for good in [key.clone(), format!("{key}\n"), format!("{key}\n{key}\n")] {
            parse_file(path, &good).unwrap();
        }
        for bad in [
            String::new(),
            "\n".to_owned(),
            key.to_uppercase(),
            format!("{key} "),
            format!("\n{key}"),
            format!("{key}\n\n"),
            format!("{key}\n{key}\n{key}\n"),
        ] {
            let error = parse_file(path, &bad).unwrap_err().to_string();
            assert!(error.contains("front-door-key"), "{error}");
        }
    }
}
