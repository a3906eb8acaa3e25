//! The caller's body, parsed strictly, and the request to a pod that it becomes.

use cloister_protocol::json::Object;
use cloister_protocol::payload::PayloadKind;
use cloister_protocol::request::{
    AuthenticatedRequest, CreateKey, GenerateKey, SetKey, SignRequest,
};
use cloister_protocol::{KeyId, Rejection};

use crate::path::{ApiOperation, RequestPath};

/// A request whose operation is known and whose payload is not parsed yet.
#[derive(Clone, Copy)]
pub(crate) struct Call<'a> {
    pub(crate) operation: ApiOperation,
    /// A success is wrapped.
    pub(crate) wrapped: bool,
    payload: &'a [u8],
    path: Option<(&'a str, PayloadKind)>,
}

/// A request to a pod.
pub(crate) enum Command<'a> {
    /// `generate_key` with the caller's body, unchanged.
    GenerateKey(&'a [u8]),
    /// `set_key` with the caller's body, unchanged.
    SetKey(&'a [u8]),
    /// `sign_transaction`.
    SignTransaction(AuthenticatedRequest, PayloadKind),
}

impl<'a> Call<'a> {
    /// Finds the operation that `path` and `body` name.
    ///
    /// # Errors
    /// A rejection of the caller's kind if the body of the operation form names no operation.
    pub(crate) fn identify(path: RequestPath<'a>, body: &'a [u8]) -> Result<Self, Rejection> {
        let flat = |operation, payload| Self {
            operation,
            wrapped: false,
            payload,
            path: None,
        };
        Ok(match path {
            RequestPath::Operation(operation) => flat(operation, body),
            RequestPath::Root => {
                let mut object = Object::parse(body)?;
                let operation = object.require("operation")?;
                let payload = object.require("payload")?;
                object.finish()?;
                let operation = ApiOperation::named(&operation.string()?)?;
                // Its shape only: errors inside are named as in the other forms, without
                // `payload.`.
                if !payload.text().starts_with('{') {
                    return Err(payload.invalid("must be an object"));
                }
                flat(operation, payload.text().as_bytes())
            }
            RequestPath::Key => Self {
                operation: ApiOperation::CreateKey,
                wrapped: true,
                payload: body,
                path: None,
            },
            RequestPath::Signature(key_id, kind) => Self {
                operation: ApiOperation::SignTransaction,
                wrapped: true,
                payload: body,
                path: Some((key_id, kind)),
            },
        })
    }

    /// Parses the payload. `now` is in seconds since the Unix epoch.
    ///
    /// # Errors
    /// A rejection of the caller's kind, naming the member.
    pub(crate) fn command(self, now: impl FnOnce() -> u64) -> Result<Command<'a>, Rejection> {
        match self.operation {
            ApiOperation::GenerateKey => {
                GenerateKey::parse(self.payload).map(|_| Command::GenerateKey(self.payload))
            }
            ApiOperation::SetKey => {
                SetKey::parse(self.payload).map(|_| Command::SetKey(self.payload))
            }
            ApiOperation::CreateKey => {
                CreateKey::parse(self.payload).map(|request| match request {
                    CreateKey::Generate(_) => Command::GenerateKey(self.payload),
                    CreateKey::Import(_) => Command::SetKey(self.payload),
                })
            }
            ApiOperation::SignTransaction => self.sign(now),
        }
    }

    fn sign(self, now: impl FnOnce() -> u64) -> Result<Command<'a>, Rejection> {
        let from_path = match self.path {
            Some((text, _)) => {
                let key_id = text.parse::<KeyId>().map_err(|error| {
                    Rejection::invalid("key_id", format_args!("in the path: {error}"))
                })?;
                Some(key_id.of_caller()?)
            }
            None => None,
        };
        let request = SignRequest::parse(self.payload)?;
        let kind = request.kind();
        let key_id = match (from_path, request.key_id()) {
            (Some(path), Some(body)) if path != body => {
                return Err(Rejection::invalid("key_id", "is not the one in the path"));
            }
            (Some(key_id), _) | (None, Some(key_id)) => key_id,
            (None, None) => return Err(Object::parse(self.payload)?.missing("key_id")),
        };
        let request = match request {
            // The secret is not sent on: the MAC is valid for this payload and key, one minute
            // around now.
            SignRequest::Plain {
                secret, payload, ..
            } => AuthenticatedRequest::new(key_id, &secret, now(), payload.text()),
            SignRequest::Authenticated(request, _) => request,
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

impl Command<'_> {
    /// The key that signs, for the log.
    pub(crate) fn key_id(&self) -> Option<KeyId> {
        match self {
            Self::GenerateKey(_) | Self::SetKey(_) => None,
            Self::SignTransaction(request, _) => Some(request.key_id),
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
        })
    }
}
