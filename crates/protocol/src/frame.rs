//! The frame of the pod–enclave connection: bytes in, frames out. `SPEC.md` §1.
//!
//! ```text
//! u32  length of what follows, in bytes (12 to MAX_FRAME_LEN)
//! u8   version, 1
//! u8   kind
//! u64  id: of the request; a response carries the id of its request; 0 elsewhere
//! u16  length of the extensions, in bytes
//!      extensions: each u16 tag, u16 length, value
//!      body
//! ```
//! All integers are big-endian.

use std::fmt;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::limits::MAX_FRAME_LEN;
use crate::secret::{SESSION_LEN, SessionValue};

/// Version of the frame format.
pub const FRAME_VERSION: u8 = 1;
/// Bytes of the length prefix.
pub const LENGTH_PREFIX_LEN: usize = 4;
/// Bytes from the version to the length of the extensions.
pub const HEADER_LEN: usize = 12;
/// Most bytes of extensions in one frame.
pub const MAX_EXTENSIONS_LEN: usize = 1024;
/// Bit of the tags of extensions that a receiver must not ignore.
pub const CRITICAL: u16 = 0x8000;

/// Kinds of frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// First frame of a connection, from the pod ([`Hello`]).
    Hello = 1,
    /// A request, from the pod.
    Request = 2,
    /// The response to the request with the same id.
    Response = 3,
    /// On an idle egress connection, from the enclave: the destination to dial, as `host:port`.
    Connect = 4,
    /// The pod's reply to [`Kind::Connect`] ([`ConnectReply`]). After [`ConnectReply::Connected`]
    /// the connection carries raw bytes.
    Connected = 5,
    /// The enclave's reply to [`Kind::Hello`] ([`HelloReply`]).
    HelloReply = 6,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        [
            Self::Hello,
            Self::Request,
            Self::Response,
            Self::Connect,
            Self::Connected,
            Self::HelloReply,
        ]
        .into_iter()
        .find(|kind| *kind as u8 == byte)
    }
}

/// The body of [`Kind::Hello`]: the use of the connection, and the session that it belongs to.
#[derive(Clone, Debug)]
pub struct Hello {
    /// The use of the connection.
    pub purpose: Purpose,
    /// The value of the enclave's first connection, which every other one repeats.
    pub session: SessionValue,
}

impl Hello {
    /// The first frame of a connection.
    pub fn frame(&self) -> Frame {
        let mut body = BytesMut::with_capacity(1 + SESSION_LEN);
        body.put_u8(self.purpose as u8);
        body.put_slice(self.session.expose());
        Frame::control(Kind::Hello, body)
    }

    /// Reads the first frame of a connection.
    ///
    /// # Errors
    /// [`FrameError::Malformed`] unless it is a hello without an id, with a known purpose and a
    /// session value of [`SESSION_LEN`] bytes.
    pub fn decode(frame: &Frame) -> Result<Self, FrameError> {
        if frame.kind != Kind::Hello || frame.id != 0 {
            return Err(FrameError::Malformed("hello"));
        }
        let (purpose, session) = frame
            .body
            .split_first()
            .ok_or(FrameError::Malformed("purpose of the connection"))?;
        let session = <[u8; SESSION_LEN]>::try_from(session)
            .map_err(|_| FrameError::Malformed("session value"))?;
        Ok(Self {
            purpose: Purpose::from_byte(*purpose)?,
            session: SessionValue::new(session),
        })
    }
}

/// The use of a connection: the first byte of [`Hello`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Purpose {
    /// Requests and responses, multiplexed.
    Requests = 1,
    /// One idle connection that the enclave may use for one outgoing stream.
    Egress = 2,
}

impl Purpose {
    fn from_byte(byte: u8) -> Result<Self, FrameError> {
        match byte {
            1 => Ok(Self::Requests),
            2 => Ok(Self::Egress),
            _ => Err(FrameError::Malformed("purpose of the connection")),
        }
    }
}

/// The body of [`Kind::HelloReply`]: one byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum HelloReply {
    /// The connection belongs to the session of this boot.
    Accepted = 0,
    /// The boot is bound to another session. The enclave closes the connection.
    OtherSession = 1,
}

impl HelloReply {
    /// The reply as a frame.
    pub fn frame(self) -> Frame {
        Frame::control(Kind::HelloReply, vec![self as u8])
    }

    /// Reads the first frame from an enclave.
    ///
    /// # Errors
    /// [`FrameError::Malformed`] unless it is a reply without an id, of one known byte.
    pub fn decode(frame: &Frame) -> Result<Self, FrameError> {
        match (frame.kind, frame.id, &frame.body[..]) {
            (Kind::HelloReply, 0, [0]) => Ok(Self::Accepted),
            (Kind::HelloReply, 0, [1]) => Ok(Self::OtherSession),
            _ => Err(FrameError::Malformed("reply to hello")),
        }
    }
}

/// The body of [`Kind::Connected`]: one byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ConnectReply {
    /// Connected; raw bytes follow.
    Connected = 0,
    /// The destination is not on the pod's allow-list.
    NotAllowed = 1,
    /// The destination failed to resolve or to respond.
    Unreachable = 2,
    /// The pod has too many streams open.
    TooManyStreams = 3,
}

