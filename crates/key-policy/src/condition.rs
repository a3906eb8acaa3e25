//! One condition of a statement: an operator, a condition key, and the values it is compared with.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::error::PolicyError;
use crate::values::strings;

/// One `operator: { key: values }` entry of a statement's Condition.
#[derive(Debug, Clone)]
pub(crate) struct Condition {
    operator: Operator,
    key: String,
    values: Vec<String>,
}

impl Condition {
    /// Reads a statement's Condition member.
    pub(crate) fn parse_all(condition: &Value, at: &str) -> Result<Vec<Self>, PolicyError> {
        let unsupported = |at: String, problem| PolicyError::Unsupported { at, problem };
        let operators = condition
            .as_object()
            .ok_or_else(|| unsupported(at.to_owned(), "a Condition is an object"))?;
        let mut conditions = Vec::<Self>::new();
        for (name, keys) in operators {
            let at = format!("{at}/{name}");
            let operator = Operator::parse(name)
                .ok_or_else(|| unsupported(at.clone(), "an operator outside the subset"))?;
            let keys = keys
                .as_object()
                .ok_or_else(|| unsupported(at.clone(), "an operator holds an object"))?;
            for (key, values) in keys {
                let at = format!("{at}/{key}");
                let key = canonical_key(key)
                    .ok_or_else(|| unsupported(at.clone(), "a condition key outside the subset"))?;
                if conditions
                    .iter()
                    .any(|other| other.operator == operator && other.key == key)
                {
                    return Err(unsupported(at, "a condition key given twice"));
                }
                let values = strings(values, &at)?;
                if !values.iter().all(|value| operator.accepts(value)) {
                    return Err(unsupported(at, "a value that the operator cannot compare"));
                }
                conditions.push(Self {
                    operator,
                    key,
                    values,
                });
            }
        }
        Ok(conditions)
    }

    /// True if the condition holds for a request with this context, made by [`canonical_context`].
    pub(crate) fn holds(&self, context: &BTreeMap<String, String>) -> bool {
        let found = context.get(&self.key).map(String::as_str);
        let any = |equal: &dyn Fn(&str, &str) -> bool| {
            found.is_some_and(|found| self.values.iter().any(|value| equal(value, found)))
        };
        match self.operator {
            Operator::StringEquals => any(&|value, found| value == found),
            Operator::StringEqualsIgnoreCase => any(&str::eq_ignore_ascii_case),
            // Negated: none of the values, and true when the request lacks the key.
            Operator::StringNotEquals => !any(&|value, found| value == found),
            Operator::StringNotEqualsIgnoreCase => !any(&str::eq_ignore_ascii_case),
            Operator::Arn => any(&arn_matches),
            Operator::NumericEquals => any(&|value, found| {
                found
                    .parse::<i64>()
                    .is_ok_and(|found| value.parse() == Ok(found))
            }),
            Operator::Bool => any(&str::eq_ignore_ascii_case),
            Operator::Null => self
                .values
                .iter()
                .any(|value| value.eq_ignore_ascii_case("true") == found.is_none()),
        }
    }
}

/// The context of a request with canonical keys.
pub(crate) fn canonical_context(
    context: &BTreeMap<String, Vec<String>>,
) -> Result<BTreeMap<String, String>, PolicyError> {
    let mut canonical = BTreeMap::new();
    for (key, values) in context {
        let name = canonical_key(key).ok_or_else(|| PolicyError::ContextKey(key.clone()))?;
        for value in values {
            // Without a set operator, several values of one key have no defined meaning.
            if canonical.insert(name.clone(), value.clone()).is_some() {
                return Err(PolicyError::ManyValues(key.clone()));
            }
        }
    }
    Ok(canonical)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    StringEquals,
    StringNotEquals,
    StringEqualsIgnoreCase,
    StringNotEqualsIgnoreCase,
    /// ArnEquals and ArnLike: IAM treats both alike.
    Arn,
    NumericEquals,
    Bool,
    Null,
}

