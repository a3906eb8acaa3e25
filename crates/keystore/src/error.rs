//! Why a row was not read or written.

use cloister_protocol::{Code, Rejection};

/// Why a row was not read or written. AWS's own words are in the log, never in here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// There is a row already, or the row is not the one that was read.
    #[error("the row is not in the expected version")]
    VersionConflict,

    /// A row of the reference deployment.
    #[error("the row is in the format of the reference deployment")]
    NotMigrated,
    /// The named attribute is not what a row has there.
    #[error("the row's {0} is malformed")]
    Malformed(&'static str),

    /// The table throttles.
    #[error("the table throttles")]
    Throttled,
    /// The table cannot be reached, does not exist, or refuses.
    #[error("the table cannot be reached or refuses")]
    Unavailable,
}

impl From<StoreError> for Rejection {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::VersionConflict => Self::new(
                Code::VersionConflict,
                "the key was changed by somebody else",
            ),
            StoreError::NotMigrated => Self::new(
                Code::NotMigrated,
                "the key is in the format of the reference deployment; migrate it first",
            ),
            StoreError::Malformed(_) => {
                Self::new(Code::SealedRowRefused, "the sealed row is damaged")
            }
            StoreError::Throttled => {
                Self::new(Code::StorageThrottled, "the table throttles at the moment")
            }
            StoreError::Unavailable => Self::new(
                Code::StorageUnavailable,
                "the table cannot be reached at the moment",
            ),
        }
    }
}
