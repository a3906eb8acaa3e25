//! `cargo xtask emulator`: QEMU with the machine type `nitro-enclave`, and the device that connects
//! its vsock to this machine.
//!
//! Debian's packages of QEMU are built without that machine type (it needs libcbor), so it is built
//! from Debian's source.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::build::cargo;
use crate::cache;
use crate::debian;
use crate::download::Pinned;
use crate::image;
use crate::python;
use crate::run::{processors, succeed, succeed_quietly, version};

/// Builds it the first time; says where it is.
pub(crate) fn run() -> Result<(), String> {
    let emulator = Emulator::kept()?;
    println!("{}", emulator.qemu.display());
    image::write_emulation()
}

/// Where the parts of the emulator lie.
pub(crate) struct Emulator {
    pub(crate) qemu: PathBuf,
    /// The directory for `-L`.
    pub(crate) firmware: PathBuf,
    pub(crate) vsock_device: PathBuf,
}

impl Emulator {
    /// The emulator, built the first time.
    pub(crate) fn kept() -> Result<Self, String> {
        debian::require(&["gcc"])?;
        cache::kept("emulator", &recipe()?, make).map(Self::within)
    }

    /// The emulator, if it has been built.
    pub(crate) fn present() -> Option<Self> {
        cache::present("emulator", &recipe().ok()?).map(Self::within)
    }

    fn within(directory: PathBuf) -> Self {
        Self {
            qemu: directory.join(QEMU),
            firmware: directory.join(FIRMWARE),
            vsock_device: directory.join(VSOCK_DEVICE),
        }
    }
}

/// Everything that decides what is built.
fn recipe() -> Result<String, String> {
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

fn make(directory: &Path, work: &Path) -> Result<(), String> {
    debian::require(PACKAGES)?;
    println!("building QEMU {QEMU_SOURCE_VERSION}, once: about 5 minutes on two processors");
    qemu(directory, work)?;
    println!("building {VSOCK_DEVICE} {VSOCK_DEVICE_VERSION}, once: about 2 minutes");
    vsock_device(directory, work)?;
    let firmware = directory.join(FIRMWARE);
    fs::create_dir(&firmware)
        .map_err(|error| format!("cannot create {}: {error}", firmware.display()))?;
    for file in FIRMWARE_FILES {
        let name = Path::new(file)
            .file_name()
            .expect("the list has file names");
        fs::copy(file, firmware.join(name))
            .map_err(|error| format!("cannot copy {file}: {error}"))?;
    }
    Ok(())
}

fn qemu(directory: &Path, work: &Path) -> Result<(), String> {
    let source = work.join("qemu");
    let build = source.join("build");
    fs::create_dir_all(&build)
        .map_err(|error| format!("cannot create {}: {error}", build.display()))?;
    succeed(
        Command::new("tar")
            .arg("-xJf")
            .arg(QEMU_SOURCE.path()?)
            .arg("-C")
            .arg(&source)
            .arg("--strip-components=1"),
    )?;
    empty_firmware(&source.join("pc-bios"))?;
    let python = python::packages(work, PYTHON_PACKAGES, None)?.join("python3");
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

/// Debian's source leaves out the UEFI firmware that is not built from source, but QEMU's
/// configuration asks for its files. We do not install them: empty ones do.
fn empty_firmware(directory: &Path) -> Result<(), String> {
    let list = directory.join("meson.build");
    let text = fs::read_to_string(&list)
        .map_err(|error| format!("cannot read {}: {error}", list.display()))?;
    for name in text
        .split('\'')
        .filter(|word| word.starts_with("edk2-") && word.ends_with(".fd"))
    {
        let file = directory.join(format!("{name}.bz2"));
        fs::write(&file, EMPTY_BZIP2)
            .map_err(|error| format!("cannot write {}: {error}", file.display()))?;
    }
    Ok(())
}

fn vsock_device(directory: &Path, work: &Path) -> Result<(), String> {
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
    fs::copy(&built, directory.join(VSOCK_DEVICE))
        .map_err(|error| format!("cannot copy {}: {error}", built.display()))?;
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
/// What `bzip2 < /dev/null` prints.
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
/// What the machine type loads, from Debian's package `qemu-system-data`.
const FIRMWARE_FILES: &[&str] = &[
    "/usr/share/qemu/linuxboot_dma.bin",
    "/usr/share/qemu/qboot.rom",
];
