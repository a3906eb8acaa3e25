//! The deadlines and retries of one call.

use std::time::Duration;

use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;

/// The limits of one call. A request has ten seconds altogether, of which the key generator needs
/// two calls of KMS and two of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallLimits {
    /// For all attempts together.
    pub operation: Duration,
    /// For one attempt, a fresh TLS connection through the pod included.
    pub attempt: Duration,
}

impl CallLimits {
    /// For KMS.
    pub const KMS: Self = Self {
        operation: Duration::from_millis(3500),
        attempt: Duration::from_millis(1500),
    };
    /// For DynamoDB.
    pub const DYNAMODB: Self = Self {
        operation: Duration::from_millis(1500),
        attempt: Duration::from_millis(1000),
    };

    /// The retries: only of transient errors, such as throttling, server errors, broken connections
    /// and time-outs.
    pub fn retries(self) -> RetryConfig {
        RetryConfig::standard()
            .with_max_attempts(MAX_ATTEMPTS)
            .with_initial_backoff(FIRST_BACKOFF)
            .with_max_backoff(LONGEST_BACKOFF)
    }

    /// The deadlines.
    pub fn timeouts(self) -> TimeoutConfig {
        TimeoutConfig::builder()
            .operation_timeout(self.operation)
            .operation_attempt_timeout(self.attempt)
            .build()
    }
}

const MAX_ATTEMPTS: u32 = 3;
const FIRST_BACKOFF: Duration = Duration::from_millis(50);
const LONGEST_BACKOFF: Duration = Duration::from_millis(500);
