//! File descriptors: two for each connection.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::NamedForward;

/// Raises this process's limit to what `forwards` may need, as far as it is allowed to. What is
/// missing is said once: at the limit connections wait to be taken.
pub(crate) fn provide(forwards: &[NamedForward]) {
    let connections: usize = forwards
        .iter()
        .map(|forward| forward.limits.connections)
        .sum();
    let needed = u64::try_from(connections)
        .unwrap_or(u64::MAX)
        .saturating_mul(2)
        .saturating_add(OTHERS);
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= needed) {
        return;
    }
    // Only the administrator may raise the second number.
    let maximum = limit.maximum.map(|maximum| maximum.max(needed));
    let raised = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: Some(needed),
            maximum,
        },
    );
    if raised.is_err() {
        let available = limit.maximum.unwrap_or(needed).min(needed);
        let _ = setrlimit(
            Resource::Nofile,
            Rlimit {
                current: Some(available),
                maximum: limit.maximum,
            },
        );
        if available < needed {
            tracing::warn!(
                needed,
                available,
                "too few file descriptors for as many connections as allowed"
            );
        }
    }
}

/// Standard streams, listeners, the runtime's own, connections that are being refused, and a few
/// attempts per connection.
const OTHERS: u64 = 128;
