//! The id of a request, which joins the log lines of all hops.

use crate::syntax::{Syntax, text_type};

text_type! {
    /// The id of a request: 1 to 128 characters that neither a header nor a log line has to escape.
    ///
    /// Ids of API Gateway (UUIDs, and extended ids in base64), of X-Ray (`Root=1-…;Parent=…`) and
    /// of W3C trace contexts are among them.
    RequestId,
    Syntax {
        name: "request id",
        min_len: 1,
        max_len: 128,
        // All graphic ASCII but quotes, backslash, backtick and brackets of markup.
        alphabet: &[
            (b'A', b'Z'), (b'a', b'z'), (b'0', b'9'), (b'+', b'/'), (b':', b';'), (b'=', b'='),
            (b'@', b'@'), (b'_', b'_'), (b'~', b'~'), (b'#', b'#'),
        ],
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ids_of_known_systems_are_accepted_and_others_refused() {
        let longest = "x".repeat(128);
        for id in [
            "c6af9ac6-7b61-11e6-9a41-93e8deadbeef",
            "JKJaXmPLvHcESHA=",
            "a+b/c==",
            "Root=1-67891233-abcdef012345678912345678;Parent=463ac35c9f6413ad;Sampled=1",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "x",
            &longest,
        ] {
            assert_eq!(id.parse::<RequestId>().unwrap().as_str(), id);
        }
        let too_long = "x".repeat(129);
        for id in [
            "", "a b", "a\n", "\"", "\\", "é", "a\0", "<b>", "{}", &too_long,
        ] {
            id.parse::<RequestId>().unwrap_err();
        }
    }

    #[test]
    fn an_error_names_the_syntax_and_not_the_text() {
        let error = "pass word".parse::<RequestId>().unwrap_err();
        let text = format!("{error} {error:?}");
        assert!(
            text.contains("request id is invalid") && !text.contains("pass"),
            "{text}"
        );
        assert_eq!(RequestId::pattern(), r"^[A-Za-z0-9+-\/:-;=@_~#]{1,128}$");
    }

    proptest! {
        #[test]
        fn an_accepted_id_needs_no_escaping_in_json(text in "\\PC{0,140}|[ -~]{0,140}") {
            if let Ok(id) = text.parse::<RequestId>() {
                let json = serde_json::to_string(&id).unwrap();
                prop_assert_eq!(&json, &format!("\"{id}\""));
                prop_assert!(id.as_str().bytes().all(|byte| byte.is_ascii_graphic()));
                prop_assert_eq!(serde_json::from_str::<RequestId>(&json).unwrap(), id);
            }
        }
    }
}
