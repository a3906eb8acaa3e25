//! Strict JSON reader. Members keep their exact text, so that no number is rounded; duplicate,
//! unknown, missing and null members are refused by name.
//!
//! The cost is in proportion to what is valid: an object has at most [`MAX_MEMBERS`] members, an
//! array is read element by element up to the first invalid one, and paths are built for errors
//! only.

use std::borrow::Cow;
use std::fmt;
use std::rc::Rc;

use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer as _};
use serde_json::Deserializer;
use serde_json::error::Category;
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use crate::{Code, Rejection};

/// A JSON object whose members have not been interpreted yet.
pub struct Object<'a> {
    path: Rc<str>,
    members: Vec<Member<'a>>,
}

type Member<'a> = (Cow<'a, str>, &'a RawValue);

impl<'a> Object<'a> {
    /// Reads `text` as one object with nothing after it.
    ///
    /// # Errors
    /// [`Code::MalformedJson`], [`Code::DuplicateField`], [`Code::InvalidField`] if the object has
    /// more than [`MAX_MEMBERS`] members.
    pub fn parse(text: &'a [u8]) -> Result<Self, Rejection> {
        Self::parse_within(text, "")
    }

    /// Reads an object that is at `path` of the caller's body. The path precedes the names of its
    /// members in errors: `transaction_payload` results in `transaction_payload.value`.
    ///
    /// # Errors
    /// As [`Object::parse`].
    pub fn parse_within(text: &'a [u8], path: &str) -> Result<Self, Rejection> {
        let malformed = |problem: &dyn fmt::Display| match path {
            "" => Rejection::new(Code::MalformedJson, format!("the body {problem}")),
            path => Rejection::field(Code::MalformedJson, path.to_owned(), problem),
        };
        let text = std::str::from_utf8(text).map_err(|error| {
            let position = error.valid_up_to();
            malformed(&format_args!("is not UTF-8 from byte {position} on"))
        })?;
        let members = Members::read(text).map_err(|error| match error.classify() {
            Category::Data => malformed(&"must be one JSON object"),
            Category::Eof => malformed(&"is JSON that ends too early"),
            Category::Syntax | Category::Io => {
                let (line, column) = (error.line(), error.column());
                malformed(&format_args!(
                    "is malformed JSON at line {line}, column {column}"
                ))
            }
        })?;
        Self::new(path.into(), members)
    }

    fn new(path: Rc<str>, members: Members<'a>) -> Result<Self, Rejection> {
        let Members { members, truncated } = members;
        let object = Self { path, members };
        for (index, (name, _)) in object.members.iter().enumerate() {
            if object.members[..index]
                .iter()
                .any(|(earlier, _)| earlier == name)
            {
                return Err(Rejection::field(
                    Code::DuplicateField,
                    object.path_of(&shown(name)),
                    "is a duplicate member",
                ));
            }
        }
        if truncated {
            let problem = format_args!("must have at most {MAX_MEMBERS} members").to_string();
            return Err(match &*object.path {
                "" => Rejection::new(Code::InvalidField, format!("the body {problem}")),
                path => Rejection::invalid(path.to_owned(), problem),
            });
        }
        Ok(object)
    }

    /// True if a member of this name exists.
    pub fn contains(&self, name: &str) -> bool {
        self.members.iter().any(|(member, _)| member == name)
    }

