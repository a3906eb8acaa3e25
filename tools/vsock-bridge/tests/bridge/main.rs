//! The program: its two halves, its signals, its metrics, its mistakes.

#![allow(clippy::unwrap_used, reason = "what cannot go on in a test fails it")]

mod crowd;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use cloister_bridge::Listener;
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};

use crate::crowd::{Outcome, Target, crowd};

/// A running bridge. Its log is kept and can be waited for.
struct Bridge {
    process: Child,
    log: Arc<Mutex<Vec<String>>>,
}

impl Bridge {
    fn start(arguments: &[&str]) -> Self {
        let mut process = command(arguments).stderr(Stdio::piped()).spawn().unwrap();
        let log = Arc::<Mutex<Vec<String>>>::default();
        let (lines, kept) = (
            BufReader::new(process.stderr.take().unwrap()).lines(),
            log.clone(),
        );
        thread::spawn(move || {
            lines
                .map_while(Result::ok)
                .for_each(|line| kept.lock().unwrap().push(line))
        });
        Self { process, log }
    }

    /// The line of the log that contains all of `parts`, once it is written.
    fn logged(&self, parts: &[&str]) -> String {
        soon(|| {
            let log = self.log.lock().unwrap();
            log.iter()
                .find(|line| parts.iter().all(|part| line.contains(part)))
                .cloned()
        })
    }

    /// The TCP address that a line of the log names.
    fn listening(&self, what: &str) -> SocketAddr {
        let line = self.logged(&[what, "\"listen\":\"tcp:"]);
        let address = line.split_once("\"listen\":\"tcp:").unwrap().1;
        address.split_once('"').unwrap().0.parse().unwrap()
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).unwrap();
    }

    fn ends(&mut self) -> bool {
        soon(|| self.process.try_wait().unwrap()).success()
    }

    /// Resident memory of its own, in KiB: the anonymous pages.
    fn memory(&self) -> usize {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("RssAnon:"))
            .unwrap();
        line.trim_end_matches("kB").trim().parse().unwrap()
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vsock-bridge"));
    command.args(arguments);
    command
}

fn output(arguments: &[&str]) -> Output {
    command(arguments).output().unwrap()
}

/// Polls until there is something.
fn soon<T>(mut poll: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = poll() {
            return found;
        }
        assert!(started.elapsed() < Duration::from_secs(20), "it hangs");
        thread::sleep(Duration::from_millis(2));
    }
}

/// Both ends of a connection through `entrance`.
fn open(entrance: SocketAddr, exit: &TcpListener) -> (TcpStream, TcpStream) {
    let near = TcpStream::connect(entrance).unwrap();
    let far = exit.accept().unwrap().0;
    for stream in [&near, &far] {
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
    }
    (near, far)
}

fn url(address: SocketAddr) -> String {
    format!("tcp:{address}")
}

fn exit() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = url(listener.local_addr().unwrap());
    (listener, address)
}

/// The text that Prometheus reads, without the HTTP head.
fn scrape(mut connection: impl std::io::Read + std::io::Write, path: &str) -> String {
    write!(connection, "GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    format!("{}\n{body}", head.lines().next().unwrap())
}

/// Many systems admit 1024 descriptors only, unless asked.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            ..limit
        },
    )
    .unwrap();
}

#[test]
fn a_thousand_connections_pass_both_halves_whole() {
    raise_descriptor_limit();
    let directory = tempfile::tempdir().unwrap();
    // Between the halves would be vsock.
    let between = format!("unix:{}", directory.path().join("between").display());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (exit, bound) = runtime
        .block_on(Listener::bind("tcp:127.0.0.1:0".parse().unwrap()))
        .unwrap();
    let parent = Bridge::start(&["--listen", &between, "--connect", &bound.to_string()]);
    parent.logged(&["forwarding"]);
    let enclave = Bridge::start(&["--listen=tcp:127.0.0.1:0", "--connect", &between]);
    let entrance = Target::Tcp(enclave.listening("forwarding"));
    let (outcome, took) = runtime.block_on(crowd(entrance, exit, 1000, 8 * 1024));
    assert_eq!(
        outcome,
        Outcome {
            whole: 1000,
            ..Outcome::default()
        },
        "in {took:?}"
    );
}

