//! Single frames on a connection that may turn into something else afterwards: nothing is read past
//! their end.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use cloister_protocol::frame::{Frame, FrameError, HEADER_LEN, LENGTH_PREFIX_LEN};
use cloister_protocol::limits::MAX_FRAME_LEN;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

use crate::outgoing::append;
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
    let mut prefix = [0; LENGTH_PREFIX_LEN];
    if within(deadlines.idle, Stage::Idle, reader.read(&mut prefix[..1])).await? == 0 {
        return Ok(None);
    }
    let mut frame = BytesMut::zeroed(HEADER_LEN);
    let rest_of_head = async {
        reader.read_exact(&mut prefix[1..]).await?;
        reader.read_exact(&mut frame).await
    };
    within(deadlines.header, Stage::Header, rest_of_head).await?;
    let length = usize::try_from(u32::from_be_bytes(prefix)).map_err(|_| FrameError::TooLong)?;
    if length > MAX_FRAME_LEN {
        return Err(FrameError::TooLong.into());
    }
    if length < HEADER_LEN {
        return Err(FrameError::Malformed("header").into());
    }
    frame.resize(length, 0);
    within(
        deadlines.body,
        Stage::Body,
        reader.read_exact(&mut frame[HEADER_LEN..]),
    )
    .await?;
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
    let mut bytes = BytesMut::new();
    append(&mut bytes, frame)?;
    within(deadlines.body, Stage::Write, writer.write_all(&bytes)).await
}

async fn within<T>(
    deadline: Duration,
    stage: Stage,
    operation: impl Future<Output = io::Result<T>>,
) -> Result<T, TransportError> {
    match timeout(deadline, operation).await {
        Err(_) => Err(TransportError::TimedOut(stage)),
        Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
            Err(TransportError::Truncated)
        }
        Ok(outcome) => Ok(outcome?),
    }
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
