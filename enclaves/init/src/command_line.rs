//! The kernel's command line: the parameters that init reads, and the comparison with the line of
//! the image.

use std::str::FromStr;

/// The parameters that init reads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommandLine {
    /// There is a readable console: the debug profile, or an emulator.
    pub console: bool,
    /// `cloister.parent_cid=`: where an emulator put the parent. Measured on hardware, appended
    /// after measuring in an emulator.
    pub parent_cid: Option<u32>,
    /// `cloister.volume=PORT:EXPORT`: what to mount on `/volume`. Measured, and only on the line of
    /// the volume profile.
    pub volume: Option<Export>,
}

impl CommandLine {
    /// Parses a command line. As for the kernel, the last of several settings counts.
    ///
    /// # Errors
    /// [`InvalidCommandLine`].
    pub fn parse(text: &str) -> Result<Self, InvalidCommandLine> {
        let mut line = Self::default();
        for word in text.split_ascii_whitespace() {
            match word.split_once('=') {
                Some(("console", device)) => line.console = device != "null" && !device.is_empty(),
                Some(("cloister.parent_cid", cid)) => {
                    line.parent_cid = Some(
                        cid.parse()
                            .map_err(|_| InvalidCommandLine::ParentCid(cid.to_owned()))?,
                    );
                }
                Some(("cloister.volume", export)) => line.volume = Some(export.parse()?),
                _ => {}
            }
        }
        Ok(line)
    }
}

/// Compares the line that the kernel was started with to the `measured` one of the image.
///
/// PCRs hash kernel, command line and ramdisks as one stream, without their lengths: a parent can
/// move the beginning of the line to the end of the kernel, where it has no effect, and every PCR
/// stays the same. The copy in the ramdisk cannot be moved.
///
/// # Errors
/// [`InvalidCommandLine::NotMeasured`], [`InvalidCommandLine::Appended`].
pub(crate) fn require_measured(
    line: &str,
    measured: &str,
    emulator: bool,
) -> Result<(), InvalidCommandLine> {
    let mut words = line.split_ascii_whitespace();
    if measured.trim().is_empty()
        || !measured
            .split_ascii_whitespace()
            .all(|word| words.next() == Some(word))
    {
        return Err(InvalidCommandLine::NotMeasured(line.trim_end().to_owned()));
    }
    let mut appended = words.filter(|word| {
        let name = word.split_once('=').map_or(*word, |(name, _)| name);
        name != HYPERVISOR_PARAMETER && !(emulator && EMULATOR_PARAMETERS.contains(&name))
    });
    match appended.next() {
        None => Ok(()),
        Some(word) => Err(InvalidCommandLine::Appended(word.to_owned())),
    }
}

/// A directory that an NFS server at the parent exports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Export {
    /// The parent's vsock port that leads to the server.
    pub port: u32,
    /// The exported path.
    pub path: String,
}

impl FromStr for Export {
    type Err = InvalidCommandLine;

    fn from_str(text: &str) -> Result<Self, InvalidCommandLine> {
        // The path becomes part of a mount's source; what the kernel or a server could take for
        // something else stays out of it.
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-_.".contains(&byte);
        let export = text
            .split_once(':')
            .and_then(|(port, path)| Some((port.parse().ok()?, path)));
        match export {
            Some((port, path)) if path.starts_with('/') && path.bytes().all(plain) => Ok(Self {
                port,
                path: path.to_owned(),
            }),
            _ => Err(InvalidCommandLine::Volume(text.to_owned())),
        }
    }
}

/// An invalid command line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidCommandLine {
    /// Not a vsock context id.
    #[error("cloister.parent_cid is `{0}`, not a context id")]
    ParentCid(String),
    /// Not a port and an absolute path.
    #[error("cloister.volume is `{0}`, not PORT:/EXPORT")]
    Volume(String),
    /// The line does not begin with the image's: the sections of the image were cut elsewhere.
    #[error(
        "the kernel was started with `{0}`, which does not begin with the image's command line"
    )]
    NotMeasured(String),
    /// A parameter behind the image's line that the hypervisor does not set.
    #[error("`{0}` was appended to the image's command line")]
    Appended(String),
}

