//! Checks of the application's restrictions.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io;

use anyhow::{Context, Result, ensure};

use crate::report::Report;

/// User, capabilities, limits, files.
pub(crate) fn check(report: &mut Report) {
    report.add(
        "sandbox: nothing is open but the three streams",
        open_files(),
    );
    report.add(
        "sandbox: arguments and environment are empty",
        nothing_passed(),
    );
    report.add("sandbox: user, capabilities, filter", status());
    report.add("sandbox: limits", limits());
    report.add("sandbox: the image cannot be written", read_only());
    report.add(
        "sandbox: other processes and devices are out of reach",
        out_of_reach(),
    );
}

fn open_files() -> Result<String> {
    let open = fs::read_dir("/proc/self/fd")?
        .map(|entry| Ok(entry?.file_name().into_string().unwrap_or_default()));
    let open = open.collect::<io::Result<BTreeSet<_>>>()?;
    // The fourth is the directory itself.
    ensure!(
        open.len() == 4 && ["0", "1", "2"].iter().all(|stream| open.contains(*stream)),
        "{open:?}"
    );
    Ok("0, 1, 2".to_owned())
}

fn nothing_passed() -> Result<&'static str> {
    ensure!(
        std::env::vars_os().next().is_none(),
        "{:?}",
        std::env::vars_os().collect::<Vec<_>>()
    );
    ensure!(
        std::env::args_os().len() == 1,
        "{:?}",
        std::env::args_os().collect::<Vec<_>>()
    );
    Ok("neither")
}

fn status() -> Result<&'static str> {
    let text = fs::read_to_string("/proc/self/status")?;
    for (name, expected) in [
        ("Uid", "1000 1000 1000 1000"),
        ("Gid", "1000 1000 1000 1000"),
        ("Groups", ""),
        ("CapInh", NONE),
        ("CapPrm", NONE),
        ("CapEff", NONE),
        ("CapBnd", NONE),
        ("CapAmb", NONE),
        ("NoNewPrivs", "1"),
        ("Seccomp", "2"),
    ] {
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let value = value
            .with_context(|| format!("no {name}"))?
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ");
        ensure!(value == expected, "{name} is {value}");
    }
    Ok("1000, none, 2")
}

const NONE: &str = "0000000000000000";

fn limits() -> Result<&'static str> {
    let text = fs::read_to_string("/proc/self/limits")?;
    for (name, limit) in [
        ("Max core file size", "0"),
        ("Max open files", "4096"),
        ("Max processes", "1024"),
    ] {
        let values = text
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .with_context(|| format!("no {name}"))?;
        let values = values.split_whitespace().take(2).collect::<Vec<_>>();
        ensure!(values == [limit, limit], "{name}: {values:?}");
    }
    Ok("no core, 4096 files, 1024 threads")
}

fn read_only() -> Result<&'static str> {
    for path in ["/new", "/proc/new", "/sys/new", "/dev/new"] {
        ensure!(File::create(path).is_err(), "{path} was made");
    }
    for path in [
        "/application",
        "/init",
        "/settings.json",
        "/proc/sys/kernel/hostname",
    ] {
        let error = OpenOptions::new()
            .write(true)
            .open(path)
            .err()
            .with_context(|| format!("{path} can be written"))?;
        let refused = [
            io::ErrorKind::PermissionDenied,
            io::ErrorKind::ReadOnlyFilesystem,
        ];
        ensure!(refused.contains(&error.kind()), "{path}: {error}");
    }
    Ok("no new file, no change to the image's")
}

fn out_of_reach() -> Result<&'static str> {
    for path in [
        "/proc/1/status",
        "/proc/1/environ",
        "/dev/mem",
        "/dev/kmsg",
        "/dev/console",
        "/dev/hwrng",
        "/proc/kcore",
    ] {
        ensure!(File::open(path).is_err(), "{path} can be opened");
    }
    Ok("init, memory, console, kernel's log")
}
