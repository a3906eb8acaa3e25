//! Frames out of a byte stream, each part of them within its deadline.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use cloister_protocol::frame::{Frame, FrameError, HEADER_LEN, LENGTH_PREFIX_LEN};
use cloister_protocol::limits::{BODY_DEADLINE, HEADER_DEADLINE, IDLE_DEADLINE, MAX_FRAME_LEN};
use futures_util::Stream as _;
use tokio::io::AsyncRead;
use tokio::time::sleep;
use tokio_util::codec::{Decoder, FramedRead, LengthDelimitedCodec};

use crate::{Stage, TransportError};

/// How long a connection waits for what. The default is [`cloister_protocol::limits`], the ceiling
/// of every deployment.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    /// For the first byte of a frame.
    pub idle: Duration,
    /// For the length prefix and header, from the first byte on.
    pub header: Duration,
    /// For the rest of the frame, from the header on; also for the peer to take one batch of what
    /// is written.
    pub body: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            idle: IDLE_DEADLINE,
            header: HEADER_DEADLINE,
            body: BODY_DEADLINE,
        }
    }
}

impl Deadlines {
    /// The default with another patience for the first byte.
    pub fn with_idle(idle: Duration) -> Self {
        Self {
            idle,
            ..Self::default()
        }
    }

    fn of(&self, stage: Stage) -> Duration {
        match stage {
            Stage::Idle => self.idle,
            Stage::Header => self.header,
            _ => self.body,
        }
    }
}

/// Reads the frames of a connection that carries nothing but frames.
pub(crate) struct FrameReader<R> {
    frames: FramedRead<R, FrameDecoder>,
    deadlines: Deadlines,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    pub(crate) fn new(reader: R, deadlines: Deadlines) -> Self {
        Self {
            frames: FramedRead::new(reader, FrameDecoder::new()),
            deadlines,
        }
    }

    /// The next frame; `None` when the peer closed the connection after a whole one.
    pub(crate) async fn next(&mut self) -> Result<Option<Frame>, TransportError> {
        let mut stage = self.stage();
        let mut deadline = pin!(sleep(self.deadlines.of(stage)));
        poll_fn(|cx| {
            if let Poll::Ready(frame) = Pin::new(&mut self.frames).poll_next(cx) {
                return Poll::Ready(frame.transpose());
            }
            let reached = self.stage();
            if reached != stage {
                stage = reached;
                deadline.set(sleep(self.deadlines.of(stage)));
            }
            deadline
                .as_mut()
                .poll(cx)
                .map(|()| Err(TransportError::TimedOut(stage)))
        })
        .await
    }

    fn stage(&self) -> Stage {
        match self.frames.read_buffer().len() {
            0 => Stage::Idle,
            1..FRAME_HEAD_LEN => Stage::Header,
            _ => Stage::Body,
        }
    }
}

const FRAME_HEAD_LEN: usize = LENGTH_PREFIX_LEN + HEADER_LEN;

/// The length prefix stays in the buffer until its frame is whole, so that the buffer's length
/// tells how far a frame has come. The length is checked before anything is allocated for it.
struct FrameDecoder(LengthDelimitedCodec);

impl FrameDecoder {
    fn new() -> Self {
        Self(
            LengthDelimitedCodec::builder()
                .length_field_type::<u32>()
                .max_frame_length(MAX_FRAME_LEN)
                .length_adjustment(4)
                .num_skip(0)
                .new_codec(),
        )
    }
}

impl Decoder for FrameDecoder {
    type Item = Frame;
    type Error = TransportError;

    fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<Frame>, TransportError> {
        let Some(mut whole) = self.0.decode(buffer).map_err(|_| FrameError::TooLong)? else {
            return Ok(None);
        };
        whole.advance(LENGTH_PREFIX_LEN);
        Ok(Some(Frame::decode(whole.freeze())?))
    }

    fn decode_eof(&mut self, buffer: &mut BytesMut) -> Result<Option<Frame>, TransportError> {
        match self.decode(buffer)? {
            None if !buffer.is_empty() => Err(TransportError::Truncated),
            frame => Ok(frame),
        }
    }
}

#[cfg(test)]
mod tests {
    use cloister_protocol::frame::Kind;
    use proptest::prelude::*;

    use super::*;

    fn decode_in_pieces(bytes: &[u8], piece: usize) -> Vec<Frame> {
        let mut decoder = FrameDecoder::new();
        let mut buffer = BytesMut::new();
        let mut frames = Vec::new();
        for chunk in bytes.chunks(piece) {
            buffer.extend_from_slice(chunk);
            while let Ok(Some(frame)) = decoder.decode(&mut buffer) {
                frames.push(frame);
            }
        }
        frames
    }

    proptest! {
        #[test]
        fn frames_arrive_however_they_are_cut(bodies: Vec<Vec<u8>>, piece in 1..40_usize) {
            let frames: Vec<_> = (1..)
                .zip(&bodies)
                .map(|(id, body)| Frame { kind: Kind::Request, id, body: body.clone().into() })
                .collect();
            let mut bytes = BytesMut::new();
            for frame in &frames {
                crate::outgoing::append(&mut bytes, frame).unwrap();
            }
            prop_assert_eq!(decode_in_pieces(&bytes, piece), frames);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>, piece in 1..40_usize) {
            decode_in_pieces(&bytes, piece);
        }
    }

    #[test]
    fn an_oversize_length_is_refused_before_anything_is_allocated() {
        let mut buffer =
            BytesMut::from(&u32::try_from(MAX_FRAME_LEN + 1).unwrap().to_be_bytes()[..]);
        let refused = FrameDecoder::new().decode(&mut buffer).unwrap_err();
        assert!(matches!(
            refused,
            TransportError::Frame(FrameError::TooLong)
        ));
        assert!(buffer.capacity() < 1024);
    }

    #[test]
    fn the_defaults_are_the_limits_of_the_protocol() {
        let deadlines = Deadlines::default();
        assert_eq!(
            (deadlines.header, deadlines.body, deadlines.idle),
            (HEADER_DEADLINE, BODY_DEADLINE, IDLE_DEADLINE)
        );
    }
}
