//! Options that commands share.

use std::path::PathBuf;

use clap::Args;

/// Options of every command.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Common {
    /// Print JSON: the result on standard output, a failure on standard error
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Profile of the AWS configuration files [default: AWS_PROFILE, then the standard chain]
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) profile: Option<String>,
    /// AWS region [default: the endpoint's, then AWS_REGION and the profile]
    #[arg(long, global = true)]
    pub(crate) region: Option<String>,
    /// PEM file of certificates to trust in addition to the system's
    #[arg(long, global = true, value_name = "FILE", env = "AWS_CA_BUNDLE")]
    pub(crate) ca_file: Option<PathBuf>,
}

/// Address of the API.
#[derive(Args, Clone, Debug)]
pub(crate) struct Api {
    /// URL of the API, with its stage (`https://ID.execute-api.REGION.amazonaws.com/STAGE`)
    #[arg(long, value_name = "URL", env = "CLOISTER_ENDPOINT")]
    pub(crate) endpoint: String,
}
