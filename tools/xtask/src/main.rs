#![doc = include_str!("../README.md")]
// A command-line tool: standard output is where its answer goes.
#![allow(clippy::print_stdout)]

mod build;
mod cache;
mod containers;
mod debian;
mod deployment;
mod digest;
mod download;
mod emulator;
mod examples;
mod image;
mod kernel;
mod kubernetes;
mod lambda;
mod local;
mod measured;
mod newman;
mod npm;
mod openapi;
mod python;
mod rehearsal;
mod run;
mod stack;
mod test;
mod twice;

use std::process::ExitCode;

use crate::test::Selection;

const USAGE: &str = "\
usage: cargo local demo | up [--help]      the whole stack on this machine
       cargo xtask test [--full]           every test; --full adds the long ones
       cargo xtask test --step NAME        one step of them, with what stands before it done already
       cargo xtask image [--help]          enclave images
       cargo xtask containers [--help]     the pods' container images, with the enclave images in them
       cargo xtask lambda [--architecture] the front door as a Lambda function's zip
       cargo xtask newman RUNNERS ROUNDS   load by newman; --help tells more
       cargo xtask emulator                what runs them without Nitro; test and demo make it themselves";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match arguments.as_slice() {
        ["local", rest @ ..] => local::run(rest),
        ["test"] => test::run(Selection::Daily),
        ["test", "--full"] => test::run(Selection::Full),
        ["test", "--step", name] => test::run(Selection::Only(name)),
        ["emulator"] => emulator::run(),
        ["newman", "--help"] => {
            println!("{}", newman::USAGE);
            Ok(())
        }
        ["newman", arguments @ ..] => newman::run(arguments),
        ["containers", "--help"] => {
            println!("{}", containers::USAGE);
            Ok(())
        }
        ["containers", options @ ..] => containers::run(options),
        ["lambda", options @ ..] => lambda::run(options),
        ["image", "--help"] => {
            println!("{}", image::USAGE);
            Ok(())
        }
        ["image", options @ ..] => image::run(options),
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
