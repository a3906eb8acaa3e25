//! Ramdisks whose bytes depend only on their content: newc cpio with owner root, no times and counted
//! inodes; gzip without name and time.

use std::io::Write as _;

use anyhow::{Context as _, Result};
use cpio::newc;
use flate2::{Compression, GzBuilder};

/// An entry of a ramdisk.
pub(crate) enum Entry<'a> {
    /// A mount point.
    Directory(&'static str),
    /// An executable file.
    Program(&'static str, &'a [u8]),
    /// A read-only file.
    File(&'static str, &'a [u8]),
}

/// The first ramdisk, which is the same in every image of a release. With a bridge, it has the
/// directory of a volume, too. Init compares the line that the kernel was started with to the
/// `command_line` in it.
pub(crate) fn init(
    init: &[u8],
    command_line: &[u8],
    module: Option<&[u8]>,
    bridge: Option<&[u8]>,
) -> Result<Vec<u8>> {
    let mut entries = vec![
        Entry::File("cmdline", command_line),
        Entry::Directory("dev"),
        Entry::Program("init", init),
        Entry::Directory("proc"),
        Entry::Directory("sys"),
    ];
    entries.extend(module.map(|module| Entry::File("nsm.ko", module)));
    entries.extend(
        bridge
            .into_iter()
            .flat_map(|bridge| [Entry::Directory("volume"), Entry::Program(BRIDGE, bridge)]),
    );
    pack(&entries)
}

/// The second ramdisk: the application, which init starts.
pub(crate) fn application(program: &[u8]) -> Result<Vec<u8>> {
    pack(&[Entry::Program("application", program)])
}

/// The last ramdisk: the settings, which the application reads.
pub(crate) fn settings(settings: &[u8]) -> Result<Vec<u8>> {
    pack(&[Entry::File("settings.json", settings)])
}

fn pack(entries: &[Entry<'_>]) -> Result<Vec<u8>> {
    let mut archive = Vec::new();
    for (inode, entry) in (1..).zip(entries) {
        let (name, mode, contents): (_, _, &[u8]) = match entry {
            Entry::Directory(name) => (*name, 0o040_755, &[]),
            Entry::Program(name, contents) => (*name, 0o100_755, contents),
            Entry::File(name, contents) => (*name, 0o100_444, contents),
        };
        let len = u32::try_from(contents.len()).context("a file of a ramdisk is too long")?;
        let mut file = newc::Builder::new(name)
            .ino(inode)
            .mode(mode)
            .write(archive, len);
        file.write_all(contents)?;
        archive = file.finish()?;
    }
    let archive = newc::trailer(archive)?;

    let mut gzip = GzBuilder::new()
        .mtime(0)
        .operating_system(OS_UNKNOWN)
        .write(Vec::new(), Compression::best());
    gzip.write_all(&archive)?;
    Ok(gzip.finish()?)
}

/// The program that init starts before the application in images of the volume profile.
pub(crate) const BRIDGE: &str = "vsock-bridge";
/// RFC 1952: the file system on which compression took place.
const OS_UNKNOWN: u8 = 255;

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use flate2::read::GzDecoder;

    use super::*;

    #[test]
    fn a_ramdisk_holds_what_it_is_given_and_nothing_of_its_surroundings() {
        let packed = init(b"program", b"quiet", Some(b"driver!!!"), Some(b"bridge")).unwrap();
        assert_eq!(
            packed[..10],
            [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 2, 255],
            "no name, no time"
        );
        let mut archive = Vec::new();
        GzDecoder::new(packed.as_slice())
            .read_to_end(&mut archive)
            .unwrap();

        let mut rest = archive.as_slice();
        let mut found = Vec::new();
        loop {
            let mut file = newc::Reader::new(rest).unwrap();
            let entry = file.entry().clone();
            assert_eq!(
                (entry.uid(), entry.gid(), entry.mtime(), entry.nlink()),
                (0, 0, 0, 1),
                "{}",
                entry.name()
            );
            if entry.is_trailer() {
                break;
            }
            let mut contents = String::new();
            file.read_to_string(&mut contents).unwrap();
            found.push((entry.name().to_owned(), entry.mode(), contents));
            rest = file.finish().unwrap();
        }
        let expected = [
            ("cmdline", 0o100_444, "quiet"),
            ("dev", 0o040_755, ""),
            ("init", 0o100_755, "program"),
            ("proc", 0o040_755, ""),
            ("sys", 0o040_755, ""),
            ("nsm.ko", 0o100_444, "driver!!!"),
            ("volume", 0o040_755, ""),
            ("vsock-bridge", 0o100_755, "bridge"),
        ];
        assert_eq!(
            found,
            expected.map(|(name, mode, contents)| (name.to_owned(), mode, contents.to_owned()))
        );
    }
}
