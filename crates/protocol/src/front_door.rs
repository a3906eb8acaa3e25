//! The front door's authentication to pods: a MAC over the head of each HTTP request. `SPEC.md` §5.
//!
//! ```text
//! canonical = field("cloister/front-door/v1") ‖ field(timestamp, u64) ‖ field(request id) ‖ field(method)
//!             ‖ field(target) ‖ field(content length, u64)
//! header    = "1." ‖ timestamp in decimal ‖ "." ‖ hex(HMAC-SHA256(key, canonical))
//! ```
//! It covers the head alone, so that a pod refuses a request before it reads the body. The body is
//! protected by TLS, whose server the front door authenticates.

use subtle::{Choice, ConstantTimeEq as _};

use crate::authentication::mac_of_fields;
use crate::hex;
use crate::limits::FRONT_DOOR_WINDOW;
use crate::secret::FrontDoorKey;

/// Name of the header that holds the MAC.
pub const HEADER: &str = "x-cloister-front-door";
/// Name of the header that holds the request id.
pub const REQUEST_ID_HEADER: &str = "x-request-id";
/// HTTP status of a pod's refusal. No response of the callers' API has it: the front door answers
/// such a request with a retryable 503.
pub const REFUSAL_STATUS: u16 = 401;

/// The head of a request, as far as the MAC covers it.
#[derive(Clone, Copy, Debug)]
pub struct RequestHead<'a> {
    /// The value of the header `x-request-id`; empty if there is none.
    pub request_id: &'a [u8],
    /// The method, such as `POST`.
    pub method: &'a str,
    /// Path and query, as the request line has them.
    pub target: &'a str,
    /// Length of the body, 0 if there is none.
    pub content_length: u64,
}

impl RequestHead<'_> {
    /// The value of [`HEADER`]. `timestamp` is in seconds since the Unix epoch.
    pub fn sign(&self, key: &FrontDoorKey, timestamp: u64) -> String {
        let mac = const_hex::encode(self.mac(key, timestamp));
        format!("{VERSION}.{timestamp}.{mac}")
    }

    fn mac(&self, key: &FrontDoorKey, timestamp: u64) -> [u8; 32] {
        mac_of_fields(
            key.expose(),
            &[
                DOMAIN,
                &timestamp.to_be_bytes(),
                self.request_id,
                self.method.as_bytes(),
                self.target.as_bytes(),
                &self.content_length.to_be_bytes(),
            ],
        )
    }
}

/// The keys that a pod accepts: two, so that the key can be replaced while requests arrive.
#[derive(Debug)]
pub struct FrontDoorKeys {
    current: FrontDoorKey,
    previous: Option<FrontDoorKey>,
}

impl FrontDoorKeys {
    /// The current key, and the one before it while that is accepted.
    pub fn new(current: FrontDoorKey, previous: Option<FrontDoorKey>) -> Self {
        Self { current, previous }
    }

    /// Checks the values of [`HEADER`] in a request with this head. `now` is in seconds since the
    /// Unix epoch.
    ///
    /// # Errors
    /// [`NotFromFrontDoor`]; a wrong MAC is told only of a header that is well-formed and timely.
    pub fn check<'a>(
        &self,
        values: impl IntoIterator<Item = &'a [u8]>,
        head: &RequestHead<'_>,
        now: u64,
    ) -> Result<(), NotFromFrontDoor> {
        let mut values = values.into_iter();
        let value = values.next().ok_or(NotFromFrontDoor::Missing)?;
        if values.next().is_some() {
            return Err(NotFromFrontDoor::Duplicate);
        }
        let (timestamp, mac) = parse(value).ok_or(NotFromFrontDoor::Malformed)?;
        if timestamp.abs_diff(now) > FRONT_DOOR_WINDOW.as_secs() {
            return Err(NotFromFrontDoor::OutOfWindow);
        }
        // Both keys are tried whatever the first one yields.
        let valid = [Some(&self.current), self.previous.as_ref()]
            .into_iter()
            .flatten()
            .map(|key| head.mac(key, timestamp).ct_eq(&mac))
            .fold(Choice::from(0), |any, one| any | one);
        if bool::from(valid) {
            Ok(())
        } else {
            Err(NotFromFrontDoor::WrongMac)
        }
    }
}

/// The reason why a request is not taken for one of the front door.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotFromFrontDoor {
    /// No header.
    #[error("missing")]
    Missing,
    /// More than one header, or more than one request id.
    #[error("duplicate")]
    Duplicate,
    /// A header of another form or version.
    #[error("malformed")]
    Malformed,
    /// A body without a length in the head.
    #[error("no_length")]
    NoLength,
    /// A timestamp that is further than [`FRONT_DOOR_WINDOW`] from the pod's clock.
    #[error("out_of_window")]
    OutOfWindow,
    /// A MAC of another key, or of another head.
    #[error("wrong_mac")]
    WrongMac,
}

