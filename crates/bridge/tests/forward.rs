//! Forwards between all kinds of addresses that a machine without vsock has.

#![allow(clippy::unwrap_used, reason = "what cannot go on in a test fails it")]

use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use cloister_bridge::{
    Connection, Counters, Forward, ForwardLimits, ListenAddress, Listener, Totals,
};
use cloister_transport::{Address, Stream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, yield_now};
use tokio_util::sync::CancellationToken;

/// A forward that runs, and what it leads to.
struct Running {
    entrance: ListenAddress,
    exit: Listener,
    counters: Counters,
    stopped: JoinHandle<()>,
    shutdown: CancellationToken,
    _directory: tempfile::TempDir,
}

impl Running {
    async fn start(limits: ForwardLimits) -> Self {
        Self::between("tcp:127.0.0.1:0", "tcp:127.0.0.1:0", limits).await
    }

    /// `DIR` in an address is a directory of its own.
    async fn between(entrance: &str, exit: &str, limits: ForwardLimits) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let within = |address: &str| address.replace("DIR", directory.path().to_str().unwrap());
        let (exit, bound) = Listener::bind(within(exit).parse().unwrap()).await.unwrap();
        let connect = bound.to_string().replace("tcp:127.0.0.1", "tcp:localhost");
        let (entrance, counters, stopped, shutdown) =
            run(&within(entrance), &connect, limits).await;
        Self {
            entrance,
            exit,
            counters,
            stopped,
            shutdown,
            _directory: directory,
        }
    }

    /// Both ends of a new connection.
    async fn open(&self) -> (Connection, Connection) {
        let (near, far) =
            soon(async { tokio::join!(connect(&self.entrance), self.exit.accept()) }).await;
        (near, far.unwrap().0)
    }

    async fn counted(&self, what: impl Fn(Totals) -> bool) {
        counted(&self.counters, what).await;
    }
}

async fn run(
    listen: &str,
    connect: &str,
    limits: ForwardLimits,
) -> (ListenAddress, Counters, JoinHandle<()>, CancellationToken) {
    let forward = Forward::new(listen.parse().unwrap(), connect.parse().unwrap(), limits)
        .bind()
        .await
        .unwrap();
    let (entrance, counters, shutdown) = (
        forward.address().clone(),
        forward.counters().clone(),
        CancellationToken::new(),
    );
    (
        entrance,
        counters,
        tokio::spawn(forward.run(shutdown.clone())),
        shutdown,
    )
}

async fn connect(address: &ListenAddress) -> Connection {
    match address {
        ListenAddress::Tcp(address) => TcpStream::connect(address).await.unwrap().into(),
        ListenAddress::Socket(address) => Stream::connect(address).await.unwrap().into(),
    }
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future)
        .await
        .expect("it hangs")
}

async fn counted(counters: &Counters, what: impl Fn(Totals) -> bool) {
    soon(async {
        while !what(counters.totals()) {
            yield_now().await;
        }
    })
    .await;
}

/// Reads until the end; true if the end was an ordinary one.
async fn read_to_end(connection: &mut Connection) -> (Vec<u8>, Result<(), ErrorKind>) {
    let mut received = Vec::new();
    let ended = soon(connection.read_to_end(&mut received)).await;
    (received, ended.map(drop).map_err(|error| error.kind()))
}

/// More than all buffers on the way hold.
fn long_message() -> Vec<u8> {
    (0..=250).cycle().take(20_000_000).collect()
}

#[tokio::test]
async fn between_all_kinds_bytes_pass_and_each_direction_ends_by_itself() {
    let kinds = ["tcp:127.0.0.1:0", "unix:DIR/entrance", "unix:DIR/exit"];
    for (entrance, exit) in [
        (kinds[0], kinds[0]),
        (kinds[0], kinds[2]),
        (kinds[1], kinds[0]),
        (kinds[1], kinds[2]),
    ] {
        let running = Running::between(entrance, exit, ForwardLimits::default()).await;
        // First the side that connected ends, then the other; and the other way round.
        for turned in [false, true] {
            let (near, far) = running.open().await;
            let (mut first, mut second) = if turned { (far, near) } else { (near, far) };
            first.write_all(b"all of it").await.unwrap();
            first.shutdown().await.unwrap();
            assert_eq!(
                read_to_end(&mut second).await,
                (b"all of it".to_vec(), Ok(()))
            );
            second.write_all(b"the answer").await.unwrap();
            second.shutdown().await.unwrap();
            assert_eq!(
                read_to_end(&mut first).await,
                (b"the answer".to_vec(), Ok(()))
            );
        }
        running.counted(|totals| totals.open == 0).await;
        let expected = Totals {
            accepted: 2,
            opened: 2,
            sent: 19,
            received: 19,
            ..Totals::default()
        };
        assert_eq!(running.counters.totals(), expected, "{entrance} {exit}");
    }
}

