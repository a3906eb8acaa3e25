//! `cloister doctor`: checks each hop of a request in order.

mod connection;
mod services;
mod signature;

use aws_config::SdkConfig;
use aws_credential_types::Credentials;
use clap::Args;
use cloister_client::{Client, Response};
use cloister_contract::ErrorChain;
use serde::Serialize;

use crate::answer::{Answer, table};
use crate::aws;
use crate::failure::Failure;
use crate::options::{Api, Common};

#[derive(Args, Debug)]
pub(crate) struct Command {
    #[command(flatten)]
    api: Api,
    /// Also check a pod, at the address that serves its /version (such as one end of a
    /// `kubectl port-forward`)
    #[arg(long, value_name = "URL")]
    pod: Vec<String>,
}

/// The result of one check.
#[derive(Debug, Serialize)]
struct Finding {
    check: &'static str,
    state: State,
    finding: String,
    /// Instruction for the user.
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    Ok,
    Failed,
    /// Skipped: an earlier check failed, or this machine cannot see it.
    NotChecked,
}

impl Finding {
    fn ok(check: &'static str, finding: impl Into<String>) -> Self {
        Self {
            check,
            state: State::Ok,
            finding: finding.into(),
            fix: None,
        }
    }

    fn failed(check: &'static str, finding: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            check,
            state: State::Failed,
            finding: finding.into(),
            fix: Some(fix.into()),
        }
    }

    fn not_checked(check: &'static str, because: impl Into<String>) -> Self {
        Self {
            check,
            state: State::NotChecked,
            finding: because.into(),
            fix: None,
        }
    }
}

pub(crate) async fn run(command: Command, common: &Common) -> Result<Answer, Failure> {
    let endpoint = &command.api.endpoint;
    let configuration = aws::configuration(common).await?;
    let mut findings = Vec::new();
    let credentials = credentials(&configuration, &mut findings).await;
    findings.push(who(endpoint, credentials.as_ref(), &configuration).await);
    let region = region(endpoint, common, &configuration, &mut findings);

    if connection::findings(endpoint, &mut findings).await {
        requests(
            &client(endpoint, region.as_deref(), credentials, common)?,
            endpoint,
            &mut findings,
        )
        .await;
    } else {
        not_reached(&mut findings);
    }
    for pod in &command.pod {
        findings.push(pod_version(pod, common).await?);
    }
    Ok(answer(&findings))
}

fn answer(findings: &[Finding]) -> Answer {
    let mut text = table(
        None,
        findings.iter().map(
            |Finding {
                 check,
                 state,
                 finding,
                 ..
             }| {
                let state = match state {
                    State::Ok => "ok",
                    State::Failed => "FAILED",
                    State::NotChecked => "-",
                };
                vec![state.to_owned(), (*check).to_owned(), finding.clone()]
            },
        ),
    );
    for finding in findings {
        if let Some(fix) = &finding.fix {
            text.push_str(&format!("\n\n{}: {fix}", finding.check));
        }
    }
    let held = findings
        .iter()
        .all(|finding| finding.state != State::Failed);
    Answer::new(text, &findings).held(held)
}

async fn credentials(
    configuration: &SdkConfig,
    findings: &mut Vec<Finding>,
) -> Option<Credentials> {
    let found = match aws::credentials(configuration).await {
        Ok(found) => found,
        Err(error) => {
            let sentence = error.to_string();
            let (finding, fix) = sentence.split_once("; ").unwrap_or((&sentence, "set them"));
            findings.push(Finding::failed("credentials", finding, fix));
            return None;
        }
    };
    let kind = if found.session_token().is_some() {
        "temporary"
    } else {
        "long-lived"
    };
    let what = format!("{}, {kind}", found.access_key_id());
    let expired = found
        .expiry()
        .is_some_and(|expiry| expiry <= std::time::SystemTime::now());
    findings.push(match expired {
        true => Finding::failed("credentials", format!("{what}, expired"), "log in again"),
        false => Finding::ok("credentials", what),
    });
    Some(found)
}

/// The identity behind the credentials. AWS does not know those of a stack on this machine.
async fn who(
    endpoint: &str,
    credentials: Option<&Credentials>,
    configuration: &SdkConfig,
) -> Finding {
    let check = "identity";
    if credentials.is_none() {
        return Finding::not_checked(check, "there are no credentials");
    }
    // Tests and rehearsals without AWS name an STS endpoint of their own.
    if connection::is_this_machine(endpoint) && std::env::var_os("AWS_ENDPOINT_URL_STS").is_none() {
        return Finding::not_checked(check, "the endpoint is on this machine; AWS was not asked");
    }
    let mut config = aws_sdk_sts::config::Builder::from(configuration);
    if configuration.region().is_none() {
        config.set_region(Some(aws_config::Region::from_static("us-east-1")));
    }
    let sts = aws_sdk_sts::Client::from_conf(config.build());
    match sts
        .get_caller_identity()
        .send()
        .await
        .map_err(Failure::aws("GetCallerIdentity"))
    {
        Ok(identity) => Finding::ok(check, identity.arn().unwrap_or("unknown to AWS")),
        Err(error @ Failure::Aws { code: Some(_), .. }) => Finding::failed(
            check,
            error.to_string(),
            "these credentials are invalid or expired: log in again",
        ),
        // Inside a VPC the API may be reachable while STS is not.
        Err(_) => Finding::not_checked(check, "STS is not reachable from here"),
    }
}

