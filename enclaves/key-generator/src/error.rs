//! Errors of the key generator.

use cloister_contract::{ErrorChain, events};
use cloister_keystore::StoreError;
use cloister_protocol::{Code, Rejection};
use cloister_runtime::EntropyError;
use cloister_sealing::{KmsError, OpenError, RowSigningError, SealError};

/// A row that was not written, or was written and not acknowledged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GeneratorError {
    /// Failed to get entropy.
    #[error("failed to get entropy for a key")]
    Entropy(#[from] EntropyError),
    /// KMS generated no data key.
    #[error("failed to generate a data key")]
    DataKey(#[source] KmsError),
    /// Failed to seal the row.
    #[error("failed to seal the row")]
    Seal(#[from] SealError),
    /// The table did not accept the row, or did not return it.
    #[error("failed to write the row or to read it back")]
    Store(#[from] StoreError),
    /// The table returned another row.
    #[error("the table has another row than the written one")]
    AnotherRow,
    /// Failed to open the row that was read back.
    #[error("failed to open the written row")]
    ReadBack(#[source] OpenError),
    /// The key's signature does not recover to the row's address.
    #[error("the key failed its self-check")]
    SelfCheck(#[from] RowSigningError),
    /// Other generators wrote the canary at every attempt.
    #[error("other generators keep writing the canary")]
    Contended,
}

impl From<GeneratorError> for Rejection {
    /// Logs the cause; the caller gets only the code.
    fn from(error: GeneratorError) -> Self {
        tracing::warn!(
            event = events::ROW_NOT_WRITTEN,
            error = %ErrorChain(&error),
            "failed to write a row"
        );
        match error {
            GeneratorError::DataKey(error) => error.into(),
            GeneratorError::Seal(error) => error.into(),
            GeneratorError::Store(error) => error.into(),
            GeneratorError::ReadBack(OpenError::Kms(error)) => error.into(),
            GeneratorError::SelfCheck(error) => error.into(),
            GeneratorError::AnotherRow | GeneratorError::Contended => {
                Self::new(Code::VersionConflict, "the row was changed meanwhile")
            }
            GeneratorError::ReadBack(_) => {
                Self::new(Code::Internal, "the new key failed its self-check")
            }
            GeneratorError::Entropy(_) => Self::new(Code::Internal, "the enclave has no entropy"),
        }
    }
}
