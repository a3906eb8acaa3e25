//! `cargo xtask emulator`: QEMU with the machine type `nitro-enclave`, and the device that connects
//! its vsock to this machine.
//!
//! Debian's packages of QEMU are built without that machine type (it needs libcbor), so it is built
//! from Debian's source.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use cloister_contract::Architecture;
use cloister_toolchain::cargo::cargo;
use cloister_toolchain::command::{processors, succeed, succeed_quietly, version};
use cloister_toolchain::{Pinned, cache, debian, python};
use fs_err as fs;
use serde_json::json;

use crate::{image_tool, paths};

/// Builds it the first time and prints its path.
pub(crate) fn run() -> Result<()> {
    let emulator = Emulator::get()?;
    println!("{}", emulator.qemu.display());
    write_emulation()
}

/// Builds it the first time.
///
/// # Errors
/// If it cannot be built.
pub fn build() -> Result<()> {
    Emulator::get().map(drop)
}

/// Writes `emulation.json`, the paths of everything an emulated enclave needs, once all of it
/// exists.
pub(crate) fn write_emulation() -> Result<()> {
    let [release, guest_release] = ["release", "guest-release"]
        .map(|kind| paths::release_directory(kind, Architecture::Amd64));
    let tool = image_tool::path();
    let Some(emulator) = Emulator::present() else {
        return Ok(());
    };
    if ![&release, &guest_release, &tool]
        .iter()
        .all(|path| path.exists())
    {
        return Ok(());
    }
    let emulation = json!({
        "qemu": emulator.qemu,
        "firmware": [emulator.firmware],
        "vsock_device": emulator.vsock_device,
        "image_tool": tool,
        "release": release,
        "guest_release": guest_release,
    });
    let path = paths::directory().join("emulation.json");
    Ok(fs::write(path, serde_json::to_vec_pretty(&emulation)?)?)
}

/// Paths of the emulator's parts.
struct Emulator {
    qemu: PathBuf,
    /// The directory for `-L`.
    firmware: PathBuf,
    vsock_device: PathBuf,
}

impl Emulator {
    /// The emulator, built the first time.
    fn get() -> Result<Self> {
        debian::require(&["gcc"])?;
        cache::get_or_make("emulator", &recipe()?, make).map(Self::within)
    }

    /// The emulator, if it has been built.
    fn present() -> Option<Self> {
        cache::get("emulator", &recipe().ok()?).map(Self::within)
    }

    fn within(directory: PathBuf) -> Self {
        Self {
            qemu: directory.join(QEMU),
            firmware: directory.join(FIRMWARE),
            vsock_device: directory.join(VSOCK_DEVICE),
        }
    }
}

/// Everything that decides the emulator's bytes.
fn recipe() -> Result<String> {
    Ok([
        &format!("qemu {QEMU_SOURCE_VERSION} sha256 {}", QEMU_SOURCE.sha256),
        &format!("configure {}", CONFIGURE.join(" ")),
        &format!("{VSOCK_DEVICE} {VSOCK_DEVICE_VERSION}"),
        PYTHON_PACKAGES,
        &version("cc")?,
        &version("rustc")?,
    ]
    .join("\n"))
}

fn make(directory: &Path, work: &Path) -> Result<()> {
    debian::require(PACKAGES)?;
    eprintln!("building QEMU {QEMU_SOURCE_VERSION}, once: about 5 minutes on two processors");
    qemu(directory, work)?;
    eprintln!("building {VSOCK_DEVICE} {VSOCK_DEVICE_VERSION}, once: about 2 minutes");
    vsock_device(directory, work)?;
    let firmware = directory.join(FIRMWARE);
    fs::create_dir(&firmware)?;
    for file in FIRMWARE_FILES {
        let name = Path::new(file)
            .file_name()
            .expect("the list has file names");
        fs::copy(file, firmware.join(name))?;
    }
    Ok(())
}

fn qemu(directory: &Path, work: &Path) -> Result<()> {
    let source = work.join("qemu");
    let build = source.join("build");
    fs::create_dir_all(&build)?;
    succeed(
        Command::new("tar")
            .arg("-xJf")
            .arg(QEMU_SOURCE.path()?)
            .arg("-C")
            .arg(&source)
            .arg("--strip-components=1"),
    )?;
    empty_firmware(&source.join("pc-bios"))?;
    let python = python::install(work, PYTHON_PACKAGES, None)?.join("python3");
    let log = work.join("qemu.log");
    let mut configure = Command::new("../configure");
    configure
        .arg(format!("--python={}", python.display()))
        .args(CONFIGURE);
    succeed_quietly(configure.current_dir(&build), &log)?;
    let jobs = format!("-j{}", processors());
    succeed_quietly(
        Command::new("ninja")
            .current_dir(&build)
            .args([&jobs, QEMU]),
        &log,
    )?;
    succeed(
        Command::new("strip")
            .arg("-o")
            .arg(directory.join(QEMU))
            .arg(build.join(QEMU)),
    )
}

