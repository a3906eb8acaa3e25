//! `cloister kms`: stub for the first slice.
use crate::answer::Answer;
use crate::arguments::Common;
use crate::failure::Failure;
use clap::Subcommand;
#[derive(Debug, Subcommand)]
pub(crate) enum Command {}
pub(crate) async fn run(command: Command, _: &Common) -> Result<Answer, Failure> {
    match command {}
}
