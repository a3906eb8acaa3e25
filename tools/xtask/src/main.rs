#![doc = include_str!("../README.md")]
// A command-line tool: standard output is where its answer goes.
#![allow(clippy::print_stdout)]

mod build;
mod cache;
mod local;
mod test;

use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo local demo | up [--help]      the whole stack on this machine
       cargo xtask test [--full]           every test; --full adds the long ones";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match arguments.as_slice() {
        ["local", rest @ ..] => local::run(rest),
        ["test"] => test::run(false),
        ["test", "--full"] => test::run(true),
        _ => Err(USAGE.to_owned()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}
