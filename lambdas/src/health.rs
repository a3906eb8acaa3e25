//! The response to `GET /health`: the readiness of both services.

use cloister_contract::Service;
use cloister_protocol::message::{HealthReport, State};
use cloister_protocol::{Code, Rejection};
use serde::{Serialize, Serializer};

/// The readiness of both services; the signer's includes the table and KMS.
#[derive(Debug, Serialize)]
pub(crate) struct Health {
    signer: ServiceHealth,
    key_generator: ServiceHealth,
}

impl Health {
    pub(crate) fn new(
        signer: Result<HealthReport, Rejection>,
        key_generator: Result<HealthReport, Rejection>,
    ) -> Self {
        Self {
            signer: ServiceHealth(signer.and_then(ready)),
            key_generator: ServiceHealth(key_generator.and_then(ready)),
        }
    }

    /// The rejection of the first service that is not ready, with the service's name.
    pub(crate) fn rejection(&self) -> Option<Rejection> {
        let services = [
            (Service::Signer, &self.signer),
            (Service::KeyGenerator, &self.key_generator),
        ];
        services.into_iter().find_map(|(service, health)| {
            let Rejection { code, error, .. } = health.0.as_ref().err()?;
            Some(Rejection::new(*code, format!("{service}: {error}")))
        })
    }
}

/// A report of an enclave that is ready, or the rejection of its requests.
#[derive(Debug)]
struct ServiceHealth(Result<HealthReport, Rejection>);

impl Serialize for ServiceHealth {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(untagged)]
        enum Form<'a> {
            Ready {
                ready: bool,
                version: &'a str,
            },
            NotReady {
                ready: bool,
                code: Code,
                error: &'a str,
            },
        }

        match &self.0 {
            Ok(report) => Form::Ready {
                ready: true,
                version: &report.version,
            },
            Err(rejection) => Form::NotReady {
                ready: false,
                code: rejection.code,
                error: &rejection.error,
            },
        }
        .serialize(serializer)
    }
}

fn ready(report: HealthReport) -> Result<HealthReport, Rejection> {
    match report.state {
        State::Ready => Ok(report),
        _ => Err(Rejection::new(Code::NotReady, "the enclave is not ready")),
    }
}
