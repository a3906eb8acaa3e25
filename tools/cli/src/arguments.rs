//! The command line.

use clap::{Parser, Subcommand};

use crate::options::Common;
use crate::{attestation, doctor, key, kms, sign};

/// Ethereum keys in AWS Nitro Enclaves: create and use them, check the key policy, diagnose faults
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
  1  local failure: a file, credentials
  2  wrong usage or input
  3  a check found a fault
  4  Cloister refuses; the request has to change
  5  Cloister refuses for now; the same request may succeed later
  6  AWS refuses
  7  no response
  8  a response that failed verification and must not be used";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create or import a key
    #[command(subcommand)]
    Key(key::Command),
    /// Sign; the response is verified before it is printed
    #[command(subcommand)]
    Sign(sign::Command),
    /// The policy of the KMS key that protects every wallet key
    #[command(subcommand)]
    Kms(kms::Command),
    /// The proof of an enclave's image
    #[command(subcommand)]
    Attestation(attestation::Command),
    /// Check every hop from here to KMS, and print what to do about each fault
    Doctor(doctor::Command),
    /// Print a completion script for a shell
    Completion {
        /// Shell of the script
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
    fn secrets_cannot_be_arguments() {
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
