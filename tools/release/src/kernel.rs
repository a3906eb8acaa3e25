//! The kernel of an enclave, from Debian's source and the fragments in `enclaves/image/kernel`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail, ensure};
use cloister_contract::Architecture;
use cloister_toolchain::cargo::workspace_root;
use cloister_toolchain::command::{pipe, processors, succeed, succeed_quietly, version};
use cloister_toolchain::{Pinned, cache, debian, sha256_of_file};
use fs_err as fs;

use crate::architecture::BuildTarget as _;
use crate::paths;

/// A kernel and the configuration it was built with.
#[derive(Clone)]
pub(crate) struct Kernel {
    pub(crate) image: PathBuf,
    pub(crate) config: PathBuf,
}

/// The kernel of a release, and the guest test's: the same, with vsock from the guest to itself.
pub(crate) struct Kernels {
    pub(crate) release: Kernel,
    pub(crate) guest_test: Kernel,
}

impl Kernels {
    /// The kernels, built the first time.
    pub(crate) fn get(architecture: Architecture) -> Result<Self> {
        let name = format!("kernel-{architecture}");
        let directory = get(&name, architecture, &Self::fragments(architecture))?;
        Ok(Self::within(&directory))
    }

    /// The kernel of the volume profile, built the first time.
    pub(crate) fn volume(architecture: Architecture) -> Result<Kernel> {
        let mut fragments = release_fragments(architecture);
        fragments.push(VOLUME_FRAGMENT.to_owned());
        let name = format!("kernel-volume-{architecture}");
        let directory = get(&name, architecture, &[(RELEASE, fragments)])?;
        Ok(Self::within(&directory).release)
    }

    fn fragments(architecture: Architecture) -> [(&'static str, Vec<String>); 2] {
        let release = release_fragments(architecture);
        let guest_test = [&release[..], &[TEST_FRAGMENT.to_owned()]].concat();
        [(RELEASE, release), (GUEST_TEST, guest_test)]
    }

    fn within(directory: &Path) -> Self {
        let kernel = |name: &str| Kernel {
            image: directory.join(name),
            config: directory.join(format!("{name}.config")),
        };
        Self {
            release: kernel(RELEASE),
            guest_test: kernel(GUEST_TEST),
        }
    }
}

/// Builds the release's kernel again, in another directory, and compares.
///
/// # Errors
/// If it cannot be built or differs.
pub fn build_twice(architecture: Architecture) -> Result<()> {
    let first = Kernels::get(architecture)?.release;
    let root = paths::directory().join(format!("kernel-{architecture}-again"));
    let [directory, work] = ["kernel", "another/directory"].map(|name| root.join(name));
    cache::remove_dir_all(&root)?;
    for directory in [&directory, &work] {
        fs::create_dir_all(directory)?;
    }
    eprintln!("building Linux {VERSION} for {architecture} again: {DURATION}");
    let [release, _] = Kernels::fragments(architecture);
    make(architecture, &directory, &work, &[release])?;
    let second = Kernels::within(&directory).release;
    for (first, second) in [
        (&first.config, &second.config),
        (&first.image, &second.image),
    ] {
        ensure!(
            sha256_of_file(first)? == sha256_of_file(second)?,
            "{} and {} differ",
            first.display(),
            second.display()
        );
    }
    cache::remove_dir_all(&root)
}

/// The directory of kernels, built the first time.
fn get(name: &str, architecture: Architecture, kernels: &[(&str, Vec<String>)]) -> Result<PathBuf> {
    debian::require(architecture.compiler_packages())?;
    // The last kernel has every fragment.
    let fragments = kernels.last().map_or(&[][..], |(_, fragments)| fragments);
    let recipe = recipe(architecture, fragments)?;
    cache::get_or_make(name, &recipe, |directory, work| {
        eprintln!("building Linux {VERSION} for {architecture}, once: {DURATION}");
        make(architecture, directory, work, kernels)
    })
}

/// Everything that decides the kernels' bytes.
fn recipe(architecture: Architecture, names: &[String]) -> Result<String> {
    let mut recipe = String::new();
    for (name, value) in inputs(architecture)? {
        recipe.push_str(&format!("{name} {value}\n"));
    }
    recipe.push_str(&format!("variables {}\n", VARIABLES.join(" ")));
    for name in names {
        let hash = sha256_of_file(&fragments().join(name))?;
        recipe.push_str(&format!("fragment {name} {hash}\n"));
    }
    Ok(recipe)
}

/// Sources and compilers of the kernel, for `release.json`.
pub(crate) fn inputs(architecture: Architecture) -> Result<[(&'static str, String); 4]> {
    let tool = |name: &str| version(&format!("{}{name}", architecture.cross_prefix()));
    Ok([
        ("linux", VERSION.to_owned()),
        ("linux_source_sha256", SOURCE.sha256.to_owned()),
        ("kernel_compiler", tool("gcc")?),
        ("kernel_linker", tool("ld")?),
    ])
}

/// Makes kernels one after the other, each with a name and its configuration's fragments.
fn make(
    architecture: Architecture,
    directory: &Path,
    work: &Path,
    kernels: &[(&str, Vec<String>)],
) -> Result<()> {
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
    fs::create_dir(&source)?;
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
            fs::copy(source.join(from), directory.join(&to))?;
        }
    }
    Ok(())
}

/// Applies the fragments to `make tinyconfig` and checks that Kconfig took every line.
fn configure(
    architecture: Architecture,
    source: &Path,
    names: &[String],
    log: &Path,
) -> Result<()> {
    succeed_quietly(kbuild(architecture, source).arg("tinyconfig"), log)?;
    let path = source.join(".config");
    let mut wanted = String::new();
    for name in names {
        wanted.push_str(&fs::read_to_string(fragments().join(name))?);
    }
    let config = format!("{}\n{wanted}", fs::read_to_string(&path)?);
    fs::write(&path, config)?;
    succeed_quietly(kbuild(architecture, source).arg("olddefconfig"), log)?;
    let config = fs::read_to_string(&path)?;
    let dropped = dropped(&wanted, &config);
    if !dropped.is_empty() {
        let (names, lines) = (names.join(", "), dropped.join("\n  "));
        bail!("Kconfig did not take these lines of {names}:\n  {lines}");
    }
    Ok(())
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

/// `make` in the kernel's source, without the environment's variables except for the compilers' path.
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

fn release_fragments(architecture: Architecture) -> Vec<String> {
    vec![
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

/// Values that would otherwise differ from one build to the next.
const VARIABLES: &[&str] = &[
    "KBUILD_BUILD_TIMESTAMP=1970-01-01 00:00:00 UTC",
    "KBUILD_BUILD_USER=cloister",
    "KBUILD_BUILD_HOST=cloister",
    "KBUILD_BUILD_VERSION=1",
    "LOCALVERSION=",
];

const DURATION: &str = "about 5 minutes on two processors";

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
