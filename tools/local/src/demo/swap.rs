//! Step 6, second part: a row under another key's id is refused.

use std::collections::HashMap;

use anyhow::Context as _;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::AttributeValue;

use super::front_door::sign_request;
use super::refusals::TRANSFER;
use super::{Demo, Wallet};
use crate::identity::table_arn;

pub(super) async fn run(demo: &mut Demo<'_>, wallet: &Wallet) -> anyhow::Result<()> {
    let (other, _) = demo.door.generate_key().await?;
    let table = demo
        .stack
        .dynamodb(&demo.stack.identities().administrator)?;
    let (ours, theirs) = (row(&table, wallet).await?, row(&table, &other).await?);

    let mut swapped = theirs.clone();
    swapped.insert(
        "sealed".to_owned(),
        ours.get("sealed")
            .context("the row holds no sealed record")?
            .clone(),
    );
    put(&table, swapped).await?;
    let refused = demo
        .door
        .refused(
            "/sign_transaction",
            &sign_request(&other, TRANSFER),
            500,
            "sealed_row_refused",
        )
        .await;
    // Put back before anything is concluded.
    put(&table, theirs).await?;
    let (_, took) = refused?;
    demo.report.held(
        "a sealed record under another key's id: 500 sealed_row_refused",
        Some(took),
    );

    let (_, took) = demo
        .door
        .sign(&other, TRANSFER)
        .await
        .context("the restored row does not sign")?;
    demo.report.held("the restored row signs again", Some(took));
    Ok(())
}

pub(super) type Row = HashMap<String, AttributeValue>;

/// The row of a key.
pub(super) async fn row(table: &Client, wallet: &Wallet) -> anyhow::Result<Row> {
    let key = AttributeValue::S(wallet.key_id.clone());
    let item = table
        .get_item()
        .table_name(table_arn())
        .key("key_id", key)
        .consistent_read(true)
        .send()
        .await;
    item.context("failed to read the table")?
        .item
        .context("the table has no such row")
}

async fn put(table: &Client, row: Row) -> anyhow::Result<()> {
    let put = table
        .put_item()
        .table_name(table_arn())
        .set_item(Some(row))
        .send()
        .await;
    put.map(drop).context("failed to write to the table")
}
