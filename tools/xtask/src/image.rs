//! `cargo xtask image`: a release (kernel, init, applications), and with settings the images of a
//! deployment.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::build::{self, cargo, target_directory, workspace_root};
use crate::debian;
use crate::emulator::Emulator;
use crate::kernel::{self, Kernel, Kernels};
use crate::measured::{self, Program, Site};
use crate::run::succeed;
use crate::twice;

/// How `cargo xtask image` is called.
pub(crate) const USAGE: &str = "\
usage: cargo xtask image [OPTIONS]
  --architecture amd64|arm64    of the images [amd64]
  --profile production|debug    debug: the kernel and init write to the console [production]
  --profile volume              an application of your own with a directory that the parent keeps
  --application NAME=FILE       that application, a static program
  --kernel FILE                 a kernel as AWS ships it, with its configuration in FILE.config [built from source]
  --cmdline FILE                another command line than the profile's
  --module FILE                 a kernel module for the NSM, for a kernel without its driver
  --settings FILE               the measured settings: also make a deployment's images
  --from RELEASE                make them from this release instead of building one
  --output DIRECTORY            where they go [target/images/deployment]
  --certificate FILE --key FILE sign them (PCR8)
  --check-reproducible          build everything twice, in different places, and compare";

/// Runs `cargo xtask image`.
pub(crate) fn run(arguments: &[&str]) -> Result<(), String> {
    let options = Options::parse(arguments)?;
    if options.check_reproducible {
        return twice::check(options.architecture);
    }
    if let Some((name, application)) = &options.application {
        let release = volume_release(&options, name, application)?;
        let Some(settings) = &options.settings else {
            println!("{}", release.display());
            return Ok(());
        };
        let output = options
            .output
            .clone()
            .unwrap_or_else(|| directory().join("volume"));
        fs::create_dir_all(&output)
            .map_err(|error| format!("cannot create {}: {error}", output.display()))?;
        let mut tool = Command::new(tool()?);
        tool.arg("one")
            .arg("--release")
            .arg(release)
            .args(["--application", name])
            .arg("--settings")
            .arg(settings);
        return succeed(tool.arg("--output").arg(output.join(format!("{name}.eif"))));
    }
    let release = match &options.from {
        Some(release) => release.clone(),
        None => release(&options)?,
    };
    if let Some(settings) = &options.settings {
        let output = options
            .output
            .clone()
            .unwrap_or_else(|| directory().join("deployment"));
        assemble(&release, settings, &output, options.signature.as_ref())?;
        println!("{}", output.display());
    } else {
        println!("{}", release.display());
    }
    Ok(())
}

/// Builds what the emulator runs: the release, and the guest test's.
pub(crate) fn build_for_emulator() -> Result<(), String> {
    release(&Options::default()).map(drop)
}

/// Builds a release and a deployment's images for arm64, and starts each program as far as it goes
/// without an enclave.
pub(crate) fn build_for_arm64() -> Result<(), String> {
    let architecture = Architecture::Arm64;
    let release = release(&Options {
        architecture,
        ..Options::default()
    })?;
    assemble(
        &release,
        &workspace_root().join(EXAMPLE_SETTINGS),
        &directory().join("deployment-arm64"),
        None,
    )?;
    debian::require(&["qemu-user-static"])?;
    let site = Site::here(directory().join("build"))?;
    for program in measured::APPLICATIONS.iter().chain([&measured::INIT]) {
        let output = Command::new("qemu-aarch64-static")
            .arg(site.build(program, architecture)?)
            .output();
        let output =
            output.map_err(|error| format!("qemu-aarch64-static does not start: {error}"))?;
        let said = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        // There is no NSM here; saying so takes the whole of Rust's and our own start.
        if output.status.code() != Some(1) || said.is_empty() {
            return Err(format!(
                "{} for {architecture} did not start: {}\n{said}",
                program.name, output.status
            ));
        }
        println!(
            "{} for {architecture} starts and says: {}",
            program.name,
            said.lines().next().unwrap_or_default()
        );
    }
    Ok(())
}

/// Where everything about images goes.
pub(crate) fn directory() -> PathBuf {
    target_directory().join("images")
}

