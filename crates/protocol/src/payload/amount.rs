//! Exact numbers from their text. Nothing here passes through a float.

use alloy_primitives::U256;

use crate::Rejection;
use crate::json::Value;

/// 1 ether = 10^18 wei.
const ETHER_DECIMALS: usize = 18;
/// More decimal digits than this never fit 256 bits (2^256 has 78).
const MAX_DIGITS: usize = 78;

/// A non-negative integer: a JSON integer, a decimal string or a 0x-hex string.
pub(super) fn integer(value: &Value<'_>) -> Result<U256, Rejection> {
    let form = || {
        value.invalid(
            "must be a non-negative integer: a JSON integer, a decimal string or a 0x-hex string",
        )
    };
    if value.is_number() {
        return decimal_integer(value.text())
            .ok_or_else(form)?
            .map_err(|TooLarge| too_large(value));
    }
    let text = value.string().map_err(|_| form())?;
    match text.strip_prefix("0x") {
        Some(digits) => hexadecimal(digits)
            .ok_or_else(|| value.invalid("must have 1 to 64 hex digits after 0x")),
        None => decimal_integer(&text)
            .ok_or_else(form)?
            .map_err(|TooLarge| too_large(value)),
    }
}

/// An integer that has to fit `T`.
pub(super) fn integer_within<T: TryFrom<U256>>(
    value: &Value<'_>,
    limit: &str,
) -> Result<T, Rejection> {
    T::try_from(integer(value)?).map_err(|_| value.invalid(format_args!("must be below {limit}")))
}

/// An amount of money in wei: a JSON number or a decimal string is ether, read exactly; a 0x-hex
/// string is wei.
pub(super) fn ether(value: &Value<'_>) -> Result<U256, Rejection> {
    let form = || {
        value.invalid("must be an amount of ether: a JSON number, a decimal string, or wei as a 0x-hex string")
    };
    let wei = if value.is_number() {
        Decimal::parse(value.text(), Exponent::Allowed).and_then(|decimal| decimal.to_wei())
    } else {
        let text = value.string().map_err(|_| form())?;
        if let Some(digits) = text.strip_prefix("0x") {
            return hexadecimal(digits)
                .ok_or_else(|| value.invalid("must have 1 to 64 hex digits after 0x"));
        }
        Decimal::parse(&text, Exponent::Refused).and_then(|decimal| decimal.to_wei())
    };
    wei.map_err(|problem| match problem {
        NotAnAmount::Form => form(),
        NotAnAmount::Negative => value.invalid("must not be negative"),
        NotAnAmount::TooManyDecimals => value.invalid("must have at most 18 decimals"),
        NotAnAmount::TooLarge => too_large(value),
    })
}

fn too_large(value: &Value<'_>) -> Rejection {
    value.invalid("must be below 2^256")
}

struct TooLarge;

/// Decimal digits without sign, point, exponent or leading zeros. `None`: another form.
fn decimal_integer(digits: &str) -> Option<Result<U256, TooLarge>> {
    if !is_json_integer(digits) {
        return None;
    }
    Some(if digits.len() > MAX_DIGITS {
        Err(TooLarge)
    } else {
        U256::from_str_radix(digits, 10).map_err(|_| TooLarge)
    })
}

fn hexadecimal(digits: &str) -> Option<U256> {
    let allowed =
        (1..=64).contains(&digits.len()) && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    if allowed {
        U256::from_str_radix(digits, 16).ok()
    } else {
        None
    }
}

/// Digits with no leading zero, as JSON writes integers (RFC 8259 §6).
fn is_json_integer(text: &str) -> bool {
    is_digits(text) && (text.len() == 1 || !text.starts_with('0'))
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[derive(PartialEq, Eq)]
enum Exponent {
    Allowed,
    Refused,
}

enum NotAnAmount {
    Form,
    Negative,
    TooManyDecimals,
    TooLarge,
}

/// `integer` `.` `fraction` × 10^`exponent`, in the grammar of JSON numbers.
struct Decimal<'a> {
    integer: &'a str,
    fraction: &'a str,
    exponent: i32,
}

impl<'a> Decimal<'a> {
    fn parse(text: &'a str, allowed: Exponent) -> Result<Self, NotAnAmount> {
        if text.starts_with('-') {
            return Err(NotAnAmount::Negative);
        }
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((mantissa, exponent)) if allowed == Exponent::Allowed => {
                (mantissa, exponent.parse().map_err(|_| NotAnAmount::Form)?)
            }
            Some(_) => return Err(NotAnAmount::Form),
            None => (text, 0),
        };
        let (integer, fraction) = match mantissa.split_once('.') {
            Some((integer, fraction)) if is_digits(fraction) => (integer, fraction),
            Some(_) => return Err(NotAnAmount::Form),
            None => (mantissa, ""),
        };
        if is_json_integer(integer) {
            Ok(Self {
                integer,
                fraction,
                exponent,
            })
        } else {
            Err(NotAnAmount::Form)
        }
    }

    /// Shifts the point 18 places; every digit is kept or the amount is refused.
    fn to_wei(&self) -> Result<U256, NotAnAmount> {
        // Number of zeros to append to the digits; negative when digits would be lost.
        let zeros = i64::from(self.exponent)
            + i64::try_from(ETHER_DECIMALS).map_err(|_| NotAnAmount::TooLarge)?
            - i64::try_from(self.fraction.len()).map_err(|_| NotAnAmount::TooManyDecimals)?;
        let zeros = usize::try_from(zeros).map_err(|_| NotAnAmount::TooManyDecimals)?;
        let digits = [self.integer, self.fraction].concat();
        let digits = digits.trim_start_matches('0');
        if digits.is_empty() {
            return Ok(U256::ZERO);
        }
        if digits.len().saturating_add(zeros) > MAX_DIGITS {
            return Err(NotAnAmount::TooLarge);
        }
        U256::from_str_radix(&format!("{digits}{}", "0".repeat(zeros)), 10)
            .map_err(|_| NotAnAmount::TooLarge)
    }
}
