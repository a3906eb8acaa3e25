//! Debian packages that building from source needs.

use std::process::Command;

use anyhow::{Result, bail};

use crate::cache;
use crate::command::{output, succeed};

/// Installs those of the packages that are missing.
///
/// # Errors
/// If one is missing and the user is not root; the error has the command that installs it.
pub fn require(packages: &[&str]) -> Result<()> {
    let missing = missing(packages);
    if missing.is_empty() {
        return Ok(());
    }
    let install = "apt-get install --yes --no-install-recommends";
    let command = format!("{install} {}", missing.join(" "));
    if output(Command::new("id").arg("-u"))? != "0" {
        bail!("Debian packages are missing; install them with\n  sudo {command}");
    }
    eprintln!("{command}");
    // Kernels and QEMU are built while tests run, and apt-get does not wait for another one.
    let _one_at_a_time = cache::lock("debian")?;
    let install = || {
        let mut apt = Command::new("apt-get");
        apt.args(["install", "--yes", "--quiet=2", "--no-install-recommends"])
            .args(&missing);
        succeed(apt.env("DEBIAN_FRONTEND", "noninteractive"))
    };
    // A machine's image often comes with no package lists, or stale ones.
    install().or_else(|_| {
        succeed(Command::new("apt-get").args(["update", "--quiet=2"])).and_then(|()| install())
    })
}

fn missing<'a>(packages: &[&'a str]) -> Vec<&'a str> {
    let installed = |package: &&&str| {
        let query = Command::new("dpkg-query")
            .args(["--show", "--showformat=${db:Status-Status}"])
            .arg(package)
            .output();
        query.is_ok_and(|output| output.stdout == b"installed")
    };
    packages
        .iter()
        .filter(|package| !installed(package))
        .copied()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_that_does_not_exist_is_missing() {
        assert_eq!(
            missing(&["cloister-no-such-package"]),
            ["cloister-no-such-package"]
        );
    }
}
