//! `cargo aws`

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let environment = std::env::vars().collect();
    match cloister_aws::run(&cloister_aws::Arguments::parse(), &environment) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
