//! Reads frames from a byte stream, each part of them within its deadline.

use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use cloister_protocol::frame::{Frame, HEADER_LEN, Kind, LENGTH_PREFIX_LEN};
use cloister_protocol::limits::{BODY_DEADLINE, HEADER_DEADLINE, IDLE_DEADLINE};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use zeroize::Zeroize as _;

use crate::budget::{ByteBudget, Charge};
use crate::exchange::{frame_len, within};
use crate::{Stage, TransportError};

/// Deadlines of a connection. The default is [`cloister_protocol::limits`], the ceiling of every
/// deployment.
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
    /// The default with another deadline for the first byte.
    pub fn with_idle(idle: Duration) -> Self {
        Self {
            idle,
            ..Self::default()
        }
    }
}

/// Reads the frames of a connection that carries nothing but frames.
pub(crate) struct FrameReader<R> {
    reader: R,
    deadlines: Deadlines,
    budget: Option<ByteBudget>,
    buffer: Buffer,
}

/// A frame as it arrived.
#[derive(Debug)]
pub(crate) enum Arrival {
    /// The frame, with what it takes of the budget. Short frames take nothing: their number is
    /// bounded elsewhere.
    Frame(Frame, Option<Charge>),
    /// A frame for which the budget had nothing left; its body was thrown away.
    OverBudget {
        /// The kind in its header.
        kind: Kind,
        /// The request it belonged to.
        id: u64,
    },
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    /// Frames of any length, one at a time.
    pub(crate) fn new(reader: R, deadlines: Deadlines) -> Self {
        Self {
            reader,
            deadlines,
            budget: None,
            buffer: Buffer::new(),
        }
    }

    /// Frames that fit into `budget`.
    pub(crate) fn with_budget(reader: R, deadlines: Deadlines, budget: ByteBudget) -> Self {
        Self {
            budget: Some(budget),
            ..Self::new(reader, deadlines)
        }
    }

    /// The next frame; `None` if the peer closed the connection after a whole one. Not to be called
    /// again after a call that was dropped.
    pub(crate) async fn next(&mut self) -> Result<Option<Arrival>, TransportError> {
        let Deadlines { idle, header, body } = self.deadlines;
        if self.buffer.filled().is_empty() && !within(idle, Stage::Idle, self.fill()).await? {
            return Ok(None);
        }
        let length = within(header, Stage::Header, self.head()).await?;
        within(body, Stage::Body, self.rest(length)).await.map(Some)
    }

    /// Reads until the header is in the buffer. Returns the frame's length after the prefix.
    async fn head(&mut self) -> Result<usize, TransportError> {
        let mut length = None;
        loop {
            let filled = self.buffer.filled();
            if let Some(prefix) = filled.first_chunk()
                && length.is_none()
            {
                length = Some(frame_len(*prefix)?);
            }
            match length {
                Some(length) if filled.len() >= LENGTH_PREFIX_LEN + HEADER_LEN => {
                    return Ok(length);
                }
                _ => self.more().await?,
            }
        }
    }

    async fn rest(&mut self, length: usize) -> Result<Arrival, TransportError> {
        let whole = LENGTH_PREFIX_LEN + length;
        if whole > BUFFER_LEN {
            self.buffer.consume(LENGTH_PREFIX_LEN);
            return self.long_frame(length).await;
        }
        while self.buffer.filled().len() < whole {
            self.more().await?;
        }
        let frame = Bytes::copy_from_slice(&self.buffer.filled()[LENGTH_PREFIX_LEN..whole]);
        self.buffer.consume(whole);
        Ok(Arrival::Frame(Frame::decode(frame)?, None))
    }

