//! The KMS encryption context, which binds a data key to its name.

use std::collections::HashMap;

use cloister_contract::Service;

use crate::data_key::DekId;

/// The encryption context of the data key `id`. CloudTrail shows it in the clear: it must not
/// contain anything of a wallet key.
pub fn encryption_context(id: DekId) -> HashMap<String, String> {
    [
        ("app", "cloister"),
        ("v", "1"),
        ("purpose", "wallet"),
        // The maker of data keys, also when a signer asks.
        ("service", Service::KeyGenerator.name()),
        ("dek_id", &id.to_string()),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}
