//! The kernel of an enclave, from Debian's source and the fragments in `enclaves/image/kernel`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::build::workspace_root;
use crate::cache;
use crate::debian;
use crate::digest::sha256_of_file;
use crate::download::Pinned;
use crate::image::Architecture;
use crate::run::{pipe, processors, succeed, succeed_quietly, version};

/// A kernel and the configuration it was built with.
#[derive(Clone)]
pub(crate) struct Kernel {
    pub(crate) kernel: PathBuf,
    pub(crate) config: PathBuf,
}

/// The kernel of a release, and the guest test's: the same, with vsock from the guest to itself.
pub(crate) struct Kernels {
    pub(crate) release: Kernel,
    pub(crate) guest_test: Kernel,
}

impl Kernels {
    /// The kernels, built the first time.
    pub(crate) fn kept(architecture: Architecture) -> Result<Self, String> {
        debian::require(architecture.compiler_packages())?;
        let name = format!("kernel-{architecture}");
        let [_, (_, fragments)] = Self::fragments(architecture);
        let directory = cache::kept(
            &name,
            &recipe(architecture, &fragments)?,
            |directory, work| {
                println!(
                    "building Linux {VERSION} for {architecture}, once: about 5 minutes on two processors"
                );
                make(
                    architecture,
                    directory,
                    work,
                    &Self::fragments(architecture),
                )
            },
        )?;
        Ok(Self::within(&directory))
    }

    /// Builds the release's kernel again, in a directory of its own, and compares.
    pub(crate) fn build_twice(architecture: Architecture) -> Result<(), String> {
        let first = Self::kept(architecture)?.release;
        let [_, (_, fragments)] = Self::fragments(architecture);
        let recipe = format!(
            "{}\nagain, in another directory",
            recipe(architecture, &fragments)?
        );
        let again = cache::kept(
            &format!("kernel-{architecture}-again"),
            &recipe,
            |directory, work| {
                println!(
                    "building Linux {VERSION} for {architecture} again: about 5 minutes on two processors"
                );
                let elsewhere = work.join("another/directory");
                fs::create_dir_all(&elsewhere)
                    .map_err(|error| format!("cannot create {}: {error}", elsewhere.display()))?;
                make(
                    architecture,
                    directory,
                    &elsewhere,
                    &Self::fragments(architecture),
                )
            },
        )?;
        let second = Self::within(&again).release;
        for (first, second) in [
            (&first.config, &second.config),
            (&first.kernel, &second.kernel),
        ] {
            if sha256_of_file(first)? != sha256_of_file(second)? {
                return Err(format!(
                    "{} and {} differ",
                    first.display(),
                    second.display()
                ));
            }
        }
        // It has to be built again the next time, too.
        fs::remove_dir_all(&again)
            .map_err(|error| format!("cannot remove {}: {error}", again.display()))
    }

    /// The kernel of the volume profile, built the first time.
    pub(crate) fn volume(architecture: Architecture) -> Result<Kernel, String> {
        debian::require(architecture.compiler_packages())?;
        let fragments = [
            &release_fragments(architecture)[..],
            &[VOLUME_FRAGMENT.to_owned()],
        ]
        .concat();
        let name = format!("kernel-volume-{architecture}");
        let directory = cache::kept(
            &name,
            &recipe(architecture, &fragments)?,
            |directory, work| {
                println!(
                    "building Linux {VERSION} with NFS for {architecture}, once: about 5 minutes on two processors"
                );
                make(
                    architecture,
                    directory,
                    work,
                    &[(RELEASE, fragments.clone())],
                )
            },
        )?;
        Ok(Self::within(&directory).release)
    }

