//! HTTP responses, and the success or error in their bodies.

use bytes::Bytes;
use http::HeaderMap;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::error::{ClientError, Refusal};

/// A response of any status.
#[derive(Clone, Debug)]
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Response {
    /// The body as text; invalid UTF-8 becomes replacement characters.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Parses the body of a success. Unknown members are ignored: later versions add some.
    ///
    /// # Errors
    /// [`ClientError::Refused`] and [`ClientError::Gateway`] for the two kinds of errors,
    /// [`ClientError::NotUnderstood`] for any other body.
    pub fn success<T: DeserializeOwned>(&self) -> Result<T, ClientError> {
        if self.status == 200
            && let Ok(success) = serde_json::from_slice(&self.body)
        {
            return Ok(success);
        }
        Err(self
            .refusal()
            .map(ClientError::Refused)
            .unwrap_or_else(|| self.gateway_error()))
    }

    /// Cloister's error, if the body is one.
    pub fn refusal(&self) -> Option<Refusal> {
        #[derive(Deserialize)]
        struct Body {
            enclave_status: u16,
            enclave_result: Refusal,
            request_id: String,
        }

        let Body {
            enclave_status,
            enclave_result,
            request_id,
        } = serde_json::from_slice(&self.body).ok()?;
        Some(Refusal {
            status: enclave_status,
            request_id,
            ..enclave_result
        })
    }

    fn gateway_error(&self) -> ClientError {
        #[derive(Deserialize)]
        struct Body {
            #[serde(alias = "Message")]
            message: String,
        }

        match serde_json::from_slice(&self.body) {
            Ok(Body { message }) => ClientError::Gateway {
                status: self.status,
                message,
            },
            Err(_) => ClientError::NotUnderstood {
                status: self.status,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(status: u16, body: &'static str) -> Response {
        Response {
            status,
            headers: HeaderMap::new(),
            body: Bytes::from_static(body.as_bytes()),
        }
    }

    #[test]
    fn the_two_kinds_of_errors_are_told_apart() {
        #[derive(Debug, Deserialize)]
        struct Success {
            signature: String,
        }

        let success = response(200, r#"{"signature":"0x1","later":{}}"#)
            .success::<Success>()
            .unwrap();
        assert_eq!(success.signature, "0x1");

        let refused = response(
            400,
            r#"{"enclave_status":400,"enclave_result":{"error":"x: is required","code":"missing_field","field":"x",
                "retryable":false,"later":1},"request_id":"r-1"}"#,
        );
        match refused.success::<Success>() {
            Err(ClientError::Refused(refusal)) => {
                assert_eq!(
                    (refusal.status, refusal.code.as_str()),
                    (400, "missing_field")
                );
                assert_eq!(
                    (refusal.field.as_deref(), refusal.request_id.as_str()),
                    (Some("x"), "r-1")
                );
            }
            other => panic!("{other:?}"),
        }
        // A direct invoke answers errors with status 200.
        let direct = response(
            200,
            r#"{"enclave_status":403,"enclave_result":{"error":"no","code":"authentication_failed"},"request_id":"r"}"#,
        );
        assert!(matches!(
            direct.success::<Success>(),
            Err(ClientError::Refused(Refusal { status: 403, .. }))
        ));
        assert!(matches!(
            response(403, r#"{"message":"Missing Authentication Token"}"#).success::<Success>(),
            Err(ClientError::Gateway { status: 403, .. })
        ));
        assert!(matches!(
            response(502, "<html>").success::<Success>(),
            Err(ClientError::NotUnderstood { status: 502 })
        ));
    }
}
