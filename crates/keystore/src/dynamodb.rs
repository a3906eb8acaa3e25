//! Rows in DynamoDB.

use std::error::Error;
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::Builder;
use aws_sdk_dynamodb::config::http::HttpResponse;
use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::config::timeout::TimeoutConfig;
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::operation::put_item::builders::PutItemFluentBuilder;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValuesOnConditionCheckFailure};
use aws_types::endpoint_config::AccountIdEndpointMode;
use cloister_protocol::{KeyId, SealedRow};

use crate::error::StoreError;
use crate::item::{self, KEY_ID, VERSION};
use crate::store::{Consistency, KeyStore};

/// A request has ten seconds altogether, of which the generator needs two calls of the table and
/// two of KMS.
const OPERATION_TIMEOUT: Duration = Duration::from_millis(1500);
/// One attempt: a fresh TLS connection through the pod included.
const ATTEMPT_TIMEOUT: Duration = Duration::from_millis(1000);
/// The SDK repeats only what is transient: throttling, server errors, broken connections, timeouts.
const MAX_ATTEMPTS: u32 = 3;

/// Rows in one table of DynamoDB.
#[derive(Clone, Debug)]
pub struct DynamoDb {
    client: Client,
    table_arn: String,
}

impl DynamoDb {
    /// The table with this ARN, called through `client`, which has to be in the table's region.
    pub fn new(client: Client, table_arn: impl Into<String>) -> Self {
        Self {
            client,
            table_arn: table_arn.into(),
        }
    }

    async fn put(
        &self,
        row: &SealedRow,
        condition: impl FnOnce(PutItemFluentBuilder) -> PutItemFluentBuilder,
    ) -> Result<(), StoreError> {
        let call = self
            .client
            .put_item()
            .table_name(&self.table_arn)
            .set_item(Some(item::from_row(row)))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        let Err(error) = condition(call)
            .customize()
            .config_override(limits())
            .send()
            .await
        else {
            return Ok(());
        };
        match error.as_service_error() {
            Some(PutItemError::ConditionalCheckFailedException(failed)) => {
                // The SDK repeats a call whose answer was lost. If it had been carried out, the
                // repetition meets its own row.
                let ours = failed
                    .item()
                    .is_some_and(|found| item::to_row(found).as_ref() == Ok(row));
                if ours {
                    Ok(())
                } else {
                    Err(StoreError::VersionConflict)
                }
            }
            _ => Err(log("PutItem", &error)),
        }
    }
}

impl KeyStore for DynamoDb {
    async fn insert(&self, row: &SealedRow) -> Result<(), StoreError> {
        self.put(row, |call| {
            call.condition_expression("attribute_not_exists(#key_id)")
                .expression_attribute_names("#key_id", KEY_ID)
        })
        .await
    }

    async fn replace(&self, row: &SealedRow, expected_version: u64) -> Result<(), StoreError> {
        self.put(row, |call| {
            call.condition_expression("#version = :expected")
                .expression_attribute_names("#version", VERSION)
                .expression_attribute_values(
                    ":expected",
                    AttributeValue::N(expected_version.to_string()),
                )
        })
        .await
    }

    async fn fetch(
        &self,
        key_id: KeyId,
        consistency: Consistency,
    ) -> Result<Option<SealedRow>, StoreError> {
        let reply = self
            .client
            .get_item()
            .table_name(&self.table_arn)
            .key(KEY_ID, AttributeValue::S(key_id.to_string()))
            .consistent_read(consistency == Consistency::Strong)
            .customize()
            .config_override(limits())
            .send()
            .await
            .map_err(|error| log("GetItem", &error))?;
        let row = reply.item().map(item::to_row).transpose()?;
        match row {
            Some(row) if row.key_id != key_id => Err(StoreError::Malformed(KEY_ID)),
            row => Ok(row),
        }
    }
}

/// The configuration of a single call.
fn limits() -> Builder {
    Builder::default()
        .account_id_endpoint_mode(AccountIdEndpointMode::Disabled)
        .retry_config(
            RetryConfig::standard()
                .with_max_attempts(MAX_ATTEMPTS)
                .with_initial_backoff(Duration::from_millis(50))
                .with_max_backoff(Duration::from_millis(500)),
        )
        .timeout_config(
            TimeoutConfig::builder()
                .operation_timeout(OPERATION_TIMEOUT)
                .operation_attempt_timeout(ATTEMPT_TIMEOUT)
                .build(),
        )
}

/// Puts AWS's words into the log and leaves one of our own reasons.
fn log<E>(operation: &'static str, error: &SdkError<E, HttpResponse>) -> StoreError
where
    E: ProvideErrorMetadata + Error + 'static,
{
    // The messages only: the debug form of an SdkError holds the raw reply, hence whole rows.
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    let message = error.message().unwrap_or_default();
    tracing::warn!(
        operation,
        code = error.code(),
        message,
        text,
        "DynamoDB call failed"
    );
    match error.code() {
        Some(
            "ProvisionedThroughputExceededException"
            | "ThrottlingException"
            | "RequestLimitExceeded",
        ) => StoreError::Throttled,
        _ => StoreError::Unavailable,
    }
}

#[cfg(test)]
mod tests;
