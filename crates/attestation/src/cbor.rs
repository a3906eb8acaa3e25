//! A pull parser for the part of CBOR (RFC 8949) that an attestation document uses.
//!
//! Own code because the strictness is the point: nothing is allocated from a length before that many
//! bytes are present, nothing recurses, and every item that an attestation document does not contain
//! (floats, chunked strings, nested tags, simple values but null) is refused. General parsers build
//! a tree first, and accept duplicates and trailing bytes.

use crate::error::CborError;

/// The unread rest of the input.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(input: &'a [u8]) -> Self {
        Self { rest: input }
    }

    /// Ends the reading; unread bytes are an error.
    pub(crate) fn finish(self) -> Result<(), CborError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(CborError::TrailingBytes {
                len: self.rest.len(),
            })
        }
    }

    /// Consumes `tag` if it is next. Any other tag stays, and fails as the item that is expected
    /// instead.
    pub(crate) fn skip_tag(&mut self, tag: u64) -> Result<(), CborError> {
        let mut ahead = *self;
        if !ahead.rest.is_empty() && ahead.head()? == (Major::Tag, Some(tag)) {
            *self = ahead;
        }
        Ok(())
    }

    pub(crate) fn unsigned(&mut self) -> Result<u64, CborError> {
        match self.head()? {
            (Major::Unsigned, Some(value)) => Ok(value),
            _ => Err(CborError::Expected("an unsigned integer")),
        }
    }

    /// An integer that fits 64 bits with its sign.
    pub(crate) fn integer(&mut self) -> Result<i64, CborError> {
        let expected = CborError::Expected("an integer");
        let (major, Some(value)) = self.head()? else {
            return Err(expected);
        };
        let value = i64::try_from(value).map_err(|_| expected)?;
        match major {
            Major::Unsigned => Ok(value),
            Major::Negative => Ok(-1 - value),
            _ => Err(expected),
        }
    }

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], CborError> {
        match self.head()? {
            (Major::Bytes, Some(len)) => self.take(len),
            _ => Err(CborError::Expected("a byte string in one piece")),
        }
    }

    pub(crate) fn bytes_or_null(&mut self) -> Result<Option<&'a [u8]>, CborError> {
        match self.rest {
            [NULL, rest @ ..] => {
                self.rest = rest;
                Ok(None)
            }
            _ => self.bytes().map(Some),
        }
    }

    pub(crate) fn text(&mut self) -> Result<&'a str, CborError> {
        match self.head()? {
            (Major::Text, Some(len)) => {
                str::from_utf8(self.take(len)?).map_err(|_| CborError::NotUtf8)
            }
            _ => Err(CborError::Expected("a text string in one piece")),
        }
    }

    pub(crate) fn array(&mut self) -> Result<Items, CborError> {
        match self.head()? {
            (Major::Array, remaining) => Ok(Items { remaining }),
            _ => Err(CborError::Expected("an array")),
        }
    }

    pub(crate) fn map(&mut self) -> Result<Items, CborError> {
        match self.head()? {
            (Major::Map, remaining) => Ok(Items { remaining }),
            _ => Err(CborError::Expected("a map")),
        }
    }

    /// The first byte of an item and its argument; `None` means "until the break".
    fn head(&mut self) -> Result<(Major, Option<u64>), CborError> {
        let first = self.take(1)?[0];
        let major = match first >> 5 {
            0 => Major::Unsigned,
            1 => Major::Negative,
            2 => Major::Bytes,
            3 => Major::Text,
            4 => Major::Array,
            5 => Major::Map,
            6 => Major::Tag,
            _ => Major::Simple,
        };
        let argument = match first & 0x1f {
            value @ 0..=23 => Some(value.into()),
            24 => Some(self.take(1)?[0].into()),
            25 => Some(u16::from_be_bytes(self.take_array()?).into()),
            26 => Some(u32::from_be_bytes(self.take_array()?).into()),
            27 => Some(u64::from_be_bytes(self.take_array()?)),
            31 => None,
            _ => return Err(CborError::ReservedLength),
        };
        Ok((major, argument))
    }

    fn take(&mut self, len: u64) -> Result<&'a [u8], CborError> {
        let len = usize::try_from(len).map_err(|_| CborError::Truncated)?;
        let (taken, rest) = self
            .rest
            .split_at_checked(len)
            .ok_or(CborError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    fn take_array<const N: usize>(&mut self) -> Result<[u8; N], CborError> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(CborError::Truncated)?;
        self.rest = rest;
        Ok(*taken)
    }
}

/// The number of unread items of an array, or entries of a map.
#[derive(Debug)]
pub(crate) struct Items {
    remaining: Option<u64>,
}

impl Items {
    /// True if another one follows. Consumes the break after the last one of an unknown number.
    pub(crate) fn more(&mut self, reader: &mut Reader<'_>) -> Result<bool, CborError> {
        match &mut self.remaining {
            Some(0) => Ok(false),
            Some(remaining) => {
                *remaining -= 1;
                Ok(true)
            }
            None => match reader.rest {
                [] => Err(CborError::Truncated),
                [BREAK, rest @ ..] => {
                    reader.rest = rest;
                    self.remaining = Some(0);
                    Ok(false)
                }
                _ => Ok(true),
            },
        }
    }

    /// True if there are exactly `len`, known from the start.
    pub(crate) fn are_exactly(&self, len: u64) -> bool {
        self.remaining == Some(len)
    }
}

