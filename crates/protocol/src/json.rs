//! One strict reader of JSON objects. Members keep their exact text, so that no number is rounded
//! on the way; duplicate, unknown, missing and null members are refused by name.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use crate::{Code, Rejection};

/// Longest part of a caller's member name that is repeated in an error.
const MAX_SHOWN_NAME_LEN: usize = 64;

/// A JSON object whose members have not been interpreted yet.
pub struct Object<'a> {
    path: String,
    members: Vec<(Cow<'a, str>, &'a RawValue)>,
}

impl<'a> Object<'a> {
    /// Reads `text` as one object with nothing after it.
    ///
    /// # Errors
    /// [`Code::MalformedJson`], [`Code::DuplicateField`].
    pub fn parse(text: &'a [u8]) -> Result<Self, Rejection> {
        Self::parse_within(text, "")
    }

    /// The same for an object that stands at `path` of the caller's body, which comes before the
    /// names of its members in errors: `transaction_payload` gives `transaction_payload.value`.
    ///
    /// # Errors
    /// As [`Object::parse`].
    pub fn parse_within(text: &'a [u8], path: &str) -> Result<Self, Rejection> {
        let Members(members) = serde_json::from_slice(text).map_err(|error| {
            let position =
                format_args!("line {}, column {}", error.line(), error.column()).to_string();
            let problem = match error.classify() {
                serde_json::error::Category::Data => "the body must be one JSON object".to_owned(),
                serde_json::error::Category::Eof => "the JSON ends too early".to_owned(),
                _ => format!("malformed JSON at {position}"),
            };
            Rejection::new(Code::MalformedJson, problem)
        })?;
        Self::new(path.to_owned(), members)
    }

    fn new(path: String, members: Vec<(Cow<'a, str>, &'a RawValue)>) -> Result<Self, Rejection> {
        let object = Self { path, members };
        let mut names = BTreeSet::new();
        match object.members.iter().find(|(name, _)| !names.insert(name)) {
            Some((name, _)) => Err(object.duplicate(name)),
            None => Ok(object),
        }
    }

    /// Whether a member of this name is there.
    pub fn contains(&self, name: &str) -> bool {
        self.members.iter().any(|(member, _)| member == name)
    }

    /// Takes a member out; `null` is a value here.
    pub fn take_nullable(&mut self, name: &str) -> Option<Value<'a>> {
        let position = self.members.iter().position(|(member, _)| member == name)?;
        let (_, raw) = self.members.swap_remove(position);
        Some(Value {
            path: self.path_of(name),
            raw,
        })
    }

    /// Takes a member out if it is there.
    ///
    /// # Errors
    /// [`Code::InvalidField`] when it is `null`.
    pub fn take(&mut self, name: &str) -> Result<Option<Value<'a>>, Rejection> {
        match self.take_nullable(name) {
            Some(value) if value.is_null() => Err(value.invalid("must not be null")),
            value => Ok(value),
        }
    }

    /// Takes a member out that has two names, of which only one may be used.
    ///
    /// # Errors
    /// [`Code::DuplicateField`] when both stand there, [`Code::InvalidField`] for `null`.
    pub fn take_either(&mut self, name: &str, alias: &str) -> Result<Option<Value<'a>>, Rejection> {
        if self.contains(name) && self.contains(alias) {
            return Err(Rejection::field(
                Code::DuplicateField,
                self.path_of(alias),
                format_args!("is another name of {name}; send one of them"),
            ));
        }
        Ok(self.take(name)?.or(self.take(alias)?))
    }

    /// Takes out a member that has to be there.
    ///
    /// # Errors
    /// [`Code::MissingField`], or [`Code::InvalidField`] for `null`.
    pub fn require(&mut self, name: &str) -> Result<Value<'a>, Rejection> {
        self.take(name)?.ok_or_else(|| self.missing(name))
    }

    /// That the member `name` is missing.
    pub fn missing(&self, name: &str) -> Rejection {
        Rejection::field(Code::MissingField, self.path_of(name), "is required")
    }

    /// Refuses what has not been taken.
    ///
    /// # Errors
    /// [`Code::UnknownField`].
    pub fn finish(self) -> Result<(), Rejection> {
        match self.members.first() {
            Some((name, _)) => Err(Rejection::field(
                Code::UnknownField,
                self.path_of(&shown(name)),
                "is not a known field",
            )),
            None => Ok(()),
        }
    }

    fn duplicate(&self, name: &str) -> Rejection {
        Rejection::field(
            Code::DuplicateField,
            self.path_of(&shown(name)),
            "stands more than once",
        )
    }

    fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.path)
        }
    }
}

