//! What the kernel was started with.

use std::str::FromStr;

/// The words of the kernel's command line that init heeds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommandLine {
    /// There is a console that somebody may read: the debug profile, or an emulator.
    pub console: bool,
    /// `cloister.parent_cid=`: where an emulator put the parent. Measured on hardware, appended
    /// after measuring in an emulator.
    pub parent_cid: Option<u32>,
    /// `cloister.volume=PORT:EXPORT`: what to mount on `/volume`. Measured, and only on the line of
    /// the volume profile.
    pub volume: Option<Export>,
}

impl CommandLine {
    /// Reads a command line. As for the kernel, the last of several settings counts.
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

/// A directory that an NFS server at the parent exports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Export {
    /// The parent's vsock port that leads to the server.
    pub port: u32,
    /// What the server calls the directory.
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

/// The command line says something that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidCommandLine {
    /// A parent that cannot be.
    #[error("cloister.parent_cid is `{0}`, which is no context id")]
    ParentCid(String),
    /// A volume that cannot be.
    #[error("cloister.volume is `{0}`, not PORT:/EXPORT")]
    Volume(String),
}

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
