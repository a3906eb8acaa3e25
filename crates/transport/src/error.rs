//! Connection errors.

use std::fmt;
use std::io;

use cloister_protocol::frame::FrameError;

/// The reason for which a connection ended, unless it was closed between two frames.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransportError {
    /// The socket failed.
    #[error(transparent)]
    Io(io::Error),
    /// The peer sent a malformed frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The peer closed the connection in the middle of a frame.
    #[error("the connection ended in the middle of a frame")]
    Truncated,
    /// The peer was too slow.
    #[error("deadline for {0} exceeded")]
    TimedOut(Stage),
    /// The peer sent a well-formed frame that the protocol does not allow here.
    #[error("protocol violation: {0}")]
    Violation(&'static str),
    /// The enclave is bound to another session than the connection's.
    #[error("the enclave is bound to another session")]
    OtherSession,
    /// Newer connections displaced this one before its hello.
    #[error("newer connections came before the hello of this one")]
    Displaced,
}

impl From<io::Error> for TransportError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Truncated,
            _ => Self::Io(error),
        }
    }
}

/// The parts of a connection's life that have a deadline each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stage {
    /// The whole hello of a connection.
    Hello,
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
            Self::Hello => "the hello",
            Self::Idle => "the next frame",
            Self::Header => "a frame's header",
            Self::Body => "a frame's body",
            Self::Write => "writing",
            Self::Answer => "the oldest answer",
        })
    }
}
