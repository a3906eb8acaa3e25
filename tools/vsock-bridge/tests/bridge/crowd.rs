//! Many connections at once, every byte of them checked.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cloister_bridge::{Connection, Listener};
use cloister_transport::{Address, Stream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{Barrier, mpsc};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// Outcomes of a crowd's connections.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// Every byte arrived both ways, and each end as an end.
    pub(crate) whole: usize,
    /// Other bytes arrived, or fewer, or more.
    pub(crate) wrong: usize,
    /// The connection was refused or broken off.
    pub(crate) lost: usize,
    /// It did not end in time.
    pub(crate) stalled: usize,
}

/// The address to connect to.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    Tcp(std::net::SocketAddr),
    Unix(std::path::PathBuf),
}

/// Opens `connections` to `entrance`, which must lead to `exit`. Once all of them are open they
/// pass `length` bytes each way; of every second one the client ends its direction first and hears
/// an answer then, of the others the server does. Returns what became of them, and how long it
/// took.
pub(crate) async fn crowd(
    entrance: Target,
    exit: Listener,
    connections: u32,
    length: usize,
) -> (Outcome, Duration) {
    let started = Instant::now();
    let (verdict, mut verdicts) = mpsc::unbounded_channel();
    let server = tokio::spawn(async move {
        let mut serving = JoinSet::new();
        loop {
            // An error here shows as a lost connection at the client.
            if let Ok((mut connection, _)) = exit.accept().await {
                let verdict = verdict.clone();
                serving.spawn(async move {
                    // Who only tried whether somebody listens does not count.
                    if let Ok(number) = connection.read_u32().await {
                        let _ = verdict.send(answer(connection, number, length).await);
                    }
                });
            }
        }
    });
    let all_open = Arc::new(Barrier::new(connections as usize));
    let mut clients = JoinSet::new();
    for number in 0..connections {
        let (entrance, all_open) = (entrance.clone(), all_open.clone());
        clients.spawn(async move {
            match timeout(DEADLINE, ask(entrance, number, length, all_open)).await {
                Ok(Ok(())) => Ok(()),
                Ok(Err(error)) if error.kind() == io::ErrorKind::InvalidData => Err(Fate::Wrong),
                Ok(Err(_)) => Err(Fate::Lost),
                Err(_) => Err(Fate::Stalled),
            }
        });
    }
    let mut outcome = Outcome::default();
    for fate in clients.join_all().await {
        *match fate {
            Ok(()) => &mut outcome.whole,
            Err(Fate::Wrong) => &mut outcome.wrong,
            Err(Fate::Lost) => &mut outcome.lost,
            Err(Fate::Stalled) => &mut outcome.stalled,
        } += 1;
    }
    // What the clients found whole, the server must have found whole, too.
    for _ in 0..outcome.whole {
        match timeout(DEADLINE, verdicts.recv()).await {
            Ok(Some(Ok(()))) => continue,
            Ok(_) => outcome.wrong += 1,
            Err(_) => outcome.stalled += 1,
        }
        outcome.whole -= 1;
    }
    server.abort();
    (outcome, started.elapsed())
}

enum Fate {
    Wrong,
    Lost,
    Stalled,
}

/// A connection from the client's side.
async fn ask(
    entrance: Target,
    number: u32,
    length: usize,
    all_open: Arc<Barrier>,
) -> io::Result<()> {
    let opened = open(entrance, number).await;
    // Those that could not be opened must not keep the others waiting.
    all_open.wait().await;
    let mut connection = opened?;
    let (from_client, from_server) = (bytes(number, length), bytes(!number, length));
    if number.is_multiple_of(2) {
        connection.write_all(&from_client).await?;
        connection.shutdown().await?;
        expect(&mut connection, &from_server).await?;
    } else {
        expect(&mut connection, &from_server).await?;
        connection.write_all(&from_client).await?;
        connection.shutdown().await?;
    }
    Ok(())
}

/// Connects and learns that the other end is there: it repeats the number.
async fn open(entrance: Target, number: u32) -> io::Result<Connection> {
    let mut connection = connect(&entrance).await?;
    connection.write_u32(number).await?;
    match connection.read_u32().await? {
        repeated if repeated == number => Ok(connection),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

async fn connect(entrance: &Target) -> io::Result<Connection> {
    loop {
        let connected = match entrance {
            Target::Tcp(address) => TcpStream::connect(address).await.map(Connection::from),
            Target::Unix(path) => Stream::connect(&Address::Unix(path.clone()))
                .await
                .map(Connection::from),
        };
        match connected {
            // So many wait at a path that no more may.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                sleep(Duration::from_millis(5)).await
            }
            other => return other,
        }
    }
}

/// A connection from the server's side.
async fn answer(mut connection: Connection, number: u32, length: usize) -> io::Result<()> {
    connection.write_u32(number).await?;
    let (from_client, from_server) = (bytes(number, length), bytes(!number, length));
    if number.is_multiple_of(2) {
        expect(&mut connection, &from_client).await?;
        connection.write_all(&from_server).await?;
        connection.shutdown().await
    } else {
        connection.write_all(&from_server).await?;
        connection.shutdown().await?;
        expect(&mut connection, &from_client).await
    }
}

/// Reads to the end, which must give exactly `expected`.
async fn expect(connection: &mut Connection, expected: &[u8]) -> io::Result<()> {
    let mut received = Vec::with_capacity(expected.len());
    connection.read_to_end(&mut received).await?;
    if received == expected {
        Ok(())
    } else {
        Err(io::ErrorKind::InvalidData.into())
    }
}

/// The bytes of one direction of one connection; xorshift, so that they fit nowhere else.
fn bytes(number: u32, length: usize) -> Vec<u8> {
    let mut state = u64::from(number) << 1 | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let mut bytes: Vec<u8> = std::iter::repeat_with(&mut next)
        .flatten()
        .take(length + 64)
        .collect();
    // The first numbers of neighbours resemble each other.
    bytes.drain(..64);
    bytes
}

/// A connection that has not ended by then has stalled.
const DEADLINE: Duration = Duration::from_secs(60);