impl ConnectReply {
    /// Reads the body of a connect reply.
    ///
    /// # Errors
    /// [`FrameError::Malformed`] unless it is one known byte.
    pub fn decode(body: &[u8]) -> Result<Self, FrameError> {
        match body {
            [0] => Ok(Self::Connected),
            [1] => Ok(Self::NotAllowed),
            [2] => Ok(Self::Unreachable),
            [3] => Ok(Self::TooManyStreams),
            _ => Err(FrameError::Malformed("reply to connect")),
        }
    }
}

/// One frame.
#[derive(Clone, PartialEq, Eq)]
pub struct Frame {
    /// The kind.
    pub kind: Kind,
    /// The request it belongs to; 0 when none.
    pub id: u64,
    /// The content, which may hold secrets.
    pub body: Bytes,
}

impl Frame {
    /// A frame that belongs to no request.
    pub fn control(kind: Kind, body: impl Into<Bytes>) -> Self {
        Self {
            kind,
            id: 0,
            body: body.into(),
        }
    }

    /// The frame after its length prefix, as one piece.
    ///
    /// # Errors
    /// [`FrameError::TooLong`] if it exceeds [`MAX_FRAME_LEN`].
    pub fn encode(&self) -> Result<Bytes, FrameError> {
        let [_, _, _, _, header @ ..] = self.head()?;
        let mut out = BytesMut::with_capacity(HEADER_LEN + self.body.len());
        out.put_slice(&header);
        out.put_slice(&self.body);
        Ok(out.freeze())
    }

    /// The length prefix and the header: what precedes the body on the connection.
    ///
    /// # Errors
    /// [`FrameError::TooLong`] if the frame exceeds [`MAX_FRAME_LEN`].
    pub fn head(&self) -> Result<[u8; LENGTH_PREFIX_LEN + HEADER_LEN], FrameError> {
        let length = HEADER_LEN + self.body.len();
        if length > MAX_FRAME_LEN {
            return Err(FrameError::TooLong);
        }
        let mut head = [0; LENGTH_PREFIX_LEN + HEADER_LEN];
        let mut out = &mut head[..];
        out.put_u32(u32::try_from(length).map_err(|_| FrameError::TooLong)?);
        out.put_u8(FRAME_VERSION);
        out.put_u8(self.kind as u8);
        out.put_u64(self.id);
        Ok(head)
    }

    /// Reads kind and id from a frame's header, for a frame whose body is not going to be read.
    ///
    /// # Errors
    /// [`FrameError::Malformed`] if the version or the kind is unknown.
    pub fn decode_header(header: &[u8; HEADER_LEN]) -> Result<(Kind, u64), FrameError> {
        let mut header = &header[..];
        if header.get_u8() != FRAME_VERSION {
            return Err(FrameError::Malformed("version"));
        }
        let kind = Kind::from_byte(header.get_u8()).ok_or(FrameError::Malformed("kind"))?;
        Ok((kind, header.get_u64()))
    }

    /// Reads a frame from the bytes after its length prefix. Unknown extensions are skipped, critical
    /// ones refused.
    ///
    /// # Errors
    /// [`FrameError`] unless the bytes are exactly one well-formed frame.
    pub fn decode(mut bytes: Bytes) -> Result<Self, FrameError> {
        if bytes.len() > MAX_FRAME_LEN {
            return Err(FrameError::TooLong);
        }
        if bytes.len() < HEADER_LEN {
            return Err(FrameError::Malformed("header"));
        }
        let header = bytes.split_to(HEADER_LEN);
        let (header, _) = header.split_first_chunk().expect("its length was checked");
        let (kind, id) = Self::decode_header(header)?;
        let extensions_len = usize::from(u16::from_be_bytes([header[10], header[11]]));
        if extensions_len > MAX_EXTENSIONS_LEN || extensions_len > bytes.len() {
            return Err(FrameError::Malformed("extensions"));
        }
        skip_extensions(bytes.split_to(extensions_len))?;
        Ok(Self {
            kind,
            id,
            body: bytes,
        })
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frame")
            .field("kind", &self.kind)
            .field("id", &self.id)
            .field("body_length", &self.body.len())
            .finish()
    }
}

/// Tags ascend strictly, which excludes duplicates.
fn skip_extensions(mut extensions: Bytes) -> Result<(), FrameError> {
    let mut last = None;
    while !extensions.is_empty() {
        if extensions.len() < 4 {
            return Err(FrameError::Malformed("extensions"));
        }
        let tag = extensions.get_u16();
        let length = usize::from(extensions.get_u16());
        if length > extensions.len() || last.is_some_and(|last| tag <= last) {
            return Err(FrameError::Malformed("extensions"));
        }
        if tag & CRITICAL != 0 {
            return Err(FrameError::UnknownCriticalExtension(tag));
        }
        extensions.advance(length);
        last = Some(tag);
    }
    Ok(())
}

