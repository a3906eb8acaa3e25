//! The caller's body, read strictly, and what a pod is asked because of it.

use cloister_protocol::json::Object;
use cloister_protocol::payload::SigningPayload;
use cloister_protocol::request::{
    AuthenticatedRequest, CreateKey, GenerateKey, SetKey, SignTransaction,
};
use cloister_protocol::{KeyId, Rejection};

use crate::route::{Operation, PayloadKind, Route};

/// A request whose operation is known and whose body has not been read yet.
#[derive(Clone, Copy)]
pub struct Call<'a> {
    /// What is to be done.
    pub operation: Operation,
    /// Whether success is answered wrapped.
    pub wrapped: bool,
    payload: &'a [u8],
    path: Option<(&'a str, PayloadKind)>,
}

/// What a pod is asked.
pub enum Command<'a> {
    /// `generate_key` with the caller's body as it stands.
    GenerateKey(&'a [u8]),
    /// `set_key` with the caller's body as it stands.
    SetKey(&'a [u8]),
    /// `sign_transaction`.
    SignTransaction(AuthenticatedRequest, PayloadKind),
    /// Nothing: the front door answers itself.
    Version,
}

impl<'a> Call<'a> {
    /// Finds out what is to be done with `body`.
    ///
    /// # Errors
    /// A rejection of the caller's kind, when the body of the operation form does not name an
    /// operation.
    pub fn identify(route: Route<'a>, body: &'a [u8]) -> Result<Self, Rejection> {
        let flat = |operation, payload| Self {
            operation,
            wrapped: false,
            payload,
            path: None,
        };
        Ok(match route {
            Route::Path(operation) => flat(operation, body),
            Route::Body => {
                let mut object = Object::parse(body)?;
                let operation = object.require("operation")?;
                let payload = object.require("payload")?;
                object.finish()?;
                let operation = Operation::named(&operation.string()?)?;
                // Only its shape: what is wrong inside is named as in the other forms, without
                // `payload.`.
                if !payload.text().starts_with('{') {
                    return Err(payload.invalid("must be an object"));
                }
                flat(operation, payload.text().as_bytes())
            }
            Route::CreateKey => Self {
                operation: Operation::CreateKey,
                wrapped: true,
                payload: body,
                path: None,
            },
            Route::Signature(key_id, kind) => Self {
                operation: Operation::SignTransaction,
                wrapped: true,
                payload: body,
                path: Some((key_id, kind)),
            },
        })
    }

    /// Reads the payload. `now` is in seconds since the Unix epoch.
    ///
    /// # Errors
    /// A rejection of the caller's kind, naming the member.
    pub fn command(self, now: impl FnOnce() -> u64) -> Result<Command<'a>, Rejection> {
        match self.operation {
            Operation::Version => Ok(Command::Version),
            Operation::GenerateKey => {
                GenerateKey::parse(self.payload).map(|_| Command::GenerateKey(self.payload))
            }
            Operation::SetKey => SetKey::parse(self.payload).map(|_| Command::SetKey(self.payload)),
            Operation::CreateKey => CreateKey::parse(self.payload).map(|request| match request {
                CreateKey::Generate(_) => Command::GenerateKey(self.payload),
                CreateKey::Import(_) => Command::SetKey(self.payload),
            }),
            Operation::SignTransaction => self.sign(now),
        }
    }

    fn sign(self, now: impl FnOnce() -> u64) -> Result<Command<'a>, Rejection> {
        let from_path = match self.path {
            Some((text, _)) => Some(text.parse::<KeyId>().map_err(|error| {
                Rejection::invalid("key_id", format_args!("in the path: {error}"))
            })?),
            None => None,
        };
        let request = SignTransaction::parse(self.payload)?;
        let key_id = match (from_path, request.key_id()) {
            (Some(path), Some(body)) if path != body => {
                return Err(Rejection::invalid("key_id", "is not the one in the path"));
            }
            (Some(key_id), _) | (None, Some(key_id)) => key_id,
            (None, None) => return Err(Object::parse(self.payload)?.missing("key_id")),
        };
        let request = match request {
            // The secret ends here: what travels on is good for this payload, this key and this
            // minute.
            SignTransaction::Plain {
                secret, payload, ..
            } => AuthenticatedRequest::new(key_id, &secret, now(), payload),
            SignTransaction::Authenticated(request) => request,
        };
        let kind = match request.signing_payload()? {
            SigningPayload::Transaction(_) => PayloadKind::Transaction,
            SigningPayload::UserOpHash(_) => PayloadKind::UserOpHash,
        };
        match self.path {
            Some((_, expected)) if expected != kind => Err(Rejection::invalid(
                "transaction_payload",
                match expected {
                    PayloadKind::Transaction => {
                        "this path signs transactions; send a UserOp hash to userop_signature"
                    }
                    PayloadKind::UserOpHash => {
                        "this path signs UserOp hashes; send a transaction to tx_signature"
                    }
                },
            )),
            _ => Ok(Command::SignTransaction(request, kind)),
        }
    }
}

impl std::fmt::Debug for Call<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Call")
            .field("operation", &self.operation)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Command<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::GenerateKey(_) => "GenerateKey(..)",
            Self::SetKey(_) => "SetKey(..)",
            Self::SignTransaction(..) => "SignTransaction(..)",
            Self::Version => "Version",
        })
    }
}
