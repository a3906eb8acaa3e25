//! An emulated enclave, and what its log says.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::Tools;

/// A machine that can be started again and again.
pub(crate) struct Machine<'a> {
    tools: &'a Tools,
    directory: &'a Path,
    image: &'a Path,
}

impl<'a> Machine<'a> {
    pub(crate) fn new(tools: &'a Tools, directory: &'a Path, image: &'a Path) -> Self {
        Self { tools, directory, image }
    }

    /// Where the enclave's connections to a port of its parent arrive.
    pub(crate) fn parent_socket(&self, port: u32) -> PathBuf {
        self.directory.join(format!("vsock_{port}"))
    }

    /// Boots it, waits for its end, and gives all lines of its log.
    pub(crate) fn run(&self) -> Vec<Value> {
        let [vhost, vsock] = ["vhost", "vsock"].map(|name| self.directory.join(name));
        let heartbeat = self.parent_socket(9000);
        for socket in [&vhost, &vsock, &heartbeat] {
            let _ = std::fs::remove_file(socket);
        }
        let listener = UnixListener::bind(&heartbeat).unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            stream.write_all(&byte).unwrap();
            // The enclave closes it.
            let _ = stream.read(&mut byte);
        });

        let mut device = self.tools.program("vsock_device");
        device.arg("--vm");
        // Linux sends more than 32 KiB at once in pieces, which this device loses; it sends no more than the device says it can take.
        let buffer = "tx-buffer-size=24576";
        device.arg(format!("guest-cid=16,socket={},uds-path={},{buffer}", vhost.display(), vsock.display()));
        let _device = Running::start(&mut device);
        until("the vsock device listens", || vhost.exists().then_some(()));

        let mut qemu = self.tools.program("qemu");
        for firmware in self.tools.emulation["firmware"].as_array().unwrap() {
            qemu.arg("-L").arg(firmware.as_str().unwrap());
        }
        qemu.args(["-M", "nitro-enclave,vsock=vsock,id=emulator-volume", "-m", "128M", "-nographic", "-no-reboot"]);
        qemu.arg("-kernel").arg(self.image).arg("-chardev").arg(format!("socket,id=vsock,path={}", vhost.display()));
        qemu.args(["-append", "console=ttyS0 reboot=t cloister.parent_cid=2"]);
        let _qemu = Running::start(&mut qemu);

        let log = until("the enclave's log", || log(&vsock));
        let mut lines = Vec::new();
        for line in log.lines() {
            let line: Value = serde_json::from_str(&line.unwrap()).unwrap();
            let last = line["message"] == "the enclave ends";
            lines.push(line);
            if last {
                break;
            }
        }
        lines
    }
}

/// Connects to the port of the log; an answer may never come if the enclave is not there yet.
fn log(vsock: &Path) -> Option<BufReader<UnixStream>> {
    let mut stream = UnixStream::connect(vsock).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(1))).ok()?;
    stream.write_all(b"CONNECT 5001\n").ok()?;
    let mut stream = BufReader::new(stream);
    let mut answer = String::new();
    stream.read_line(&mut answer).ok().filter(|_| answer.starts_with("OK "))?;
    stream.get_ref().set_read_timeout(Some(DEADLINE)).ok()?;
    Some(stream)
}

/// A process that ends with the test.
pub(crate) struct Running(Child);

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::null());
        Self(command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}")))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Asks again and again.
pub(crate) fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "{what}: not within {DEADLINE:?}");
        thread::sleep(Duration::from_millis(20));
    }
}

const DEADLINE: Duration = Duration::from_secs(180);
