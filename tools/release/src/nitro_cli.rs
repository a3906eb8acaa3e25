//! AWS's nitro-cli for the pods' container images, from the signed repository of Amazon Linux 2023.
//!
//! The packages are those of the Dockerfile's first stage. None of their scripts runs and none of
//! their programs is started, so the machine may have another architecture than the image.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use cloister_contract::Architecture;
use cloister_toolchain::cargo::target_directory;
use cloister_toolchain::command::{output, succeed};
use cloister_toolchain::{cache, debian};
use fs_err as fs;

/// Makes a directory with `usr/bin/nitro-cli` and the libraries that it loads, and returns it.
///
/// # Errors
/// If a package cannot be downloaded, is not signed by Amazon Linux, or lacks a library.
pub(crate) fn root(architecture: Architecture, version: &Version) -> Result<PathBuf> {
    root_from(&Repository::amazon_linux(version)?, architecture, &work())
}

/// A version of Amazon Linux 2023: `latest`, or one whose repository never changes.
#[derive(Debug, Clone)]
pub(crate) struct Version(String);

impl std::str::FromStr for Version {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let digits =
            |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        let mut parts = text.split('.');
        let is_version =
            parts.next() == Some("2023") && parts.clone().count() == 2 && parts.all(digits);
        ensure!(
            text == LATEST || is_version,
            "{text:?} is not a version of Amazon Linux 2023: give one such as 2023.12.20260817, or \
             {LATEST}"
        );
        Ok(Self(text.to_owned()))
    }
}

