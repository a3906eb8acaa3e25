//! Cleaning up after a rehearsal: deletion of its keys is scheduled, whatever happened.

use aws_sdk_kms::Client;

use super::super::table::Role;
use super::Rehearsal;
use crate::failure::Failure;

impl Rehearsal<'_> {
    pub(super) async fn retire_all(&self, keys: &[String]) -> Result<(), Failure> {
        let mut first = Ok(());
        for key in keys {
            let scheduled = match self.retire(key).await {
                Ok(()) => Ok(()),
                // Before the rendered policy was put, the operator may.
                Err(_) => schedule(&self.operator, key).await,
            };
            if let Err(error) = scheduled {
                first = first.and(Err(Failure::Here(format!(
                    "the deletion of {key} is NOT scheduled: {error}"
                ))));
            }
        }
        first
    }

    /// Schedules the deletion as the retirement role.
    pub(super) async fn retire(&self, key: &str) -> Result<(), Failure> {
        schedule(&self.client(Role::Retirement).await?, key).await
    }
}

async fn schedule(client: &Client, key: &str) -> Result<(), Failure> {
    match client
        .schedule_key_deletion()
        .key_id(key)
        .pending_window_in_days(30)
        .send()
        .await
    {
        Ok(_) => Ok(()),
        Err(error) => match Failure::aws("ScheduleKeyDeletion")(error) {
            Failure::Aws {
                code: Some(code), ..
            } if code == "KMSInvalidStateException" => Ok(()),
            failure => Err(failure),
        },
    }
}
