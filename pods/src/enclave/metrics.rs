//! CPU and memory usage of the enclave as CloudWatch metrics.
//!
//! CloudWatch Logs extracts metrics from log lines in the [embedded metric
//! format](https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html):
//! the pod needs no permission and no connection for them.

use std::io::Write;
use std::time::SystemTime;

use cloister_contract::enclave_log::Usage;
use cloister_contract::metrics::{CPU_SYSTEM, CPU_USER, MEMORY_CACHED, MEMORY_USED, NAMESPACE};
use serde_json::json;

/// Metric dimensions. Metrics are disabled unless all are set.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Metrics of the enclave")]
pub struct MetricsConfig {
    /// The dimension NodeName of the enclave's metrics
    #[arg(long, env = "CLOISTER_METRICS_NODE", requires_all = ["metrics_deployment", "metrics_pod"])]
    pub metrics_node: Option<String>,
    /// Their dimension Deployment
    #[arg(long, env = "CLOISTER_METRICS_DEPLOYMENT", requires_all = ["metrics_node", "metrics_pod"])]
    pub metrics_deployment: Option<String>,
    /// Their dimension Pod
    #[arg(long, env = "CLOISTER_METRICS_POD", requires_all = ["metrics_node", "metrics_deployment"])]
    pub metrics_pod: Option<String>,
}

impl MetricsConfig {
    pub(crate) fn dimensions(&self) -> Option<Dimensions> {
        Some(Dimensions {
            node: self.metrics_node.clone()?,
            deployment: self.metrics_deployment.clone()?,
            pod: self.metrics_pod.clone()?,
        })
    }
}

/// Values of the metric dimensions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Dimensions {
    node: String,
    deployment: String,
    pod: String,
}

impl Dimensions {
    /// Writes one line. The metrics also exist by deployment alone, because dashboards and alarms
    /// cannot name pods in advance.
    pub(crate) fn write(&self, out: &mut impl Write, time: SystemTime, usage: Usage) {
        let since_epoch = time
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let metrics = [CPU_USER, CPU_SYSTEM, MEMORY_USED, MEMORY_CACHED];
        let metrics = metrics.map(|name| json!({ "Name": name, "Unit": "Percent" }));
        let line = json!({
            "_aws": {
                "Timestamp": u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX),
                "CloudWatchMetrics": [{
                    "Namespace": NAMESPACE,
                    "Dimensions": [["NodeName", "Deployment", "Pod"], ["Deployment"]],
                    "Metrics": metrics,
                }],
            },
            "NodeName": self.node,
            "Deployment": self.deployment,
            "Pod": self.pod,
            CPU_USER: usage.cpu_user_percent,
            CPU_SYSTEM: usage.cpu_system_percent,
            MEMORY_USED: usage.memory_used_percent,
            MEMORY_CACHED: usage.memory_cached_percent,
        });
        // Ignore write errors: metrics are best effort.
        let _ = writeln!(out, "{line}");
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::Value;

    use super::*;

    #[test]
    fn a_line_has_the_embedded_metric_format() {
        let text = |text: &str| text.to_owned();
        let dimensions = Dimensions {
            node: text("n"),
            deployment: text("signer"),
            pod: text("signer-1"),
        };
        let usage = Usage {
            cpu_user_percent: 12.5,
            cpu_system_percent: 0.5,
            memory_used_percent: 30.1,
            memory_cached_percent: 5.0,
        };
        let mut out = Vec::new();
        dimensions.write(
            &mut out,
            SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123),
            usage,
        );
        assert!(out.ends_with(b"}\n"));
        let line: Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(line["_aws"]["Timestamp"], 1_700_000_000_123_u64);
        let directive = &line["_aws"]["CloudWatchMetrics"][0];
        assert_eq!(directive["Namespace"], "NitroEnclave");
        // Each dimension and each metric is a member of the line.
        for dimension in directive["Dimensions"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|set| set.as_array().unwrap())
        {
            assert!(line[dimension.as_str().unwrap()].is_string(), "{dimension}");
        }
        let metrics = directive["Metrics"].as_array().unwrap();
        let values: Vec<_> = metrics
            .iter()
            .map(|metric| line[metric["Name"].as_str().unwrap()].as_f64().unwrap())
            .collect();
        assert_eq!(values, [12.5, 0.5, 30.1, 5.0]);
        assert!(metrics.iter().all(|metric| metric["Unit"] == "Percent"));
    }
}
