//! The bridge beside socat, in one run: throughput and latency over TCP ⇄ unix socket, and a crowd
//! of connections. Rounds of the two alternate, so that what else the machine does meets both; the
//! ratios' medians are what counts.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a measurement: it prints, and what cannot go on fails it"
)]

#[path = "../tests/bridge/crowd.rs"]
mod crowd;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use cloister_bridge::Listener;

use crate::crowd::{Outcome, Target, crowd};

/// Compares vsock-bridge with socat.
#[derive(Debug, Parser)]
struct Arguments {
    /// Rounds of each measurement
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// Connections of the crowd
    #[arg(long, default_value_t = 1000)]
    connections: u32,
    /// Bytes that each of them passes each way
    #[arg(long, default_value_t = 64 * 1024)]
    length: usize,
    /// Block size of socat; its own default is 8192, with which it is slower
    #[arg(long, default_value = "65536")]
    socat_block: String,
    /// More arguments for vsock-bridge
    #[arg(long, value_delimiter = ' ', allow_hyphen_values = true)]
    bridge: Vec<String>,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if Command::new("socat")
        .arg("-V")
        .stdout(Stdio::null())
        .status()
        .is_err()
    {
        eprintln!("socat is missing: on Debian and Ubuntu, `apt-get install socat`");
        return ExitCode::FAILURE;
    }
    raise_descriptor_limit(u64::from(arguments.connections) * 2 + 100);
    let mut held = true;
    for entrance in [Kind::Tcp, Kind::Unix] {
        let exit = if entrance == Kind::Tcp {
            Kind::Unix
        } else {
            Kind::Tcp
        };
        println!(
            "\n{entrance:?} to {exit:?}, median of {} rounds",
            arguments.rounds
        );
        println!(
            "{:<38} {:>14} {:>14} {:>8}",
            "", "vsock-bridge", "socat", "ratio"
        );
        held &= compare(entrance, exit, &arguments);
        for program in [Program::Bridge, Program::Socat] {
            let (outcome, took) = run_crowd(program, entrance, exit, &arguments);
            println!(
                "{} connections, {program:?}: {outcome:?} in {:.2} s",
                arguments.connections,
                took.as_secs_f64()
            );
            held &= program == Program::Socat || outcome.whole == arguments.connections as usize;
        }
    }
    if held {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Tcp,
    Unix,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Program {
    Bridge,
    Socat,
}

/// One figure of a round.
struct Figure {
    name: &'static str,
    unit: &'static str,
    more_is_better: bool,
}

const fn figure(name: &'static str, unit: &'static str, more_is_better: bool) -> Figure {
    Figure {
        name,
        unit,
        more_is_better,
    }
}

const FIGURES: [Figure; 8] = [
    figure("to the exit, 1 connection", "MB/s", true),
    figure("from the exit, 1 connection", "MB/s", true),
    figure("to the exit, 16 connections", "MB/s", true),
    figure("from the exit, 16 connections", "MB/s", true),
    figure("round trip of 64 bytes, median", "µs", false),
    figure("round trip of 64 bytes, 99th percentile", "µs", false),
    figure("round trip beside 4 full connections", "µs", false),
    figure("connect, 1 round trip, close, median", "µs", false),
];

/// Prints a line for each figure, better being the larger ratio; false when the throughput, or the
/// work done with the same processor time, is below the bound.
fn compare(entrance: Kind, exit: Kind, arguments: &Arguments) -> bool {
    let server = Server::start(exit);
    let setups = [Program::Bridge, Program::Socat]
        .map(|program| Setup::start(program, entrance, &server.exit, arguments));
    for setup in &setups {
        // Warms up.
        measure(setup);
    }
    let mut rounds: Vec<[[f64; FIGURES.len()]; 2]> = Vec::new();
    for round in 0..arguments.rounds {
        let mut figures = [[0.0; FIGURES.len()]; 2];
        for turn in [round % 2, (round + 1) % 2] {
            figures[turn] = measure(&setups[turn]);
        }
        rounds.push(figures);
    }
    let mut throughput = Vec::new();
    for (index, figure) in FIGURES.iter().enumerate() {
        let of =
            |program: usize| median(rounds.iter().map(|round| round[program][index]).collect());
        let ratio = |[bridge, socat]: &[[f64; FIGURES.len()]; 2]| {
            if figure.more_is_better {
                bridge[index] / socat[index]
            } else {
                socat[index] / bridge[index]
            }
        };
        let ratio = median(rounds.iter().map(ratio).collect());
        let values = [of(0), of(1)].map(|value| format!("{value:.1} {}", figure.unit));
        println!(
            "{:<38} {:>14} {:>14} {ratio:>8.2}",
            figure.name, values[0], values[1]
        );
        throughput.extend(figure.more_is_better.then_some(ratio));
    }
    let [bridge, socat] = [&setups[0], &setups[1]].map(Setup::processor_time);
    let effort = socat / bridge;
    println!(
        "{:<38} {bridge:>12.2} s {socat:>12.2} s {effort:>8.2}",
        "processor time for all of this"
    );
    let throughput = throughput
        .iter()
        .product::<f64>()
        .powf(1.0 / throughput.len() as f64);
    println!(
        "{:<38} {:>38.2}",
        "throughput, mean of the ratios", throughput
    );
    if throughput.min(effort) < BOUND {
        println!("below {BOUND}: TOO LOW");
    }
    throughput.min(effort) >= BOUND
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn measure(setup: &Setup) -> [f64; FIGURES.len()] {
    let mut connects = Vec::new();
    for _ in 0..CONNECTS {
        let started = Instant::now();
        let mut connection = setup.connect();
        connection.write_all(b"E").unwrap();
        round_trip(&mut connection);
        drop(connection);
        connects.push(started.elapsed().as_secs_f64() * 1e6);
    }
    let mut alone = round_trips(setup, |done| done == ROUND_TRIPS);
    alone.sort_by(f64::total_cmp);
    let beside_others = thread::scope(|scope| {
        let others = scope.spawn(|| throughput(setup, b'D', 4));
        round_trips(setup, |_| others.is_finished())
    });
    [
        throughput(setup, b'U', 1),
        throughput(setup, b'D', 1),
        throughput(setup, b'U', 16),
        throughput(setup, b'D', 16),
        alone[alone.len() / 2],
        alone[alone.len() * 99 / 100],
        median(beside_others),
        median(connects),
    ]
}

/// Microseconds of each, until there are enough.
fn round_trips(setup: &Setup, enough: impl Fn(usize) -> bool) -> Vec<f64> {
    let mut connection = setup.connect();
    connection.write_all(b"E").unwrap();
    let mut round_trips = Vec::new();
    while round_trips.is_empty() || !enough(round_trips.len()) {
        let started = Instant::now();
        round_trip(&mut connection);
        round_trips.push(started.elapsed().as_secs_f64() * 1e6);
    }
    round_trips
}

fn round_trip(connection: &mut Box<dyn Pipe>) {
    connection.write_all(&[7; 64]).unwrap();
    connection.read_exact(&mut [0; 64]).unwrap();
}

/// Megabytes per second of `connections` at once, all together.
fn throughput(setup: &Setup, direction: u8, connections: usize) -> f64 {
    let each = TRANSFER / connections;
    let started = Instant::now();
    thread::scope(|scope| {
        for _ in 0..connections {
            scope.spawn(|| {
                let mut connection = setup.connect();
                connection.write_all(&[direction]).unwrap();
                if direction == b'U' {
                    let chunk = [7; CHUNK];
                    (0..each / CHUNK).for_each(|_| connection.write_all(&chunk).unwrap());
                    connection.end_writing();
                    let mut received = [0; 8];
                    connection.read_exact(&mut received).unwrap();
                    assert_eq!(usize::from_le_bytes(received), each);
                } else {
                    connection.write_all(&each.to_le_bytes()).unwrap();
                    connection.end_writing();
                    assert_eq!(drain(&mut *connection), each);
                }
            });
        }
    });
    TRANSFER as f64 / 1e6 / started.elapsed().as_secs_f64()
}

fn drain(connection: &mut dyn Pipe) -> usize {
    let mut chunk = [0; CHUNK];
    let mut received = 0;
    loop {
        match connection.read(&mut chunk).unwrap() {
            0 => return received,
            more => received += more,
        }
    }
}

/// The target of the program under test. It stops with the process.
struct Server {
    exit: Exit,
}

/// The exit of the program under test: a port, or a path in a directory that lives as long.
enum Exit {
    Tcp(SocketAddr),
    Unix(tempfile::TempDir),
}

impl Server {
    fn start(kind: Kind) -> Self {
        let serve = |mut connection: Box<dyn Pipe>| {
            thread::spawn(move || serve(&mut *connection));
        };
        let exit = match kind {
            Kind::Tcp => {
                let listener = TcpListener::bind("127.0.0.1:0").unwrap();
                let address = listener.local_addr().unwrap();
                thread::spawn(move || {
                    listener
                        .incoming()
                        .for_each(|stream| serve(without_delay(stream.unwrap())))
                });
                Exit::Tcp(address)
            }
            Kind::Unix => {
                let directory = tempfile::tempdir().unwrap();
                let listener = UnixListener::bind(directory.path().join(EXIT)).unwrap();
                thread::spawn(move || {
                    listener
                        .incoming()
                        .for_each(|stream| serve(Box::new(stream.unwrap())))
                });
                Exit::Unix(directory)
            }
        };
        Self { exit }
    }
}

fn serve(connection: &mut dyn Pipe) {
    let mut command = [0];
    match connection.read(&mut command) {
        Ok(1) => {}
        // Somebody tried whether we listen.
        _ => return,
    }
    match command[0] {
        b'U' => {
            let received = drain(connection);
            connection.write_all(&received.to_le_bytes()).unwrap();
        }
        b'D' => {
            let mut length = [0; 8];
            connection.read_exact(&mut length).unwrap();
            let chunk = [7; CHUNK];
            (0..usize::from_le_bytes(length) / CHUNK)
                .for_each(|_| connection.write_all(&chunk).unwrap());
        }
        _ => {
            let mut message = [0; 64];
            while connection.read_exact(&mut message).is_ok() {
                connection.write_all(&message).unwrap();
            }
        }
    }
}

trait Pipe: Read + Write + Send {
    fn end_writing(&self);
}

impl Pipe for TcpStream {
    fn end_writing(&self) {
        self.shutdown(Shutdown::Write).unwrap();
    }
}

impl Pipe for UnixStream {
    fn end_writing(&self) {
        self.shutdown(Shutdown::Write).unwrap();
    }
}

fn without_delay(stream: TcpStream) -> Box<dyn Pipe> {
    stream.set_nodelay(true).unwrap();
    Box::new(stream)
}

/// A program under test, forwarding from its entrance.
struct Setup {
    program: Child,
    entrance: Target,
    _directory: tempfile::TempDir,
}

impl Setup {
    fn start(program: Program, entrance: Kind, exit: &Exit, arguments: &Arguments) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let entrance = match entrance {
            // Free a moment ago, and nobody else here asks for ports by number.
            Kind::Tcp => Target::Tcp(
                TcpListener::bind("127.0.0.1:0")
                    .unwrap()
                    .local_addr()
                    .unwrap(),
            ),
            Kind::Unix => Target::Unix(directory.path().join("entrance.sock")),
        };
        let mut command = match program {
            Program::Bridge => {
                let mut command = Command::new(env!("CARGO_BIN_EXE_vsock-bridge"));
                let listen = match &entrance {
                    Target::Tcp(address) => format!("tcp:{address}"),
                    Target::Unix(path) => format!("unix:{}", path.display()),
                };
                let connect = match exit {
                    Exit::Tcp(address) => format!("tcp:{address}"),
                    Exit::Unix(directory) => {
                        format!("unix:{}", directory.path().join(EXIT).display())
                    }
                };
                command.args([
                    "--listen",
                    &listen,
                    "--connect",
                    &connect,
                    "--log-level",
                    "warn",
                ]);
                command
                    .args(["--connections", "4096"])
                    .args(&arguments.bridge);
                command
            }
            Program::Socat => {
                let mut command = Command::new("socat");
                let listen = match &entrance {
                    Target::Tcp(address) => {
                        format!(
                            "TCP-LISTEN:{},bind={},reuseaddr,fork,nodelay,backlog=4096",
                            address.port(),
                            address.ip()
                        )
                    }
                    Target::Unix(path) => {
                        format!("UNIX-LISTEN:{},fork,backlog=4096", path.display())
                    }
                };
                let connect = match exit {
                    Exit::Tcp(address) => format!("TCP:{address},nodelay"),
                    Exit::Unix(directory) => {
                        format!("UNIX-CONNECT:{}", directory.path().join(EXIT).display())
                    }
                };
                // Unless told to wait, it ends a connection half a second after its first half.
                command.args(["-t", "600", "-b", &arguments.socat_block, &listen, &connect]);
                command
            }
        };
        let setup = Self {
            program: command.spawn().unwrap(),
            entrance,
            _directory: directory,
        };
        let started = Instant::now();
        while setup.try_connect().is_err() {
            assert!(
                started.elapsed() < Duration::from_secs(10),
                "{program:?} does not listen"
            );
            thread::yield_now();
        }
        setup
    }

    fn connect(&self) -> Box<dyn Pipe> {
        self.try_connect().unwrap()
    }

    /// Seconds that the program and its children used, as far as they have ended: fields 14 to 17
    /// of proc_pid_stat(5), in hundredths (Linux's USER_HZ on every machine of ours).
    fn processor_time(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.program.id())).unwrap();
        let fields: Vec<_> = stat
            .rsplit_once(')')
            .unwrap()
            .1
            .split_whitespace()
            .collect();
        let ticks: u64 = fields[11..15]
            .iter()
            .map(|field| field.parse::<u64>().unwrap())
            .sum();
        ticks as f64 / 100.0
    }