#[test]
fn connections_from_a_path_pass_whole() {
    let directory = tempfile::tempdir().unwrap();
    let entrance = directory.path().join("entrance");
    let exit = format!("unix:{}", directory.path().join("exit").display());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (exit, bound) = runtime
        .block_on(Listener::bind(exit.parse().unwrap()))
        .unwrap();
    let bridge = Bridge::start(&[
        "--listen",
        &format!("unix:{}", entrance.display()),
        "--connect",
        &bound.to_string(),
    ]);
    bridge.logged(&["forwarding"]);
    let (outcome, took) = runtime.block_on(crowd(Target::Unix(entrance), exit, 100, 256 * 1024));
    assert_eq!(
        outcome,
        Outcome {
            whole: 100,
            ..Outcome::default()
        },
        "in {took:?}"
    );
}

#[test]
fn a_waiting_connection_costs_little_memory() {
    raise_descriptor_limit();
    let (exit, address) = exit();
    let bridge = Bridge::start(&[
        "--listen=tcp:127.0.0.1:0",
        "--connect",
        &address,
        "--threads=1",
    ]);
    let entrance = bridge.listening("forwarding");
    let mut open: Vec<_> = (0..20).map(|_| open(entrance, &exit)).collect();
    let exchange = |(near, far): &mut (TcpStream, TcpStream)| {
        let mut received = vec![0; 100_000];
        for _ in 0..2 {
            near.write_all(&[7; 100_000]).unwrap();
            far.read_exact(&mut received).unwrap();
            std::mem::swap(near, far);
        }
    };
    open.iter_mut().for_each(exchange);
    let before = bridge.memory();
    let mut more: Vec<_> = (0..500).map(|_| self::open(entrance, &exit)).collect();
    more.iter_mut().for_each(exchange);
    let each = (bridge.memory().saturating_sub(before)) as f64 / 500.0;
    println!("{each:.1} KiB for each connection");
    assert!(each < 8.0, "{each} KiB for each connection");
}

#[test]
fn sigterm_lets_connections_end_and_a_second_one_does_not() {
    let (exit, address) = exit();
    for signals in [1, 2] {
        let mut bridge = Bridge::start(&[
            "--listen=tcp:127.0.0.1:0",
            "--connect",
            &address,
            "--drain=600",
        ]);
        let entrance = bridge.listening("forwarding");
        let (mut near, mut far) = open(entrance, &exit);
        bridge.signal(Signal::TERM);
        bridge.logged(&["stopping"]);
        // Nobody listens there any more. Connecting would tell, too, but might be served until
        // then.
        soon(|| TcpListener::bind(entrance).ok());
        near.write_all(b"x").unwrap();
        far.read_exact(&mut [0]).unwrap();
        assert!(bridge.process.try_wait().unwrap().is_none());
        if signals == 1 {
            drop((near, far));
        } else {
            bridge.signal(Signal::INT);
        }
        assert!(bridge.ends());
    }
}

#[test]
fn the_time_to_drain_ends() {
    let (exit, address) = exit();
    let mut bridge = Bridge::start(&[
        "--listen=tcp:127.0.0.1:0",
        "--connect",
        &address,
        "--drain=0.1",
    ]);
    let (mut near, _far) = open(bridge.listening("forwarding"), &exit);
    bridge.signal(Signal::TERM);
    assert!(bridge.ends());
    assert!(near.read(&mut [0]).is_err());
}

