//! The measured programs: static, and the same bytes whoever builds them where and when.
//!
//! Rust links against its own musl with its own linker, and a pinned zig compiles what is C:
//! nothing of the machine's compilers, linkers or libraries gets in.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;

use crate::build;
use crate::cache;
use crate::image::Architecture;
use crate::python;
use crate::run::{output, succeed};

/// A program of an image.
pub(crate) struct Program {
    /// Its name in the image.
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
        name: "signer",
        package: "cloister-signer",
        binary: "cloister-signer",
    },
    Program {
        name: "key-generator",
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

/// Between the NFS client of the volume profile's kernel and the parent.
pub(crate) const BRIDGE: Program = Program {
    name: "vsock-bridge",
    package: "cloister-vsock-bridge",
    binary: "vsock-bridge",
};

/// A checkout of the sources and the surroundings in which they are built.
pub(crate) struct Site {
    pub(crate) workspace: PathBuf,
    pub(crate) target: PathBuf,
    pub(crate) zig: PathBuf,
    pub(crate) cargo_home: PathBuf,
    /// What else is in the environment. Whatever is not listed in [`KEPT_VARIABLES`] is taken out
    /// of it.
    pub(crate) variables: Vec<(&'static str, OsString)>,
    /// As for the shell's `umask`.
    pub(crate) umask: &'static str,
}

impl Site {
    /// This checkout.
    pub(crate) fn here(target: PathBuf) -> Result<Self, String> {
        let cargo_home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
        let cargo_home = cargo_home.or_else(|| Some(std::env::home_dir()?.join(".cargo")));
        Ok(Self {
            workspace: build::workspace_root().to_owned(),
            target,
            zig: zig()?,
            cargo_home: cargo_home.ok_or("there is no home directory: set CARGO_HOME")?,
            variables: Vec::new(),
            umask: "022",
        })
    }

    /// Builds one program, alone, so that no other package's features get into it; returns its
    /// file.
    pub(crate) fn build(
        &self,
        program: &Program,
        architecture: Architecture,
    ) -> Result<PathBuf, String> {
        let target = architecture.rust_target();
        let sysroot = PathBuf::from(output(self.command("rustc").args(["--print", "sysroot"]))?);
        if !sysroot
            .join("lib/rustlib")
            .join(target)
            .join("lib")
            .exists()
        {
            succeed(self.command("rustup").args(["target", "add", target]))
                .map_err(|problem| format!("{problem}\nRust's target {target} is needed"))?;
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
        build::run(&mut cargo)?;

        Ok(self
            .target
            .join(target)
            .join("release")
            .join(program.binary))
    }

    /// A program in this checkout and its surroundings.
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
    fn wrapper(&self, architecture: Architecture, tool: &str) -> Result<PathBuf, String> {
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
        let write = || {
            fs::create_dir_all(&self.target)?;
            fs::write(&path, script)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755))
        };
        write().map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        Ok(path)
    }
}

/// What a release says about its programs' origin.
pub(crate) fn inputs() -> Result<Vec<(&'static str, String)>, String> {
    Ok(vec![
        ("rustc", crate::run::version("rustc")?),
        ("zig", ZIG_VERSION.to_owned()),
    ])
}

/// Zig, whose C compiler comes as one download with the headers of musl for every architecture.
fn zig() -> Result<PathBuf, String> {
    let directory = cache::kept("zig", ZIG_PACKAGE, |directory, work| {
        println!("fetching zig {ZIG_VERSION}, once: about 100 MB");
        python::packages(work, ZIG_PACKAGE, Some(directory))?;
        Ok(())
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

/// What a build may see of the surroundings: where programs are and how the network is reached.
/// Flags and profiles are not among it.
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