/// Appends the shortest head of a byte string of `bytes`, and the bytes.
pub(crate) fn write_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    const BYTES: u8 = 2 << 5;
    match bytes.len() {
        len @ 0..=23 => out.push(BYTES | u8::try_from(len).expect("at most 23")),
        len => match (u8::try_from(len), u16::try_from(len), u32::try_from(len)) {
            (Ok(len), ..) => out.extend([BYTES | 24, len]),
            (_, Ok(len), _) => {
                out.push(BYTES | 25);
                out.extend(len.to_be_bytes());
            }
            (_, _, Ok(len)) => {
                out.push(BYTES | 26);
                out.extend(len.to_be_bytes());
            }
            _ => {
                out.push(BYTES | 27);
                out.extend((len as u64).to_be_bytes());
            }
        },
    }
    out.extend(bytes);
}

/// The kinds of items, by the three high bits of their first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Major {
    Unsigned,
    Negative,
    Bytes,
    Text,
    Array,
    Map,
    Tag,
    Simple,
}

const NULL: u8 = 0xf6;
const BREAK: u8 = 0xff;

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        const_hex::decode(text).unwrap()
    }

    /// From RFC 8949, appendix A.
    #[test]
    fn integers_of_every_length() {
        for (input, value) in [
            ("00", 0),
            ("17", 23),
            ("1818", 24),
            ("1903e8", 1000),
            ("1a000f4240", 1_000_000),
            ("1b000000e8d4a51000", 1_000_000_000_000),
            ("1bffffffffffffffff", u64::MAX),
        ] {
            let input = hex(input);
            let mut reader = Reader::new(&input);
            assert_eq!(reader.unsigned(), Ok(value));
            assert_eq!(reader.finish(), Ok(()));
        }
        assert_eq!(Reader::new(&hex("20")).integer(), Ok(-1));
        assert_eq!(Reader::new(&hex("3822")).integer(), Ok(-35));
        assert_eq!(Reader::new(&hex("3903e7")).integer(), Ok(-1000));
        assert_eq!(
            Reader::new(&hex("3b7fffffffffffffff")).integer(),
            Ok(i64::MIN)
        );
        assert_eq!(
            Reader::new(&hex("3b8000000000000000")).integer(),
            Err(CborError::Expected("an integer"))
        );
    }

    #[test]
    fn strings_in_one_piece_only() {
        assert_eq!(
            Reader::new(&hex("4401020304")).bytes(),
            Ok(&[1, 2, 3, 4][..])
        );
        assert_eq!(Reader::new(&hex("6449455446")).text(), Ok("IETF"));
        assert_eq!(Reader::new(&hex("f6")).bytes_or_null(), Ok(None));
        assert_eq!(Reader::new(&hex("40")).bytes_or_null(), Ok(Some(&[][..])));
        let chunked = hex("5f42010243030405ff");
        assert_eq!(
            Reader::new(&chunked).bytes(),
            Err(CborError::Expected("a byte string in one piece"))
        );
        assert_eq!(Reader::new(&hex("61ff")).text(), Err(CborError::NotUtf8));
        assert_eq!(
            Reader::new(&hex("f7")).bytes_or_null(),
            Err(CborError::Expected("a byte string in one piece"))
        );
    }

    #[test]
    fn a_length_beyond_the_input_is_truncation_not_an_allocation() {
        for input in ["5bffffffffffffffff", "5a00000002ff", "42ff", "59ff", ""] {
            assert_eq!(Reader::new(&hex(input)).bytes(), Err(CborError::Truncated));
        }
        for reserved in [0x5c, 0x5d, 0x5e] {
            assert_eq!(
                Reader::new(&[reserved]).bytes(),
                Err(CborError::ReservedLength)
            );
        }
    }

    #[test]
    fn arrays_and_maps_of_known_and_unknown_length() {
        for input in ["83010203", "9f010203ff"] {
            let input = hex(input);
            let mut reader = Reader::new(&input);
            let mut items = reader.array().unwrap();
            for expected in 1..=3 {
                assert_eq!(items.more(&mut reader), Ok(true));
                assert_eq!(reader.unsigned(), Ok(expected));
            }
            assert_eq!(items.more(&mut reader), Ok(false));
            assert_eq!(items.more(&mut reader), Ok(false));
            assert_eq!(reader.finish(), Ok(()));
        }
        let input = hex("bf");
        let mut reader = Reader::new(&input);
        assert_eq!(
            reader.map().unwrap().more(&mut reader),
            Err(CborError::Truncated)
        );
        assert!(Reader::new(&hex("a1")).map().unwrap().are_exactly(1));
        assert!(!Reader::new(&hex("bf")).map().unwrap().are_exactly(1));
    }

    #[test]
    fn bytes_nobody_asked_for_are_an_error() {
        let input = hex("0000");
        let mut reader = Reader::new(&input);
        reader.unsigned().unwrap();
        assert_eq!(reader.finish(), Err(CborError::TrailingBytes { len: 1 }));
    }

    #[test]
    fn written_byte_strings_read_back() {
        for len in [0, 1, 23, 24, 255, 256, 65_535, 65_536] {
            let bytes = vec![7; len];
            let mut out = Vec::new();
            write_bytes(&mut out, &bytes);
            let mut expected = Vec::new();
            ciborium::into_writer(&ciborium::Value::Bytes(bytes.clone()), &mut expected).unwrap();
            assert_eq!(out, expected);
            assert_eq!(Reader::new(&out).bytes(), Ok(&bytes[..]));
        }
    }
}