#[test]
fn many_forwards_of_a_file_tell_prometheus_what_they_do() {
    let directory = tempfile::tempdir().unwrap();
    let (exit, address) = exit();
    let dead = url(TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap());
    let config = directory.path().join("bridge.toml");
    let metrics = directory.path().join("metrics.sock");
    let text = format!(
        "metrics = 'unix:{}'\n\
         [[forward]]\nname = 'alive'\nlisten = 'tcp:127.0.0.1:0'\nconnect = '{address}'\nconnections = 1\n\
         [[forward]]\nname = 'dead'\nlisten = 'tcp:127.0.0.1:0'\nconnect = '{dead}'\n",
        metrics.display()
    );
    std::fs::write(&config, text).unwrap();
    let bridge = Bridge::start(&["--config", config.to_str().unwrap()]);
    let alive = bridge.listening("\"forward\":\"alive\"");
    let (mut near, mut far) = open(alive, &exit);
    near.write_all(b"question").unwrap();
    far.read_exact(&mut [0; 8]).unwrap();
    far.write_all(b"answer").unwrap();
    near.read_exact(&mut [0; 6]).unwrap();
    assert!(TcpStream::connect(alive).unwrap().read(&mut [0]).is_err());
    assert!(
        TcpStream::connect(bridge.listening("\"forward\":\"dead\""))
            .unwrap()
            .read(&mut [0])
            .is_err()
    );
    bridge.logged(&["failed to connect", &dead]);
    let answer = scrape(UnixStream::connect(&metrics).unwrap(), "/metrics");
    assert!(answer.starts_with("HTTP/1.1 200 OK\n"), "{answer}");
    for line in [
        "vsock_bridge_accepted_total{forward=\"alive\"} 2",
        "vsock_bridge_accepted_total{forward=\"dead\"} 1",
        "vsock_bridge_refused_total{forward=\"alive\",reason=\"limit\"} 1",
        "vsock_bridge_connect_failures_total{forward=\"alive\"} 0",
        "vsock_bridge_connect_failures_total{forward=\"dead\"} 1",
        "vsock_bridge_open{forward=\"alive\"} 1",
        "vsock_bridge_bytes_total{forward=\"alive\",direction=\"to_destination\"} 8",
        "vsock_bridge_bytes_total{forward=\"alive\",direction=\"from_destination\"} 6",
    ] {
        assert!(
            answer.lines().any(|found| found == line),
            "{line} is missing: {answer}"
        );
    }
    assert!(scrape(UnixStream::connect(&metrics).unwrap(), "/").starts_with("HTTP/1.1 404 "));
}

#[test]
fn metrics_are_served_on_loopback_and_a_silent_reader_does_not_keep_others_out() {
    let (_exit, address) = exit();
    let arguments = [
        "--listen=tcp:127.0.0.1:0",
        "--connect",
        &address,
        "--metrics=tcp:127.0.0.1:0",
    ];
    let bridge = Bridge::start(&arguments);
    let metrics = bridge.listening("serving metrics");
    let _silent = TcpStream::connect(metrics).unwrap();
    assert!(scrape(TcpStream::connect(metrics).unwrap(), "/metrics").contains("vsock_bridge_open"));
}

#[test]
fn what_cannot_be_listened_on_is_named() {
    let (_taken, address) = exit();
    for (arguments, named) in [
        (
            [
                &format!("--listen={address}"),
                "--connect=unix:/x",
                "--name=kms",
            ],
            format!("forward `kms`: failed to listen on {address}: Address already in use"),
        ),
        (
            [
                "--listen=tcp:127.0.0.1:0",
                "--connect=unix:/x",
                &format!("--metrics={address}"),
            ],
            format!("failed to serve metrics on {address}: Address already in use"),
        ),
        (
            ["--listen=unix:/nowhere/x", "--connect=unix:/x", "--name=x"],
            "failed to listen on unix:/nowhere/x: No such file".to_owned(),
        ),
    ] {
        let output = output(&arguments.map(|argument| argument));
        let log = String::from_utf8(output.stderr).unwrap();
        // The error with its cause, in one line.
        let line = log
            .lines()
            .find(|line| line.contains("\"event\":\"program_failed\""))
            .unwrap();
        assert!(!output.status.success() && line.contains(&named), "{log}");
    }
}

#[test]
fn a_configuration_is_checked_without_running_it() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("parent.toml");
    let checked = output(&["--check", "--config", example.to_str().unwrap()]);
    let printed = String::from_utf8(checked.stdout).unwrap();
    assert!(
        checked.status.success() && printed.starts_with("kms: vsock:any:8001 -> tcp:kms."),
        "{printed}"
    );
    let enclave = output(&[
        "--check",
        "--config",
        example.with_file_name("enclave.toml").to_str().unwrap(),
    ]);
    assert!(enclave.status.success());
    let wrong = output(&[
        "--check",
        "--listen=unix:/a",
        "--connect=tcp:a.test:1",
        "--allow=b.test:1",
    ]);
    assert_eq!(wrong.status.code(), Some(2));
    let said = String::from_utf8(wrong.stderr).unwrap();
    assert_eq!(
        said,
        "error: --connect: `tcp:a.test:1` is not allowed (see allow)\n"
    );
}