/// Errors of decoding and encoding frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// Longer than [`MAX_FRAME_LEN`].
    #[error("frame longer than {MAX_FRAME_LEN} bytes")]
    TooLong,
    /// Malformed in the named part.
    #[error("malformed frame: {0}")]
    Malformed(&'static str),
    /// An unknown extension that must not be ignored.
    #[error("unknown critical extension {0:#06x}")]
    UnknownCriticalExtension(u16),
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn with_extensions(extensions: &[u8]) -> Bytes {
        let mut out = BytesMut::new();
        out.put_slice(&[1, 2, 0, 0, 0, 0, 0, 0, 0, 9]);
        out.put_u16(u16::try_from(extensions.len()).unwrap());
        out.put_slice(extensions);
        out.put_slice(b"body");
        out.freeze()
    }

    #[test]
    fn unknown_extensions_are_skipped_unless_critical() {
        let frame = Frame::decode(with_extensions(&[0, 1, 0, 2, 7, 7, 0, 2, 0, 0])).unwrap();
        assert_eq!((frame.id, &frame.body[..]), (9, &b"body"[..]));
        assert_eq!(
            Frame::decode(with_extensions(&[0x80, 1, 0, 0])),
            Err(FrameError::UnknownCriticalExtension(0x8001))
        );
        for bad in [
            &[0, 1, 0, 0, 0, 1, 0, 0][..],
            &[0, 2, 0, 0, 0, 1, 0, 0],
            &[0, 1, 0],
            &[0, 1, 0, 9],
        ] {
            assert_eq!(
                Frame::decode(with_extensions(bad)),
                Err(FrameError::Malformed("extensions"))
            );
        }
    }

    #[test]
    fn a_body_is_not_shown() {
        let frame = Frame::control(Kind::Request, &b"hunter2"[..]);
        assert_eq!(
            format!("{frame:?}"),
            "Frame { kind: Request, id: 0, body_length: 7 }"
        );
    }

    #[test]
    fn limits_hold() {
        let largest = Frame::control(Kind::Request, vec![0; MAX_FRAME_LEN - HEADER_LEN]);
        assert_eq!(Frame::decode(largest.encode().unwrap()), Ok(largest));
        assert_eq!(
            Frame::control(Kind::Request, vec![0; MAX_FRAME_LEN - HEADER_LEN + 1]).encode(),
            Err(FrameError::TooLong)
        );
    }

    #[test]
    fn a_reply_to_hello_is_one_known_byte() {
        for reply in [HelloReply::Accepted, HelloReply::OtherSession] {
            assert_eq!(HelloReply::decode(&reply.frame()), Ok(reply));
        }
        let other_id = Frame {
            id: 1,
            ..HelloReply::Accepted.frame()
        };
        for wrong in [
            Frame::control(Kind::HelloReply, vec![]),
            Frame::control(Kind::HelloReply, vec![2]),
            Frame::control(Kind::HelloReply, vec![0, 0]),
            Frame::control(Kind::Connected, vec![0]),
            other_id,
        ] {
            assert!(HelloReply::decode(&wrong).is_err(), "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn a_hello_round_trips(egress: bool, session: [u8; SESSION_LEN]) {
            let purpose = if egress { Purpose::Egress } else { Purpose::Requests };
            let session = SessionValue::new(session);
            let hello = Hello { purpose, session: session.clone() };
            let read = Hello::decode(&hello.frame()).unwrap();
            prop_assert_eq!(read.purpose, purpose);
            prop_assert!(read.session.matches(&session));
        }

        /// Purpose and session are the whole of it: nothing else is a hello, and nothing is read
        /// as one that is not written alike.
        #[test]
        fn arbitrary_frames_are_refused_or_written_alike(
            kind in 1..=6_u8, id in 0..2_u64, body in prop::collection::vec(any::<u8>(), 0..40)
        ) {
            let kind = Kind::from_byte(kind).unwrap();
            let frame = Frame { kind, id, body: body.clone().into() };
            let shaped = kind == Kind::Hello
                && id == 0
                && body.len() == 1 + SESSION_LEN
                && matches!(body[0], 1 | 2);
            match Hello::decode(&frame) {
                Ok(hello) => prop_assert_eq!(hello.frame(), frame),
                Err(error) => prop_assert!(!shaped, "{}", error),
            }
        }

        #[test]
        fn hellos_of_every_length_are_refused_but_one(len in 0..80_usize, purpose in 1..=2_u8) {
            let body = [vec![purpose], vec![7; len]].concat();
            let read = Hello::decode(&Frame::control(Kind::Hello, body));
            prop_assert_eq!(read.is_ok(), len == SESSION_LEN);
        }

        #[test]
        fn round_trip(id: u64, body: Vec<u8>) {
            let frame = Frame { kind: Kind::Response, id, body: body.into() };
            prop_assert_eq!(Frame::decode(frame.encode().unwrap()), Ok(frame));
        }

        #[test]
        fn arbitrary_bytes_never_panic_and_re_encode_alike(bytes: Vec<u8>) {
            if let Ok(frame) = Frame::decode(bytes.clone().into())
                && bytes[10..12] == [0, 0]
            {
                prop_assert_eq!(&frame.encode().unwrap()[..], &bytes[..]);
            }
        }
    }
}
