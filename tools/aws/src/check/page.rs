//! `docs/hardware-checked.md`: its tables are those of [`rows`], its last column what was seen.

use std::collections::BTreeMap;

use anyhow::{Result, anyhow, ensure};

use crate::check::row::{Check, Row, Step, Table};
use crate::check::rows::{of, rows};
use crate::check::runner::plain;

/// Cells of the last column, by the ids of rows.
pub(crate) type Seen = BTreeMap<String, String>;

/// The last column of a page.
pub(crate) fn seen(page: &str) -> Seen {
    let lines = page.lines().filter_map(|line| {
        let line = line.strip_prefix("| `")?.strip_suffix(" |")?;
        let (id, rest) = line.split_once('`')?;
        let (_, seen) = rest.rsplit_once(" | ")?;
        Some((id.to_owned(), seen.to_owned()))
    });
    lines.filter(|(_, seen)| seen != UNSEEN).collect()
}

/// The page with the tables between its markers made anew.
///
/// # Errors
/// If a marker is missing.
pub(crate) fn with_tables(page: &str, seen: &Seen) -> Result<String> {
    let mut page = page.to_owned();
    for table in Table::ALL {
        let begin = format!("<!-- rows of `cargo aws check`: {} -->\n", table.name());
        let missing = || anyhow!("the page has no table {}", table.name());
        let (before, rest) = page.split_once(&begin).ok_or_else(missing)?;
        let (_, after) = rest.split_once(END).ok_or_else(missing)?;
        let rows = rendered(table, seen);
        page = format!("{before}{begin}{rows}{END}{after}");
    }
    let known = |id: &String| rows().any(|row| row.id == id);
    ensure!(
        seen.keys().all(known),
        "the page has a row that no code has"
    );
    Ok(page)
}

fn rendered(table: Table, seen: &Seen) -> String {
    let mut lines =
        String::from("\n| Row | Claim | Check | Expected | Seen |\n|---|---|---|---|---|\n");
    for row in of(table) {
        let seen = seen.get(row.id).map_or(UNSEEN, String::as_str);
        let cells = [&check(row), row.expected].map(escaped);
        let claim = escaped(row.claim);
        lines.push_str(&format!(
            "| `{}` | {claim} | {} | {} | {seen} |\n",
            row.id, cells[0], cells[1]
        ));
    }
    lines.push('\n');
    lines
}

/// A table's cell ends at a bar.
pub(crate) fn escaped(text: &str) -> String {
    text.replace('|', "\\|")
}

/// The cell of the column *Check*: the kind of the row, and the commands without their options.
fn check(row: &Row) -> String {
    match &row.check {
        Check::Run(steps) => format!("run: {}", listed(steps)),
        Check::Destructive { steps, .. } => format!("**destructive**: {}", listed(steps)),
        Check::ByHand(how) => format!("by hand: {how}"),
    }
}

fn listed(steps: &[Step]) -> String {
    let mut all = Vec::new();
    collect(steps, &mut all);
    let mut once: Vec<String> = Vec::new();
    for command in all {
        if !once.contains(&command) {
            once.push(command);
        }
    }
    once.join(", ")
}

fn collect(steps: &[Step], all: &mut Vec<String>) {
    for step in steps {
        all.extend(step.line().map(|line| format!("`{}`", plain(line))));
        match step {
            Step::Machines(_) => all.push("a script on every machine".into()),
            Step::LetMachines(..) => all.push("a script on machines".into()),
            Step::Machine(..) => all.push("a script on a machine".into()),
            Step::Each(_, _, steps) => collect(steps, all),
            _ => {}
        }
    }
}

const END: &str = "<!-- end -->";
const UNSEEN: &str = "not yet run";

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use cloister_toolchain::cargo::workspace_root;
    use fs_err as fs;

    use super::*;

    /// `UPDATE_HARDWARE_CHECKED=1 cargo test -p cloister-aws` writes the page.
    #[test]
    fn the_page_has_the_rows_of_the_code() {
        let file = workspace_root().join("docs/hardware-checked.md");
        let page = fs::read_to_string(&file).unwrap();
        let made = with_tables(&page, &seen(&page)).unwrap();
        if std::env::var_os("UPDATE_HARDWARE_CHECKED").is_some() {
            fs::write(&file, &made).unwrap();
        } else {
            assert!(
                page == made,
                "the page differs from the rows: UPDATE_HARDWARE_CHECKED=1 cargo test -p cloister-aws"
            );
        }
    }

    #[test]
    fn what_was_seen_survives_the_making_of_the_tables() {
        let empty: String = Table::ALL
            .iter()
            .map(|table| {
                format!(
                    "<!-- rows of `cargo aws check`: {} -->\n{END}\n",
                    table.name()
                )
            })
            .collect();
        let was = Seen::from([("arm64".to_owned(), "held: `a \\| b`".to_owned())]);
        let page = with_tables(&empty, &was).unwrap();
        assert_eq!(seen(&page), was);
        assert_eq!(with_tables(&page, &seen(&page)).unwrap(), page);
        let gone = Seen::from([("no-such-row".to_owned(), "held".to_owned())]);
        assert!(with_tables(&page, &gone).is_err());
        assert!(with_tables("", &was).is_err());
    }

    #[test]
    fn ids_are_unique_and_texts_are_one_line() {
        let mut ids = BTreeSet::new();
        for row in rows() {
            assert!(ids.insert(row.id), "{} twice", row.id);
            assert!(
                row.id
                    .chars()
                    .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
            );
            for text in [row.claim, row.expected, &check(row)] {
                assert!(
                    !text.contains('\n') && !text.trim().is_empty(),
                    "{}",
                    row.id
                );
            }
        }
    }
}
