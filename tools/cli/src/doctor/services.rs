//! Checks of the services behind the API, by its `GET /health`.

use cloister_client::{Client, ClientError, Health, ServiceHealth};
use cloister_contract::ErrorChain;

use super::{Finding, SERVICES, not_checked};

/// Checks both services down to the table and KMS.
pub(super) async fn findings(client: &Client, findings: &mut Vec<Finding>) {
    let [signer, key_generator] = SERVICES;
    match client.health().await {
        Ok(health) => {
            let Health {
                signer: of_signer,
                key_generator: of_generator,
            } = health;
            findings.push(finding(signer, of_signer));
            findings.push(finding(key_generator, of_generator));
        }
        // A deployment older than this program has no such route.
        Err(ClientError::Refused(refusal)) if refusal.code == "unknown_route" => {
            not_checked(&SERVICES, "this API has no GET /health", findings);
        }
        Err(error) => {
            let fix = "the API answers GET /version but not GET /health: see the function's log";
            for check in SERVICES {
                findings.push(Finding::failed(check, ErrorChain(&error).to_string(), fix));
            }
        }
    }
}

fn finding(check: &'static str, health: ServiceHealth) -> Finding {
    let ServiceHealth {
        ready,
        version,
        code,
        error,
    } = health;
    if ready {
        let version = version.map_or_else(String::new, |version| format!(", version {version}"));
        return Finding::ok(check, format!("ready{version}"));
    }
    let code = code.unwrap_or_else(|| "unknown".to_owned());
    let error = error.unwrap_or_else(|| "not ready".to_owned());
    Finding::failed(check, format!("{error} ({code})"), fix(&code))
}

fn fix(code: &str) -> &'static str {
    match code {
        "enclave_unavailable" => {
            "the pod or its enclave is down: see /readyz of the pods, and their log"
        }
        "storage_unavailable" | "storage_throttled" => {
            "the pod cannot read the table: check DynamoDB, its VPC endpoint and the pod's role"
        }
        "kms_unavailable" => {
            "the enclave cannot reach KMS: check KMS and its VPC endpoint, or wait if it throttles"
        }
        "kms_denied" | "kms_reply_refused" | "key_policy_refused" => {
            "KMS refuses this enclave: compare with `cloister kms verify-policy --key ARN`"
        }
        "not_ready" => "the enclave is starting, or cannot be configured: see /readyz of its pod",
        "deadline_exceeded" => "the service is too slow to answer: see the pod's log",
        _ => "see the pod's log",
    }
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    #[test]
    fn a_service_that_is_not_ready_is_a_failure_with_advice() {
        let health = |json: &str| serde_json::from_str::<ServiceHealth>(json).unwrap();
        let ready = finding("signer", health(r#"{"ready":true,"version":"1.2.3"}"#));
        assert_eq!(ready.state, State::Ok);
        assert_eq!(ready.finding, "ready, version 1.2.3");
        for code in [
            "enclave_unavailable",
            "storage_unavailable",
            "kms_unavailable",
            "not_ready",
            "of_a_later_version",
        ] {
            let json = format!(r#"{{"ready":false,"code":"{code}","error":"a sentence"}}"#);
            let failed = finding("signer", health(&json));
            assert_eq!(failed.state, State::Failed);
            assert_eq!(failed.finding, format!("a sentence ({code})"));
            assert!(failed.fix.is_some());
        }
        assert_eq!(
            finding("signer", health(r#"{"ready":false}"#)).state,
            State::Failed
        );
    }
}