/// Timestamp and MAC of a header's value: each has one spelling only.
fn parse(value: &[u8]) -> Option<(u64, [u8; 32])> {
    let (version, rest) = std::str::from_utf8(value).ok()?.split_once('.')?;
    let (timestamp, mac) = rest.split_once('.')?;
    let decimal = matches!(timestamp.as_bytes(), [b'1'..=b'9', ..] | [b'0'])
        && timestamp.bytes().all(|byte| byte.is_ascii_digit());
    if version != VERSION || !decimal {
        return None;
    }
    let mut bytes = [0; 32];
    hex::decode_lower_case(mac, &mut bytes).ok()?;
    Some((timestamp.parse().ok()?, bytes))
}

const VERSION: &str = "1";
/// Domain label of the canonical bytes.
const DOMAIN: &[u8] = b"cloister/front-door/v1";

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Vector {
        #[expect(dead_code, reason = "for readers of the file")]
        name: String,
        key: String,
        #[serde(default)]
        previous_key: Option<String>,
        now: u64,
        request_id: String,
        method: String,
        target: String,
        content_length: u64,
        headers: Vec<String>,
        refused: Option<String>,
    }

    #[test]
    fn vectors() {
        let directory = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../tests/vectors/front-door"
        );
        let mut seen = [0, 0];
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            let vector: Vector = serde_json::from_str(&text)
                .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let key = |text: &str| FrontDoorKey::from_hex(text).unwrap();
            let keys =
                FrontDoorKeys::new(key(&vector.key), vector.previous_key.as_deref().map(key));
            let head = RequestHead {
                request_id: vector.request_id.as_bytes(),
                method: &vector.method,
                target: &vector.target,
                content_length: vector.content_length,
            };
            let values = vector.headers.iter().map(|value| value.as_bytes());
            let refused = keys.check(values, &head, vector.now).err();
            assert_eq!(
                refused.map(|reason| reason.to_string()),
                vector.refused,
                "{}",
                path.display()
            );
            let file = path.file_stem().unwrap().to_str().unwrap();
            assert_eq!(file.starts_with("refused-"), refused.is_some(), "{file}");
            if refused.is_none() && vector.previous_key.is_none() {
                let timestamp = vector.headers[0].split('.').nth(1).unwrap();
                let signed = head.sign(&key(&vector.key), timestamp.parse().unwrap());
                assert_eq!([signed], vector.headers[..], "{file}");
            }
            seen[usize::from(refused.is_some())] += 1;
        }
        assert!(seen[0] >= 5 && seen[1] >= 15, "{seen:?}");
    }

    fn key(byte: u8) -> FrontDoorKey {
        let text = (0..32).fold(String::new(), |mut text, _| {
            write!(text, "{byte:02x}").unwrap();
            text
        });
        FrontDoorKey::from_hex(&text).unwrap()
    }

    /// The lengths of the fields are in the MAC: no byte can move from one field into the next.
    #[test]
    fn fields_are_kept_apart() {
        let head = |request_id, method, target| RequestHead {
            request_id,
            method,
            target,
            content_length: 0,
        };
        let one = head(b"id", "POST", "/v1/health").sign(&key(1), 1000);
        let two = head(b"idPO", "ST", "/v1/health").sign(&key(1), 1000);
        let three = head(b"id", "POST/", "v1/health").sign(&key(1), 1000);
        assert!(one != two && one != three);
    }

    proptest! {
        #[test]
        fn any_header_is_parsed_or_refused(value in prop::collection::vec(any::<u8>(), 0..120)) {
            let _ = parse(&value);
        }

        #[test]
        fn what_is_signed_is_accepted_and_no_other_byte(
            request_id in "[ -~]{0,40}",
            target in "/[a-z0-9/?=%]{0,40}",
            content_length: u64,
            timestamp in 400_u64..4_000_000_000,
            at: prop::sample::Index,
            byte: u8,
        ) {
            let head = RequestHead {
                request_id: request_id.as_bytes(),
                method: "POST",
                target: &target,
                content_length,
            };
            let value = head.sign(&key(1), timestamp);
            let keys = FrontDoorKeys::new(key(2), Some(key(1)));
            for now in [timestamp - 300, timestamp, timestamp + 300] {
                prop_assert_eq!(keys.check([value.as_bytes()], &head, now), Ok(()));
            }
            for now in [timestamp - 301, timestamp + 301] {
                prop_assert_eq!(
                    keys.check([value.as_bytes()], &head, now),
                    Err(NotFromFrontDoor::OutOfWindow)
                );
            }
            let mut other = value.clone().into_bytes();
            let at = at.index(other.len());
            prop_assume!(other[at] != byte);
            other[at] = byte;
            prop_assert!(keys.check([&other[..]], &head, timestamp).is_err());
            let foreign = FrontDoorKeys::new(key(3), None);
            prop_assert_eq!(
                foreign.check([value.as_bytes()], &head, timestamp),
                Err(NotFromFrontDoor::WrongMac)
            );
        }
    }
}
