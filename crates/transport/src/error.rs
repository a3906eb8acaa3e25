//! Why a connection ended.

use std::fmt;
use std::io;

use cloister_protocol::frame::FrameError;

/// Why a connection ended otherwise than by being closed between two frames.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransportError {
    /// The socket failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The peer sent something that is not a frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The peer closed the connection in the middle of a frame.
    #[error("the connection ended in the middle of a frame")]
    Truncated,
    /// The peer was too slow.
    #[error("deadline for {0} exceeded")]
    TimedOut(Stage),
    /// The peer sent a well-formed frame that has no place here.
    #[error("protocol violation: {0}")]
    Violation(&'static str),
}

/// What a connection waits for; each has its own deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stage {
    /// The first byte of the next frame.
    Idle,
    /// The rest of the length prefix and the header.
    Header,
    /// The rest of the frame.
    Body,
    /// The peer to take what is written.
    Write,
    /// The answer to the oldest request.
    Answer,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Idle => "the next frame",
            Self::Header => "a frame's header",
            Self::Body => "a frame's body",
            Self::Write => "writing",
            Self::Answer => "the oldest answer",
        })
    }
}
