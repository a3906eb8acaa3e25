//! Builds static programs with the same bytes on every machine: the measured ones, and what else is
//! deployed.
//!
//! Rust links against its own musl with its own linker, and a pinned zig compiles what is C:
//! nothing of the machine's compilers, linkers or libraries gets in.

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};
use cloister_contract::{Architecture, Service};
use cloister_toolchain::cargo::{self, workspace_root};
use cloister_toolchain::command::{output, succeed, version};
use cloister_toolchain::{cache, python};
use fs_err as fs;

use crate::architecture::BuildTarget as _;
use crate::paths;

/// A program of the workspace.
pub(crate) struct Program {
    /// Its name in an image.
    pub(crate) name: &'static str,
    pub(crate) package: &'static str,
    pub(crate) binary: &'static str,
}

/// PID 1 of every image.
pub(crate) const INIT: Program = Program {
    name: "init",
    package: "cloister-init",
    binary: "init",
};
/// The services.
pub(crate) const APPLICATIONS: &[Program] = &[
    Program {
        name: Service::Signer.name(),
        package: "cloister-signer",
        binary: "cloister-signer",
    },
    Program {
        name: Service::KeyGenerator.name(),
        package: "cloister-key-generator",
        binary: "cloister-key-generator",
    },
];
/// The application of the guest test's image.
pub(crate) const GUEST_TEST: Program = Program {
    name: "guest-self-test",
    package: "cloister-guest-self-test",
    binary: "guest-self-test",
};

/// Connects the NFS client of the volume profile's kernel with the parent.
pub(crate) const BRIDGE: Program = Program {
    name: "vsock-bridge",
    package: "cloister-vsock-bridge",
    binary: "vsock-bridge",
};

/// A checkout of the sources and the environment in which they are built.
pub(crate) struct BuildEnvironment {
    pub(crate) workspace: PathBuf,
    pub(crate) target: PathBuf,
    pub(crate) zig: PathBuf,
    pub(crate) cargo_home: PathBuf,
    /// Environment variables besides those in [`KEPT_VARIABLES`]; all others are removed.
    pub(crate) variables: Vec<(&'static str, OsString)>,
    /// As for the shell's `umask`.
    pub(crate) umask: &'static str,
}

impl BuildEnvironment {
    /// This checkout.
    pub(crate) fn here() -> Result<Self> {
        let cargo_home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
        let cargo_home = cargo_home.or_else(|| Some(std::env::home_dir()?.join(".cargo")));
        Ok(Self {
            workspace: workspace_root().to_owned(),
            target: paths::directory().join("build"),
            zig: zig()?,
            cargo_home: cargo_home.context("there is no home directory: set CARGO_HOME")?,
            variables: Vec::new(),
            umask: "022",
        })
    }

