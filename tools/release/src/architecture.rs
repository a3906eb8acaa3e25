//! Names of an architecture in the tools that build for it.

use cloister_contract::Architecture;

/// The names.
pub(crate) trait BuildTarget {
    fn rust_target(self) -> &'static str;

    fn zig_target(self) -> &'static str;

    /// `ARCH` of Linux' makefiles.
    fn linux(self) -> &'static str;

    /// The make target of a bootable kernel, and the file it makes.
    fn kernel_image(self) -> (&'static str, &'static str);

    /// The prefix of the compiler's programs.
    fn cross_prefix(self) -> &'static str;

    fn compiler_packages(self) -> &'static [&'static str];
}

impl BuildTarget for Architecture {
    fn rust_target(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64-unknown-linux-musl",
            Self::Arm64 => "aarch64-unknown-linux-musl",
        }
    }

    fn zig_target(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64-linux-musl",
            Self::Arm64 => "aarch64-linux-musl",
        }
    }

    fn linux(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64",
            Self::Arm64 => "arm64",
        }
    }

    fn kernel_image(self) -> (&'static str, &'static str) {
        match self {
            Self::Amd64 => ("bzImage", "arch/x86/boot/bzImage"),
            Self::Arm64 => ("Image", "arch/arm64/boot/Image"),
        }
    }

    fn cross_prefix(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64-linux-gnu-",
            Self::Arm64 => "aarch64-linux-gnu-",
        }
    }

    fn compiler_packages(self) -> &'static [&'static str] {
        match self {
            Self::Amd64 => &["gcc", "binutils"],
            Self::Arm64 => &["gcc", "gcc-aarch64-linux-gnu", "binutils-aarch64-linux-gnu"],
        }
    }
}
