//! Request paths: the operation and the request form that a method and a path select.

use cloister_protocol::payload::PayloadKind;
use cloister_protocol::{Code, Rejection};

/// A path of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Path<'a> {
    /// `GET /version`: the version of the front door.
    Version,
    /// `GET /health`: the readiness of both services.
    Health,
    /// `POST` of a request that an enclave carries out.
    Request(RequestPath<'a>),
}

/// The path of a request to an enclave. It selects the form of the request and of the response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RequestPath<'a> {
    /// `/generate_key`, `/set_key` and `/sign_transaction`: the path is the operation.
    Operation(ApiOperation),
    /// `/`, and direct invokes: the body names the operation.
    Root,
    /// `/key`; the response is wrapped.
    Key,
    /// `/key/{key_id}/tx_signature` and `/userop_signature`; the response is wrapped. Each signs
    /// one kind of payload only.
    Signature(&'a str, PayloadKind),
}

impl<'a> Path<'a> {
    /// Finds the path. HEAD is GET without the body, which API Gateway leaves out (RFC 9110
    /// §9.3.2).
    ///
    /// # Errors
    /// [`Code::UnknownRoute`] if the path is unknown, or takes another method.
    pub(crate) fn find(method: &str, segments: &[&'a str]) -> Result<Self, Rejection> {
        use RequestPath::{Key, Operation, Root, Signature};

        let path = match segments {
            ["version"] => Self::Version,
            ["health"] => Self::Health,
            [] | [""] => Self::Request(Root),
            ["generate_key"] => Self::Request(Operation(ApiOperation::GenerateKey)),
            ["set_key"] => Self::Request(Operation(ApiOperation::SetKey)),
            ["sign_transaction"] => Self::Request(Operation(ApiOperation::SignTransaction)),
            ["key"] => Self::Request(Key),
            ["key", key_id, "tx_signature"] => {
                Self::Request(Signature(key_id, PayloadKind::Transaction))
            }
            ["key", key_id, "userop_signature"] => {
                Self::Request(Signature(key_id, PayloadKind::UserOpHash))
            }
            _ => return Err(Rejection::new(Code::UnknownRoute, "unknown route")),
        };
        let (takes, accepted) = match path {
            Self::Version | Self::Health => ("GET", matches!(method, "GET" | "HEAD")),
            Self::Request(_) => ("POST", method == "POST"),
        };
        if accepted {
            Ok(path)
        } else {
            Err(Rejection::new(
                Code::UnknownRoute,
                format!("this route takes {takes} only"),
            ))
        }
    }

    /// The request form, for the log.
    pub(crate) fn form(self) -> &'static str {
        match self {
            Self::Version | Self::Health | Self::Request(RequestPath::Operation(_)) => "route",
            Self::Request(RequestPath::Root) => "operation",
            Self::Request(RequestPath::Key | RequestPath::Signature(..)) => "rest",
        }
    }
}

/// An operation of the callers' API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ApiOperation {
    /// Creates a key.
    GenerateKey,
    /// Imports a key.
    SetKey,
    /// `POST /key`: imports the key in the body, or creates one.
    CreateKey,
    /// Signs a transaction or a UserOp hash.
    SignTransaction,
}

impl ApiOperation {
    /// The name in the log.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::GenerateKey => "generate_key",
            Self::SetKey => "set_key",
            Self::CreateKey => "create_key",
            Self::SignTransaction => "sign_transaction",
        }
    }

    /// Parses the `operation` of the operation form: a bare name, or one with its service's prefix.
    ///
    /// # Errors
    /// [`Code::UnknownOperation`].
    pub(crate) fn named(name: &str) -> Result<Self, Rejection> {
        match name {
            "ethereum-key-generator_generate_key" | "generate_key" => Ok(Self::GenerateKey),
            "ethereum-signer_set_key" | "set_key" => Ok(Self::SetKey),
            "ethereum-signer_sign_transaction" | "sign_transaction" => Ok(Self::SignTransaction),
            _ => Err(Rejection::field(
                Code::UnknownOperation,
                "operation",
                "must be generate_key, set_key or sign_transaction",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_methods() {
        let operation = |operation| Path::Request(RequestPath::Operation(operation));
        for (method, path, expected) in [
            ("POST", "", Path::Request(RequestPath::Root)),
            ("POST", "generate_key", operation(ApiOperation::GenerateKey)),
            ("POST", "set_key", operation(ApiOperation::SetKey)),
            (
                "POST",
                "sign_transaction",
                operation(ApiOperation::SignTransaction),
            ),
            ("GET", "version", Path::Version),
            ("GET", "health", Path::Health),
            ("POST", "key", Path::Request(RequestPath::Key)),
            (
                "POST",
                "key/x/tx_signature",
                Path::Request(RequestPath::Signature("x", PayloadKind::Transaction)),
            ),
            (
                "POST",
                "key/x/userop_signature",
                Path::Request(RequestPath::Signature("x", PayloadKind::UserOpHash)),
            ),
        ] {
            let segments: Vec<_> = path.split('/').collect();
            assert_eq!(Path::find(method, &segments), Ok(expected));
            for wrong in ["GET", "POST", "PUT", "DELETE", "HEAD", "post", ""] {
                let refused = Path::find(wrong, &segments).map_err(|rejection| rejection.code);
                let head = (wrong, method) == ("HEAD", "GET");
                assert_eq!(refused.is_ok(), wrong == method || head, "{wrong} {path}");
                assert!(refused.is_ok() || refused == Err(Code::UnknownRoute));
            }
        }
        for path in [
            "x",
            "generate_key/",
            "/generate_key",
            "key/x",
            "key/x/tx_signature/",
            "key/x/y",
            "Key",
            "key/",
        ] {
            let segments: Vec<_> = path.split('/').collect();
            assert_eq!(
                Path::find("POST", &segments).unwrap_err().code,
                Code::UnknownRoute,
                "{path}"
            );
        }
    }

    #[test]
    fn operations_have_two_names_each() {
        assert_eq!(
            ApiOperation::named("ethereum-key-generator_generate_key"),
            ApiOperation::named("generate_key")
        );
        assert_eq!(
            ApiOperation::named("ethereum-signer_set_key"),
            ApiOperation::named("set_key")
        );
        assert_eq!(
            ApiOperation::named("ethereum-signer_sign_transaction"),
            ApiOperation::named("sign_transaction")
        );
        for wrong in [
            "",
            "version",
            "create_key",
            "ethereum-signer_generate_key",
            "Generate_key",
            "set_key ",
        ] {
            let rejection = ApiOperation::named(wrong).unwrap_err();
            assert_eq!(
                (rejection.code, rejection.field.as_deref()),
                (Code::UnknownOperation, Some("operation"))
            );
        }
    }
}