    fn fragments(architecture: Architecture) -> [(&'static str, Vec<String>); 2] {
        let release = release_fragments(architecture).to_vec();
        let guest_test = [&release[..], &[TEST_FRAGMENT.to_owned()]].concat();
        [(RELEASE, release), (GUEST_TEST, guest_test)]
    }

    fn within(directory: &Path) -> Self {
        let kernel = |name: &str| Kernel {
            kernel: directory.join(name),
            config: directory.join(format!("{name}.config")),
        };
        Self {
            release: kernel(RELEASE),
            guest_test: kernel(GUEST_TEST),
        }
    }
}

/// Everything that decides the kernels' bytes.
fn recipe(architecture: Architecture, names: &[String]) -> Result<String, String> {
    let mut lines = inputs(architecture)?;
    lines.push(("variables", VARIABLES.join(" ")));
    for fragment in names {
        lines.push((
            "fragment",
            format!(
                "{fragment} {}",
                sha256_of_file(&fragments().join(fragment))?
            ),
        ));
    }
    Ok(lines
        .iter()
        .map(|(name, value)| format!("{name} {value}\n"))
        .collect())
}

/// What a release says about its kernel's origin.
pub(crate) fn inputs(architecture: Architecture) -> Result<Vec<(&'static str, String)>, String> {
    let tool = |name: &str| version(&format!("{}{name}", architecture.cross_prefix()));
    Ok(vec![
        ("linux", VERSION.to_owned()),
        ("linux_source_sha256", SOURCE.sha256.to_owned()),
        ("kernel_compiler", tool("gcc")?),
        ("kernel_linker", tool("ld")?),
    ])
}

/// Makes one kernel after the other: names, and of which fragments.
fn make(
    architecture: Architecture,
    directory: &Path,
    work: &Path,
    kernels: &[(&str, Vec<String>)],
) -> Result<(), String> {
    debian::require(PACKAGES)?;
    let deb = SOURCE.path()?;
    let mut unpack_package = Command::new("dpkg-deb");
    pipe(
        unpack_package.arg("--fsys-tarfile").arg(deb),
        Command::new("tar")
            .args(["-xf", "-", "-C"])
            .arg(work)
            .arg("--strip-components=3")
            .arg(TARBALL_IN_PACKAGE),
    )?;
    let tarball = work.join(
        Path::new(TARBALL_IN_PACKAGE)
            .file_name()
            .expect("the constant has a file name"),
    );
    let source = work.join("linux");
    fs::create_dir(&source)
        .map_err(|error| format!("cannot create {}: {error}", source.display()))?;
    let mut unpack = Command::new("tar");
    succeed(
        unpack
            .arg("-xJf")
            .arg(&tarball)
            .arg("-C")
            .arg(&source)
            .arg("--strip-components=1"),
    )?;

    for (name, fragments) in kernels {
        configure(architecture, &source, fragments, &work.join("kernel.log"))?;
        let (target, file) = architecture.kernel_image();
        succeed_quietly(
            kbuild(architecture, &source).arg(target),
            &work.join("kernel.log"),
        )?;
        for (from, to) in [
            (file, (*name).to_owned()),
            (".config", format!("{name}.config")),
        ] {
            fs::copy(source.join(from), directory.join(&to))
                .map_err(|error| format!("cannot copy {from}: {error}"))?;
        }
    }
    Ok(())
}

/// `make tinyconfig`, then the fragments, then a look whether Kconfig took every line.
fn configure(
    architecture: Architecture,
    source: &Path,
    names: &[String],
    log: &Path,
) -> Result<(), String> {
    succeed_quietly(kbuild(architecture, source).arg("tinyconfig"), log)?;
    let path = source.join(".config");
    let read = |path: &Path| {
        fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
    };
    let mut wanted = String::new();
    for name in names {
        wanted.push_str(&read(&fragments().join(name))?);
    }
    let config = format!("{}\n{wanted}", read(&path)?);
    fs::write(&path, config)
        .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    succeed_quietly(kbuild(architecture, source).arg("olddefconfig"), log)?;
    let dropped = dropped(&wanted, &read(&path)?);
    if dropped.is_empty() {
        return Ok(());
    }
    Err(format!(
        "Kconfig did not take these lines of {}:\n  {}",
        names.join(", "),
        dropped.join("\n  ")
    ))
}

/// The lines of the fragments that the final configuration does not hold. A later line for an
/// option replaces an earlier one.
fn dropped<'a>(fragments: &'a str, config: &str) -> Vec<&'a str> {
    let options: Vec<(&str, &str)> = fragments
        .lines()
        .filter_map(|line| Some((option(line)?, line)))
        .collect();
    let overruled = |at: usize| {
        options[at + 1..]
            .iter()
            .any(|(later, _)| *later == options[at].0)
    };
    let held = |(name, line): &(&str, &str)| {
        if line.starts_with('#') {
            // An option whose dependencies are not met is not mentioned at all.
            !config.lines().any(|set| {
                set.strip_prefix(name)
                    .is_some_and(|rest| rest.starts_with('='))
            })
        } else {
            config.lines().any(|set| set == *line)
        }
    };
    (0..options.len())
        .filter(|at| !overruled(*at) && !held(&options[*at]))
        .map(|at| options[at].1)
        .collect()
}

