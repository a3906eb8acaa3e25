//! The processes of a stack: what is said when one fails, and that none is left behind.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use cloister_local::child::Program;

#[test]
fn a_failure_shows_the_last_words_and_where_they_stand() {
    let logs = tempfile::tempdir().unwrap();
    let mut running = Program::new("part", "/bin/sh")
        .argument("-c")
        .argument("echo \"$GREETING\"; echo reason >&2; exit 3")
        .variable("GREETING", "hello")
        .start(logs.path())
        .unwrap();
    wait_until("the part ends", || running.ended().is_some());
    let failure = running.failure("it ended").to_string();
    let log = logs.path().join("part.log");
    for expected in [
        "part: it ended (exit status: 3)",
        "hello",
        "reason",
        log.to_str().unwrap(),
    ] {
        assert!(failure.contains(expected), "{failure}");
    }
}

#[test]
fn a_missing_program_says_how_to_build_it() {
    let logs = tempfile::tempdir().unwrap();
    let error = Program::new("part", "/nowhere/part")
        .start(logs.path())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("/nowhere/part") && error.contains("cargo build"),
        "{error}"
    );
}

#[test]
fn nothing_of_our_environment_reaches_a_part() {
    let logs = tempfile::tempdir().unwrap();
    let mut running = Program::new("part", "/usr/bin/env")
        .variable("ONE", "1")
        .start(logs.path())
        .unwrap();
    wait_until("the part ends", || running.ended().is_some());
    let mut names: Vec<_> = running
        .output()
        .unwrap()
        .lines()
        .filter_map(|line| Some(line.split_once('=')?.0.to_owned()))
        .collect();
    names.sort();
    assert_eq!(names, ["ONE", "PATH"]);
}

#[test]
fn a_part_that_does_not_want_to_stop_is_made_to() {
    let logs = tempfile::tempdir().unwrap();
    let mut running = Program::new("part", "/bin/sh")
        .argument("-c")
        .argument("trap '' TERM; echo ready; while :; do sleep 1; done")
        .start(logs.path())
        .unwrap();
    wait_until("the part ignores SIGTERM", || {
        running.output().unwrap().contains("ready")
    });
    running.stop(Duration::from_millis(50));
    assert!(running.ended().is_some());
}

#[test]
fn a_part_ends_with_its_parent_even_when_that_is_killed() {
    let child = env!("CARGO_BIN_EXE_cloister-local-child");
    let mut parent = Command::new("/bin/sh")
        .args(["-c", &format!("'{child}' $$ /bin/sleep 60 & echo $!; wait")])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(parent.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let process = format!("/proc/{}", line.trim());
    let is_sleep = || {
        std::fs::read_to_string(format!("{process}/comm")).is_ok_and(|name| name.trim() == "sleep")
    };
    wait_until("the child becomes the program", is_sleep);

    parent.kill().unwrap();
    parent.wait().unwrap();
    // Whoever inherits it may take its time to bury it.
    let buried = || {
        std::fs::read_to_string(format!("{process}/stat"))
            .map_or(true, |stat| stat.contains(") Z "))
    };
    wait_until("the child ends", || {
        !Path::new(&process).exists() || buried()
    });
}

#[test]
fn a_part_whose_parent_is_gone_already_does_not_start() {
    let child = env!("CARGO_BIN_EXE_cloister-local-child");
    let output = Command::new(child)
        .args(["1", "/bin/echo", "started"])
        .output()
        .unwrap();
    assert!(!output.status.success() && output.stdout.is_empty());
}

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "{what}: not in time");
        std::thread::sleep(Duration::from_millis(5));
    }
}
