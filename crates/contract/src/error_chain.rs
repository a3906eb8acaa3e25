//! Prints an error together with its causes.

use std::error::Error;
use std::fmt;
use std::iter::successors;

/// An error and its sources, outermost first, joined by `": "`.
///
/// The error types of this project never repeat their source in `Display`, and a JSON log line
/// records `Display` only: log `error = %ErrorChain(&error)`, or the causes are lost.
#[derive(Clone, Copy, Debug)]
pub struct ErrorChain<'a>(pub &'a (dyn Error + 'a));

impl fmt::Display for ErrorChain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        successors(self.0.source(), |&error| error.source())
            .try_for_each(|source| write!(f, ": {source}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Link(&'static str, Option<Box<Link>>);

    impl fmt::Display for Link {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl Error for Link {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.1.as_deref().map(|link| link as _)
        }
    }

    #[test]
    fn every_source_is_printed_in_order() {
        let innermost = Link("timed out", None);
        assert_eq!(ErrorChain(&innermost).to_string(), "timed out");
        let middle = Link("failed to connect", Some(Box::new(innermost)));
        let outer = Link("failed to open the row", Some(Box::new(middle)));
        assert_eq!(
            ErrorChain(&outer).to_string(),
            "failed to open the row: failed to connect: timed out"
        );
        let boxed: Box<dyn Error + Send + Sync> = Box::new(outer);
        assert!(ErrorChain(&*boxed).to_string().ends_with(": timed out"));
    }
}
