//! Which request form and operation a method and path stand for.

use cloister_protocol::{Code, Rejection};

/// What is to be done. Shown in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A new key.
    GenerateKey,
    /// An imported key.
    SetKey,
    /// The one or the other, as the body says: `POST /key`.
    CreateKey,
    /// A signature.
    SignTransaction,
    /// The version of the front door.
    Version,
}

impl Operation {
    /// As it stands in the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::GenerateKey => "generate_key",
            Self::SetKey => "set_key",
            Self::CreateKey => "create_key",
            Self::SignTransaction => "sign_transaction",
            Self::Version => "version",
        }
    }

    /// Reads the `operation` of the operation form: the names of the reference deployment, or the
    /// bare ones.
    ///
    /// # Errors
    /// [`Code::UnknownOperation`].
    pub fn named(name: &str) -> Result<Self, Rejection> {
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

/// Which of the two kinds of payload a path is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PayloadKind {
    /// A transaction.
    Transaction,
    /// A UserOp hash.
    UserOpHash,
}

/// Where a request goes, and in which form it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route<'a> {
    /// `POST /generate_key`, `/set_key`, `/sign_transaction`, `GET /version`: the path is the
    /// operation.
    Path(Operation),
    /// `POST /` and direct invokes: the body names the operation.
    Body,
    /// `POST /key`: answered wrapped.
    CreateKey,
    /// `POST /key/{key_id}/tx_signature` and `/userop_signature`: answered wrapped. Only the
    /// payload the path is for is signed, so that an IAM policy for one path allows one kind of
    /// signature.
    Signature(&'a str, PayloadKind),
}

impl<'a> Route<'a> {
    /// Finds the route.
    ///
    /// # Errors
    /// [`Code::UnknownRoute`] for another path, or another method.
    pub fn find(method: &str, segments: &[&'a str]) -> Result<Self, Rejection> {
        let route = match segments {
            [] | [""] => Self::Body,
            ["generate_key"] => Self::Path(Operation::GenerateKey),
            ["set_key"] => Self::Path(Operation::SetKey),
            ["sign_transaction"] => Self::Path(Operation::SignTransaction),
            ["version"] => Self::Path(Operation::Version),
            ["key"] => Self::CreateKey,
            ["key", key_id, "tx_signature"] => Self::Signature(key_id, PayloadKind::Transaction),
            ["key", key_id, "userop_signature"] => Self::Signature(key_id, PayloadKind::UserOpHash),
            _ => return Err(Rejection::new(Code::UnknownRoute, "no such route")),
        };
        let expected = if route == Self::Path(Operation::Version) {
            "GET"
        } else {
            "POST"
        };
        if method == expected {
            Ok(route)
        } else {
            Err(Rejection::new(
                Code::UnknownRoute,
                format!("this route takes {expected} only"),
            ))
        }
    }

    /// The request form, as it stands in the log.
    pub fn form(self) -> &'static str {
        match self {
            Self::Path(_) => "route",
            Self::Body => "operation",
            Self::CreateKey | Self::Signature(..) => "rest",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes() {
        for (method, path, expected) in [
            ("POST", "", Route::Body),
            ("POST", "generate_key", Route::Path(Operation::GenerateKey)),
            ("POST", "set_key", Route::Path(Operation::SetKey)),
            (
                "POST",
                "sign_transaction",
                Route::Path(Operation::SignTransaction),
            ),
            ("GET", "version", Route::Path(Operation::Version)),
            ("POST", "key", Route::CreateKey),
            (
                "POST",
                "key/x/tx_signature",
                Route::Signature("x", PayloadKind::Transaction),
            ),
            (
                "POST",
                "key/x/userop_signature",
                Route::Signature("x", PayloadKind::UserOpHash),
            ),
        ] {
            let segments: Vec<_> = path.split('/').collect();
            assert_eq!(Route::find(method, &segments), Ok(expected));
            for wrong in ["GET", "POST", "PUT", "DELETE", "HEAD", "post", ""] {
                let refused = Route::find(wrong, &segments).map_err(|rejection| rejection.code);
                assert_eq!(refused.is_ok(), wrong == method, "{wrong} {path}");
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
                Route::find("POST", &segments).unwrap_err().code,
                Code::UnknownRoute,
                "{path}"
            );
        }
    }

    #[test]
    fn operations_have_two_names_each() {
        assert_eq!(
            Operation::named("ethereum-key-generator_generate_key"),
            Operation::named("generate_key")
        );
        assert_eq!(
            Operation::named("ethereum-signer_set_key"),
            Operation::named("set_key")
        );
        assert_eq!(
            Operation::named("ethereum-signer_sign_transaction"),
            Operation::named("sign_transaction")
        );
        for wrong in [
            "",
            "version",
            "create_key",
            "ethereum-signer_generate_key",
            "Generate_key",
            "set_key ",
        ] {
            let rejection = Operation::named(wrong).unwrap_err();
            assert_eq!(
                (rejection.code, rejection.field.as_deref()),
                (Code::UnknownOperation, Some("operation"))
            );
        }
    }
}