fn region(
    endpoint: &str,
    common: &Common,
    configuration: &SdkConfig,
    findings: &mut Vec<Finding>,
) -> Option<String> {
    let region = aws::region(endpoint, common, configuration);
    findings.push(match (&region, aws::region_of(endpoint)) {
        (Ok(region), Some(theirs)) if region != theirs => Finding::failed(
            "region",
            region,
            format!("the endpoint is in {theirs}: leave --region out"),
        ),
        (Ok(region), _) => Finding::ok("region", region),
        (Err(_), _) => Finding::failed(
            "region",
            "none",
            "give --region, or set AWS_REGION or the profile's region",
        ),
    });
    region.ok()
}

/// A client. Without credentials it can still send unsigned requests.
fn client(
    endpoint: &str,
    region: Option<&str>,
    credentials: Option<Credentials>,
    common: &Common,
) -> Result<Unsigned, Failure> {
    let ca = common
        .ca_file
        .as_deref()
        .map(aws::certificates)
        .transpose()?;
    let signs = region.is_some() && credentials.is_some();
    let client = Client::new(
        endpoint,
        region.unwrap_or("none"),
        credentials.unwrap_or_else(anonymous),
        ca.as_deref(),
    )?;
    Ok(Unsigned { client, signs })
}

struct Unsigned {
    client: Client,
    /// It has credentials and a region.
    signs: bool,
}

async fn requests(
    Unsigned { client, signs }: &Unsigned,
    endpoint: &str,
    findings: &mut Vec<Finding>,
) {
    let tls = endpoint.starts_with("https:");
    let plain = match client.request(http::Method::GET, "/version", "") {
        Ok(request) => client.send(request).await,
        Err(error) => Err(error),
    };
    match plain {
        Ok(answer) => {
            findings.push(match tls {
                true => Finding::ok("TLS", "the certificate is trusted and names the host"),
                false => Finding::not_checked("TLS", "the endpoint is http://"),
            });
            findings.push(signature::clock(&answer));
        }
        Err(error) => {
            findings.push(connection::no_answer(&error));
            return not_answered(findings);
        }
    }
    if !signs {
        findings.push(Finding::not_checked(
            "signature",
            "credentials or region are missing",
        ));
        return not_checked(&AFTER_SIGNATURE, "no request could be signed", findings);
    }
    let accepted = match client.get("/version").await {
        Ok(answer) => signature::findings(&answer, findings),
        Err(error) => {
            findings.push(connection::no_answer(&error));
            false
        }
    };
    if accepted {
        services::findings(client, findings).await;
    } else {
        not_checked(&SERVICES, "no request was accepted", findings);
    }
}

fn not_reached(findings: &mut Vec<Finding>) {
    findings.push(Finding::not_checked("TLS", "the endpoint was not reached"));
    not_answered(findings);
}

fn not_answered(findings: &mut Vec<Finding>) {
    let no_answer = "there was no answer";
    not_checked(&["clock", "signature"], no_answer, findings);
    not_checked(&AFTER_SIGNATURE, no_answer, findings);
}

fn not_checked(checks: &[&'static str], because: &str, findings: &mut Vec<Finding>) {
    findings.extend(
        checks
            .iter()
            .map(|check| Finding::not_checked(check, because)),
    );
}

/// Checks a pod's own `/version`, which needs no signature.
async fn pod_version(url: &str, common: &Common) -> Result<Finding, Failure> {
    let fix = "is this the address that serves the pod's /version, and is the port forwarded?";
    let ca = common
        .ca_file
        .as_deref()
        .map(aws::certificates)
        .transpose()?;
    let asked = async {
        let client = Client::new(url, "none", anonymous(), ca.as_deref())?;
        client
            .send(client.request(http::Method::GET, "/version", "")?)
            .await
    };
    Ok(match asked.await {
        Ok(Response {
            status: 200, body, ..
        }) => Finding::ok("pod", String::from_utf8_lossy(&body)),
        Ok(answer) => Finding::failed(
            "pod",
            format!("{url} answers with status {}", answer.status),
            fix,
        ),
        Err(error) => Finding::failed("pod", format!("{url}: {}", ErrorChain(&error)), fix),
    })
}

/// Credentials of a client that only sends unsigned requests.
fn anonymous() -> Credentials {
    Credentials::new("none", "none", None, None, "anonymous")
}

/// The checks that need an accepted signature.
const AFTER_SIGNATURE: [&str; 3] = ["front door", SERVICES[0], SERVICES[1]];
/// The checks of `GET /health`.
const SERVICES: [&str; 2] = ["signer", "key generator"];
