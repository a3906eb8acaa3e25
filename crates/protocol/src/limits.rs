//! Sizes, windows and deadlines of the wire. They are compiled-in ceilings: a host may lower them
//! and never raise them.

use std::time::Duration;

/// Largest request body a caller may send, in bytes: [`MAX_CALLDATA_LEN`] as hex, and the rest of a
/// transaction. A larger one is refused with 413 before parsing.
pub const MAX_BODY_LEN: usize = 320 * 1024;
/// Largest authenticated request between the front door and an enclave, in bytes: a payload within
/// [`MAX_BODY_LEN`] as a JSON string, in which every quote is escaped. With the row it fits
/// [`MAX_FRAME_LEN`].
pub const MAX_AUTHENTICATED_LEN: usize = 384 * 1024;
/// Largest calldata of a transaction, in bytes.
pub const MAX_CALLDATA_LEN: usize = 128 * 1024;
/// Largest frame on the pod–enclave connection, in bytes, without its length prefix.
pub const MAX_FRAME_LEN: usize = 512 * 1024;
/// Shortest caller secret, in characters.
pub const MIN_SECRET_LEN: usize = 20;
/// Longest caller secret, in characters.
pub const MAX_SECRET_LEN: usize = 256;
/// Largest distance of a request's timestamp from the enclave's clock, in either direction.
pub const REQUEST_WINDOW: Duration = Duration::from_secs(60);
/// Largest distance of a request of the front door from the pod's clock, in either direction.
/// Machines set their clocks by NTP; a clock that is off by minutes must not stop every request.
pub const FRONT_DOOR_WINDOW: Duration = Duration::from_secs(300);
/// Time in which a frame's length prefix and header must have arrived once its first byte has.
pub const HEADER_DEADLINE: Duration = Duration::from_secs(2);
/// Time in which a frame's body must have arrived after its header.
pub const BODY_DEADLINE: Duration = Duration::from_secs(5);
/// A connection on which nothing travels for this long is closed.
pub const IDLE_DEADLINE: Duration = Duration::from_secs(120);
/// Time for a whole request, from its arrival at a hop to its response.
pub const REQUEST_DEADLINE: Duration = Duration::from_secs(10);
/// Requests in flight on one connection.
pub const MAX_IN_FLIGHT: usize = 256;
/// Requests an enclave queues over all connections; one more is refused with `busy`.
pub const MAX_QUEUED: usize = 1024;
/// Seconds that a `busy` response tells the caller to wait.
pub const RETRY_AFTER_SECONDS: u32 = 1;
