//! A reader for the part of BER (X.690 §8) that CMS from KMS uses: one-byte tags, short lengths,
//! indefinite lengths. See `cms.rs` for why it is own code.

use super::CmsError;

pub(super) const INTEGER: u8 = 0x02;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const NULL: u8 = 0x05;
pub(super) const OBJECT_IDENTIFIER: u8 = 0x06;
pub(super) const SEQUENCE: u8 = 0x30;
pub(super) const SET: u8 = 0x31;
/// `[0]`, primitive.
pub(super) const CONTEXT_0: u8 = 0x80;
/// `[0]`, constructed.
pub(super) const CONTEXT_0_CONSTRUCTED: u8 = 0xa0;
/// `[1]`, constructed.
pub(super) const CONTEXT_1_CONSTRUCTED: u8 = 0xa1;

/// The unread rest of a message. Allocates nothing.
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The tag of the next element; `None` at the end.
    pub(super) fn peek(&self) -> Option<u8> {
        self.0.first().copied()
    }

    /// Refuses whatever is left.
    pub(super) fn end(&self, what: &'static str) -> Result<(), CmsError> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(CmsError::Structure(what))
        }
    }

    /// The contents of a primitive element with this tag.
    pub(super) fn primitive(&mut self, tag: u8, what: &'static str) -> Result<&'a [u8], CmsError> {
        self.tag(tag, what)?;
        match self.length(what)? {
            Length::Definite(length) => self.take(length, what),
            Length::Indefinite => Err(CmsError::Structure(what)),
        }
    }

    /// A primitive element that must have exactly these contents.
    pub(super) fn expect(
        &mut self,
        tag: u8,
        contents: &[u8],
        what: &'static str,
    ) -> Result<(), CmsError> {
        if self.primitive(tag, what)? == contents {
            Ok(())
        } else {
            Err(CmsError::Structure(what))
        }
    }

    /// Reads the inside of a constructed element with `read`, which has to read all of it.
    pub(super) fn constructed<T>(
        &mut self,
        tag: u8,
        what: &'static str,
        read: impl FnOnce(&mut Self) -> Result<T, CmsError>,
    ) -> Result<T, CmsError> {
        self.tag(tag, what)?;
        match self.length(what)? {
            Length::Definite(length) => {
                let mut inside = Self(self.take(length, what)?);
                let value = read(&mut inside)?;
                inside.end(what)?;
                Ok(value)
            }
            Length::Indefinite => {
                let value = read(self)?;
                // The end-of-contents octets look like an element: tag 0, length 0 (X.690 §8.1.5).
                self.expect(0, &[], what)?;
                Ok(value)
            }
        }
    }

    fn tag(&mut self, tag: u8, what: &'static str) -> Result<(), CmsError> {
        if self.take(1, what)? == [tag] {
            Ok(())
        } else {
            Err(CmsError::Structure(what))
        }
    }

    fn length(&mut self, what: &'static str) -> Result<Length, CmsError> {
        match self.take(1, what)?[0] {
            short @ 0..0x80 => Ok(Length::Definite(short.into())),
            0x80 => Ok(Length::Indefinite),
            // Longer forms would exceed MAX_MESSAGE_LEN, and no encoder writes a short length in a
            // longer form.
            long @ (0x81 | 0x82) => {
                let octets = self.take(usize::from(long & 0x7f), what)?;
                let length = octets
                    .iter()
                    .fold(0, |length, octet| length << 8 | usize::from(*octet));
                let shortest = if long == 0x81 { 0x80 } else { 0x100 };
                if length >= shortest {
                    Ok(Length::Definite(length))
                } else {
                    Err(CmsError::Structure(what))
                }
            }
            _ => Err(CmsError::Structure(what)),
        }
    }

    fn take(&mut self, length: usize, what: &'static str) -> Result<&'a [u8], CmsError> {
        let (taken, rest) = self
            .0
            .split_at_checked(length)
            .ok_or(CmsError::Structure(what))?;
        self.0 = rest;
        Ok(taken)
    }
}

enum Length {
    Definite(usize),
    Indefinite,
}