impl Default for Version {
    fn default() -> Self {
        Self(LATEST.to_owned())
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

const LATEST: &str = "latest";

/// Checks everything but Amazon's repository: with one on this machine, a root is made whose
/// program runs by itself, and packages that another key signed are refused.
///
/// # Errors
/// If one of these is not so.
pub fn check() -> Result<()> {
    let work = work().join("check");
    cache::remove_dir_all(&work)?;
    fs::create_dir_all(&work)?;
    let repository = stand_in::repository(&work)?;
    let root = root_from(&repository, Architecture::Amd64, &work)?;
    let mut list = Command::new("chroot");
    // Debian's loader does not search it, Amazon Linux's does.
    list.env("LD_LIBRARY_PATH", "/lib64");
    let listed = output(list.arg(&root).args([PROGRAM, "/lib64"]))?;
    ensure!(listed.contains("libc.so.6"), "{listed}");
    let forged = Repository {
        key: Repository::amazon_linux(&Version::default())?.key,
        ..repository
    };
    ensure!(
        root_from(&forged, Architecture::Amd64, &work).is_err(),
        "packages that Amazon Linux did not sign were installed"
    );
    Ok(())
}

fn work() -> PathBuf {
    target_directory().join("nitro-cli")
}

/// A repository of packages.
struct Repository {
    /// `mirrorlist=URL` or `baseurl=URL`; dnf replaces `$basearch`.
    location: String,
    /// The public key of its packages and of its index.
    key: PathBuf,
}

impl Repository {
    fn amazon_linux(version: &Version) -> Result<Self> {
        let key = work().join("amazon-linux-2023.asc");
        fs::create_dir_all(work())?;
        fs::write(&key, AMAZON_LINUX_KEY)?;
        Ok(Self {
            location: format!("mirrorlist={AMAZON_LINUX}/{version}/$basearch/mirror.list"),
            key,
        })
    }

    /// dnf's configuration. Its own file, so that repositories and keys of the machine do not
    /// count.
    fn configuration(&self, work: &Path) -> String {
        let work = work.display();
        format!(
            "[main]\nreposdir={work}/none\nvarsdir={work}/none\ncachedir={work}/cache\n\
             logdir={work}\npluginpath={work}/none\ninstall_weak_deps=False\ntsflags=noscripts,nodocs\n\
             best=True\nskip_if_unavailable=False\n\
             [amazonlinux]\nname=Amazon Linux 2023\n{}\ngpgcheck=1\nrepo_gpgcheck=1\n\
             gpgkey=file://{}\n",
            self.location,
            self.key.display()
        )
    }
}

fn root_from(repository: &Repository, architecture: Architecture, work: &Path) -> Result<PathBuf> {
    debian::require(&["dnf", "binutils"])?;
    ensure!(
        output(Command::new("id").arg("-u"))? == "0",
        "dnf installs packages as root only: run this as root, or give --nitro-cli a root directory \
         that has been prepared"
    );
    let installed = work.join(format!("installed-{architecture}"));
    cache::remove_dir_all(&installed)?;
    merge_usr(&installed)?;
    let configuration = work.join("dnf.conf");
    fs::write(&configuration, repository.configuration(work))?;
    succeed(&mut install(&configuration, &installed, architecture))?;
    let root = work.join(format!("root-{architecture}"));
    cache::remove_dir_all(&root)?;
    copy_closure(&installed, &root)?;
    cache::remove_dir_all(&installed)?;
    Ok(root)
}

fn install(configuration: &Path, installed: &Path, architecture: Architecture) -> Command {
    let mut dnf = Command::new("dnf");
    dnf.arg("--config").arg(configuration);
    dnf.arg("--installroot").arg(installed);
    dnf.arg("--forcearch").arg(match architecture {
        Architecture::Amd64 => "x86_64",
        Architecture::Arm64 => "aarch64",
    });
    dnf.args(["--releasever", "2023", "--assumeyes", "--quiet"]);
    dnf.args(["install", PACKAGE]);
    dnf
}

/// The links of Amazon Linux's package `filesystem`, whose script would make them.
fn merge_usr(root: &Path) -> Result<()> {
    for directory in ["bin", "sbin", "lib", "lib64"] {
        let usr = Path::new("usr").join(directory);
        fs::create_dir_all(root.join(&usr))?;
        std::os::unix::fs::symlink(usr, root.join(directory))?;
    }
    Ok(())
}

/// Copies the program, its loader and, recursively, the libraries that each names.
fn copy_closure(installed: &Path, root: &Path) -> Result<()> {
    let mut done = BTreeSet::new();
    let mut open = vec![PROGRAM.to_owned()];
    while let Some(file) = open.pop() {
        if !done.insert(file.clone()) {
            continue;
        }
        let from = installed.join(file.trim_start_matches('/'));
        let to = root.join(file.trim_start_matches('/'));
        fs::create_dir_all(to.parent().expect("a file has a directory"))?;
        // Follows links: libraries have their names from links to them.
        fs::copy(&from, &to).with_context(|| format!("nitro-cli needs {file}"))?;
        let mut readelf = Command::new("readelf");
        readelf.args(["--wide", "--program-headers", "--dynamic"]);
        open.extend(needed(&output(readelf.arg(&from).env("LC_ALL", "C"))?));
    }
    Ok(())
}

/// The files that `readelf --program-headers --dynamic` names: the loader by its path, libraries
/// in the directory that Amazon Linux's loader searches first.
fn needed(readelf: &str) -> Vec<String> {
    let between = |line: &str, before: &str| {
        let (_, rest) = line.split_once(before)?;
        Some(rest.split_once(']')?.0.to_owned())
    };
    readelf
        .lines()
        .filter_map(|line| {
            between(line, "[Requesting program interpreter: ").or_else(|| {
                between(line, "Shared library: [")
                    .filter(|library| !library.starts_with("ld-linux"))
                    .map(|library| format!("/lib64/{library}"))
            })
        })
        .collect()
}

const PACKAGE: &str = "aws-nitro-enclaves-cli";
const PROGRAM: &str = "/usr/bin/nitro-cli";
/// As in /etc/yum.repos.d/amazonlinux.repo of Amazon Linux 2023.
const AMAZON_LINUX: &str = "https://cdn.amazonlinux.com/al2023/core/mirrors";
/// /etc/pki/rpm-gpg/RPM-GPG-KEY-amazon-linux-2023, B21C 50FA 44A9 9720 EAA7 2F7F E951 904A D832
/// C631: https://docs.aws.amazon.com/linux/al2023/ug/repo-metadata-signing.html
const AMAZON_LINUX_KEY: &str = include_str!("amazon-linux-2023.asc");

/// A signed repository like Amazon's, with a program of this machine as nitro-cli.
mod stand_in {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    pub(super) fn repository(work: &Path) -> Result<Repository> {
        debian::require(&["rpm", "createrepo-c", "gpg", "gpg-agent"])?;
        let packages = work.join("packages");
        let home = work.join("gnupg");
        let build = work.join("rpmbuild");
        let spec = work.join("nitro-cli.spec");
        for directory in [&packages, &home] {
            fs::create_dir_all(directory)?;
        }
        fs::set_permissions(&home, Permissions::from_mode(0o700))?;
        fs::write(&spec, specification()?)?;
        let mut rpmbuild = Command::new("rpmbuild");
        rpmbuild.args(["-bb", "--quiet", "--nodeps", "--define"]);
        rpmbuild.arg(format!("_topdir {}", build.display()));
        rpmbuild.arg("--define");
        rpmbuild.arg(format!("_rpmdir {}", packages.display()));
        succeed(rpmbuild.arg(&spec))?;

        let gpg = || {
            let mut gpg = Command::new("gpg");
            gpg.args(["--batch", "--yes", "--quiet", "--homedir"])
                .arg(&home);
            gpg
        };
        let unprotected = [
            "--passphrase",
            "",
            "--quick-generate-key",
            SIGNER,
            "rsa2048",
        ];
        succeed(gpg().args(unprotected))?;
        let package = output(Command::new("find").arg(&packages).args(["-name", "*.rpm"]))?;
        let mut sign = Command::new("rpmsign");
        sign.arg("--addsign");
        for define in [
            format!("_gpg_name {SIGNER}"),
            format!("_gpg_path {}", home.display()),
            "__gpg /usr/bin/gpg".to_owned(),
        ] {
            sign.arg("--define").arg(define);
        }
        succeed(sign.arg(package))?;
        succeed(Command::new("createrepo_c").arg("--quiet").arg(&packages))?;
        succeed(
            gpg()
                .args(["--detach-sign", "--armor"])
                .arg(packages.join("repodata/repomd.xml")),
        )?;
        let key = work.join("key.asc");
        succeed(gpg().args(["--armor", "--export", "--output"]).arg(&key))?;
        let mut stop = Command::new("gpgconf");
        succeed(
            stop.arg("--homedir")
                .arg(&home)
                .args(["--kill", "gpg-agent"]),
        )?;
        Ok(Repository {
            location: format!("baseurl=file://{}", packages.display()),
            key,
        })
    }

    /// `ls`, which loads libraries that load others, and all of them.
    fn specification() -> Result<String> {
        let loaded = output(Command::new("ldd").arg(LS))?;
        let mut install = format!("install -D {LS} %{{buildroot}}{PROGRAM}\n");
        for file in loaded
            .split_whitespace()
            .filter(|word| word.starts_with('/'))
        {
            let name = Path::new(file).file_name().expect("ldd prints files");
            let to = Path::new("/usr/lib64").join(name);
            install += &format!("install -D {file} %{{buildroot}}{}\n", to.display());
        }
        Ok(format!(
            "Name: {PACKAGE}\nVersion: 1\nRelease: 1\nSummary: A stand-in\nLicense: none\n\
             AutoReqProv: no\n%global debug_package %{{nil}}\n%global __os_install_post %{{nil}}\n\
             %description\nA stand-in.\n%install\n{install}%files\n{PROGRAM}\n/usr/lib64/*\n"
        ))
    }

    const LS: &str = "/bin/ls";
    const SIGNER: &str = "stand-in";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_packages_and_their_index_have_to_be_signed_by_amazon_linux() {
        let repository = Repository::amazon_linux(&Version::default()).unwrap();
        let configuration = repository.configuration(Path::new("/root-directory"));
        for line in [
            "gpgcheck=1",
            "repo_gpgcheck=1",
            "reposdir=/root-directory/none",
            "tsflags=noscripts,nodocs",
            "mirrorlist=https://cdn.amazonlinux.com/al2023/core/mirrors/latest/$basearch/mirror.list",
        ] {
            assert!(configuration.lines().any(|other| other == line), "{line}");
        }
        let key = format!("gpgkey=file://{}", repository.key.display());
        assert!(configuration.contains(&key), "{configuration}");
    }

    #[test]
    fn a_version_names_a_repository_that_never_changes() {
        let version = "2023.12.20260817".parse().unwrap();
        assert_eq!(
            Repository::amazon_linux(&version).unwrap().location,
            "mirrorlist=https://cdn.amazonlinux.com/al2023/core/mirrors/2023.12.20260817/$basearch/\
             mirror.list"
        );
        for text in [
            "",
            "2023",
            "2023.12",
            "2022.1.2",
            "2023.12.x",
            "2023.1.2.3",
            "../latest",
        ] {
            assert!(text.parse::<Version>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_package_is_installed_for_the_image_and_not_for_the_machine() {
        for (architecture, expected) in [
            (Architecture::Amd64, "x86_64"),
            (Architecture::Arm64, "aarch64"),
        ] {
            let dnf = install(Path::new("/dnf.conf"), Path::new("/root"), architecture);
            let arguments: Vec<_> = dnf.get_args().map(|each| each.to_str().unwrap()).collect();
            assert_eq!(
                arguments,
                [
                    "--config",
                    "/dnf.conf",
                    "--installroot",
                    "/root",
                    "--forcearch",
                    expected,
                    "--releasever",
                    "2023",
                    "--assumeyes",
                    "--quiet",
                    "install",
                    "aws-nitro-enclaves-cli",
                ]
            );
        }
    }

    #[test]
    fn loader_and_libraries_are_read_from_a_program() {
        let readelf = "  INTERP         0x000318 0x0000000000000318 R   0x1\n\
             \x20     [Requesting program interpreter: /lib/ld-linux-aarch64.so.1]\n\
             \x200x0000000000000001 (NEEDED)             Shared library: [libssl.so.3]\n\
             \x200x0000000000000001 (NEEDED)             Shared library: [ld-linux-aarch64.so.1]\n\
             \x200x000000000000000e (SONAME)             Library soname: [libother.so]\n";
        assert_eq!(
            needed(readelf),
            ["/lib/ld-linux-aarch64.so.1", "/lib64/libssl.so.3"]
        );
    }
}