#[tokio::test]
async fn more_than_fits_waits_for_its_reader_and_arrives_whole() {
    let message = long_message();
    for (entrance, exit) in [
        ("tcp:127.0.0.1:0", "unix:DIR/exit"),
        ("unix:DIR/entrance", "tcp:127.0.0.1:0"),
    ] {
        let running = Running::between(entrance, exit, ForwardLimits::default()).await;
        let (mut near, mut far) = running.open().await;
        // Nobody reads until both directions are full.
        let full = async |connection: &mut Connection| {
            let mut written = 0;
            while let Ok(more) = tokio::time::timeout(
                Duration::from_millis(100),
                connection.write(&message[written..]),
            )
            .await
            {
                written += more.unwrap();
            }
            written
        };
        let (sent, answered) = tokio::join!(full(&mut near), full(&mut far));
        assert!(sent < message.len() && answered < message.len());
        near.shutdown().await.unwrap();
        far.shutdown().await.unwrap();
        assert_eq!(
            read_to_end(&mut far).await,
            (message[..sent].to_vec(), Ok(()))
        );
        assert_eq!(
            read_to_end(&mut near).await,
            (message[..answered].to_vec(), Ok(()))
        );
    }
}

#[tokio::test]
async fn both_directions_pass_at_once() {
    let running = Running::between(
        "unix:DIR/entrance",
        "unix:DIR/exit",
        ForwardLimits::default(),
    )
    .await;
    let (near, far) = running.open().await;
    let message = long_message();
    let talk = async |connection: Connection| {
        let (mut reading, mut writing) = tokio::io::split(connection);
        let mut received = Vec::new();
        let (read, ()) = tokio::join!(reading.read_to_end(&mut received), async {
            writing.write_all(&message).await.unwrap();
            writing.shutdown().await.unwrap();
        });
        read.unwrap();
        received == message
    };
    assert_eq!(
        soon(async { tokio::join!(talk(near), talk(far)) }).await,
        (true, true)
    );
}

#[tokio::test]
async fn a_port_behind_a_monitors_socket_is_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("monitor");
    let address = ListenAddress::Socket(Address::Unix(path.clone()));
    let (monitor, _) = Listener::bind(address).await.unwrap();
    let limits = ForwardLimits::default();
    let (entrance, ..) = run(
        "tcp:127.0.0.1:0",
        &format!("hybrid:{}:5000", path.display()),
        limits,
    )
    .await;
    let monitor = async {
        let mut stream = monitor.accept().await.unwrap().0;
        let mut asked = [0; 13];
        stream.read_exact(&mut asked).await.unwrap();
        assert_eq!(&asked, b"CONNECT 5000\n");
        stream.write_all(b"OK 1\nhello").await.unwrap();
        drop(stream);
    };
    let (mut client, ()) = soon(async { tokio::join!(connect(&entrance), monitor) }).await;
    assert_eq!(read_to_end(&mut client).await, (b"hello".to_vec(), Ok(())));
}

#[tokio::test]
async fn a_reset_is_not_taken_for_an_end() {
    let running = Running::start(ForwardLimits::default()).await;
    for turned in [false, true] {
        let (near, far) = running.open().await;
        let (mut leaving, mut staying) = if turned { (far, near) } else { (near, far) };
        leaving.write_all(b"half of").await.unwrap();
        soon(staying.read_exact(&mut [0; 7])).await.unwrap();
        let Connection::Tcp(stream) = &leaving else {
            unreachable!()
        };
        stream.set_zero_linger().unwrap();
        drop(leaving);
        assert_eq!(
            read_to_end(&mut staying).await,
            (Vec::new(), Err(ErrorKind::ConnectionReset))
        );
    }
    running
        .counted(|totals| totals.broken == 2 && totals.open == 0)
        .await;
}