/// Makes the images of a deployment that does not exist, from the release as it is built here.
pub(crate) fn assemble_example(architecture: Architecture, output: &Path) -> Result<(), String> {
    let release = release(&Options {
        architecture,
        ..Options::default()
    })?;
    assemble(
        &release,
        &workspace_root().join(EXAMPLE_SETTINGS),
        output,
        None,
    )
}

/// Makes the images of a deployment from a release.
pub(crate) fn assemble(
    release: &Path,
    settings: &Path,
    output: &Path,
    signature: Option<&(PathBuf, PathBuf)>,
) -> Result<(), String> {
    let mut tool = Command::new(tool()?);
    tool.args(["assemble", "--release"])
        .arg(release)
        .arg("--settings")
        .arg(settings)
        .arg("--output")
        .arg(output);
    if let Some((certificate, key)) = signature {
        tool.arg("--certificate")
            .arg(certificate)
            .arg("--key")
            .arg(key);
    }
    succeed(&mut tool)
}

/// Writes `emulation.json`, which says where everything is that an emulated enclave needs, once all
/// of it is there.
pub(crate) fn write_emulation() -> Result<(), String> {
    let releases = [
        release_directory("release", Architecture::Amd64),
        release_directory("guest-release", Architecture::Amd64),
    ];
    let tool = tool_path();
    let Some(emulator) =
        Emulator::present().filter(|_| releases.iter().chain([&tool]).all(|path| path.exists()))
    else {
        return Ok(());
    };
    let [release, guest_release] = &releases;
    let member = |name: &str, path: &Path| {
        format!("  {}: {}", json(name), json(&path.display().to_string()))
    };
    let members = [
        member("qemu", &emulator.qemu),
        format!(
            "  \"firmware\": [{}]",
            json(&emulator.firmware.display().to_string())
        ),
        member("vsock_device", &emulator.vsock_device),
        member("image_tool", &tool),
        member("release", release),
        member("guest_release", guest_release),
    ];
    write(
        &directory().join("emulation.json"),
        &format!("{{\n{}\n}}\n", members.join(",\n")),
    )
}

/// What a release is made of, beside the command line's choice.
pub(crate) struct Parts {
    pub(crate) architecture: Architecture,
    pub(crate) kernel: Kernel,
    pub(crate) cmdline: PathBuf,
    pub(crate) module: Option<PathBuf>,
    pub(crate) bridge: Option<PathBuf>,
    pub(crate) init: PathBuf,
    /// Name and program.
    pub(crate) applications: Vec<(String, PathBuf)>,
    /// Where the parts come from, in words.
    pub(crate) inputs: Vec<(&'static str, String)>,
}

impl Parts {
    /// Makes a release of them.
    pub(crate) fn release(&self, output: &Path) -> Result<(), String> {
        let inputs = output.with_added_extension("inputs.json");
        let members: Vec<_> = self
            .inputs
            .iter()
            .map(|(name, value)| format!("  {}: {}", json(name), json(value)))
            .collect();
        write(&inputs, &format!("{{\n{}\n}}\n", members.join(",\n")))?;
        let mut tool = Command::new(tool()?);
        tool.args(["release", "--architecture", self.architecture.name()]);
        tool.arg("--kernel")
            .arg(&self.kernel.kernel)
            .arg("--kernel-config")
            .arg(&self.kernel.config);
        tool.arg("--cmdline")
            .arg(&self.cmdline)
            .arg("--init")
            .arg(&self.init);
        if let Some(module) = &self.module {
            tool.arg("--module").arg(module);
        }
        if let Some(bridge) = &self.bridge {
            tool.arg("--bridge").arg(bridge);
        }
        for (name, program) in &self.applications {
            tool.arg("--application")
                .arg(format!("{name}={}", program.display()));
        }
        succeed(
            tool.arg("--inputs")
                .arg(&inputs)
                .arg("--output")
                .arg(output),
        )
    }

