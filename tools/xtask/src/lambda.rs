//! The front door's package as Lambda uses it.

use std::process::Command;

use anyhow::Result;
use cloister_contract::Architecture;
use cloister_toolchain::cargo::target_directory;
use cloister_toolchain::command::succeed;
use cloister_toolchain::debian;

use crate::newman;
use crate::stack::LocalStack;

/// Unpacks the package, starts it behind a Runtime API, and calls it in every way of the Postman
/// collection.
pub(crate) fn test() -> Result<()> {
    let zip = cloister_release::package_lambda(Architecture::default())?;
    let unpacked = target_directory().join("lambda").join("unpacked");
    debian::require(&["unzip"])?;
    let mut unzip = Command::new("unzip");
    succeed(unzip.args(["-o", "-q"]).arg(&zip).arg("-d").arg(&unpacked))?;
    let stack = LocalStack::start_with(&[
        "--front-door".as_ref(),
        unpacked.join("bootstrap").as_os_str(),
    ])?;
    newman::integration(&stack)
}