#[tokio::test]
async fn an_answer_before_the_end_of_the_question_arrives() {
    let running =
        Running::between("tcp:127.0.0.1:0", "unix:DIR/exit", ForwardLimits::default()).await;
    let (mut near, mut far) = running.open().await;
    near.write_all(b"a question").await.unwrap();
    far.write_all(b"too long").await.unwrap();
    // Without having read.
    drop(far);
    let message = long_message();
    // Nobody takes this any more.
    let _ = soon(near.write_all(&message)).await;
    let mut answer = [0; 8];
    soon(near.read_exact(&mut answer)).await.unwrap();
    assert_eq!(&answer, b"too long");
    drop(near);
    running.counted(|totals| totals.open == 0).await;
}

#[tokio::test]
async fn more_connections_than_allowed_are_refused_at_once() {
    let running = Running::start(ForwardLimits {
        connections: 2,
        ..ForwardLimits::default()
    })
    .await;
    let (mut first, _first_end) = running.open().await;
    let (_second, _second_end) = running.open().await;
    for _ in 0..3 {
        let mut refused = connect(&running.entrance).await;
        assert_eq!(
            read_to_end(&mut refused).await,
            (Vec::new(), Err(ErrorKind::ConnectionReset))
        );
    }
    let totals = running.counters.totals();
    assert_eq!(
        (totals.accepted, totals.refused_limit, totals.open),
        (5, 3, 2)
    );
    // Whoever ends makes room.
    first.shutdown().await.unwrap();
    drop((first, _first_end));
    running.counted(|totals| totals.open == 1).await;
    let (mut third, mut third_end) = running.open().await;
    third.write_all(b"x").await.unwrap();
    soon(third_end.read_exact(&mut [0])).await.unwrap();
}

#[tokio::test]
async fn where_nobody_listens_or_no_name_leads_the_client_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let dead = Listener::bind("tcp:127.0.0.1:0".parse().unwrap())
        .await
        .unwrap()
        .1;
    let limits = ForwardLimits {
        connect: Duration::from_secs(10),
        ..ForwardLimits::default()
    };
    for target in [
        dead.to_string(),
        "tcp:nowhere.invalid:443".to_owned(),
        format!("unix:{}", directory.path().join("nobody").display()),
        format!("hybrid:{}:1", directory.path().join("nobody").display()),
    ] {
        let (entrance, counters, ..) = run("tcp:127.0.0.1:0", &target, limits).await;
        let mut client = connect(&entrance).await;
        assert_eq!(
            read_to_end(&mut client).await,
            (Vec::new(), Err(ErrorKind::ConnectionReset)),
            "{target}"
        );
        counted(&counters, |totals| totals.open == 0).await;
        assert_eq!(
            counters.totals(),
            Totals {
                accepted: 1,
                failed: 1,
                ..Totals::default()
            },
            "{target}"
        );
    }
}

#[tokio::test]
async fn connecting_takes_no_longer_than_allowed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("monitor");
    // It takes the connection and says nothing.
    let (_monitor, _) = Listener::bind(ListenAddress::Socket(Address::Unix(path.clone())))
        .await
        .unwrap();
    let limits = ForwardLimits {
        connect: Duration::from_millis(50),
        ..ForwardLimits::default()
    };
    let (entrance, counters, ..) = run(
        "tcp:127.0.0.1:0",
        &format!("hybrid:{}:1", path.display()),
        limits,
    )
    .await;
    let mut client = connect(&entrance).await;
    assert_eq!(
        read_to_end(&mut client).await.1,
        Err(ErrorKind::ConnectionReset)
    );
    assert_eq!(counters.totals().failed, 1);
}

