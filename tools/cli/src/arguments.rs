//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::{doctor, key, kms, sign};

/// Ethereum keys in AWS Nitro Enclaves: make and use them, look at the key policy, find out what is
/// wrong
#[derive(Debug, Parser)]
#[command(name = "cloister", version, after_help = EXIT_CODES, arg_required_else_help = true)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  something on this machine failed: a file, credentials
  2  wrong usage or input
  3  a check says no
  4  Cloister refuses; the request has to change
  5  Cloister refuses for now; the same request may succeed later
  6  AWS refuses
  7  no answer
  8  an answer that is not right and must not be used";

/// What every command takes.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Everywhere")]
pub(crate) struct Common {
    /// Answer in JSON: the result on standard output, a failure on standard error
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Profile of the AWS configuration files [default: AWS_PROFILE, then the standard chain]
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) profile: Option<String>,
    /// AWS region [default: the endpoint's, then AWS_REGION and the profile]
    #[arg(long, global = true)]
    pub(crate) region: Option<String>,
    /// PEM file of certificates to trust besides the system's
    #[arg(long, global = true, value_name = "FILE", env = "AWS_CA_BUNDLE")]
    pub(crate) ca_file: Option<PathBuf>,
}

/// Where the API is.
#[derive(Args, Clone, Debug)]
pub(crate) struct Api {
    /// URL of the API, with its stage (`https://ID.execute-api.REGION.amazonaws.com/STAGE`)
    #[arg(long, value_name = "URL", env = "CLOISTER_ENDPOINT")]
    pub(crate) endpoint: String,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a key, or bring one
    #[command(subcommand)]
    Key(key::Command),
    /// Sign; what comes back is verified before it is shown
    #[command(subcommand)]
    Sign(sign::Command),
    /// The policy of the KMS key that protects every wallet key
    #[command(subcommand)]
    Kms(kms::Command),
    /// Find out why the API cannot be used from here, and what to do about it
    Doctor(doctor::Command),
    /// Print a completion script for a shell
    Completion {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_secret_is_no_argument() {
        for line in [
            "cloister key generate --endpoint http://x --secret abc",
            "cloister key import --eth-key 01",
        ] {
            assert!(
                Arguments::try_parse_from(line.split(' ')).is_err(),
                "{line}"
            );
        }
    }
}