    /// Builds the measured programs at a site, for a kernel and a command line.
    pub(crate) fn build(
        site: &Site,
        architecture: Architecture,
        applications: &[Program],
        kernel: Kernel,
        cmdline: PathBuf,
    ) -> Result<Self, String> {
        let init = site.build(&measured::INIT, architecture)?;
        let build =
            |program: &Program| Ok((program.name.to_owned(), site.build(program, architecture)?));
        let applications = applications
            .iter()
            .map(build)
            .collect::<Result<_, String>>()?;
        let inputs = measured::inputs()?;
        Ok(Self {
            architecture,
            kernel,
            cmdline,
            module: None,
            bridge: None,
            init,
            applications,
            inputs,
        })
    }
}

/// Builds a release as the options say; one for the emulator has the guest test's beside it.
fn release(options: &Options) -> Result<PathBuf, String> {
    let architecture = options.architecture;
    let site = Site::here(directory().join("build"))?;
    let cmdline = options
        .cmdline
        .clone()
        .unwrap_or_else(|| command_line(&options.profile));
    let kernels = if options.kernel.is_none() {
        Some(Kernels::kept(architecture)?)
    } else {
        None
    };
    let kernel = match (&options.kernel, &kernels) {
        (Some(given), _) => Kernel {
            kernel: given.clone(),
            config: given.with_added_extension("config"),
        },
        (None, Some(kernels)) => kernels.release.clone(),
        (None, None) => unreachable!("without a kernel that is given, one was built"),
    };
    let mut parts = Parts::build(&site, architecture, measured::APPLICATIONS, kernel, cmdline)?;
    parts.module = options.module.clone();
    let output = release_directory("release", architecture);
    match kernels {
        Some(kernels) => {
            parts.inputs.extend(kernel::inputs(architecture)?);
            parts.release(&output)?;
            if architecture == Architecture::Amd64 {
                let program = site.build(&measured::GUEST_TEST, architecture)?;
                let applications = vec![(measured::GUEST_TEST.name.to_owned(), program)];
                let guest_test = Parts {
                    kernel: kernels.guest_test,
                    applications,
                    ..parts
                };
                guest_test.release(&release_directory("guest-release", architecture))?;
            }
        }
        None => {
            parts.inputs.push(("linux", "given".to_owned()));
            parts.release(&output)?;
        }
    }
    write_emulation()?;
    Ok(output)
}

/// Builds a release of the volume profile, with one application.
fn volume_release(options: &Options, name: &str, application: &Path) -> Result<PathBuf, String> {
    let architecture = options.architecture;
    let site = Site::here(directory().join("build"))?;
    let cmdline = options
        .cmdline
        .clone()
        .unwrap_or_else(|| command_line(VOLUME));
    let mut parts = Parts::build(
        &site,
        architecture,
        &[],
        Kernels::volume(architecture)?,
        cmdline,
    )?;
    parts.bridge = Some(site.build(&measured::BRIDGE, architecture)?);
    parts.applications = vec![(name.to_owned(), application.to_owned())];
    parts.inputs.extend(kernel::inputs(architecture)?);
    let output = release_directory("volume-release", architecture);
    parts.release(&output)?;
    Ok(output)
}

/// Builds the volume profile with the guest test, and has it mount what an NFS server on this
/// machine exports.
pub(crate) fn test_volume() -> Result<(), String> {
    let application =
        Site::here(directory().join("build"))?.build(&measured::GUEST_TEST, Architecture::Amd64)?;
    volume_release(&Options::default(), measured::GUEST_TEST.name, &application)?;
    // The parent's half of the bridge, the same program.
    build::run(cargo().args(["build", "--workspace", "--bins", "--locked"]))?;
    debian::require(&["nfs-ganesha", "nfs-ganesha-vfs"])?;
    succeed(cargo().args(["test", "--workspace", "--locked", "--test", VOLUME]))
}

/// The command line of a profile.
pub(crate) fn command_line(profile: &str) -> PathBuf {
    workspace_root()
        .join("enclaves/image")
        .join(format!("{profile}.cmdline"))
}

fn release_directory(kind: &str, architecture: Architecture) -> PathBuf {
    directory().join(format!("{kind}-{architecture}"))
}

/// `cloister-image`, built when something changed.
fn tool() -> Result<PathBuf, String> {
    build::run(&mut tool_cargo(&["build"])?)?;
    Ok(tool_path())
}

/// cargo in the image tool's own workspace.
pub(crate) fn tool_cargo(arguments: &[&str]) -> Result<Command, String> {
    // Its crate for the image format links OpenSSL.
    debian::require(&["libssl-dev", "pkg-config"])?;
    let mut cargo = cargo();
    cargo
        .args(arguments)
        .args(["--locked", "--manifest-path", TOOL_MANIFEST]);
    cargo.env("CARGO_TARGET_DIR", target_directory().join("image-tool"));
    Ok(cargo)
}

fn tool_path() -> PathBuf {
    target_directory().join("image-tool/debug/cloister-image")
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|error| format!("cannot write {}: {error}", path.display()))
}