    /// Builds one program and returns its file. Each is built alone, so that it gets no other
    /// package's features.
    pub(crate) fn build(&self, program: &Program, architecture: Architecture) -> Result<PathBuf> {
        let target = architecture.rust_target();
        let sysroot = PathBuf::from(output(self.command("rustc").args(["--print", "sysroot"]))?);
        if !sysroot
            .join("lib/rustlib")
            .join(target)
            .join("lib")
            .exists()
        {
            succeed(self.command("rustup").args(["target", "add", target]))
                .with_context(|| format!("Rust's target {target} is missing"))?;
        }
        let mut cargo = self.command(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.args([
            "build",
            "--release",
            "--locked",
            "--package",
            program.package,
            "--target",
            target,
        ]);
        cargo.arg("--target-dir").arg(&self.target);

        let mut flags = vec![
            "-Clinker=rust-lld".into(),
            "-Clink-self-contained=yes".into(),
        ];
        for (path, name) in [
            (&self.workspace, "/cloister"),
            (&self.cargo_home, "/cargo"),
            (&sysroot, "/rust"),
        ] {
            let mut flag = OsString::from("--remap-path-prefix=");
            flag.push(path);
            flag.push("=");
            flag.push(name);
            flags.push(flag);
        }
        cargo.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f".as_ref()));
        cargo
            .env("CARGO_INCREMENTAL", "0")
            .env("SOURCE_DATE_EPOCH", "0");
        cargo
            .env("CARGO_PROFILE_RELEASE_DEBUG", "none")
            .env("CARGO_PROFILE_RELEASE_STRIP", "symbols");

        let name = target.replace('-', "_");
        cargo.env(format!("CC_{name}"), self.wrapper(architecture, "cc")?);
        cargo.env(format!("AR_{name}"), self.wrapper(architecture, "ar")?);
        for variable in ["ZIG_GLOBAL_CACHE_DIR", "ZIG_LOCAL_CACHE_DIR"] {
            cargo.env(variable, self.target.join("zig-cache"));
        }
        cargo::build(&mut cargo)?;

        Ok(self
            .target
            .join(target)
            .join("release")
            .join(program.binary))
    }

    /// A program in this checkout and environment.
    fn command(&self, program: impl Into<OsString>) -> Command {
        let mut command = Command::new("sh");
        command
            .args(["-c", "umask \"$0\" && exec \"$@\"", self.umask])
            .arg(program.into());
        command
            .current_dir(&self.workspace)
            .env_clear()
            .env("CARGO_HOME", &self.cargo_home);
        for variable in KEPT_VARIABLES {
            if let Some(value) = std::env::var_os(variable) {
                command.env(variable, value);
            }
        }
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    /// `zig cc` or `zig ar` under one name, as the build scripts of crates want it.
    fn wrapper(&self, architecture: Architecture, tool: &str) -> Result<PathBuf> {
        let path = self.target.join(format!("zig-{tool}-{architecture}"));
        let flags = match tool {
            "cc" => format!(
                "-target {} -fno-sanitize=undefined '-ffile-prefix-map={}=/cloister' '-ffile-prefix-map={}=/cargo'",
                architecture.zig_target(),
                self.workspace.display(),
                self.cargo_home.display()
            ),
            _ => String::new(),
        };
        let script = WRAPPER
            .replace("ZIG", &self.zig.display().to_string())
            .replace("TOOL", tool)
            .replace("FLAGS", &flags);
        // Written only when it changes: cargo watches its time.
        if fs::read_to_string(&path).is_ok_and(|present| present == script) {
            return Ok(path);
        }
        fs::create_dir_all(&self.target)?;
        fs::write(&path, script)?;
        fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
        Ok(path)
    }
}

/// Compilers of the programs, for `release.json`.
pub(crate) fn inputs() -> Result<[(&'static str, String); 2]> {
    Ok([
        ("rustc", version("rustc")?),
        ("zig", ZIG_VERSION.to_owned()),
    ])
}

/// Zig, whose C compiler comes as one download with the headers of musl for every architecture.
fn zig() -> Result<PathBuf> {
    let directory = cache::get_or_make("zig", ZIG_PACKAGE, |directory, work| {
        eprintln!("fetching zig {ZIG_VERSION}, once: about 100 MB");
        python::install(work, ZIG_PACKAGE, Some(directory)).map(drop)
    })?;
    Ok(directory.join("ziglang/zig"))
}

/// cc-rs names the target in Rust's spelling, which zig does not know.
const WRAPPER: &str = r#"#!/bin/sh
for argument do
    shift
    case $argument in
    --target=*) ;;
    *) set -- "$@" "$argument" ;;
    esac
done
exec 'ZIG' TOOL FLAGS "$@"
"#;

const ZIG_VERSION: &str = "0.17.1";
const ZIG_PACKAGE: &str = "ziglang==0.17.1 --hash=sha256:ea6cc5d87b033cf0aedfbc8f9549a908cae6c50ac31f1698188fa48a74524b54\n";

/// Variables that a build may see: the paths of programs and the settings of the network, no flags
/// or profiles.
const KEPT_VARIABLES: &[&str] = &[
    "ALL_PROXY",
    "CARGO_BUILD_JOBS",
    "CARGO_HTTP_CAINFO",
    "CARGO_HTTP_PROXY",
    "CARGO_NET_OFFLINE",
    "HOME",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "NO_PROXY",
    "PATH",
    "RUSTUP_DIST_SERVER",
    "RUSTUP_HOME",
    "RUSTUP_TOOLCHAIN",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "TERM",
    "TMPDIR",
    "http_proxy",
    "https_proxy",
    "no_proxy",
];