impl fmt::Debug for Object<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Object")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// One member's value, as its exact text.
pub struct Value<'a> {
    path: String,
    raw: &'a RawValue,
}

impl<'a> Value<'a> {
    /// The exact JSON text.
    pub fn text(&self) -> &'a str {
        self.raw.get()
    }

    /// Whether it is `null`.
    pub fn is_null(&self) -> bool {
        self.text() == "null"
    }

    /// Whether it is a JSON number.
    pub fn is_number(&self) -> bool {
        self.text()
            .starts_with(|first: char| first == '-' || first.is_ascii_digit())
    }

    /// Its string. Wiped when dropped, because it may be a secret.
    ///
    /// # Errors
    /// [`Code::InvalidField`] when it is something else.
    pub fn string(&self) -> Result<Zeroizing<String>, Rejection> {
        serde_json::from_str(self.text())
            .map(Zeroizing::new)
            .map_err(|_| self.invalid("must be a string"))
    }

    /// Its object.
    ///
    /// # Errors
    /// [`Code::InvalidField`] when it is something else, [`Code::DuplicateField`].
    pub fn object(&self) -> Result<Object<'a>, Rejection> {
        let Members(members) =
            serde_json::from_str(self.text()).map_err(|_| self.invalid("must be an object"))?;
        Object::new(self.path.clone(), members)
    }

    /// The elements of its array.
    ///
    /// # Errors
    /// [`Code::InvalidField`] when it is something else.
    pub fn array(&self) -> Result<Vec<Self>, Rejection> {
        let elements: Vec<&'a RawValue> =
            serde_json::from_str(self.text()).map_err(|_| self.invalid("must be an array"))?;
        let element = |(index, raw)| Self {
            path: format!("{}[{index}]", self.path),
            raw,
        };
        Ok(elements.into_iter().enumerate().map(element).collect())
    }

    /// That this member has a wrong type, form or range.
    pub fn invalid(&self, problem: impl fmt::Display) -> Rejection {
        Rejection::invalid(self.path.clone(), problem)
    }

    /// Another code about this member.
    pub fn refused(&self, code: Code, problem: impl fmt::Display) -> Rejection {
        Rejection::field(code, self.path.clone(), problem)
    }
}

impl fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Value")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// A name as it may be repeated to the caller.
fn shown(name: &str) -> String {
    name.chars()
        .take(MAX_SHOWN_NAME_LEN)
        .flat_map(char::escape_default)
        .collect()
}

struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;

        impl<'de> Visitor<'de> for Collect {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some((name, value)) = map.next_entry::<Cow<'de, str>, &'de RawValue>()? {
                    members.push((name, value));
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(Collect)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn refusals_name_the_member() {
        let code_and_field =
            |rejection: Rejection| (rejection.code, rejection.field.unwrap_or_default());
        let parsed = |text: &'static str| Object::parse(text.as_bytes());
        assert_eq!(
            code_and_field(parsed(r#"{"a":1,"a":2}"#).unwrap_err()),
            (Code::DuplicateField, "a".into())
        );
        assert_eq!(
            code_and_field(parsed(r#"{"a":1,"\u0061":2}"#).unwrap_err()),
            (Code::DuplicateField, "a".into())
        );
        assert_eq!(
            code_and_field(parsed(r#"{"b\n":1}"#).unwrap().finish().unwrap_err()),
            (Code::UnknownField, "b\\n".into())
        );
        assert_eq!(
            code_and_field(parsed("{}").unwrap().require("c").unwrap_err()),
            (Code::MissingField, "c".into())
        );
        assert_eq!(
            code_and_field(parsed(r#"{"c":null}"#).unwrap().take("c").unwrap_err()),
            (Code::InvalidField, "c".into())
        );
        for malformed in [
            "",
            "[]",
            "{} {}",
            "{",
            "nul",
            r#"{"a":1,}"#,
            r#"{"a":01}"#,
            "\u{feff}{}",
        ] {
            assert_eq!(
                parsed(malformed).unwrap_err().code,
                Code::MalformedJson,
                "{malformed}"
            );
        }
    }

    #[test]
    fn text_is_exact() {
        let mut object =
            Object::parse(br#"{"n": 12345678901234567890.10e-7 , "o":{"x":[1,"2"]}}"#).unwrap();
        assert_eq!(
            object.require("n").unwrap().text(),
            "12345678901234567890.10e-7"
        );
        let mut inner = object.require("o").unwrap().object().unwrap();
        let elements = inner.require("x").unwrap().array().unwrap();
        assert_eq!(elements[1].invalid("is wrong").field.unwrap(), "o.x[1]");
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            let _ = Object::parse(&bytes).map(Object::finish);
        }
    }
}
