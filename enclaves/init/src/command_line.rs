//! What the kernel was started with.

/// The words of the kernel's command line that init heeds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CommandLine {
    /// There is a console that somebody may read: the debug profile, or an emulator.
    pub console: bool,
    /// `cloister.parent_cid=`: where an emulator put the parent. Measured on hardware, appended after measuring in an emulator.
    pub parent_cid: Option<u32>,
}

impl CommandLine {
    /// Reads a command line. As for the kernel, the last of several settings counts.
    ///
    /// # Errors
    /// [`InvalidParentCid`].
    pub fn parse(text: &str) -> Result<Self, InvalidParentCid> {
        let mut line = Self::default();
        for word in text.split_ascii_whitespace() {
            match word.split_once('=') {
                Some(("console", device)) => line.console = device != "null" && !device.is_empty(),
                Some(("cloister.parent_cid", cid)) => {
                    line.parent_cid = Some(cid.parse().map_err(|_| InvalidParentCid(cid.to_owned()))?);
                }
                _ => {}
            }
        }
        Ok(line)
    }
}

/// The command line names a parent that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cloister.parent_cid is `{0}`, which is no context id")]
pub struct InvalidParentCid(String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_profiles() {
        let common =
            "reboot=k panic=30 pci=off nomodules random.trust_cpu=off random.trust_bootloader=off rdinit=/init";
        for (text, console, parent_cid) in [
            (format!("{common} console=null quiet"), false, None),
            (format!("{common} console=ttyS0"), true, None),
            (format!("{common} console=null quiet console=ttyS0 cloister.parent_cid=2\n"), true, Some(2)),
            (String::new(), false, None),
            ("console= cloister.parent_cidx=7 console".to_owned(), false, None),
        ] {
            assert_eq!(CommandLine::parse(&text), Ok(CommandLine { console, parent_cid }), "{text}");
        }
    }

    #[test]
    fn a_parent_that_cannot_be_is_refused() {
        for cid in ["", "x", "-1", "4294967296", "2x"] {
            assert_eq!(
                CommandLine::parse(&format!("a cloister.parent_cid={cid} b")),
                Err(InvalidParentCid(cid.to_owned()))
            );
        }
    }
}
