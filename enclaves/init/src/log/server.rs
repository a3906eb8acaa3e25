//! Writes the log to everyone who connects to its vsock port, and to the kernel's console.

use std::fs::OpenOptions;
use std::io;
use std::net::Shutdown;
use std::thread;
use std::time::Duration;

use vsock::{VsockListener, VsockStream};

use super::buffer::{Log, Reader};

/// Serves the log to the first connections, as many as are open at once. The pod’s is one of the
/// first: later ones take nothing from it.
pub(crate) fn serve(log: &Log, listener: VsockListener) {
    let log = log.clone();
    thread::spawn(move || {
        loop {
            // A connection that died before it was accepted is not a reason to stop.
            let Ok((stream, _)) = listener.accept() else {
                thread::sleep(ACCEPT_PAUSE);
                continue;
            };
            if let Some(reader) = Reader::connected(&log) {
                // An error means that there is no memory for another thread, and then for a reader.
                let _ = thread::Builder::new().spawn(move || write_to_peer(&reader, stream));
            }
        }
    });
}

fn write_to_peer(reader: &Reader, mut stream: VsockStream) {
    let written = stream
        .set_write_timeout(Some(PEER_DEADLINE))
        .and_then(|()| reader.copy_to(&mut stream));
    if written.is_ok() {
        // The machine must not stop before the peer has the last line, which shows when the peer
        // closes the connection as well. Not every hypervisor reports that, so after a while the
        // line counts as received.
        let _ = stream
            .set_read_timeout(Some(ACKNOWLEDGEMENT))
            .and_then(|()| stream.shutdown(Shutdown::Write));
        let _ = io::copy(&mut stream, &mut io::sink());
        reader.delivered();
    }
}

/// Writes the log to the kernel's console.
pub(crate) fn follow_on_console(log: &Log) {
    let reader = Reader::console(log);
    thread::spawn(move || {
        OpenOptions::new()
            .write(true)
            .open(CONSOLE)
            .and_then(|mut console| reader.copy_to(&mut console))
    });
}

/// For a peer that does not read.
const PEER_DEADLINE: Duration = Duration::from_secs(4);
/// For a peer that has the last line and does not close its connection.
const ACKNOWLEDGEMENT: Duration = Duration::from_secs(1);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
const CONSOLE: &str = "/dev/console";
