//! Child processes of init: their ids, and their output in the log.

use std::io::{self, BufRead, BufReader, Read};
use std::process::Child;
use std::sync::mpsc::Sender;
use std::thread;

use rustix::io::Errno;
use rustix::process::Pid;

use crate::log::{Log, MAX_LINE_LEN};

pub(crate) fn pid(child: &Child) -> io::Result<Pid> {
    Ok(i32::try_from(child.id())
        .ok()
        .and_then(Pid::from_raw)
        .ok_or(Errno::RANGE)?)
}

/// Copies lines unchanged; one that is too long is split.
pub(crate) fn copy_lines(from: impl Read + Send + 'static, log: Log, copying: Sender<()>) {
    thread::spawn(move || {
        let _copying = copying;
        let mut from = BufReader::new(from);
        while let Ok(Some(line)) = read_line(&mut from) {
            log.push(&line);
        }
    });
}

fn read_line(from: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    if from.take(MAX_LINE_LEN).read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    line.pop_if(|last| *last == b'\n');
    Ok(Some(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &[u8]) -> Vec<Vec<u8>> {
        let mut from = BufReader::with_capacity(7, text);
        std::iter::from_fn(|| read_line(&mut from).unwrap()).collect()
    }

    #[test]
    fn lines_are_copied_as_they_are() {
        assert_eq!(lines(b""), Vec::<Vec<u8>>::new());
        assert_eq!(
            lines(b"a\n\n{\"b\":\xff}\nthe end"),
            [&b"a"[..], b"", b"{\"b\":\xff}", b"the end"]
        );
    }

    #[test]
    fn a_line_that_is_too_long_arrives_in_pieces() {
        let long = vec![b'x'; 8192 * 2 + 1];
        let pieces = lines(&[&long[..], b"\nnext\n"].concat());
        assert_eq!(
            pieces.iter().map(Vec::len).collect::<Vec<_>>(),
            [8192, 8192, 1, 4]
        );
        assert_eq!(pieces[3], b"next");
    }
}
