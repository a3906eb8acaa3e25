//! Why a row was not written.

use std::error::Error;

use cloister_keystore::StoreError;
use cloister_protocol::{Code, Rejection};
use cloister_runtime::EntropyError;
use cloister_sealing::{KmsError, OpenError, RowSigningError, SealError};

/// Why a row was not written, or not acknowledged although it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GeneratorError {
    /// No randomness for a key.
    #[error("no randomness for a key")]
    Entropy(#[from] EntropyError),
    /// No data key.
    #[error("KMS made no data key")]
    DataKey(#[source] KmsError),
    /// The row was not sealed.
    #[error("the row was not sealed")]
    Seal(#[from] SealError),
    /// The table did not take the row or did not give it back.
    #[error("the table failed")]
    Store(#[from] StoreError),
    /// The table gives back something else than was written.
    #[error("the table holds another row than was written")]
    AnotherRow,
    /// What was written cannot be opened.
    #[error("the row that was written cannot be opened")]
    ReadBack(#[source] OpenError),
    /// The key in the row does not sign for the row's address.
    #[error("the key does not work")]
    SelfCheck(#[from] RowSigningError),
    /// Other generators wrote the canary again and again.
    #[error("other generators keep writing the canary")]
    Contended,
}

impl From<GeneratorError> for Rejection {
    /// Puts the reason into the log: the caller is told less.
    fn from(error: GeneratorError) -> Self {
        tracing::warn!(error = &error as &dyn Error, "the row was not written");
        match error {
            GeneratorError::DataKey(error) => error.into(),
            GeneratorError::Seal(error) => error.into(),
            GeneratorError::Store(error) => error.into(),
            GeneratorError::ReadBack(OpenError::Kms(error)) => error.into(),
            GeneratorError::SelfCheck(error) => error.into(),
            GeneratorError::AnotherRow | GeneratorError::Contended => Self::new(
                Code::VersionConflict,
                "the row was changed by somebody else",
            ),
            GeneratorError::ReadBack(_) => {
                Self::new(Code::Internal, "the new key failed its self-check")
            }
            GeneratorError::Entropy(_) => {
                Self::new(Code::Internal, "the enclave has no randomness")
            }
        }
    }
}
