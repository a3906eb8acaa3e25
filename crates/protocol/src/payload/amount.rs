//! Exact numbers from their text. Nothing here passes through a float.

use std::borrow::Cow;

use alloy_primitives::U256;

use crate::Rejection;
use crate::json::Value;

/// A non-negative integer: a JSON integer, a decimal string or a 0x-hex string. `limit` is the
/// bound of `T` as callers write it.
pub(super) fn integer<T: TryFrom<U256>>(value: &Value<'_>, limit: &str) -> Result<T, Rejection> {
    let form = || {
        value.invalid(
            "must be a non-negative integer: a JSON integer, a decimal string or a 0x-hex string",
        )
    };
    let too_large = || value.invalid(format_args!("must be below {limit}"));
    let text = text(value)?.ok_or_else(form)?;
    let number = match hexadecimal(value, &text)? {
        Some(number) => number,
        None if !is_digits(&text) => return Err(form()),
        None if has_leading_zeros(&text) => return Err(value.invalid(NO_LEADING_ZEROS)),
        None if text.len() > MAX_DIGITS => return Err(too_large()),
        None => U256::from_str_radix(&text, 10).map_err(|_| too_large())?,
    };
    T::try_from(number).map_err(|_| too_large())
}

/// An amount of money in wei: a JSON number or a decimal string is ether, read exactly and at most
/// [`MAX_ETHER`]; a 0x-hex string is wei.
pub(super) fn ether(value: &Value<'_>) -> Result<U256, Rejection> {
    let form = || {
        value.invalid(
            "must be an amount of ether: a JSON number, a decimal string, or wei as a 0x-hex string",
        )
    };
    let text = text(value)?.ok_or_else(form)?;
    if let Some(wei) = hexadecimal(value, &text)? {
        return Ok(wei);
    }
    let exponent = if value.is_number() {
        Exponent::Allowed
    } else {
        Exponent::Refused
    };
    Decimal::parse(&text, exponent)
        .and_then(|decimal| decimal.to_wei())
        .map_err(|problem| match problem {
            NotAnAmount::Form => form(),
            NotAnAmount::LeadingZeros => value.invalid(NO_LEADING_ZEROS),
            NotAnAmount::Negative => value.invalid("must not be negative"),
            NotAnAmount::TooManyDecimals => value.invalid("must have at most 18 decimals"),
            NotAnAmount::TooLarge => value.invalid(format_args!(
                "must be at most {MAX_ETHER}: a number or a decimal string is an amount of ether; \
                 write wei as valueWei or as a 0x-hex string, below 2^256"
            )),
        })
}

/// The text of a number or of a string; `None` for another type.
fn text<'a>(value: &Value<'a>) -> Result<Option<Cow<'a, str>>, Rejection> {
    if value.is_number() {
        Ok(Some(Cow::Borrowed(value.text())))
    } else if value.text().starts_with('"') {
        Ok(Some(Cow::Owned(std::mem::take(&mut *value.string()?))))
    } else {
        Ok(None)
    }
}

/// The number after `0x`; `None` without that prefix.
fn hexadecimal(value: &Value<'_>, text: &str) -> Result<Option<U256>, Rejection> {
    if text.starts_with("0X") {
        return Err(value.invalid("must begin with 0x"));
    }
    let Some(digits) = text.strip_prefix("0x") else {
        return Ok(None);
    };
    let allowed =
        (1..=64).contains(&digits.len()) && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    let number = allowed.then(|| U256::from_str_radix(digits, 16));
    match number {
        Some(Ok(number)) => Ok(Some(number)),
        _ => Err(value.invalid("must have 1 to 64 hex digits after 0x")),
    }
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// JSON writes integers without leading zeros (RFC 8259 §6), and so do decimal strings here.
fn has_leading_zeros(digits: &str) -> bool {
    digits.len() > 1 && digits.starts_with('0')
}

#[derive(PartialEq, Eq)]
enum Exponent {
    Allowed,
    Refused,
}

enum NotAnAmount {
    Form,
    LeadingZeros,
    Negative,
    TooManyDecimals,
    TooLarge,
}

/// `integer` `.` `fraction` × 10^`exponent`, in the grammar of JSON numbers.
struct Decimal<'a> {
    integer: &'a str,
    fraction: &'a str,
    exponent: i64,
}

impl<'a> Decimal<'a> {
    fn parse(text: &'a str, allowed: Exponent) -> Result<Self, NotAnAmount> {
        if text.starts_with('-') {
            return Err(NotAnAmount::Negative);
        }
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((mantissa, exponent)) if allowed == Exponent::Allowed => {
                (mantissa, saturating_exponent(exponent))
            }
            Some(_) => return Err(NotAnAmount::Form),
            None => (text, 0),
        };
        let (integer, fraction) = match mantissa.split_once('.') {
            Some((integer, fraction)) if is_digits(fraction) => (integer, fraction),
            Some(_) => return Err(NotAnAmount::Form),
            None => (mantissa, ""),
        };
        if !is_digits(integer) {
            Err(NotAnAmount::Form)
        } else if has_leading_zeros(integer) {
            Err(NotAnAmount::LeadingZeros)
        } else {
            Ok(Self {
                integer,
                fraction,
                exponent,
            })
        }
    }

    /// Shifts the point 18 places; an amount with digits after it is refused.
    fn to_wei(&self) -> Result<U256, NotAnAmount> {
        let digits = [self.integer, self.fraction].concat();
        let digits = digits.trim_start_matches('0');
        let significant = digits.trim_end_matches('0');
        if significant.is_empty() {
            return Ok(U256::ZERO);
        }
        // Number of zeros to append; negative if significant digits would be lost.
        let zeros = self
            .exponent
            .saturating_add(ETHER_DECIMALS)
            .saturating_add_unsigned(length(digits) - length(significant))
            .saturating_sub_unsigned(length(self.fraction));
        let zeros = usize::try_from(zeros).map_err(|_| NotAnAmount::TooManyDecimals)?;
        if significant.len().saturating_add(zeros) > MAX_DIGITS {
            return Err(NotAnAmount::TooLarge);
        }
        let wei = U256::from_str_radix(&format!("{significant}{}", "0".repeat(zeros)), 10)
            .map_err(|_| NotAnAmount::TooLarge)?;
        if wei <= U256::from(MAX_ETHER) * U256::from(WEI_PER_ETHER) {
            Ok(wei)
        } else {
            Err(NotAnAmount::TooLarge)
        }
    }
}

/// The exponent of a JSON number. One that is too long for an `i64` is as good as infinite.
fn saturating_exponent(exponent: &str) -> i64 {
    exponent.parse().unwrap_or(if exponent.starts_with('-') {
        i64::MIN
    } else {
        i64::MAX
    })
}

fn length(digits: &str) -> u64 {
    u64::try_from(digits.len()).unwrap_or(u64::MAX)
}

/// Largest amount that may be written in ether. No real transfer reaches it; an amount of wei that
/// is written by mistake does.
const MAX_ETHER: u64 = 1_000_000;
/// 1 ether = 10^18 wei.
const ETHER_DECIMALS: i64 = 18;
const WEI_PER_ETHER: u64 = 10u64.pow(18);
/// More decimal digits than this never fit 256 bits (2^256 has 78).
const MAX_DIGITS: usize = 78;
const NO_LEADING_ZEROS: &str = "must have no leading zeros";