#[tokio::test]
async fn connections_on_which_nothing_passes_are_closed_and_no_others() {
    let idle = Duration::from_millis(300);
    let running = Running::start(ForwardLimits {
        idle: Some(idle),
        ..ForwardLimits::default()
    })
    .await;
    let (mut silent, _silent_end) = running.open().await;
    let (mut busy, mut busy_end) = running.open().await;
    let started = tokio::time::Instant::now();
    let talk = async {
        while started.elapsed() < idle * 3 {
            busy.write_all(b"x").await.unwrap();
            busy_end.read_exact(&mut [0]).await.unwrap();
            // A little traffic is all it takes.
            tokio::time::sleep(idle / 10).await;
        }
    };
    let (ended, ()) = tokio::join!(read_to_end(&mut silent), soon(talk));
    assert_eq!(ended, (Vec::new(), Err(ErrorKind::ConnectionReset)));
    let totals = running.counters.totals();
    assert_eq!((totals.idled, totals.open), (1, 1));
}

#[tokio::test]
async fn told_to_stop_it_lets_open_connections_end() {
    let running = Running::start(ForwardLimits::default()).await;
    let (mut near, mut far) = running.open().await;
    running.shutdown.cancel();
    let ListenAddress::Tcp(entrance) = &running.entrance else {
        unreachable!()
    };
    // Nobody listens there any more.
    soon(async {
        while TcpListener::bind(entrance).await.is_err() {
            yield_now().await
        }
    })
    .await;
    near.write_all(b"still there").await.unwrap();
    near.shutdown().await.unwrap();
    assert_eq!(
        read_to_end(&mut far).await,
        (b"still there".to_vec(), Ok(()))
    );
    assert!(!running.stopped.is_finished());
    far.write_all(b"me too").await.unwrap();
    drop(far);
    assert_eq!(read_to_end(&mut near).await, (b"me too".to_vec(), Ok(())));
    soon(running.stopped).await.unwrap();
    assert_eq!(running.counters.totals().stopped, 0);
}

#[tokio::test]
async fn when_the_time_to_drain_is_over_connections_are_cut() {
    let running = Running::start(ForwardLimits {
        drain: Duration::from_millis(50),
        ..ForwardLimits::default()
    })
    .await;
    let (mut near, mut far) = running.open().await;
    running.shutdown.cancel();
    soon(running.stopped).await.unwrap();
    assert_eq!(
        read_to_end(&mut near).await.1,
        Err(ErrorKind::ConnectionReset)
    );
    assert_eq!(
        read_to_end(&mut far).await.1,
        Err(ErrorKind::ConnectionReset)
    );
    let totals = running.counters.totals();
    assert_eq!((totals.stopped, totals.open), (1, 0));
}

#[tokio::test]
async fn a_filter_by_machine_admits_nobody_where_machines_cannot_be_told() {
    let (_exit, bound) = Listener::bind("tcp:127.0.0.1:0".parse().unwrap())
        .await
        .unwrap();
    let listen = "tcp:127.0.0.1:0".parse().unwrap();
    let forward = Forward::new(
        listen,
        bound.to_string().parse().unwrap(),
        ForwardLimits::default(),
    );
    let forward = forward.only_from([16]).bind().await.unwrap();
    let (entrance, counters) = (forward.address().clone(), forward.counters().clone());
    tokio::spawn(forward.run(CancellationToken::new()));
    let mut client = connect(&entrance).await;
    assert_eq!(
        read_to_end(&mut client).await.1,
        Err(ErrorKind::ConnectionReset)
    );
    assert_eq!(counters.totals().refused_source, 1);
}

#[tokio::test]
async fn an_address_in_use_is_said_to_be_so() {
    let directory = tempfile::tempdir().unwrap();
    let unix = format!("unix:{}", directory.path().join("entrance").display());
    let refused = async |listen: &str| {
        let forward = Forward::new(
            listen.parse().unwrap(),
            unix.parse().unwrap(),
            ForwardLimits::default(),
        );
        forward.bind().await.unwrap_err().kind()
    };
    for listen in ["tcp:127.0.0.1:0", &unix] {
        let (_listener, bound) = Listener::bind(listen.parse().unwrap()).await.unwrap();
        assert_eq!(refused(&bound.to_string()).await, ErrorKind::AddrInUse);
    }
    assert!(Path::new(&unix["unix:".len()..]).exists());
}