impl Operator {
    fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "StringEquals" => Self::StringEquals,
            "StringNotEquals" => Self::StringNotEquals,
            "StringEqualsIgnoreCase" => Self::StringEqualsIgnoreCase,
            "StringNotEqualsIgnoreCase" => Self::StringNotEqualsIgnoreCase,
            "ArnEquals" | "ArnLike" => Self::Arn,
            "NumericEquals" => Self::NumericEquals,
            "Bool" => Self::Bool,
            "Null" => Self::Null,
            _ => return None,
        })
    }

    fn accepts(self, value: &str) -> bool {
        match self {
            // `${aws:…}` would be replaced by IAM.
            _ if value.contains("${") => false,
            Self::Arn => value.splitn(6, ':').count() == 6,
            Self::NumericEquals => value.parse::<i64>().is_ok(),
            Self::Bool | Self::Null => {
                value.eq_ignore_ascii_case("true") || value.eq_ignore_ascii_case("false")
            }
            _ => true,
        }
    }
}

/// The lower-case name of a condition key of the subset: IAM compares names without regard to case.
fn canonical_key(key: &str) -> Option<String> {
    let key = key.to_ascii_lowercase();
    let known = match key.as_str() {
        "aws:principalarn"
        | "kms:bypasspolicylockoutsafetycheck"
        | "kms:calleraccount"
        | "kms:recipientattestation:imagesha384"
        | "kms:schedulekeydeletionpendingwindowindays" => true,
        other => {
            let pcr = other.strip_prefix("kms:recipientattestation:pcr");
            let context = other.strip_prefix("kms:encryptioncontext:");
            pcr.is_some_and(|index| (0..32).any(|pcr: u8| pcr.to_string() == index))
                || context.is_some_and(|name| !name.is_empty())
        }
    };
    known.then_some(key)
}

/// Each of the six colon-separated parts is matched on its own, so a `*` does not reach across a
/// colon of the first five.
fn arn_matches(pattern: &str, arn: &str) -> bool {
    let (pattern, arn): (Vec<_>, Vec<_>) = (
        pattern.splitn(6, ':').collect(),
        arn.splitn(6, ':').collect(),
    );
    pattern.len() == arn.len()
        && pattern
            .iter()
            .zip(arn)
            .all(|(pattern, part)| glob_matches(pattern, part))
}

/// `*` matches any characters, `?` one.
pub(crate) fn glob_matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut at_pattern, mut at_text) = (0, 0);
    // Where to resume when what follows the last `*` does not fit: that star then swallows one byte
    // more.
    let mut resume = None;
    while at_text < text.len() {
        match pattern.get(at_pattern) {
            Some(b'*') => {
                resume = Some((at_pattern, at_text));
                at_pattern += 1;
            }
            Some(&byte) if byte == b'?' || byte == text[at_text] => {
                at_pattern += 1;
                at_text += 1;
            }
            _ => match resume {
                Some((star, swallowed)) => {
                    resume = Some((star, swallowed + 1));
                    (at_pattern, at_text) = (star + 1, swallowed + 1);
                }
                None => return false,
            },
        }
    }
    pattern[at_pattern..].iter().all(|&byte| byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs() {
        for (pattern, text) in [
            ("", ""),
            ("*", ""),
            ("*", "abc"),
            ("a*c", "abbc"),
            ("a?c", "abc"),
            ("*b*", "abc"),
            ("a**", "a"),
        ] {
            assert!(glob_matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [
            ("", "a"),
            ("a", ""),
            ("a*c", "abd"),
            ("a?c", "ac"),
            ("*b", "abc"),
            ("abc", "ab"),
        ] {
            assert!(!glob_matches(pattern, text), "{pattern} {text}");
        }
    }

    #[test]
    fn a_star_stays_within_its_part_of_the_arn() {
        assert!(arn_matches(
            "arn:aws:iam::*:role/a",
            "arn:aws:iam::111122223333:role/a"
        ));
        assert!(!arn_matches(
            "arn:aws:*:role/a",
            "arn:aws:iam::111122223333:role/a"
        ));
        assert!(!arn_matches(
            "arn:aws:iam::1:role/a",
            "arn:aws:iam::1:role/ab"
        ));
    }

    #[test]
    fn keys_of_the_subset() {
        for key in [
            "AWS:principalarn",
            "kms:RecipientAttestation:PCR0",
            "kms:RecipientAttestation:PCR31",
        ] {
            assert!(canonical_key(key).is_some(), "{key}");
        }
        for key in [
            "aws:SourceIp",
            "kms:RecipientAttestation:PCR32",
            "kms:RecipientAttestation:PCR00",
            "kms:EncryptionContext:",
            "kms:ViaService",
        ] {
            assert!(canonical_key(key).is_none(), "{key}");
        }
    }
}
