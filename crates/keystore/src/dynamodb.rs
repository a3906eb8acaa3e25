//! Rows in DynamoDB.

use std::error::Error;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::Builder;
use aws_sdk_dynamodb::config::http::HttpResponse;
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::operation::get_item::GetItemError;
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::operation::put_item::builders::PutItemFluentBuilder;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValuesOnConditionCheckFailure};
use aws_types::endpoint_config::AccountIdEndpointMode;
use cloister_aws_calls::{CallFailure, CallLimits, Retry, log_failure};
use cloister_contract::events;
use cloister_protocol::{KeyId, SealedRow};

use crate::error::StoreError;
use crate::item::{self, Item, KEY_ID, VERSION};
use crate::store::{Consistency, KeyStore};

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
            .config_override(limits::<PutItemError>())
            .send()
            .await
        else {
            return Ok(());
        };
        match error.as_service_error() {
            Some(PutItemError::ConditionalCheckFailedException(failed)) => {
                // The SDK repeats a call whose reply was lost. If the first one had succeeded, the
                // repetition finds its own row.
                let ours = failed
                    .item()
                    .is_some_and(|found| item::to_row(found).as_ref() == Ok(row));
                if ours {
                    Ok(())
                } else {
                    Err(StoreError::VersionConflict)
                }
            }
            _ => Err(failed("PutItem", &error)),
        }
    }
}

impl DynamoDb {
    async fn item(
        &self,
        key_id: KeyId,
        consistency: Consistency,
    ) -> Result<Option<Item>, StoreError> {
        let reply = self
            .client
            .get_item()
            .table_name(&self.table_arn)
            .key(KEY_ID, AttributeValue::S(key_id.to_string()))
            .consistent_read(consistency == Consistency::Strong)
            .customize()
            .config_override(limits::<GetItemError>())
            .send()
            .await
            .map_err(|error| failed("GetItem", &error))?;
        Ok(reply.item)
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

    async fn replace_unreadable(&self, row: &SealedRow) -> Result<(), StoreError> {
        let item = self.item(row.key_id, Consistency::Strong).await?;
        let item = item.ok_or(StoreError::VersionConflict)?;
        if item::to_row(&item).is_ok() {
            return Err(StoreError::VersionConflict);
        }
        let version = item.get(VERSION).cloned();
        self.put(row, |call| {
            let call = call.expression_attribute_names("#version", VERSION);
            match version {
                Some(version) => call
                    .condition_expression("#version = :found")
                    .expression_attribute_values(":found", version),
                None => call
                    .condition_expression(
                        "attribute_exists(#key_id) AND attribute_not_exists(#version)",
                    )
                    .expression_attribute_names("#key_id", KEY_ID),
            }
        })
        .await
    }

    async fn fetch(
        &self,
        key_id: KeyId,
        consistency: Consistency,
    ) -> Result<Option<SealedRow>, StoreError> {
        let row = self
            .item(key_id, consistency)
            .await?
            .as_ref()
            .map(item::to_row)
            .transpose()?;
        match row {
            Some(row) if row.key_id != key_id => Err(StoreError::Malformed(KEY_ID)),
            row => Ok(row),
        }
    }
}

/// The configuration of a single call of an operation with the error `E`.
fn limits<E>() -> Builder
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    Builder::default()
        .account_id_endpoint_mode(AccountIdEndpointMode::Disabled)
        .retry_config(CallLimits::DYNAMODB.retries())
        .timeout_config(CallLimits::DYNAMODB.timeouts())
        .retry_classifier(Retry::<E>::new())
}

/// Logs a failed call and returns the cause.
fn failed<E>(operation: &'static str, error: &SdkError<E, HttpResponse>) -> StoreError
where
    E: ProvideErrorMetadata + Error + 'static,
{
    match log_failure(events::DYNAMODB_CALL_FAILED, operation, error) {
        CallFailure::Throttled => StoreError::Throttled,
        _ => StoreError::Unavailable,
    }
}

#[cfg(test)]
mod tests;
