//! The log: lines of the application and of init, in a bounded buffer, served to readers.

mod buffer;
mod line;
mod server;

pub(crate) use buffer::Log;
pub use line::write_failure;
pub(crate) use server::{follow_on_console, serve};

/// In bytes, including the end of the line that the reader does not see.
pub(crate) const MAX_LINE_LEN: u64 = 8 * 1024;