    /// Takes a member out; `null` is a value here.
    pub fn take_nullable(&mut self, name: &'static str) -> Option<Value<'a>> {
        let position = self.members.iter().position(|(member, _)| member == name)?;
        let (_, raw) = self.members.swap_remove(position);
        Some(Value {
            parent: self.path.clone(),
            step: Step::Member(name),
            raw,
        })
    }

    /// Takes a member out if it exists.
    ///
    /// # Errors
    /// [`Code::InvalidField`] if it is `null`.
    pub fn take(&mut self, name: &'static str) -> Result<Option<Value<'a>>, Rejection> {
        match self.take_nullable(name) {
            Some(value) if value.is_null() => Err(value.invalid("must not be null")),
            value => Ok(value),
        }
    }

    /// Takes a member out that has two names, of which only one may be used.
    ///
    /// # Errors
    /// [`Code::DuplicateField`] if both exist, [`Code::InvalidField`] for `null`.
    pub fn take_either(
        &mut self,
        name: &'static str,
        alias: &'static str,
    ) -> Result<Option<Value<'a>>, Rejection> {
        if self.contains(name) && self.contains(alias) {
            return Err(Rejection::field(
                Code::DuplicateField,
                self.path_of(alias),
                format_args!("is another name of {name}; send one of them"),
            ));
        }
        Ok(self.take(name)?.or(self.take(alias)?))
    }

    /// Takes out a required member.
    ///
    /// # Errors
    /// [`Code::MissingField`], or [`Code::InvalidField`] for `null`.
    pub fn require(&mut self, name: &'static str) -> Result<Value<'a>, Rejection> {
        self.take(name)?.ok_or_else(|| self.missing(name))
    }

    /// The rejection for a missing member `name`.
    pub fn missing(&self, name: &str) -> Rejection {
        Rejection::field(Code::MissingField, self.path_of(name), "is required")
    }

    /// Refuses members that have not been taken.
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

/// The value of one member or element, as its exact text.
pub struct Value<'a> {
    parent: Rc<str>,
    step: Step,
    raw: &'a RawValue,
}

/// The last step of a value's path.
enum Step {
    Member(&'static str),
    Element(usize),
}

impl<'a> Value<'a> {
    /// The exact JSON text.
    pub fn text(&self) -> &'a str {
        self.raw.get()
    }

    /// True for `null`.
    pub fn is_null(&self) -> bool {
        self.text() == "null"
    }

    /// True for a JSON number.
    pub fn is_number(&self) -> bool {
        self.text()
            .starts_with(|first: char| first == '-' || first.is_ascii_digit())
    }

    /// True for a JSON array.
    pub fn is_array(&self) -> bool {
        self.text().starts_with('[')
    }

    /// Its string. Wiped when dropped, because it may be a secret.
    ///
    /// # Errors
    /// [`Code::InvalidField`] if it has another type, [`Code::MalformedJson`].
    pub fn string(&self) -> Result<Zeroizing<String>, Rejection> {
        serde_json::from_str(self.text())
            .map(Zeroizing::new)
            .map_err(|error| self.unreadable(&error, "must be a string"))
    }

    /// Its object.
    ///
    /// # Errors
    /// [`Code::InvalidField`] if it has another type or more than [`MAX_MEMBERS`] members,
    /// [`Code::DuplicateField`], [`Code::MalformedJson`].
    pub fn object(&self) -> Result<Object<'a>, Rejection> {
        let members = Members::read(self.text())
            .map_err(|error| self.unreadable(&error, "must be an object"))?;
        Object::new(self.path().into(), members)
    }

    /// The elements of its array, each read by `read`, up to the first one that is refused.
    ///
    /// # Errors
    /// [`Code::InvalidField`] if it has another type; those of `read`.
    pub fn array<T>(
        &self,
        read: impl FnMut(Self) -> Result<T, Rejection>,
    ) -> Result<Vec<T>, Rejection> {
        let mut refusal = None;
        let elements = Elements {
            path: self.path().into(),
            read,
            refusal: &mut refusal,
        };
        let outcome = Deserializer::from_str(self.text()).deserialize_seq(elements);
        match refusal {
            Some(rejection) => Err(rejection),
            None => outcome.map_err(|error| self.unreadable(&error, "must be an array")),
        }
    }

    /// A rejection of this value because of its type, form or range.
    pub fn invalid(&self, problem: impl fmt::Display) -> Rejection {
        self.refused(Code::InvalidField, problem)
    }

    /// A rejection of this value with another code.
    pub fn refused(&self, code: Code, problem: impl fmt::Display) -> Rejection {
        Rejection::field(code, self.path(), problem)
    }

    fn unreadable(&self, error: &serde_json::Error, wrong_type: &str) -> Rejection {
        match error.classify() {
            Category::Data => self.invalid(wrong_type),
            _ => self.refused(Code::MalformedJson, "is malformed JSON"),
        }
    }

    fn path(&self) -> String {
        let parent = &self.parent;
        match self.step {
            Step::Member(name) if parent.is_empty() => name.to_owned(),
            Step::Member(name) => format!("{parent}.{name}"),
            Step::Element(index) => format!("{parent}[{index}]"),
        }
    }
}

impl fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Value")
            .field("path", &self.path())
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

/// The members of an object in their order.
#[derive(Default)]
struct Members<'a> {
    members: Vec<Member<'a>>,
    /// Reading stopped at [`MAX_MEMBERS`].
    truncated: bool,
}

impl<'a> Members<'a> {
    fn read(text: &'a str) -> Result<Self, serde_json::Error> {
        let mut members = Self::default();
        let mut deserializer = Deserializer::from_str(text);
        let outcome = deserializer.deserialize_map(&mut members);
        if !members.truncated {
            outcome?;
            deserializer.end()?;
        }
        Ok(members)
    }
}

