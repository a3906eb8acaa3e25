#![doc = include_str!("../README.md")]
// A command-line tool prints its result.
#![allow(clippy::print_stdout)]

mod answer;
mod arguments;
mod attestation;
mod aws;
mod doctor;
mod failure;
mod key;
mod kms;
mod options;
mod secret;
mod sign;
mod verify;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

use crate::answer::Answer;
use crate::arguments::{Arguments, Command};

#[tokio::main]
async fn main() -> ExitCode {
    let Arguments { common, command } = Arguments::parse();
    // The workspace's TLS provider.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let outcome = match command {
        Command::Key(command) => key::run(command, &common).await,
        Command::Sign(command) => sign::run(command, &common).await,
        Command::Kms(command) => kms::run(command, &common).await,
        Command::Attestation(command) => attestation::run(&command),
        Command::Doctor(command) => doctor::run(command, &common).await,
        Command::Completion { shell } => Ok(completion(shell)),
    };
    match outcome {
        Ok(answer) => answer.print(common.json),
        Err(failure) => failure.print(common.json),
    }
}

fn completion(shell: clap_complete::Shell) -> Answer {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "cloister", &mut script);
    Answer::verbatim(String::from_utf8_lossy(&script).into_owned())
}
