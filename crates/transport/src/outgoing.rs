//! The writing half of a multiplexed connection.

use bytes::{BufMut as _, BytesMut};
use cloister_protocol::frame::Frame;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio::task::yield_now;

use crate::exchange::write_all;
use crate::{Deadlines, TransportError};

/// Writes frames until every sender of the queue is gone, then closes this direction. What is
/// queued with a frame is dropped once the frame has been written.
///
/// Frames that queue up while others are being written leave together: a wake-up of the peer costs
/// more than the frame it is woken for.
pub(crate) async fn write_frames<W, T>(
    mut writer: W,
    mut queue: mpsc::Receiver<(Frame, T)>,
    deadlines: Deadlines,
) -> Result<(), TransportError>
where
    W: AsyncWrite + Unpin,
{
    let mut batch = BytesMut::new();
    let mut held = Vec::new();
    while let Some(first) = queue.recv().await {
        // Tasks that are ready to queue a frame too get to do so first.
        yield_now().await;
        let mut next = Some(first);
        while let Some((frame, with)) = next {
            batch.put_slice(&frame.head()?);
            held.push(with);
            if frame.body.len() > LARGE_LEN {
                // Written from where it is: a copy would need as much memory again.
                write_all(&mut writer, &batch, deadlines).await?;
                batch.clear();
                write_all(&mut writer, &frame.body, deadlines).await?;
                held.clear();
            } else {
                batch.put_slice(&frame.body);
            }
            next = if batch.len() < BATCH_LEN {
                queue.try_recv().ok()
            } else {
                None
            };
        }
        write_all(&mut writer, &batch, deadlines).await?;
        batch.clear();
        held.clear();
    }
    writer.shutdown().await?;
    Ok(())
}

/// Bytes after which a batch leaves although more could be added.
const BATCH_LEN: usize = 64 * 1024;
/// Bytes of a body from which on it is not copied into a batch.
const LARGE_LEN: usize = 16 * 1024;
