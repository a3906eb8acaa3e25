//! A budget of bytes, shared by everything that holds requests.

use std::fs;
use std::sync::Arc;

use cloister_protocol::{Code, Rejection};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bounds the bytes of requests that a process holds at once. Clones share the budget.
///
/// Requests are counted in bytes as they arrive, not when they are announced: a peer that announces
/// a long request and sends nothing takes nothing from the others.
#[derive(Clone, Debug)]
pub struct ByteBudget(Arc<Semaphore>);

impl ByteBudget {
    /// A budget of `bytes`, rounded down to whole KiB.
    pub fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new(
            (bytes / UNIT).min(Semaphore::MAX_PERMITS),
        )))
    }

    /// A quarter of the memory that is available now, and at least [`MIN_BUDGET`].
    ///
    /// The bytes of a request are counted once. While it is carried out there are up to three more
    /// forms of it: its payload, the transaction that it encodes, and the answer.
    pub fn of_available_memory() -> Self {
        let available = available_memory().unwrap_or_default();
        Self::new((available / 4).max(MIN_BUDGET))
    }

    /// Bytes that are left.
    pub fn left(&self) -> usize {
        self.0.available_permits() * UNIT
    }

    /// A charge of nothing, to be grown.
    pub fn charge(&self) -> Charge {
        Charge {
            budget: self.0.clone(),
            taken: None,
        }
    }
}

/// Bytes taken out of a [`ByteBudget`], given back when dropped.
#[derive(Debug)]
pub struct Charge {
    budget: Arc<Semaphore>,
    taken: Option<OwnedSemaphorePermit>,
}

impl Charge {
    /// Takes as much more as makes this a charge of `bytes`. Never waits.
    ///
    /// # Errors
    /// [`Code::Busy`] if the budget has not so much left; the charge stays as it was.
    pub fn grow_to(&mut self, bytes: usize) -> Result<(), Rejection> {
        let wanted = bytes.div_ceil(UNIT);
        let held = self
            .taken
            .as_ref()
            .map_or(0, OwnedSemaphorePermit::num_permits);
        let missing = u32::try_from(wanted.saturating_sub(held)).map_err(|_| over_budget())?;
        let more = self
            .budget
            .clone()
            .try_acquire_many_owned(missing)
            .map_err(|_| over_budget())?;
        match &mut self.taken {
            Some(taken) => taken.merge(more),
            None => self.taken = Some(more),
        }
        Ok(())
    }
}

/// The answer to a request for which no memory is left.
pub(crate) fn over_budget() -> Rejection {
    Rejection::new(
        Code::Busy,
        "requests of too many bytes are waiting; try again",
    )
}

/// The memory that this process may still use, in bytes: the least of the machine's and the cgroup's.
fn available_memory() -> Option<usize> {
    let machine = fs::read_to_string(MEMINFO)
        .ok()
        .and_then(|text| mem_available(&text));
    let group = fs::read_to_string(CGROUP_MAX)
        .ok()
        .and_then(|text| text.trim_end().parse().ok());
    machine.into_iter().chain(group).min()
}

/// See proc_meminfo(5).
fn mem_available(meminfo: &str) -> Option<usize> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: usize = line.trim().strip_suffix(" kB")?.parse().ok()?;
    kib.checked_mul(1024)
}

/// Least budget, in bytes: a few of the largest requests.
pub const MIN_BUDGET: usize = 4 * 1024 * 1024;
/// Bytes that one permit of the semaphore stands for.
const UNIT: usize = 1024;
const MEMINFO: &str = "/proc/meminfo";
/// The limit of this process's own cgroup inside a container. See cgroup-v2.rst of the kernel; the
/// text `max` means no limit.
const CGROUP_MAX: &str = "/sys/fs/cgroup/memory.max";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_charge_grows_within_the_budget_and_is_given_back() {
        let budget = ByteBudget::new(10 * UNIT);
        let mut first = budget.charge();
        first.grow_to(4 * UNIT).unwrap();
        first.grow_to(6 * UNIT - 1).unwrap();
        first.grow_to(1).unwrap();
        assert_eq!(budget.left(), 4 * UNIT);
        let mut second = budget.charge();
        assert_eq!(second.grow_to(5 * UNIT).unwrap_err().code, Code::Busy);
        assert_eq!(budget.left(), 4 * UNIT, "a refused charge takes nothing");
        second.grow_to(4 * UNIT).unwrap();
        assert_eq!(first.grow_to(usize::MAX).unwrap_err().code, Code::Busy);
        drop(first);
        assert_eq!(budget.left(), 6 * UNIT);
        drop(second);
        assert_eq!(budget.left(), 10 * UNIT);
    }

    #[test]
    fn the_budget_follows_the_memory_of_this_machine() {
        assert!(ByteBudget::of_available_memory().left() >= MIN_BUDGET);
        assert_eq!(
            mem_available("MemTotal:  128000 kB\nMemAvailable:    90000 kB\n"),
            Some(90_000 * 1024)
        );
        for unreadable in ["", "MemAvailable: 1", "MemAvailable: x kB"] {
            assert_eq!(mem_available(unreadable), None, "{unreadable}");
        }
    }
}