/// A JSON string.
fn json(text: &str) -> String {
    let mut escaped = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => escaped.extend(['\\', character]),
            '\0'..' ' => escaped.push_str(&format!("\\u{:04x}", u32::from(character))),
            _ => escaped.push(character),
        }
    }
    escaped + "\""
}

/// The processors that Nitro enclaves run on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Architecture {
    #[default]
    Amd64,
    Arm64,
}

impl Architecture {
    pub(crate) fn parse(name: &str) -> Result<Self, String> {
        [Self::Amd64, Self::Arm64]
            .into_iter()
            .find(|architecture| architecture.name() == name)
            .ok_or_else(|| format!("--architecture is amd64 or arm64, not {name}"))
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    pub(crate) fn rust_target(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64-unknown-linux-musl",
            Self::Arm64 => "aarch64-unknown-linux-musl",
        }
    }

    pub(crate) fn zig_target(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64-linux-musl",
            Self::Arm64 => "aarch64-linux-musl",
        }
    }

    /// `ARCH` of Linux' makefiles.
    pub(crate) fn linux(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64",
            Self::Arm64 => "arm64",
        }
    }

    /// The make target of a bootable kernel, and the file it makes.
    pub(crate) fn kernel_image(self) -> (&'static str, &'static str) {
        match self {
            Self::Amd64 => ("bzImage", "arch/x86/boot/bzImage"),
            Self::Arm64 => ("Image", "arch/arm64/boot/Image"),
        }
    }

    /// What the names of the compiler's programs start with.
    pub(crate) fn cross_prefix(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64-linux-gnu-",
            Self::Arm64 => "aarch64-linux-gnu-",
        }
    }

    pub(crate) fn compiler_packages(self) -> &'static [&'static str] {
        match self {
            Self::Amd64 => &["gcc", "binutils"],
            Self::Arm64 => &["gcc", "gcc-aarch64-linux-gnu", "binutils-aarch64-linux-gnu"],
        }
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

struct Options {
    architecture: Architecture,
    profile: String,
    /// Of the volume profile: name and program.
    application: Option<(String, PathBuf)>,
    kernel: Option<PathBuf>,
    cmdline: Option<PathBuf>,
    module: Option<PathBuf>,
    settings: Option<PathBuf>,
    from: Option<PathBuf>,
    output: Option<PathBuf>,
    /// Certificate and private key.
    signature: Option<(PathBuf, PathBuf)>,
    check_reproducible: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self::parse(&[]).expect("no option is required")
    }
}

