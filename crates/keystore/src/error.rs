//! Store errors.

use cloister_protocol::{Code, Rejection};

/// A row that was not read or written. AWS error messages are neither included nor logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A row exists already, or was changed since it was read.
    #[error("the row does not have the expected version")]
    VersionConflict,

    /// A row of the reference deployment.
    #[error("the row is in the format of the reference deployment")]
    NotMigrated,
    /// An attribute with an invalid type or value.
    #[error("the row's {0} is malformed")]
    Malformed(&'static str),

    /// The table throttles.
    #[error("the table throttles")]
    Throttled,
    /// The table was not reached, does not exist, or refuses.
    #[error("the table is unavailable or refuses")]
    Unavailable,
}

impl From<StoreError> for Rejection {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::VersionConflict => {
                Self::new(Code::VersionConflict, "the key was changed meanwhile")
            }
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
                "the table is unavailable at the moment",
            ),
        }
    }
}