    /// Reads a frame that does not fit into the buffer, with memory that grows as it arrives.
    async fn long_frame(&mut self, length: usize) -> Result<Arrival, TransportError> {
        let header = self.buffer.filled().first_chunk();
        let (kind, id) = Frame::decode_header(header.expect("it has been read"))?;
        let mut charge = self.budget.as_ref().map(ByteBudget::charge);
        let mut frame = BytesMut::new();
        while frame.len() < length {
            if frame.len() == frame.capacity() {
                let capacity = (2 * frame.capacity()).max(2 * BUFFER_LEN).min(length);
                if let Some(charge) = &mut charge
                    && charge.grow_to(capacity).is_err()
                {
                    let missing = length - frame.len();
                    drop(frame);
                    self.discard(missing).await?;
                    return Ok(Arrival::OverBudget { kind, id });
                }
                let mut grown = BytesMut::with_capacity(capacity);
                grown.put_slice(&frame);
                frame = grown;
            }
            let room = (frame.capacity().min(length)) - frame.len();
            if self.buffer.filled().is_empty() {
                let mut rest = (&mut frame).limit(room);
                if self.reader.read_buf(&mut rest).await? == 0 {
                    return Err(TransportError::Truncated);
                }
            } else {
                let buffered = room.min(self.buffer.filled().len());
                frame.put_slice(&self.buffer.filled()[..buffered]);
                self.buffer.consume(buffered);
            }
        }
        Ok(Arrival::Frame(Frame::decode(frame.freeze())?, charge))
    }

    async fn discard(&mut self, mut missing: usize) -> Result<(), TransportError> {
        loop {
            let buffered = missing.min(self.buffer.filled().len());
            self.buffer.consume(buffered);
            missing -= buffered;
            if missing == 0 {
                return Ok(());
            }
            self.more().await?;
        }
    }

    async fn more(&mut self) -> Result<(), TransportError> {
        if self.fill().await? {
            Ok(())
        } else {
            Err(TransportError::Truncated)
        }
    }

    /// Reads once into the buffer; false at the end of the stream.
    async fn fill(&mut self) -> Result<bool, TransportError> {
        let read = self.reader.read(self.buffer.room()).await?;
        self.buffer.end += read;
        Ok(read > 0)
    }
}

/// Bytes that were read and not yet used. Used ones are wiped: they may be secrets.
struct Buffer {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Buffer {
    fn new() -> Self {
        Self {
            bytes: vec![0; BUFFER_LEN].into(),
            start: 0,
            end: 0,
        }
    }

    fn filled(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// Space to read more into. Never empty while less than [`BUFFER_LEN`] bytes are filled.
    fn room(&mut self) -> &mut [u8] {
        if self.end == BUFFER_LEN {
            self.bytes.copy_within(self.start..self.end, 0);
            let filled = self.end - self.start;
            self.bytes[filled..].zeroize();
            (self.start, self.end) = (0, filled);
        }
        &mut self.bytes[self.end..]
    }

    fn consume(&mut self, count: usize) {
        self.bytes[self.start..self.start + count].zeroize();
        self.start += count;
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }
}

/// Bytes of a connection's buffer, which is also the longest frame that is not charged to the
/// budget.
const BUFFER_LEN: usize = 8 * 1024;

#[cfg(test)]
mod tests {
    use cloister_protocol::frame::FrameError;
    use cloister_protocol::limits::MAX_FRAME_LEN;
    use proptest::prelude::*;

    use super::*;

    /// Reads `bytes` that arrive in pieces.
    async fn read_in_pieces(
        bytes: &[u8],
        piece: usize,
        budget: &ByteBudget,
    ) -> (Vec<Arrival>, Option<TransportError>) {
        let (mut near, far) = tokio::io::duplex(piece);
        let mut reader = FrameReader::with_budget(far, Deadlines::default(), budget.clone());
        let write = async {
            // Fails if the reader has given up.
            let _ = tokio::io::AsyncWriteExt::write_all(&mut near, bytes).await;
            drop(near);
        };
        let read = async {
            let mut arrivals = Vec::new();
            loop {
                match reader.next().await {
                    Ok(Some(arrival)) => arrivals.push(arrival),
                    Ok(None) => return (arrivals, None),
                    Err(error) => {
                        drop(reader);
                        return (arrivals, Some(error));
                    }
                }
            }
        };
        tokio::join!(read, write).0
    }

    fn frames(bodies: &[Vec<u8>]) -> (Vec<Frame>, Vec<u8>) {
        let frames: Vec<_> = (1..)
            .zip(bodies)
            .map(|(id, body)| Frame {
                kind: Kind::Request,
                id,
                body: body.clone().into(),
            })
            .collect();
        let bytes = frames
            .iter()
            .flat_map(|frame| [&frame.head().unwrap()[..], &frame.body].concat())
            .collect();
        (frames, bytes)
    }

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(future)
    }