impl Options {
    fn parse(arguments: &[&str]) -> Result<Self, String> {
        let mut values: Vec<(&str, &str)> = Vec::new();
        let mut check_reproducible = false;
        let mut rest = arguments.iter();
        while let Some(&name) = rest.next() {
            if name == "--check-reproducible" {
                check_reproducible = true;
                continue;
            }
            if !VALUED.contains(&name) {
                return Err(format!("unknown option {name}\n{USAGE}"));
            }
            let value = rest
                .next()
                .ok_or_else(|| format!("{name} needs a value\n{USAGE}"))?;
            if values.iter().any(|(given, _)| *given == name) {
                return Err(format!("{name} is given twice"));
            }
            values.push((name, value));
        }
        let value = |wanted: &str| {
            values
                .iter()
                .find(|(name, _)| *name == wanted)
                .map(|(_, value)| *value)
        };
        // cargo runs this program where the user is.
        let absolute = |given: &str| std::path::absolute(given).unwrap_or_else(|_| given.into());
        let path = |wanted: &str| value(wanted).map(absolute);

        let profile = value("--profile").unwrap_or("production");
        if !["production", "debug", VOLUME].contains(&profile) {
            return Err(format!(
                "--profile is production, debug or volume, not {profile}"
            ));
        }
        let application = value("--application")
            .map(|given| given.split_once('=').ok_or("--application is NAME=FILE"));
        let application = application
            .transpose()?
            .map(|(name, file)| (name.to_owned(), absolute(file)));
        if application.is_some() != (profile == VOLUME) {
            return Err("--profile volume and --application go together".to_owned());
        }
        for other in ["--kernel", "--module", "--certificate"] {
            if profile == VOLUME && value(other).is_some() {
                return Err(format!("{other} is not for the volume profile"));
            }
        }
        let signature = match (path("--certificate"), path("--key")) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            _ => return Err("--certificate and --key go together".to_owned()),
        };
        for needy in ["--from", "--output", "--certificate"] {
            if value(needy).is_some() && value("--settings").is_none() {
                return Err(format!("{needy} needs --settings"));
            }
        }
        for building in [
            "--application",
            "--architecture",
            "--profile",
            "--kernel",
            "--cmdline",
            "--module",
        ] {
            if value(building).is_some() && value("--from").is_some() {
                return Err(format!(
                    "{building} is about building a release, --from about one that exists"
                ));
            }
        }
        Ok(Self {
            architecture: value("--architecture")
                .map_or(Ok(Architecture::Amd64), Architecture::parse)?,
            profile: profile.to_owned(),
            application,
            kernel: path("--kernel"),
            cmdline: path("--cmdline"),
            module: path("--module"),
            settings: path("--settings"),
            from: path("--from"),
            output: path("--output"),
            signature,
            check_reproducible,
        })
    }
}

/// The image tool is a workspace of its own.
pub(crate) const TOOL_MANIFEST: &str = "tools/image/Cargo.toml";
/// Settings of a deployment that does not exist.
pub(crate) const EXAMPLE_SETTINGS: &str = "enclaves/image/example-settings.json";

/// The profile with a persistent directory, and its test.
const VOLUME: &str = "volume";

const VALUED: &[&str] = &[
    "--application",
    "--architecture",
    "--certificate",
    "--cmdline",
    "--from",
    "--kernel",
    "--key",
    "--module",
    "--output",
    "--profile",
    "--settings",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_that_contradict_each_other_are_refused() {
        for (arguments, problem) in [
            (&["--from", "r"] as &[&str], "--from needs --settings"),
            (
                &["--settings", "s", "--key", "k"],
                "--certificate and --key go together",
            ),
            (
                &["--settings", "s", "--from", "r", "--kernel", "k"],
                "--kernel is about building",
            ),
            (
                &["--profile", "fast"],
                "--profile is production, debug or volume",
            ),
            (
                &["--profile", "volume"],
                "--profile volume and --application go together",
            ),
            (
                &["--application", "a=b"],
                "--profile volume and --application go together",
            ),
            (
                &["--profile", "volume", "--application", "a"],
                "--application is NAME=FILE",
            ),
            (
                &[
                    "--profile",
                    "volume",
                    "--application",
                    "a=b",
                    "--kernel",
                    "k",
                ],
                "--kernel is not for the volume",
            ),
            (
                &["--architecture", "riscv64"],
                "--architecture is amd64 or arm64",
            ),
            (
                &["--settings", "s", "--settings", "t"],
                "--settings is given twice",
            ),
            (&["--settings"], "--settings needs a value"),
            (&["--debug"], "unknown option --debug"),
        ] {
            let refused = Options::parse(arguments).err().unwrap();
            assert!(refused.starts_with(problem), "{refused}");
        }
        assert!(Options::parse(&["--settings", "s", "--certificate", "c", "--key", "k"]).is_ok());
    }

    #[test]
    fn json_strings_are_escaped() {
        assert_eq!(json("a\"b\\c\n"), r#""a\"b\\c\u000a""#);
    }
}
