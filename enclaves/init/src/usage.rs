//! Logs CPU and memory usage every ten seconds; the parent cannot observe it.

use std::fs;
use std::thread;
use std::time::Duration;

use cloister_contract::enclave_log::{InitEvent, Usage};

use crate::end::spawn_dispensable;
use crate::log::Log;

/// Reports until the enclave ends.
pub(crate) fn report(log: &Log) {
    let log = log.clone();
    spawn_dispensable(move || {
        let mut before = Processors::now();
        loop {
            thread::sleep(INTERVAL);
            let now = Processors::now();
            if let (Some(before), Some(now), Some(memory)) = (before, now, Memory::now()) {
                log.event(InitEvent::Usage(usage(before, now, memory)));
            }
            before = now;
        }
    });
}

/// The counters of /proc/stat are not monotonic: iowait may decrease, see proc_stat(5).
fn usage(before: Processors, now: Processors, memory: Memory) -> Usage {
    let passed = now.total.saturating_sub(before.total);
    Usage {
        cpu_user_percent: percent(now.user.saturating_sub(before.user), passed),
        cpu_system_percent: percent(now.system.saturating_sub(before.system), passed),
        memory_used_percent: percent(memory.used, memory.total),
        memory_cached_percent: percent(memory.cached, memory.total),
    }
}

/// Memory that applications can allocate, in KiB.
pub(crate) fn available_memory() -> Option<u64> {
    kib(&fs::read_to_string(MEMORY).ok()?, "MemAvailable")
}

/// Time of all processors since the boot, in ticks. See proc_stat(5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Processors {
    user: u64,
    system: u64,
    total: u64,
}

impl Processors {
    fn now() -> Option<Self> {
        Self::parse(&fs::read_to_string("/proc/stat").ok()?)
    }

    fn parse(stat: &str) -> Option<Self> {
        let times = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
        let times: Vec<u64> = times
            .split_whitespace()
            .map(|time| time.parse().ok())
            .collect::<Option<_>>()?;
        // The last two, guests' time, are included in user time.
        let [user, nice, system, idle, iowait, irq, softirq, steal, ..] = *times else {
            return None;
        };
        let sum = |times: &[u64]| {
            times
                .iter()
                .fold(0_u64, |sum, time| sum.saturating_add(*time))
        };
        let (user, system) = (sum(&[user, nice]), sum(&[system, irq, softirq]));
        Some(Self {
            user,
            system,
            total: sum(&[user, system, idle, iowait, steal]),
        })
    }
}

/// In KiB. See proc_meminfo(5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Memory {
    total: u64,
    /// Memory that applications cannot allocate.
    used: u64,
    cached: u64,
}

impl Memory {
    fn now() -> Option<Self> {
        Self::parse(&fs::read_to_string(MEMORY).ok()?)
    }

    fn parse(meminfo: &str) -> Option<Self> {
        let total = kib(meminfo, "MemTotal")?;
        let used = total.checked_sub(kib(meminfo, "MemAvailable")?)?;
        Some(Self {
            total,
            used,
            cached: kib(meminfo, "Cached")?,
        })
    }
}

fn kib(meminfo: &str, name: &str) -> Option<u64> {
    meminfo.lines().find_map(|line| {
        line.strip_prefix(name)?
            .strip_prefix(':')?
            .trim()
            .strip_suffix(" kB")?
            .parse()
            .ok()
    })
}

/// With one decimal.
fn percent(part: u64, whole: u64) -> f64 {
    let permille = part.saturating_mul(1000).checked_div(whole).unwrap_or(0);
    f64::from(u32::try_from(permille).unwrap_or(u32::MAX)) / 10.0
}

const INTERVAL: Duration = Duration::from_secs(10);
const MEMORY: &str = "/proc/meminfo";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_are_read() {
        let stat = "cpu  10 2 30 400 5 6 7 8 0 0\ncpu0 10 2 30 400 5 6 7 8 0 0\nintr 1\n";
        assert_eq!(
            Processors::parse(stat),
            Some(Processors {
                user: 12,
                system: 43,
                total: 468
            })
        );
        assert_eq!(Processors::parse("cpu  10 2 30 400\n"), None);
        assert_eq!(Processors::parse("cpu  a b c d e f g h\n"), None);
        assert!(Processors::now().is_some_and(|now| now.total >= now.user + now.system));
    }

    #[test]
    fn memory_is_read() {
        let meminfo = "MemTotal:         120000 kB\nMemFree:     80000 kB\nMemAvailable:    90000 kB\nCached:      6000 kB\nSwapCached:  1 kB\n";
        assert_eq!(
            Memory::parse(meminfo),
            Some(Memory {
                total: 120_000,
                used: 30_000,
                cached: 6_000
            })
        );
        assert_eq!(
            Memory::parse("MemTotal: 1 kB\nMemAvailable: 2 kB\nCached: 0 kB\n"),
            None
        );
        assert!(Memory::now().is_some() && available_memory().is_some());
    }

    #[test]
    fn counters_that_decrease_or_overflow_are_no_panic() {
        let memory = Memory {
            total: u64::MAX,
            used: u64::MAX,
            cached: 0,
        };
        let before = Processors {
            user: 2,
            system: 3,
            total: 9,
        };
        let now = Processors {
            user: 1,
            system: u64::MAX,
            total: 8,
        };
        let usage = usage(before, now, memory);
        assert_eq!(usage.cpu_user_percent.to_bits(), 0);
        assert_eq!(usage.cpu_system_percent.to_bits(), 0);
        let most = u64::MAX.to_string();
        let stat = format!("cpu  {most} {most} {most} {most} {most} {most} {most} {most}\n");
        assert_eq!(Processors::parse(&stat).unwrap().total, u64::MAX);
    }

    #[test]
    fn a_percentage_has_one_decimal() {
        for (part, whole, expected) in [(1, 3, 33.3), (0, 7, 0.0), (7, 7, 100.0), (0, 0, 0.0)] {
            assert!(
                (percent(part, whole) - expected).abs() < 1e-9,
                "{part} of {whole}"
            );
        }
    }
}
