//! Counters as Prometheus reads them, over HTTP.

use std::convert::Infallible;
use std::fmt::{Display, Write as _};
use std::sync::Arc;
use std::time::Duration;

use cloister_bridge::{Counters, Listener, Totals};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// Serves the counters of all forwards, by name, until it is dropped.
pub(crate) async fn serve(listener: Listener, forwards: Vec<(String, Counters)>) {
    let forwards: Arc<[_]> = forwards.into();
    let mut readers = JoinSet::new();
    loop {
        // More readers than there can be wait: their descriptors would be missing for the forwards.
        if readers.len() == MAX_READERS {
            readers.join_next().await;
        }
        match listener.accept().await {
            Ok((connection, _)) => {
                let forwards = forwards.clone();
                readers.spawn(timeout(DEADLINE, async move {
                    let answer = service_fn(async |request| {
                        Ok::<_, Infallible>(answer(&request, &forwards))
                    });
                    let mut server = http1::Builder::new();
                    server.timer(TokioTimer::new()).keep_alive(false);
                    if let Err(error) = server
                        .serve_connection(TokioIo::new(connection), answer)
                        .await
                    {
                        tracing::debug!(error = %cloister_contract::ErrorChain(&error), "metrics were not read to the end");
                    }
                }));
            }
            Err(error) => {
                tracing::warn!(error = %cloister_contract::ErrorChain(&error), "failed to accept a connection for metrics");
                sleep(PAUSE).await;
            }
        }
        while readers.try_join_next().is_some() {}
    }
}

fn answer(request: &Request<Incoming>, forwards: &[(String, Counters)]) -> Response<Full<Bytes>> {
    let (status, body) = match (request.method(), request.uri().path()) {
        (&Method::GET, "/metrics") => (StatusCode::OK, text(forwards)),
        _ => (StatusCode::NOT_FOUND, "only GET /metrics\n".to_owned()),
    };
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    let format = http::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, format);
    response
}

/// <https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format>
fn text(forwards: &[(String, Counters)]) -> String {
    let totals: Vec<_> = forwards
        .iter()
        .map(|(name, counters)| (escaped(name), counters.totals()))
        .collect();
    let mut text = String::new();
    for metric in METRICS {
        let mut line =
            |line: &dyn Display| writeln!(text, "{line}").expect("a String takes everything");
        let (name, kind) = (
            metric.name,
            if metric.name.ends_with("_total") {
                "counter"
            } else {
                "gauge"
            },
        );
        line(&format_args!(
            "# HELP vsock_bridge_{name} {}\n# TYPE vsock_bridge_{name} {kind}",
            metric.help
        ));
        for (forward, totals) in &totals {
            for (label, value) in metric.values {
                let comma = if label.is_empty() { "" } else { "," };
                line(&format_args!(
                    "vsock_bridge_{name}{{forward=\"{forward}\"{comma}{label}}} {}",
                    value(totals)
                ));
            }
        }
    }
    text
}

fn escaped(label: &str) -> String {
    label
        .replace('\\', r"\\")
        .replace('"', "\\\"")
        .replace('\n', r"\n")
}

struct Metric {
    name: &'static str,
    help: &'static str,
    /// By label.
    values: &'static [(&'static str, Value)],
}

type Value = fn(&Totals) -> u64;

const METRICS: &[Metric] = &[
    Metric {
        name: "accepted_total",
        help: "Connections that came, the refused ones included.",
        values: &[("", |totals| totals.accepted)],
    },
    Metric {
        name: "refused_total",
        help: "Connections that were refused.",
        values: &[
            ("reason=\"limit\"", |totals| totals.refused_limit),
            ("reason=\"source\"", |totals| totals.refused_source),
        ],
    },
    Metric {
        name: "connect_failures_total",
        help: "Connections whose destination could not be reached.",
        values: &[("", |totals| totals.failed)],
    },
    Metric {
        name: "open",
        help: "Connections that are open, or wait for their destination.",
        values: &[("", |totals| totals.open)],
    },
    Metric {
        name: "cut_total",
        help: "Connections that ended before both sides had closed them.",
        values: &[
            ("reason=\"broken\"", |totals| totals.broken),
            ("reason=\"idle\"", |totals| totals.idled),
            ("reason=\"stopped\"", |totals| totals.stopped),
        ],
    },
    Metric {
        name: "bytes_total",
        help: "Bytes that were passed.",
        values: &[
            ("direction=\"to_destination\"", |totals| totals.sent),
            ("direction=\"from_destination\"", |totals| totals.received),
        ],
    },
];

const MAX_READERS: usize = 8;
/// For one reader to send its request and read the answer.
const DEADLINE: Duration = Duration::from_secs(5);
/// Pause after a reader could not be taken.
const PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_series_names_its_forward() {
        let text = text(&[
            ("kms".to_owned(), Counters::default()),
            ("unix:/a\"b\\c\n".to_owned(), Counters::default()),
        ]);
        assert!(
            text.contains("# TYPE vsock_bridge_open gauge\nvsock_bridge_open{forward=\"kms\"} 0\n")
        );
        assert!(text.contains("vsock_bridge_refused_total{forward=\"kms\",reason=\"source\"} 0\n"));
        assert!(text.contains(r#"vsock_bridge_accepted_total{forward="unix:/a\"b\\c\n"} 0"#));
        assert_eq!(
            text.lines().filter(|line| !line.starts_with('#')).count(),
            2 * 10
        );
    }
}