/// Set by the hypervisor, once for each virtio device.
const HYPERVISOR_PARAMETER: &str = "virtio_mmio.device";
/// Set by the QEMU machine of `tools/local`, whose console, reboot, clock and parent differ.
const EMULATOR_PARAMETERS: [&str; 5] = [
    "console",
    "reboot",
    "tsc",
    "tsc_early_khz",
    "cloister.parent_cid",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_profiles() {
        let common = "reboot=k panic=30 pci=off nomodules random.trust_cpu=off random.trust_bootloader=off rdinit=/init";
        for (text, console, parent_cid) in [
            (format!("{common} console=null quiet"), false, None),
            (format!("{common} console=ttyS0"), true, None),
            (
                format!("{common} console=null quiet console=ttyS0 cloister.parent_cid=2\n"),
                true,
                Some(2),
            ),
            (String::new(), false, None),
            (
                "console= cloister.parent_cidx=7 console".to_owned(),
                false,
                None,
            ),
        ] {
            assert_eq!(
                CommandLine::parse(&text),
                Ok(CommandLine {
                    console,
                    parent_cid,
                    volume: None
                }),
                "{text}"
            );
        }
    }

    #[test]
    fn nothing_but_the_measured_line_and_what_its_machine_appends_is_accepted() {
        let measured = include_str!("../../image/production.cmdline");
        let line = measured.trim_end();
        let devices = "virtio_mmio.device=4K@0xd0000000:5 virtio_mmio.device=4K@0xd0001000:6";
        let emulator =
            "console=ttyS0 reboot=t cloister.parent_cid=2 tsc=reliable tsc_early_khz=2500000";
        for (text, emulated) in [
            (line.to_owned(), false),
            (format!("{line} {devices}\n"), false),
            (format!("{line} {devices} \n"), true),
            (format!("{line} {emulator} {devices}\n"), true),
        ] {
            assert_eq!(
                require_measured(&text, measured, emulated),
                Ok(()),
                "{text}"
            );
        }
        for word in
            emulator
                .split(' ')
                .chain(["init=/application", "quiet", "virtio_mmio.devices=1"])
        {
            let refused = require_measured(&format!("{line} {devices} {word}"), measured, false);
            assert_eq!(refused, Err(InvalidCommandLine::Appended(word.to_owned())));
        }
        let refused = require_measured(&format!("{line} panic=0"), measured, true);
        assert_eq!(
            refused,
            Err(InvalidCommandLine::Appended("panic=0".to_owned()))
        );
    }

    #[test]
    fn a_line_that_lost_a_prefix_is_refused() {
        let measured = include_str!("../../image/production.cmdline").trim_end();
        for at in 1..=measured.len() {
            for emulated in [false, true] {
                let refused = require_measured(&measured[at..], measured, emulated);
                let cut = measured[at..].to_owned();
                assert_eq!(refused, Err(InvalidCommandLine::NotMeasured(cut)));
            }
        }
        for measured in ["", "\n"] {
            let refused = require_measured("", measured, false);
            assert_eq!(refused, Err(InvalidCommandLine::NotMeasured(String::new())));
        }
    }

    #[test]
    fn a_parent_that_cannot_be_is_refused() {
        for cid in ["", "x", "-1", "4294967296", "2x"] {
            assert_eq!(
                CommandLine::parse(&format!("a cloister.parent_cid={cid} b")),
                Err(InvalidCommandLine::ParentCid(cid.to_owned()))
            );
        }
    }

    #[test]
    fn a_volume_is_a_port_and_a_path() {
        let volume = |text: &str| {
            CommandLine::parse(&format!("quiet cloister.volume={text}")).map(|line| line.volume)
        };
        let export = Export {
            port: 2049,
            path: "/a/b-c_d.e".to_owned(),
        };
        assert_eq!(volume("2049:/a/b-c_d.e"), Ok(Some(export)));
        for text in [
            "",
            "2049",
            "2049:",
            "2049:a",
            ":/a",
            "x:/a",
            "4294967296:/a",
            "1:/a,ro",
            "1:/a:/b",
            "1:/\u{e4}",
        ] {
            assert_eq!(
                volume(text),
                Err(InvalidCommandLine::Volume(text.to_owned()))
            );
        }
    }
}
