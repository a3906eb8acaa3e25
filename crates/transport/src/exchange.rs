//! Reads and writes single frames on a connection that may carry something else afterwards: nothing
//! is read past a frame's end.

use std::time::Duration;

use bytes::BytesMut;
use cloister_protocol::frame::{Frame, FrameError, HEADER_LEN, LENGTH_PREFIX_LEN};
use cloister_protocol::limits::MAX_FRAME_LEN;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

use crate::{Deadlines, Stage, TransportError};

/// Reads exactly one frame and not a byte more; `None` when the peer closed the connection before
/// it began.
///
/// # Errors
/// [`TransportError`]; the connection is of no use afterwards.
pub async fn read_frame<R>(
    reader: &mut R,
    deadlines: Deadlines,
) -> Result<Option<Frame>, TransportError>
where
    R: AsyncRead + Unpin,
{
    read_frame_of(reader, deadlines, MAX_FRAME_LEN).await
}

/// [`read_frame`] for a frame of at most `max_len` bytes after the length prefix.
pub(crate) async fn read_frame_of<R>(
    reader: &mut R,
    deadlines: Deadlines,
    max_len: usize,
) -> Result<Option<Frame>, TransportError>
where
    R: AsyncRead + Unpin,
{
    let mut prefix = [0; LENGTH_PREFIX_LEN];
    let first = async { Ok(reader.read(&mut prefix[..1]).await?) };
    if within(deadlines.idle, Stage::Idle, first).await? == 0 {
        return Ok(None);
    }
    let mut frame = BytesMut::zeroed(HEADER_LEN);
    let rest_of_head = async {
        reader.read_exact(&mut prefix[1..]).await?;
        reader.read_exact(&mut frame).await?;
        Ok(())
    };
    within(deadlines.header, Stage::Header, rest_of_head).await?;
    let length = frame_len(prefix)?;
    if length > max_len {
        return Err(FrameError::TooLong.into());
    }
    frame.resize(length, 0);
    let body = async {
        reader.read_exact(&mut frame[HEADER_LEN..]).await?;
        Ok(())
    };
    within(deadlines.body, Stage::Body, body).await?;
    Ok(Some(Frame::decode(frame.freeze())?))
}

/// Writes one frame.
///
/// # Errors
/// [`TransportError`]; the connection is of no use afterwards.
pub async fn write_frame<W>(
    writer: &mut W,
    frame: &Frame,
    deadlines: Deadlines,
) -> Result<(), TransportError>
where
    W: AsyncWrite + Unpin,
{
    let mut bytes = BytesMut::from(&frame.head()?[..]);
    bytes.extend_from_slice(&frame.body);
    write_all(writer, &bytes, deadlines).await
}

/// Writes `bytes`, and gives up if the peer does not take them in time.
pub(crate) async fn write_all<W>(
    writer: &mut W,
    bytes: &[u8],
    deadlines: Deadlines,
) -> Result<(), TransportError>
where
    W: AsyncWrite + Unpin,
{
    let write = async { Ok(writer.write_all(bytes).await?) };
    within(deadlines.body, Stage::Write, write).await
}

/// The length of a frame, read from its prefix and checked before anything is allocated for it.
pub(crate) fn frame_len(prefix: [u8; LENGTH_PREFIX_LEN]) -> Result<usize, FrameError> {
    match usize::try_from(u32::from_be_bytes(prefix)) {
        Ok(length) if length < HEADER_LEN => Err(FrameError::Malformed("header")),
        Ok(length) if length <= MAX_FRAME_LEN => Ok(length),
        _ => Err(FrameError::TooLong),
    }
}

pub(crate) async fn within<T>(
    deadline: Duration,
    stage: Stage,
    operation: impl Future<Output = Result<T, TransportError>>,
) -> Result<T, TransportError> {
    timeout(deadline, operation)
        .await
        .unwrap_or(Err(TransportError::TimedOut(stage)))
}

#[cfg(test)]
mod tests {
    use cloister_protocol::frame::Kind;

    use super::*;

    #[tokio::test]
    async fn what_follows_a_frame_stays_in_the_connection() {
        let frame = Frame::control(Kind::Connect, "kms.eu-central-1.amazonaws.com:443");
        let (mut near, mut far) = tokio::io::duplex(4096);
        write_frame(&mut near, &frame, Deadlines::default())
            .await
            .unwrap();
        near.write_all(b"raw").await.unwrap();
        drop(near);
        assert_eq!(
            read_frame(&mut far, Deadlines::default()).await.unwrap(),
            Some(frame)
        );
        let mut rest = Vec::new();
        far.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"raw");
        assert!(
            read_frame(&mut far, Deadlines::default())
                .await
                .unwrap()
                .is_none()
        );
    }

    #[tokio::test]
    async fn half_a_frame_and_impossible_lengths_are_refused() {
        let mut half: &[u8] = &[0, 0, 0, 13, 1, 1, 0, 0];
        assert!(matches!(
            read_frame(&mut half, Deadlines::default()).await,
            Err(TransportError::Truncated)
        ));
        for length in [0, 11, u32::try_from(MAX_FRAME_LEN + 1).unwrap(), u32::MAX] {
            let mut bytes = length.to_be_bytes().to_vec();
            bytes.extend([0; HEADER_LEN]);
            let refused = read_frame(&mut &bytes[..], Deadlines::default()).await;
            assert!(matches!(refused, Err(TransportError::Frame(_))), "{length}");
        }
    }

    #[tokio::test]
    async fn each_part_has_its_own_deadline() {
        let short = Duration::from_millis(20);
        let patient = Duration::from_secs(600);
        for (sent, stage) in [
            (0, Stage::Idle),
            (1, Stage::Header),
            (15, Stage::Header),
            (16, Stage::Body),
        ] {
            let deadlines = Deadlines {
                idle: if stage == Stage::Idle { short } else { patient },
                header: if stage == Stage::Header {
                    short
                } else {
                    patient
                },
                body: if stage == Stage::Body { short } else { patient },
            };
            let (mut near, mut far) = tokio::io::duplex(4096);
            let mut bytes = vec![0, 0, 0, 20];
            bytes.extend([0; 20]);
            near.write_all(&bytes[..sent]).await.unwrap();
            let TransportError::TimedOut(at) = read_frame(&mut far, deadlines).await.unwrap_err()
            else {
                panic!("not the deadline")
            };
            assert_eq!(at, stage);
        }
    }
}
