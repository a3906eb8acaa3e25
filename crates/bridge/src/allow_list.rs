//! The destinations that an enclave may ask for, and their addresses.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

/// A host and a port. The host is a name or an IPv4 address in lower case, or an IPv6 address in
/// brackets.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Destination {
    host: String,
    port: u16,
}

impl Destination {
    /// The host as it is resolved: an IPv6 address without its brackets.
    pub fn host(&self) -> &str {
        self.host.trim_start_matches('[').trim_end_matches(']')
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl FromStr for Destination {
    type Err = InvalidAllowList;

    fn from_str(text: &str) -> Result<Self, InvalidAllowList> {
        let (host, port) = text
            .rsplit_once(':')
            .ok_or_else(|| invalid(text, "expected host:port"))?;
        if !is_host(host) {
            return Err(invalid(
                text,
                "the host is not a lower-case name or an address",
            ));
        }
        let digits = port.bytes().all(|byte| byte.is_ascii_digit()) && !port.starts_with('0');
        match port.parse() {
            Ok(port) if digits => Ok(Self {
                host: host.to_owned(),
                port,
            }),
            _ => Err(invalid(text, "the port is not a number from 1 to 65535")),
        }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// A name of RFC 1123 §2.1 (an IPv4 address looks like one), or `[` IPv6 address `]`.
fn is_host(host: &str) -> bool {
    if let Some(address) = host.strip_prefix('[') {
        return address
            .strip_suffix(']')
            .is_some_and(|address| address.parse::<Ipv6Addr>().is_ok());
    }
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    host.len() <= 253 && host.split('.').all(is_label)
}

/// The destinations that an enclave may ask for. Only these are dialled; the match is exact. The
/// default is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowList(BTreeMap<Destination, Destination>);

impl AllowList {
    /// The target for `asked`, `host:port` as the enclave sent it; `None` if it is not on the
    /// list.
    pub fn target(&self, asked: &str) -> Option<&Destination> {
        self.0.get(&asked.parse::<Destination>().ok()?)
    }
}

/// Entries separated by commas, each `host:port` or `host:port=target:port`; at least one.
impl FromStr for AllowList {
    type Err = InvalidAllowList;

    fn from_str(text: &str) -> Result<Self, InvalidAllowList> {
        let mut entries = BTreeMap::new();
        for entry in text.split(',').map(str::trim) {
            let (asked, target) = entry.split_once('=').unwrap_or((entry, entry));
            match entries.entry(asked.parse::<Destination>()?) {
                Entry::Vacant(vacant) => vacant.insert(target.parse()?),
                Entry::Occupied(_) => return Err(invalid(entry, "duplicate destination")),
            };
        }
        Ok(Self(entries))
    }
}

impl fmt::Display for AllowList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (asked, target)) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            if asked == target {
                write!(f, "{comma}{asked}")?
            } else {
                write!(f, "{comma}{asked}={target}")?
            }
        }
        Ok(())
    }
}

/// An entry is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{entry}`: {problem}")]
pub struct InvalidAllowList {
    entry: String,
    problem: &'static str,
}

impl InvalidAllowList {
    /// The problem, without the entry.
    pub(crate) fn problem(&self) -> &'static str {
        self.problem
    }
}

fn invalid(entry: &str, problem: &'static str) -> InvalidAllowList {
    InvalidAllowList {
        entry: entry.to_owned(),
        problem,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn destinations_are_found_exactly_and_dialled_where_the_list_says() {
        let list: AllowList =
            "kms.eu-central-1.amazonaws.com:443, dynamodb.eu-central-1.amazonaws.com:443=127.0.0.1:8000,six.test:443=[::1]:443"
                .parse()
                .unwrap();
        let target = |asked| list.target(asked).map(ToString::to_string);
        assert_eq!(
            target("kms.eu-central-1.amazonaws.com:443").unwrap(),
            "kms.eu-central-1.amazonaws.com:443"
        );
        assert_eq!(
            target("dynamodb.eu-central-1.amazonaws.com:443").unwrap(),
            "127.0.0.1:8000"
        );
        assert_eq!(list.target("six.test:443").unwrap().host(), "::1");
        for other in [
            "kms.eu-central-1.amazonaws.com:80",
            "kms.eu-central-1.amazonaws.com.:443",
            "KMS.eu-central-1.amazonaws.com:443",
            "kms.us-east-1.amazonaws.com:443",
            "xkms.eu-central-1.amazonaws.com:443",
            "kms.eu-central-1.amazonaws.com",
            "kms.eu-central-1.amazonaws.com:0443",
            "127.0.0.1:8000",
            "169.254.169.254:80",
            "",
        ] {
            assert_eq!(target(other), None, "{other}");
        }
    }

    #[test]
    fn everything_that_is_not_a_list_is_refused() {
        for text in [
            "",
            ",",
            "a:1,",
            "a",
            "a:",
            ":1",
            "a:0",
            "a:01",
            "a:65536",
            "a:+1",
            "a:-1",
            "A:1",
            "a b:1",
            "a..b:1",
            "-a:1",
            "a-:1",
            "*.test:1",
            "a:1=",
            "a:1=b",
            "a:1=b:2=c:3",
            "a:1,a:1",
            "a:1,a:1=b:2",
            "[::1:1",
            "[x]:1",
            "::1:1",
            "http://a:1",
        ] {
            assert!(text.parse::<AllowList>().is_err(), "{text}");
        }
        assert!(
            format!("{}:1", "a".repeat(64))
                .parse::<Destination>()
                .is_err()
        );
        assert!(
            format!("{}:1", ["a"; 200].join("."))
                .parse::<Destination>()
                .is_err()
        );
    }

    proptest! {
        #[test]
        fn what_parses_is_written_alike(text in "[a-c.:=,\\-0-9\\[\\]]{0,30}") {
            if let Ok(list) = text.parse::<AllowList>() {
                prop_assert_eq!(list.to_string().parse(), Ok(list));
            }
        }

        #[test]
        fn arbitrary_text_never_panics(text: String) {
            let _ = text.parse::<AllowList>();
        }

        #[test]
        fn every_entry_of_a_well_formed_list_is_found(
            hosts in prop::collection::btree_set("[a-z][a-z0-9]{0,8}(\\.[a-z0-9]{1,5}){0,3}", 1..6),
            port in 1..=u16::MAX,
        ) {
            let text = hosts.iter().map(|host| format!("{host}:{port}")).collect::<Vec<_>>().join(",");
            let list: AllowList = text.parse().unwrap();
            for host in hosts {
                let target = list.target(&format!("{host}:{port}")).unwrap();
                prop_assert_eq!((target.host(), target.port()), (&host[..], port));
            }
        }
    }
}
