//! Success and error bodies in the caller's form, and the proxy response around them.

use std::borrow::Cow;
use std::collections::BTreeMap;

use cloister_protocol::message::{KeyCreated, Signed};
use cloister_protocol::payload::PayloadKind;
use cloister_protocol::{Code, Rejection};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use crate::command::Command;
use crate::error::invalid_response;
use crate::health::Health;

/// A response other than an error.
#[derive(Debug)]
pub(crate) enum Success {
    /// A key.
    Key(KeyCreated),
    /// A signed transaction or a signature.
    Signed(Signed),
}

/// A refused request.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) rejection: Rejection,
    /// Of `GET /health` only.
    health: Option<Box<Health>>,
}

impl From<Rejection> for Refused {
    fn from(rejection: Rejection) -> Self {
        Self {
            rejection,
            health: None,
        }
    }
}

impl Success {
    /// Parses the JSON of the enclave's response to `command`.
    ///
    /// # Errors
    /// [`Code::ProtocolViolation`] if it is not exactly the response that belongs to `command`.
    pub(crate) fn read(command: &Command<'_>, body: &[u8]) -> Result<Self, Rejection> {
        match command {
            Command::GenerateKey(_) | Command::SetKey(_) => serde_json::from_slice(body)
                .map(Self::Key)
                .map_err(|_| invalid_response()),
            Command::SignTransaction(_, kind) => {
                let signed = serde_json::from_slice(body).map_err(|_| invalid_response())?;
                match (&signed, kind) {
                    (
                        Signed::Transaction {
                            transaction_signed,
                            transaction_hash,
                        },
                        PayloadKind::Transaction,
                    ) if transaction_signed.starts_with("0x")
                        && transaction_hash.starts_with("0x") =>
                    {
                        Ok(Self::Signed(signed))
                    }
                    (Signed::Signature { signature }, PayloadKind::UserOpHash)
                        if signature.starts_with("0x") =>
                    {
                        Ok(Self::Signed(signed))
                    }
                    _ => Err(invalid_response()),
                }
            }
        }
    }

    /// The body in the caller's form.
    pub(crate) fn body(&self, wrapped: bool) -> Box<RawValue> {
        match self {
            Self::Key(key) if wrapped => wrap(key),
            Self::Key(key) => json(key),
            Self::Signed(Signed::Transaction {
                transaction_signed,
                transaction_hash,
            }) if wrapped => {
                let tx_signed = transaction_signed
                    .strip_prefix("0x")
                    .unwrap_or(transaction_signed);
                wrap(&TransactionResult {
                    tx_signed,
                    tx_hash: transaction_hash,
                })
            }
            Self::Signed(signed) if wrapped => wrap(signed),
            Self::Signed(signed) => json(signed),
        }
    }
}

/// The body of `GET /version`.
pub(crate) fn version_body() -> Box<RawValue> {
    json(&Version {
        service: "front-door",
        version: env!("CARGO_PKG_VERSION"),
    })
}

/// The body of `GET /health`. Services that are not ready make it an error.
pub(crate) fn health_body(health: Health) -> Result<Box<RawValue>, Refused> {
    match health.rejection() {
        None => Ok(json(&health)),
        Some(rejection) => Err(Refused {
            rejection,
            health: Some(health.into()),
        }),
    }
}

/// The body of an error, the same in every form.
pub(crate) fn error_body(refused: &Refused, request_id: &str) -> Box<RawValue> {
    let Refused { rejection, health } = refused;
    json(&ErrorBody {
        enclave_status: rejection.code.http_status(),
        enclave_result: ErrorResult {
            error: &rejection.error,
            code: rejection.code,
            field: rejection.field.as_deref(),
            retryable: rejection.code.is_retryable(),
        },
        request_id,
        health: health.as_deref(),
    })
}

/// The proxy response that API Gateway turns into the HTTP response.
///
/// <https://docs.aws.amazon.com/apigateway/latest/developerguide/set-up-lambda-proxy-integrations.html>
pub(crate) fn proxy_response(
    code: Option<Code>,
    body: &RawValue,
    request_id: &str,
) -> Box<RawValue> {
    let mut headers = BTreeMap::from([
        ("cache-control", Cow::Borrowed("no-store")),
        ("content-type", Cow::Borrowed("application/json")),
        ("x-request-id", Cow::Borrowed(request_id)),
    ]);
    let status_code = match code {
        None => 200,
        Some(code) => {
            let status = code.http_status();
            if let (429 | 503, Some(seconds)) = (status, code.retry_after()) {
                headers.insert("retry-after", Cow::Owned(seconds.to_string()));
            }
            status
        }
    };
    json(&ProxyResponse {
        status_code,
        headers,
        body: body.get(),
        is_base64_encoded: false,
    })
}

fn wrap(result: &impl Serialize) -> Box<RawValue> {
    json(&Wrapped {
        enclave_status: 200,
        enclave_result: result,
    })
}

fn json(value: &impl Serialize) -> Box<RawValue> {
    to_raw_value(value).expect("structs of strings and numbers have a JSON form")
}

#[derive(Serialize)]
struct Wrapped<'a, R> {
    enclave_status: u16,
    enclave_result: &'a R,
}

#[derive(Serialize)]
struct TransactionResult<'a> {
    tx_signed: &'a str,
    tx_hash: &'a str,
}

#[derive(Serialize)]
struct Version {
    service: &'static str,
    version: &'static str,
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    enclave_status: u16,
    enclave_result: ErrorResult<'a>,
    request_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    health: Option<&'a Health>,
}

#[derive(Serialize)]
struct ErrorResult<'a> {
    error: &'a str,
    code: Code,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
    retryable: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ProxyResponse<'a> {
    status_code: u16,
    headers: BTreeMap<&'static str, Cow<'a, str>>,
    body: &'a str,
    is_base64_encoded: bool,
}