impl<'de> Visitor<'de> for &mut Members<'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(Name(name)) = map.next_key()? {
            if self.members.len() == MAX_MEMBERS {
                self.truncated = true;
                return Err(A::Error::custom("too many members"));
            }
            self.members.push((name, map.next_value()?));
        }
        Ok(())
    }
}

/// The name of a member, borrowed unless it has escapes.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// Reads the elements of an array.
struct Elements<'r, F> {
    path: Rc<str>,
    read: F,
    /// The rejection of the element at which reading stopped.
    refusal: &'r mut Option<Rejection>,
}

impl<'de, T, F: FnMut(Value<'de>) -> Result<T, Rejection>> Visitor<'de> for Elements<'_, F> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut elements: A) -> Result<Vec<T>, A::Error> {
        let mut read = Vec::new();
        while let Some(raw) = elements.next_element()? {
            let element = Value {
                parent: self.path.clone(),
                step: Step::Element(read.len()),
                raw,
            };
            match (self.read)(element) {
                Ok(element) => read.push(element),
                Err(rejection) => {
                    *self.refusal = Some(rejection);
                    return Err(A::Error::custom("refused"));
                }
            }
        }
        Ok(read)
    }
}

/// Most members of an object; no object of the wire has as many.
pub const MAX_MEMBERS: usize = 64;
/// Longest part of a caller's member name that is repeated in an error.
const MAX_SHOWN_NAME_LEN: usize = 64;

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
        let elements = inner.require("x").unwrap();
        let texts = elements.array(|element| Ok(element.text())).unwrap();
        assert_eq!(texts, ["1", "\"2\""]);
    }

    #[test]
    fn an_array_is_read_up_to_the_first_refused_element() {
        let mut object = Object::parse(br#"{"a":[1,2,{"b":3},4]}"#).unwrap();
        let mut seen = 0;
        let refused = object.require("a").unwrap().array(|element| {
            seen += 1;
            if element.is_number() {
                Ok(())
            } else {
                Err(element.object()?.require("b")?.invalid("is wrong"))
            }
        });
        assert_eq!(refused.unwrap_err().field.unwrap(), "a[2].b");
        assert_eq!(seen, 3);
    }

    #[test]
    fn an_object_has_a_bounded_number_of_members() {
        let members = |count| {
            let members = (0..count).map(|index| format!("\"m{index}\":0"));
            format!("{{{}}}", members.collect::<Vec<_>>().join(","))
        };
        Object::parse(members(MAX_MEMBERS).as_bytes()).unwrap();
        let refused = Object::parse(members(MAX_MEMBERS + 1).as_bytes()).unwrap_err();
        assert_eq!((refused.code, refused.field), (Code::InvalidField, None));
        let nested = format!("{{\"a\":{}}}", members(MAX_MEMBERS + 1));
        let mut outer = Object::parse(nested.as_bytes()).unwrap();
        let refused = outer.require("a").unwrap().object().unwrap_err();
        assert_eq!(
            (refused.code, refused.field),
            (Code::InvalidField, Some("a".into()))
        );
    }

    /// Lone surrogates and bytes outside of UTF-8 are not text.
    #[test]
    fn text_that_is_not_unicode_is_malformed_wherever_it_is() {
        let code = |text: &[u8], read: fn(Value<'_>) -> Result<(), Rejection>| {
            let mut object = match Object::parse(text) {
                Ok(object) => object,
                Err(rejection) => return (rejection.code, rejection.field),
            };
            let rejection = read(object.require("a").unwrap()).unwrap_err();
            (rejection.code, rejection.field)
        };
        let string = |value: Value<'_>| value.string().map(drop);
        let object = |value: Value<'_>| value.object().map(drop);
        let (anywhere, in_a) = (
            (Code::MalformedJson, None),
            (Code::MalformedJson, Some("a".into())),
        );
        assert_eq!(code(br#"{"\ud800":1}"#, string), anywhere);
        assert_eq!(code(b"{\"a\":\"\xff\"}", string), anywhere);
        assert_eq!(code(b"{\"ty\xffpe\":2}", string), anywhere);
        assert_eq!(code(br#"{"a":{"\ud800":1}}"#, object), in_a);
        assert_eq!(code(br#"{"a":"\ud800"}"#, string), in_a);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            let _ = Object::parse(&bytes).map(Object::finish);
        }
    }
}