/// Creates empty UEFI firmware files: QEMU's build requires them, Debian's source omits them, and
/// they are not installed.
fn empty_firmware(directory: &Path) -> Result<()> {
    let list = directory.join("meson.build");
    let text = fs::read_to_string(&list)?;
    for name in text
        .split('\'')
        .filter(|word| word.starts_with("edk2-") && word.ends_with(".fd"))
    {
        fs::write(directory.join(format!("{name}.bz2")), EMPTY_BZIP2)?;
    }
    Ok(())
}

fn vsock_device(directory: &Path, work: &Path) -> Result<()> {
    let root = work.join("vsock");
    let mut install = cargo();
    install
        .args([
            "install",
            VSOCK_DEVICE,
            "--locked",
            "--version",
            VSOCK_DEVICE_VERSION,
            "--root",
        ])
        .arg(&root);
    install
        .arg("--target-dir")
        .arg(work.join("vsock-target"))
        .env("CARGO_PROFILE_RELEASE_STRIP", "symbols");
    succeed_quietly(&mut install, &work.join("vsock.log"))?;
    let built = root.join("bin").join(VSOCK_DEVICE);
    fs::copy(&built, directory.join(VSOCK_DEVICE))?;
    Ok(())
}

const QEMU: &str = "qemu-system-x86_64";
const FIRMWARE: &str = "firmware";
const VSOCK_DEVICE: &str = "vhost-device-vsock";
const VSOCK_DEVICE_VERSION: &str = "0.3.0";

const QEMU_SOURCE_VERSION: &str = "10.0.13+ds";
const QEMU_SOURCE: Pinned = Pinned {
    name: "qemu_10.0.13+ds.orig.tar.xz",
    urls: &[
        "http://deb.debian.org/debian/pool/main/q/qemu/qemu_10.0.13+ds.orig.tar.xz",
        "http://ftp.debian.org/debian/pool/main/q/qemu/qemu_10.0.13+ds.orig.tar.xz",
        // By its SHA-1: stays when Debian's pool has moved on.
        "https://snapshot.debian.org/file/7617726069d7b00c2b7bd10aea8077b005913e5f",
    ],
    sha256: "6a0888e806c2ffc0c5f0733e974f9aea55491950d3c47c98669c8b236dde59ae",
};
const CONFIGURE: &[&str] = &[
    "--target-list=x86_64-softmmu",
    "--without-default-features",
    "--enable-tcg",
    "--enable-kvm",
    "--enable-gnutls",
    "--enable-vhost-user",
    "--enable-fdt=system",
    "--enable-libcbor",
    "--disable-debug-info",
    "--disable-docs",
    "--disable-download",
    "--disable-install-blobs",
    "--disable-tools",
];
const PYTHON_PACKAGES: &str = "\
meson==1.5.2 --hash=sha256:77706e2368a00d789c097632ccf4fc39251fba56d03e1e1b262559a3c7a08f5b
pycotap==1.3.1 --hash=sha256:1c3a25b3ff89e48f4e00f1f71dbbc1642b4f65c65d416524d07e73492fff25ea
";
/// The output of `bzip2 < /dev/null`.
const EMPTY_BZIP2: &[u8] = b"BZh9\x17\x72\x45\x38\x50\x90\0\0\0\0";

const PACKAGES: &[&str] = &[
    "binutils",
    "bison",
    "bzip2",
    "curl",
    "flex",
    "gcc",
    "libc6-dev",
    "libcbor-dev",
    "libfdt-dev",
    "libglib2.0-dev",
    "libgnutls28-dev",
    "libpixman-1-dev",
    "ninja-build",
    "pkg-config",
    "python3",
    "python3-venv",
    "qemu-system-data",
    "xz-utils",
];
/// Firmware of the machine type, from Debian's package `qemu-system-data`.
const FIRMWARE_FILES: &[&str] = &[
    "/usr/share/qemu/linuxboot_dma.bin",
    "/usr/share/qemu/qboot.rom",
];
