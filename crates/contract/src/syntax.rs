//! The syntax of short identifiers: an alphabet and a length.

use std::fmt;

/// A length and the ranges of ASCII characters that a text consists of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Syntax {
    /// Name in error messages.
    pub(crate) name: &'static str,
    pub(crate) min_len: usize,
    pub(crate) max_len: usize,
    /// First and last character of each range.
    pub(crate) alphabet: &'static [(u8, u8)],
}

impl Syntax {
    pub(crate) fn check(&'static self, text: &str) -> Result<(), InvalidText> {
        let allowed = |byte| {
            self.alphabet
                .iter()
                .any(|(first, last)| (*first..=*last).contains(&byte))
        };
        if (self.min_len..=self.max_len).contains(&text.len()) && text.bytes().all(allowed) {
            Ok(())
        } else {
            Err(InvalidText(self))
        }
    }

    /// The same as a regular expression of JavaScript and Rust.
    pub(crate) fn pattern(&self) -> String {
        let escaped = |byte: &u8| match byte {
            b'-' | b'\\' | b']' | b'^' | b'/' => format!("\\{}", char::from(*byte)),
            _ => char::from(*byte).to_string(),
        };
        let class: String = self
            .alphabet
            .iter()
            .map(|(first, last)| match (escaped(first), escaped(last)) {
                (first, last) if first == last => first,
                (first, last) => format!("{first}-{last}"),
            })
            .collect();
        if self.min_len == self.max_len {
            format!("^[{class}]{{{}}}$", self.max_len)
        } else {
            format!("^[{class}]{{{},{}}}$", self.min_len, self.max_len)
        }
    }
}

/// A text with an invalid length or character. The text itself is not repeated.
#[derive(Clone, Copy)]
pub struct InvalidText(&'static Syntax);

impl fmt::Display for InvalidText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} is invalid: expected {}",
            self.0.name,
            self.0.pattern()
        )
    }
}

impl fmt::Debug for InvalidText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("InvalidText").field(&self.0.name).finish()
    }
}

impl std::error::Error for InvalidText {}

/// Declares a text that satisfies a [`Syntax`], as a type that cannot hold another.
macro_rules! text_type {
    ($(#[$doc:meta])* $name:ident, $syntax:expr) => {
        $(#[$doc])*
        #[derive(
            Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
        )]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            const SYNTAX: &crate::syntax::Syntax = &$syntax;

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The syntax as a regular expression.
            pub fn pattern() -> String {
                Self::SYNTAX.pattern()
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = crate::syntax::InvalidText;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                Self::SYNTAX.check(&text)?;
                Ok(Self(text))
            }
        }

        impl std::str::FromStr for $name {
            type Err = crate::syntax::InvalidText;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::try_from(text.to_owned())
            }
        }

        impl From<$name> for String {
            fn from(text: $name) -> Self {
                text.0
            }
        }
    };
}
pub(crate) use text_type;
