//! Hexadecimal text with one rule for its prefix: `0x`, in lower case, once.

/// The digits of `text`, which must begin with `0x`.
pub(crate) fn prefixed(text: &str) -> Result<&str, InvalidHex> {
    text.strip_prefix(PREFIX).ok_or(InvalidHex::Prefix)
}

/// The digits of `text`, which may begin with `0x`.
pub(crate) fn optionally_prefixed(text: &str) -> Result<&str, InvalidHex> {
    match text.strip_prefix(PREFIX) {
        Some(digits) => Ok(digits),
        None if text.starts_with("0X") => Err(InvalidHex::Prefix),
        None => Ok(text),
    }
}

/// Decodes exactly as many digits as fill `bytes`.
pub(crate) fn decode_to_slice(digits: &str, bytes: &mut [u8]) -> Result<(), InvalidHex> {
    check(digits)?;
    const_hex::decode_to_slice(digits, bytes).map_err(|_| InvalidHex::Digits)
}

/// Decodes exactly as many digits as fill `bytes`, in lower case only: a value has one spelling.
pub(crate) fn decode_lower_case(digits: &str, bytes: &mut [u8]) -> Result<(), InvalidHex> {
    if digits.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err(InvalidHex::Digits);
    }
    decode_to_slice(digits, bytes)
}

/// Decodes an even number of digits.
pub(crate) fn decode(digits: &str) -> Result<Vec<u8>, InvalidHex> {
    check(digits)?;
    const_hex::decode(digits).map_err(|_| InvalidHex::Digits)
}

/// const-hex removes a prefix as well: without this check, `0x0x` would pass.
fn check(digits: &str) -> Result<(), InvalidHex> {
    if const_hex::check_raw(digits) {
        Ok(())
    } else {
        Err(InvalidHex::Digits)
    }
}

/// The text is not hex of the expected form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InvalidHex {
    /// Not the prefix `0x`.
    Prefix,
    /// Another character, or another number of digits.
    Digits,
}

impl InvalidHex {
    /// The problem for the caller, who is expected to send `form`.
    pub(crate) fn problem(self, form: &'static str) -> &'static str {
        match self {
            Self::Prefix => "must begin with 0x",
            Self::Digits => form,
        }
    }
}

const PREFIX: &str = "0x";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prefix_is_removed_once() {
        let decoded = |text| {
            let mut byte = [0];
            decode_to_slice(prefixed(text)?, &mut byte).map(|()| byte[0])
        };
        assert_eq!(decoded("0xaB"), Ok(0xab));
        for text in ["0x0xab", "0x0Xab", "0xa", "0xabc", "0x", "0xab ", "0xgg"] {
            assert_eq!(decoded(text), Err(InvalidHex::Digits), "{text}");
        }
        for text in ["0Xab", "ab", "", " 0xab", "x0ab"] {
            assert_eq!(decoded(text), Err(InvalidHex::Prefix), "{text}");
        }
        assert_eq!(optionally_prefixed("ab"), Ok("ab"));
        assert_eq!(optionally_prefixed("0xab"), Ok("ab"));
        assert_eq!(optionally_prefixed("0Xab"), Err(InvalidHex::Prefix));
        assert_eq!(decode(""), Ok(vec![]));
        assert_eq!(decode("0xab"), Err(InvalidHex::Digits));
    }
}
