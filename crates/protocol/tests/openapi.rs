//! The published description of the API names every code with its status, and no other.

#![allow(clippy::unwrap_used, reason = "what cannot go on in a test fails it")]

use std::collections::BTreeSet;

use cloister_protocol::Code;

#[test]
fn the_description_has_every_code_with_its_status() {
    let description = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.yaml");
    let description = std::fs::read_to_string(description).unwrap();
    let codes = Code::ALL
        .iter()
        .map(|code| (code.http_status(), code.as_str()));
    assert_eq!(described(&description), codes.collect::<BTreeSet<_>>());
}

/// The schemas `Error400` and so on, each with the codes of its status.
fn described(description: &str) -> BTreeSet<(u16, &str)> {
    let mut codes = BTreeSet::new();
    let mut status = None;
    for line in description.lines().map(str::trim) {
        if let Some(name) = line
            .strip_prefix("Error")
            .and_then(|line| line.strip_suffix(':'))
        {
            status = name.parse().ok();
        } else if let Some(stated) = line
            .strip_prefix("enclave_status: { const: ")
            .filter(|_| status.is_some())
        {
            assert_eq!(stated.strip_suffix(" }").unwrap().parse().ok(), status);
        } else if let Some(list) = line.strip_prefix("code: { enum: [") {
            let list = list.strip_suffix("] }").unwrap().split(", ");
            codes.extend(list.map(|code| (status.unwrap(), code)));
        }
    }
    codes
}
