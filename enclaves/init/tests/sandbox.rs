//! The filter of system calls, seen from a process that has it. Each case is a process of its own,
//! because the filter ends it.

#![allow(clippy::unwrap_used, reason = "what cannot go on in a test fails it")]

use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Stdio};
use std::time::SystemTime;

use cloister_init::sandbox::Role;
use rustix::mount::UnmountFlags;
use rustix::net::{AddressFamily, SocketType, socket};
use rustix::process::{Pid, Signal, kill_process};

/// The forbidden ones would fail or do nothing if they were let through.
const CASES: &[(&str, fn(), Outcome)] = &[
    ("the work of an application", work, Outcome::Exits),
    (
        "abort",
        || std::process::abort(),
        Outcome::Killed(libc::SIGABRT),
    ),
    ("a process", process, Outcome::Killed(libc::SIGSYS)),
    ("a file system", file_system, Outcome::Killed(libc::SIGSYS)),
    (
        "another root",
        || rustix::process::chroot("/nonexistent").unwrap(),
        Outcome::Killed(libc::SIGSYS),
    ),
    ("a raw socket", raw_socket, Outcome::Killed(libc::SIGSYS)),
    ("another's signal", signal, Outcome::Killed(libc::SIGSYS)),
    (
        "a file removed",
        || std::fs::remove_file("/nonexistent").unwrap(),
        Outcome::Killed(libc::SIGSYS),
    ),
    (
        "volume: files",
        || drop(std::fs::remove_file("/nonexistent").unwrap_err()),
        Outcome::Exits,
    ),
    (
        "volume: a file system",
        file_system,
        Outcome::Killed(libc::SIGSYS),
    ),
];

#[derive(Clone, Copy, Debug)]
enum Outcome {
    Exits,
    Killed(i32),
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    if let (Some("--case"), Some(name)) = (arguments.next().as_deref(), arguments.next()) {
        let (_, case, _) = CASES.iter().find(|(known, ..)| *known == name).unwrap();
        let role = if name.starts_with("volume") {
            Role::ApplicationWithVolume
        } else {
            Role::Application
        };
        cloister_init::sandbox::install(&role).unwrap();
        case();
        return;
    }
    for (name, _, expected) in CASES {
        let mut child = Command::new(std::env::current_exe().unwrap());
        let status = child
            .args(["--case", name])
            .stderr(Stdio::null())
            .status()
            .unwrap();
        assert!(
            expected.is(status),
            "{name}: {status}, expected {expected:?}"
        );
    }
}

impl Outcome {
    fn is(self, status: ExitStatus) -> bool {
        match self {
            Self::Exits => status.success(),
            Self::Killed(signal) => status.signal() == Some(signal),
        }
    }
}

fn work() {
    let mut cmdline = String::new();
    File::open("/proc/self/status")
        .unwrap()
        .read_to_string(&mut cmdline)
        .unwrap();
    assert!(cmdline.contains("Seccomp:\t2") && cmdline.contains("NoNewPrivs:\t1"));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (server, _) = listener.accept().unwrap();
    server.set_nonblocking(true).unwrap();
    client.write_all(b"x").unwrap();
    drop(UnixStream::pair().unwrap());
    assert!(SystemTime::now() > SystemTime::UNIX_EPOCH);
    getrandom::fill(&mut [0; 8]).unwrap();
    assert!(vec![1_u8; 1 << 24].iter().all(|byte| *byte == 1));
}

fn process() {
    Command::new("/bin/true").status().unwrap();
}

fn file_system() {
    rustix::mount::unmount("/nonexistent", UnmountFlags::DETACH).unwrap();
}

fn raw_socket() {
    socket(AddressFamily::PACKET, SocketType::RAW, None).unwrap();
}

fn signal() {
    kill_process(Pid::INIT, Signal::CONT).unwrap();
}
