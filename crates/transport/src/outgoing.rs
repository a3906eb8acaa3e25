//! The writing half of a multiplexed connection.

use bytes::{BufMut as _, BytesMut};
use cloister_protocol::frame::{Frame, FrameError};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio::task::yield_now;
use tokio::time::timeout;

use crate::{Deadlines, Stage, TransportError};

/// Writes frames until nobody can queue any more, then closes this direction. Frames that queue up
/// while others are being written leave together: a wake-up of the peer costs more than the frame
/// it is woken for.
pub(crate) async fn write_frames<W: AsyncWrite + Unpin>(
    mut writer: W,
    mut queue: mpsc::Receiver<Frame>,
    deadlines: Deadlines,
) -> Result<(), TransportError> {
    let mut batch = BytesMut::new();
    while let Some(first) = queue.recv().await {
        append(&mut batch, &first)?;
        // Tasks that are ready to queue a frame too get to do so first.
        yield_now().await;
        while batch.len() < BATCH_LEN
            && let Ok(next) = queue.try_recv()
        {
            append(&mut batch, &next)?;
        }
        timeout(deadlines.body, writer.write_all(&batch))
            .await
            .map_err(|_| TransportError::TimedOut(Stage::Write))??;
        batch.clear();
        if batch.capacity() > 4 * BATCH_LEN {
            batch = BytesMut::new();
        }
    }
    writer.shutdown().await?;
    Ok(())
}

/// Appends a frame and its length prefix.
pub(crate) fn append(bytes: &mut BytesMut, frame: &Frame) -> Result<(), FrameError> {
    let encoded = frame.encode()?;
    bytes.reserve(4 + encoded.len());
    bytes.put_u32(u32::try_from(encoded.len()).map_err(|_| FrameError::TooLong)?);
    bytes.put_slice(&encoded);
    Ok(())
}

/// Bytes after which a batch leaves although more could be added.
const BATCH_LEN: usize = 64 * 1024;
