//! Checks of the path to the endpoint: URL, proxy, DNS, TCP, TLS.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use cloister_client::{ClientError, is_loopback};
use cloister_contract::ErrorChain;
use http::Uri;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use super::Finding;

/// Returns whether requests can be sent to `endpoint`.
pub(super) async fn findings(endpoint: &str, findings: &mut Vec<Finding>) -> bool {
    let Some((host, port)) = host_and_port(endpoint) else {
        let fix = "give the whole URL with its stage, such as https://ID.execute-api.REGION.amazonaws.com/STAGE";
        findings.push(Finding::failed(
            "endpoint",
            format!("`{endpoint}` is not an http or https URL"),
            fix,
        ));
        return false;
    };
    findings.push(Finding::ok("endpoint", endpoint));

    if let Some(proxy) = proxy(endpoint) {
        findings.push(Finding::ok("proxy", proxy));
        for check in ["DNS", "TCP"] {
            findings.push(Finding::not_checked(check, "the proxy connects"));
        }
        return true;
    }
    let addresses: Vec<_> = match timeout(PATIENCE, lookup_host((host.as_str(), port))).await {
        Ok(Ok(addresses)) => addresses.collect(),
        Ok(Err(_)) | Err(_) => Vec::new(),
    };
    if addresses.is_empty() {
        let fix = "check the name; the name of a private API resolves only inside its VPC";
        findings.push(Finding::failed(
            "DNS",
            format!("{host} has no address here"),
            fix,
        ));
        return false;
    }
    findings.push(Finding::ok("DNS", list(&addresses)));

    for address in &addresses {
        if let Ok(Ok(_)) = timeout(PATIENCE, TcpStream::connect(address)).await {
            findings.push(Finding::ok("TCP", format!("{address} accepts connections")));
            return true;
        }
    }
    let fix = match is_this_machine(endpoint) {
        true => "is `cargo local up` running, and is this its current endpoint?",
        false => {
            "a firewall or security group blocks it, a proxy is needed (HTTPS_PROXY), or the port is wrong"
        }
    };
    findings.push(Finding::failed(
        "TCP",
        format!("port {port} of {host} does not accept connections"),
        fix,
    ));
    false
}

/// The finding for an endpoint that accepts connections but does not answer.
pub(super) fn no_answer(error: &ClientError) -> Finding {
    let finding = ErrorChain(error).to_string();
    match tls_error(error) {
        Some(rustls::Error::InvalidCertificate(_)) => Finding::failed(
            "TLS",
            finding,
            "the certificate is not trusted here or belongs to another host: check the URL, or name its root with --ca-file",
        ),
        Some(_) => Finding::failed(
            "TLS",
            finding,
            "this port does not speak TLS: check the URL's port",
        ),
        None => Finding::failed(
            "TLS",
            finding,
            "the connection ended without an answer: is it http:// or https://?",
        ),
    }
}

/// Returns whether the endpoint names a loopback address.
pub(super) fn is_this_machine(endpoint: &str) -> bool {
    endpoint
        .parse::<Uri>()
        .is_ok_and(|endpoint| is_loopback(&endpoint))
}

/// The proxy that the environment names for `endpoint`, without its credentials.
fn proxy(endpoint: &str) -> Option<String> {
    if is_this_machine(endpoint) {
        return None;
    }
    let variables: &[&str] = match endpoint.starts_with("https:") {
        true => &["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"],
        false => &["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"],
    };
    let (variable, url) = variables.iter().find_map(|variable| {
        let url = std::env::var(variable).ok().filter(|url| !url.is_empty())?;
        Some((variable, url))
    })?;
    let place = match host_and_port(&url) {
        Some((host, port)) => format!("{host} port {port}"),
        None => "a proxy".to_owned(),
    };
    Some(format!(
        "{variable} names {place}, unless NO_PROXY excludes the endpoint"
    ))
}

fn host_and_port(endpoint: &str) -> Option<(String, u16)> {
    let url = endpoint.parse::<Uri>().ok()?;
    let default = match url.scheme_str()? {
        "https" => 443,
        "http" => 80,
        _ => return None,
    };
    let host = url.host()?.trim_start_matches('[').trim_end_matches(']');
    (!host.is_empty()).then(|| (host.to_owned(), url.port_u16().unwrap_or(default)))
}

fn list(addresses: &[SocketAddr]) -> String {
    addresses
        .iter()
        .map(|address| address.ip().to_string())
        .collect::<Vec<_>>()
        .join(" ")
}

/// Finds a TLS error in the chain; `io::Error::source` skips the error it wraps.
fn tls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<rustls::Error>() {
            return Some(error);
        }
        if let Some(inner) = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref)
            && let Some(found) = tls_error(inner)
        {
            return Some(found);
        }
        next = error.source();
    }
    None
}

const PATIENCE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_ports() {
        for (endpoint, expected) in [
            ("https://a.example/prod", Some(("a.example", 443))),
            ("http://127.0.0.1:8080", Some(("127.0.0.1", 8080))),
            ("http://[::1]:1", Some(("::1", 1))),
            ("ftp://a.example", None),
            ("a.example/prod", None),
            ("https://", None),
        ] {
            assert_eq!(
                host_and_port(endpoint),
                expected.map(|(host, port)| (host.to_owned(), port)),
                "{endpoint}"
            );
        }
        assert!(is_this_machine("http://[::1]:1") && !is_this_machine("https://a.example"));
    }
}
