//! The way to the endpoint: its URL, its name, its port, its certificate.

use std::error::Error;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use cloister_client::ClientError;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use super::Finding;
use crate::failure::chain;

/// Whether something listens there.
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

    let addresses: Vec<_> = match timeout(PATIENCE, lookup_host((host.as_str(), port))).await {
        Ok(Ok(addresses)) => addresses.collect(),
        Ok(Err(_)) | Err(_) => Vec::new(),
    };
    if addresses.is_empty() {
        let fix = "check the name; that of a private API is known only inside its VPC";
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
        true => "is `cargo local up` running, and is this its endpoint of now?",
        false => "a firewall, a security group or a proxy is in between, or the port is wrong",
    };
    findings.push(Finding::failed(
        "TCP",
        format!("port {port} of {host} does not accept connections"),
        fix,
    ));
    false
}

/// Why an endpoint that accepts connections gives no answer.
pub(super) fn no_answer(error: &ClientError) -> Finding {
    let finding = chain(error);
    match tls_error(error) {
        Some(rustls::Error::InvalidCertificate(_)) => Finding::failed(
            "TLS",
            finding,
            "the certificate is not trusted here or is another host's: check the URL, or name its root with --ca-file",
        ),
        Some(_) => Finding::failed(
            "TLS",
            finding,
            "this port does not speak TLS as it should: check the URL's port",
        ),
        None => Finding::failed(
            "TLS",
            finding,
            "the connection ended without an answer: is it http:// or https://?",
        ),
    }
}

/// Whether the endpoint names a loopback address.
pub(super) fn is_this_machine(endpoint: &str) -> bool {
    host_and_port(endpoint).is_some_and(|(host, _)| {
        host == "localhost"
            || host
                .parse::<IpAddr>()
                .is_ok_and(|address| address.is_loopback())
    })
}

fn host_and_port(endpoint: &str) -> Option<(String, u16)> {
    let url = endpoint.parse::<http::Uri>().ok()?;
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

/// An I/O error hides what it was made of from `source`.
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
