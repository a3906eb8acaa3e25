//! Connection and byte counters.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts since the start. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct Counters(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    accepted: AtomicU64,
    refused_destination: AtomicU64,
    refused_limit: AtomicU64,
    refused_source: AtomicU64,
    failed: AtomicU64,
    opened: AtomicU64,
    open: AtomicU64,
    broken: AtomicU64,
    idled: AtomicU64,
    stopped: AtomicU64,
    sent: AtomicU64,
    received: AtomicU64,
}

/// A moment's reading of [`Counters`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Accepted connections, the refused ones included.
    pub accepted: u64,
    /// Refused because the destination is not on the allow-list.
    pub refused_destination: u64,
    /// Refused because as many as allowed were open.
    pub refused_limit: u64,
    /// Refused because of the virtual machine they came from.
    pub refused_source: u64,
    /// Connections whose destination could not be reached.
    pub failed: u64,
    /// Connections that reached their destination.
    pub opened: u64,
    /// Connections that hold a place now, those that still wait for their destination included.
    pub open: u64,
    /// Opened connections that one of the two ends broke off.
    pub broken: u64,
    /// Opened connections that ended because nothing passed for too long.
    pub idled: u64,
    /// Connections that were still there when the time to drain was over.
    pub stopped: u64,
    /// Bytes to destinations.
    pub sent: u64,
    /// Bytes from destinations.
    pub received: u64,
}

/// Causes for which a connection is refused.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Refusal {
    Destination,
    Limit,
    Source,
}

/// Causes for which an open connection ended before both sides had closed it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cut {
    Broken,
    Idle,
    Stopped,
}

/// A connection's place in [`Totals::open`], until it is dropped.
#[derive(Debug)]
pub(crate) struct Place(Counters);

impl Counters {
    /// The counts now.
    pub fn totals(&self) -> Totals {
        let counts = &self.0;
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Totals {
            accepted: read(&counts.accepted),
            refused_destination: read(&counts.refused_destination),
            refused_limit: read(&counts.refused_limit),
            refused_source: read(&counts.refused_source),
            failed: read(&counts.failed),
            opened: read(&counts.opened),
            open: read(&counts.open),
            broken: read(&counts.broken),
            idled: read(&counts.idled),
            stopped: read(&counts.stopped),
            sent: read(&counts.sent),
            received: read(&counts.received),
        }
    }

    pub(crate) fn accepted(&self) {
        add(&self.0.accepted, 1);
    }

    pub(crate) fn refused(&self, why: Refusal) {
        add(
            match why {
                Refusal::Destination => &self.0.refused_destination,
                Refusal::Limit => &self.0.refused_limit,
                Refusal::Source => &self.0.refused_source,
            },
            1,
        );
    }

    pub(crate) fn place(&self) -> Place {
        add(&self.0.open, 1);
        Place(self.clone())
    }

    pub(crate) fn failed(&self) {
        add(&self.0.failed, 1);
    }

    pub(crate) fn opened(&self) {
        add(&self.0.opened, 1);
    }

    pub(crate) fn cut(&self, why: Cut) {
        add(
            match why {
                Cut::Broken => &self.0.broken,
                Cut::Idle => &self.0.idled,
                Cut::Stopped => &self.0.stopped,
            },
            1,
        );
    }

    /// The count of bytes to destinations.
    pub(crate) fn sent(&self) -> &AtomicU64 {
        &self.0.sent
    }

    /// The count of bytes from destinations.
    pub(crate) fn received(&self) -> &AtomicU64 {
        &self.0.received
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

fn add(count: &AtomicU64, more: u64) {
    count.fetch_add(more, Ordering::Relaxed);
}
