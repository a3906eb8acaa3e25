//! Removal of whatever identifies an account, a person or a resource, and of secrets, from texts for
//! the page.

/// The text on one line, without identifying words, cut to a sensible length.
pub(crate) fn redacted(text: &str) -> String {
    let mut kept = String::new();
    let mut word = String::new();
    for character in text.chars().chain([' ']) {
        if character.is_alphanumeric() || "_-.:/+@%".contains(character) {
            word.push(character);
            continue;
        }
        if !word.is_empty() {
            kept.push_str(&of_word(&word));
            word.clear();
        }
        kept.push(if character.is_control() {
            ' '
        } else {
            character
        });
    }
    let kept = kept.split_whitespace().collect::<Vec<_>>().join(" ");
    match kept.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &kept[..end]),
        None => kept,
    }
}

fn of_word(word: &str) -> String {
    let kind = kind(word);
    if let Some(kind) = kind {
        return format!("({kind})");
    }
    word.to_owned()
}

/// The kind of an identifying word.
fn kind(word: &str) -> Option<&'static str> {
    let parts = || word.split(|c: char| !c.is_alphanumeric());
    if word.contains("arn:") {
        Some("ARN")
    } else if word.contains('@') {
        Some("address")
    } else if word.contains("amazonaws") || word.contains("://") || word.contains(".internal") {
        Some("host")
    } else if parts().any(|part| part.starts_with("AKIA") || part.starts_with("ASIA")) {
        Some("access key")
    } else if parts().any(|part| digits(part) >= 12) {
        Some("number")
    } else if address(word) {
        Some("IP address")
    } else if parts().any(|part| part.len() >= 8 && hexadecimal(part)) {
        // Ids of resources (i-…, vpc-…), UUIDs, digests, keys.
        Some("id")
    } else if parts().any(|part| part.len() >= 20 && digits(part) > 0)
        || word.len() >= 32
            && word
                .chars()
                .all(|c| c.is_alphanumeric() || "+/".contains(c))
    {
        Some("text")
    } else {
        None
    }
}

/// The longest run of digits.
fn digits(part: &str) -> usize {
    let runs = part.split(|c: char| !c.is_ascii_digit());
    runs.map(str::len).max().unwrap_or(0)
}

/// Digits alone may be a date or a version.
fn hexadecimal(part: &str) -> bool {
    let any = |kind: fn(&char) -> bool| part.chars().any(|c| kind(&c));
    part.chars().all(|c| c.is_ascii_hexdigit())
        && any(char::is_ascii_digit)
        && any(char::is_ascii_alphabetic)
}

fn address(word: &str) -> bool {
    let word = word.split([':', '/']).next().unwrap_or_default();
    word.parse::<std::net::Ipv4Addr>().is_ok()
}

const LONGEST: usize = 200;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const IDENTIFYING: &[&str] = &[
        "arn:aws:sns:eu-central-1:123456789012:dev-cloister-alarms",
        "123456789012",
        "dev-cloister-journal-123456789012-eu-central-1",
        "i-0123456789abcdef0",
        "i-0123456789abcdef0-enc0123456789abcdef",
        "vpc-0a1b2c3d",
        "ASIAYVUQTRVV2NIEOXDU",
        "AKIAIOSFODNN7EXAMPLE",
        "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        "358e6d39-a88a-4974-80d2-bb7065ac1d76",
        "0x49dC825aCAE9926E248aFc9a1a1551068CFa7238",
        "someone@example.com",
        "https://a1b2c3d4e5.execute-api.eu-central-1.amazonaws.com/prod/",
        "ip-10-0-1-2.eu-central-1.compute.internal",
        "10.0.17.4:8443",
        "f3df4bcb3b24437160ba86a88f41d522662ed994dddd11ac477cfc16e9a71869",
    ];

    #[test]
    fn what_was_seen_stays_readable() {
        for text in [
            "[\"healthy\",\"healthy\"]",
            "hugepages-2Mi 768Mi of 768Mi, enclaves 3, processors 6 of 6",
            "AccessDeniedException with an explicit deny in a resource-based policy",
            "CapEff 0000000 NoNewPrivs 1 Seccomp 2",
            "1.36.1-20261101 m6i.2xlarge eu-central-1 aws-nitro-enclaves-k8s-daemonset",
        ] {
            assert_eq!(redacted(text), text);
        }
        assert_eq!(redacted("a\n\n  b\t"), "a b");
        assert!(redacted(&"long ".repeat(200)).chars().count() <= LONGEST + 1);
    }

    proptest! {
        #[test]
        fn nothing_identifying_remains(
            words in prop::collection::vec(prop::sample::select(IDENTIFYING), 1..6),
            between in "[ ,\"\\[\\]{}()'=\\n]{1,3}",
        ) {
            let text = format!("{between}{}{between}", words.join(&between));
            let kept = redacted(&text);
            for word in words {
                prop_assert!(!kept.contains(word), "{kept}");
                for part in word.split(['-', ':', '/', '.']).filter(|part| part.len() >= 12) {
                    prop_assert!(!kept.contains(part), "{kept}");
                }
            }
        }
    }
}