    fn try_connect(&self) -> std::io::Result<Box<dyn Pipe>> {
        match &self.entrance {
            Target::Tcp(address) => TcpStream::connect(address).map(without_delay),
            Target::Unix(path) => Ok(Box::new(UnixStream::connect(path)?)),
        }
    }
}

impl Drop for Setup {
    fn drop(&mut self) {
        self.program.kill().unwrap();
        self.program.wait().unwrap();
    }
}

fn run_crowd(
    program: Program,
    entrance: Kind,
    exit: Kind,
    arguments: &Arguments,
) -> (Outcome, Duration) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let directory = tempfile::tempdir().unwrap();
        let listen = match exit {
            Kind::Tcp => "tcp:127.0.0.1:0".to_owned(),
            Kind::Unix => format!("unix:{}", directory.path().join(EXIT).display()),
        };
        let (listener, bound) = Listener::bind(listen.parse().unwrap()).await.unwrap();
        let exit = match bound {
            cloister_bridge::ListenAddress::Tcp(address) => Exit::Tcp(address),
            cloister_bridge::ListenAddress::Socket(_) => Exit::Unix(directory),
        };
        let setup = Setup::start(program, entrance, &exit, arguments);
        crowd(
            setup.entrance.clone(),
            listener,
            arguments.connections,
            arguments.length,
        )
        .await
    })
}

fn raise_descriptor_limit(needed: u64) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < needed) {
        setrlimit(
            Resource::Nofile,
            Rlimit {
                current: Some(needed),
                ..limit
            },
        )
        .unwrap();
    }
}

/// Name of the path that a unix server listens on.
const EXIT: &str = "exit.sock";
/// Below this ratio the run fails. Generous, and not for single figures nor for latencies, which
/// say more of what else the machine has to do.
const BOUND: f64 = 0.8;
/// Bytes of one throughput measurement.
const TRANSFER: usize = 256 << 20;
/// Bytes that client and server read and write at once.
const CHUNK: usize = 64 << 10;
const ROUND_TRIPS: usize = 3000;
const CONNECTS: usize = 100;