/// The option that a line sets or takes out.
fn option(line: &str) -> Option<&str> {
    let unset = line
        .strip_prefix("# ")
        .and_then(|rest| rest.strip_suffix(" is not set"));
    let name = unset.or_else(|| Some(line.split_once('=')?.0))?;
    name.starts_with("CONFIG_").then_some(name)
}

/// `make` in the kernel's source, with nothing of the surroundings but the path to the compilers.
fn kbuild(architecture: Architecture, source: &Path) -> Command {
    let mut make = Command::new("make");
    make.env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("LC_ALL", "C")
        .env("TZ", "UTC");
    make.current_dir(source)
        .arg(format!("-j{}", processors()))
        .args(VARIABLES);
    make.arg(format!("ARCH={}", architecture.linux()));
    make.arg(format!("CROSS_COMPILE={}", architecture.cross_prefix()));
    make.arg(format!(
        "KCFLAGS=-ffile-prefix-map={}=linux",
        source.display()
    ));
    make
}

fn release_fragments(architecture: Architecture) -> [String; 2] {
    [
        "enclave.config".to_owned(),
        format!("{architecture}.config"),
    ]
}

fn fragments() -> PathBuf {
    workspace_root().join("enclaves/image/kernel")
}

const RELEASE: &str = "kernel";
const GUEST_TEST: &str = "guest-test-kernel";
const TEST_FRAGMENT: &str = "test.config";
const VOLUME_FRAGMENT: &str = "volume.config";

/// What else would differ from one build to the next.
const VARIABLES: &[&str] = &[
    "KBUILD_BUILD_TIMESTAMP=1970-01-01 00:00:00 UTC",
    "KBUILD_BUILD_USER=cloister",
    "KBUILD_BUILD_HOST=cloister",
    "KBUILD_BUILD_VERSION=1",
    "LOCALVERSION=",
];

const VERSION: &str = "6.12.117-1~deb12u1";
const SOURCE: Pinned = Pinned {
    name: "linux-source-6.12_6.12.117-1~deb12u1_all.deb",
    urls: &[
        "http://deb.debian.org/debian-security/pool/updates/main/l/linux-6.12/linux-source-6.12_6.12.117-1~deb12u1_all.deb",
        "http://security.debian.org/debian-security/pool/updates/main/l/linux-6.12/linux-source-6.12_6.12.117-1~deb12u1_all.deb",
        // By its SHA-1: stays when Debian's pool has moved on.
        "https://snapshot.debian.org/file/221d82478a259628d6016602b619a484e71e9424",
    ],
    sha256: "e849faf31ca3555757f3a8877cb01af92122f744f75d1f3102734651c4e14703",
};
const TARBALL_IN_PACKAGE: &str = "./usr/src/linux-source-6.12.tar.xz";

const PACKAGES: &[&str] = &[
    "bc",
    "bison",
    "curl",
    "dpkg",
    "flex",
    "gcc",
    "gzip",
    "libc6-dev",
    "libelf-dev",
    "make",
    "perl",
    "xz-utils",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_kconfig_drops_is_named() {
        let fragments = "# a comment = of words\nCONFIG_A=y\n# CONFIG_B is not set\nCONFIG_C=y\n# CONFIG_D is not set\n";
        let config = "CONFIG_A=y\nCONFIG_B=y\nCONFIG_BB=y\nCONFIG_D_E=y\n";
        assert_eq!(
            dropped(fragments, config),
            ["# CONFIG_B is not set", "CONFIG_C=y"]
        );
    }

    #[test]
    fn a_later_fragment_overrules_an_earlier_one() {
        let fragments = "# CONFIG_A is not set\nCONFIG_B=1\nCONFIG_A=y\nCONFIG_B=2\n";
        assert_eq!(
            dropped(fragments, "CONFIG_A=y\nCONFIG_B=2\n"),
            [] as [&str; 0]
        );
    }
}
