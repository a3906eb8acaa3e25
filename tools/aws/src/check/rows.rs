//! Every row of `docs/hardware-checked.md`.

mod api;
mod enclaves;
mod key;
mod lifetime;
mod machines;
mod monitoring;

use crate::check::row::{Row, Table};

/// All rows, in the order of the page.
pub(crate) fn rows() -> impl Iterator<Item = &'static Row> {
    [
        enclaves::ROWS,
        machines::ROWS,
        key::ROWS,
        api::ROWS,
        monitoring::ROWS,
        lifetime::ROWS,
    ]
    .into_iter()
    .flatten()
}

/// The rows of a table.
pub(crate) fn of(table: Table) -> impl Iterator<Item = &'static Row> {
    rows().filter(move |row| row.table == table)
}