    proptest! {
        #[test]
        fn frames_arrive_however_they_are_cut(
            bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20_000), 0..5),
            piece in 1..9_000_usize,
        ) {
            let (sent, bytes) = frames(&bodies);
            let budget = ByteBudget::new(1024 * 1024);
            let (arrivals, error) = run(read_in_pieces(&bytes, piece, &budget));
            prop_assert!(error.is_none(), "{error:?}");
            let arrived: Vec<_> = arrivals
                .into_iter()
                .filter_map(|arrival| match arrival {
                    Arrival::Frame(frame, _) => Some(frame),
                    Arrival::OverBudget { .. } => None,
                })
                .collect();
            prop_assert_eq!(arrived, sent);
            prop_assert_eq!(budget.left(), 1024 * 1024);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>, piece in 1..40_usize) {
            run(read_in_pieces(&bytes, piece, &ByteBudget::new(0)));
        }
    }

    #[tokio::test]
    async fn a_frame_over_budget_is_skipped_and_its_neighbours_arrive() {
        let (_, bytes) = frames(&[vec![1; 100], vec![2; 100_000], vec![3; 8_000]]);
        let budget = ByteBudget::new(64 * 1024);
        let (arrivals, error) = read_in_pieces(&bytes, 4096, &budget).await;
        assert!(error.is_none(), "{error:?}");
        let ids: Vec<_> = arrivals
            .iter()
            .map(|arrival| match arrival {
                Arrival::Frame(frame, charge) => (frame.id, charge.is_some(), false),
                Arrival::OverBudget { kind, id } => (*id, false, *kind == Kind::Request),
            })
            .collect();
        assert_eq!(
            ids,
            [(1, false, false), (2, false, true), (3, false, false)]
        );
        assert_eq!(budget.left(), 64 * 1024, "nothing stays charged");
    }

    #[tokio::test]
    async fn a_frame_is_charged_while_it_is_held() {
        let (_, bytes) = frames(&[vec![1; 100_000]]);
        let budget = ByteBudget::new(256 * 1024);
        let (arrivals, _) = read_in_pieces(&bytes, 4096, &budget).await;
        assert!(budget.left() <= 256 * 1024 - 100_000);
        drop(arrivals);
        assert_eq!(budget.left(), 256 * 1024);
    }

    #[tokio::test]
    async fn an_announced_frame_is_charged_as_it_arrives() {
        let (_, bytes) = frames(&[vec![1; 500_000]]);
        let budget = ByteBudget::new(1024 * 1024);
        let (mut near, far) = tokio::io::duplex(1024);
        let mut reader = FrameReader::with_budget(far, Deadlines::default(), budget.clone());
        let write = async {
            tokio::io::AsyncWriteExt::write_all(&mut near, &bytes[..20_000])
                .await
                .unwrap();
            // The pipe is shorter than what was written last: the reader has taken the rest.
            std::future::pending::<()>().await;
        };
        let charged = async {
            while budget.left() == 1024 * 1024 {
                tokio::task::yield_now().await;
            }
            1024 * 1024 - budget.left()
        };
        let charged = tokio::select! {
            biased;
            read = reader.next() => panic!("{read:?}"),
            () = write => unreachable!(),
            charged = charged => charged,
        };
        assert!(charged <= 32 * 1024, "{charged}");
    }

    #[tokio::test]
    async fn an_oversize_length_is_refused_before_anything_is_allocated() {
        let length = u32::try_from(MAX_FRAME_LEN + 1).unwrap().to_be_bytes();
        let (arrivals, error) = read_in_pieces(&length, 4, &ByteBudget::new(0)).await;
        assert!(arrivals.is_empty());
        assert!(matches!(
            error,
            Some(TransportError::Frame(FrameError::TooLong))
        ));
    }

    #[test]
    fn used_bytes_are_wiped() {
        let mut buffer = Buffer::new();
        buffer.room()[..6].copy_from_slice(b"secret");
        buffer.end += 6;
        buffer.consume(3);
        assert_eq!(buffer.filled(), b"ret");
        buffer.consume(3);
        assert!(buffer.bytes.iter().all(|byte| *byte == 0));
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
