//! What a build from source needs of Debian.

use std::process::Command;

use crate::run::{output, succeed};

/// Installs those of the packages that are missing, if we may; says how otherwise.
pub(crate) fn require(packages: &[&str]) -> Result<(), String> {
    let missing = missing(packages);
    if missing.is_empty() {
        return Ok(());
    }
    let command = format!(
        "apt-get install --yes --no-install-recommends {}",
        missing.join(" ")
    );
    if output(Command::new("id").arg("-u"))? != "0" {
        return Err(format!(
            "Debian packages are missing; install them with\n  sudo {command}"
        ));
    }
    println!("{command}");
    let install = || {
        let mut apt = Command::new("apt-get");
        apt.args(["install", "--yes", "--quiet=2", "--no-install-recommends"])
            .args(&missing);
        succeed(apt.env("DEBIAN_FRONTEND", "noninteractive"))
    };
    // An image of a machine often comes without, or with stale, package lists.
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
