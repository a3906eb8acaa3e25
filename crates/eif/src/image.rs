//! A streaming parser of the EIF format.

use std::fs::File;
use std::io::{self, Read as _};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use cloister_contract::Architecture;

use crate::signature;
use crate::{CertificateWarning, Measurements};

/// A well-formed enclave image file with a valid checksum.
#[derive(Clone)]
pub struct Eif {
    bytes: Vec<u8>,
    architecture: Architecture,
    kernel: Range<usize>,
    command_line: Range<usize>,
    ramdisks: Vec<Range<usize>>,
    signing_certificate: Option<Vec<u8>>,
}

impl Eif {
    /// No image that is read is longer, in bytes. Ours have 16 MiB at most; others may carry a
    /// larger kernel.
    pub const MAX_LEN: usize = 128 << 20;

    /// Reads an image file.
    ///
    /// # Errors
    /// [`EifError::File`] if it cannot be read, otherwise as [`Eif::parse`].
    pub fn read(path: &Path) -> Result<Self, EifError> {
        let unreadable = |source| EifError::File {
            path: path.to_owned(),
            source,
        };
        let file = File::open(path).map_err(unreadable)?;
        let mut bytes = Vec::new();
        // One byte more than allowed, so that a longer file is seen to be longer.
        file.take(Self::MAX_LEN as u64 + 1)
            .read_to_end(&mut bytes)
            .map_err(unreadable)?;
        Self::parse(bytes)
    }

    /// Reads an image from its bytes.
    ///
    /// # Errors
    /// [`EifError`].
    pub fn parse(bytes: Vec<u8>) -> Result<Self, EifError> {
        if bytes.len() > Self::MAX_LEN {
            return Err(EifError::TooLong);
        }
        let (header, _) = bytes.split_first_chunk().ok_or(EifError::Truncated)?;
        let header = Header::parse(header)?;

        let mut sections = Sections {
            bytes: &bytes,
            header: &header,
            next: 0,
            position: HEADER_LEN,
        };
        let kernel = sections.take(Kind::Kernel)?;
        let command_line = sections.take(Kind::CommandLine)?;
        if !bytes[command_line.clone()]
            .iter()
            .all(|byte| matches!(byte, b' '..=b'~'))
        {
            return Err(EifError::CommandLine);
        }
        // Early builders of version 4 wrote the metadata last.
        let metadata_last = !sections.next_is(Kind::Metadata);
        if !metadata_last {
            sections.take(Kind::Metadata)?;
        }
        let mut ramdisks = vec![sections.take(Kind::Ramdisk)?];
        while sections.next_is(Kind::Ramdisk) {
            ramdisks.push(sections.take(Kind::Ramdisk)?);
        }
        let signature = sections
            .next_is(Kind::Signature)
            .then(|| sections.take(Kind::Signature))
            .transpose()?;
        if metadata_last {
            sections.take(Kind::Metadata)?;
        }
        sections.finish()?;
        // Checksum and measurements of an ELF kernel would be right, and no enclave would start.
        if bytes[kernel.clone()].starts_with(ELF) {
            return Err(EifError::Kernel(header.architecture));
        }

        let mut crc = crc32fast::Hasher::new();
        crc.update(&bytes[..CRC_AT]);
        crc.update(&bytes[HEADER_LEN..]);
        if crc.finalize() != header.crc {
            return Err(EifError::Checksum);
        }
        let signing_certificate = match signature {
            None => None,
            Some(range) => {
                Some(signature::signing_certificate(&bytes[range]).ok_or(EifError::Signature)?)
            }
        };
        Ok(Self {
            architecture: header.architecture,
            bytes,
            kernel,
            command_line,
            ramdisks,
            signing_certificate,
        })
    }

    /// The measurements that the hypervisor takes when it starts this image.
    pub fn measurements(&self) -> Measurements {
        let ramdisks: Vec<_> = self.ramdisks().collect();
        Measurements::of(
            &self.bytes[self.kernel.clone()],
            self.command_line(),
            &ramdisks,
            self.signing_certificate(),
        )
    }

    /// The processors it is for.
    pub fn architecture(&self) -> Architecture {
        self.architecture
    }

    /// The kernel's command line: printable ASCII.
    pub fn command_line(&self) -> &[u8] {
        &self.bytes[self.command_line.clone()]
    }

    /// The ramdisks in their order, at least one; the kernel unpacks them over each other.
    pub fn ramdisks(&self) -> impl Iterator<Item = &[u8]> {
        self.ramdisks.iter().map(|range| &self.bytes[range.clone()])
    }

    /// The signer's certificate, DER. Neither it nor the signature is verified here.
    pub fn signing_certificate(&self) -> Option<&[u8]> {
        self.signing_certificate.as_deref()
    }

    /// A warning if the signing certificate has expired or ends within
    /// [`CertificateWarning::PERIOD`].
    pub fn certificate_warning(&self, now: SystemTime) -> Option<CertificateWarning> {
        CertificateWarning::of(self.signing_certificate()?, now)
    }
}

impl std::fmt::Debug for Eif {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Eif")
            .field("architecture", &self.architecture)
            .finish_non_exhaustive()
    }
}

/// A file that is not an acceptable enclave image.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EifError {
    /// Failed to read the file.
    #[error("failed to read the image {}", path.display())]
    File {
        /// The file's path.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Longer than [`Eif::MAX_LEN`].
    #[error("the image has more than {} bytes", Eif::MAX_LEN)]
    TooLong,
    /// The file ends within its header or a section.
    #[error("the image ends too early")]
    Truncated,
    /// The magic number is missing.
    #[error("not an enclave image: it does not begin with `.eif`")]
    Magic,
    /// Unsupported version of the format.
    #[error("version {0} of the image format is unsupported, only version {VERSION} is read")]
    Version(u16),
    /// Flags that version 4 does not define.
    #[error("the image's flags {0:#x} are unknown")]
    Flags(u16),
    /// A reserved field is set.
    #[error("a reserved field of the image's header is not zero")]
    Reserved,
    /// Too few or too many sections.
    #[error("an image cannot have {0} sections")]
    SectionCount(u16),
    /// The header and the section disagree about its length, or the section has flags.
    #[error("section {0} is not what the image's header says")]
    Section(usize),
    /// The header puts a section elsewhere: bytes between two sections would be measured by no
    /// register.
    #[error("section {0} does not begin where the one before it ends")]
    Gap(usize),
    /// A required section is missing.
    #[error("the image has no {0} section")]
    Missing(&'static str),
    /// A section of this kind is not allowed at this position.
    #[error(
        "section {index} is of kind {found}; an image has kernel, command line, metadata, ramdisks, signature"
    )]
    Order {
        /// The section's number, counted from 0.
        index: usize,
        /// The kind, as in the file.
        found: u16,
    },
    /// A section is longer than its kind allows.
    #[error("section {0} is too long for its kind")]
    SectionLen(usize),
    /// The kernel is an ELF file, which the hypervisor does not start.
    #[error("the kernel is an ELF file: {} expected", kernel_format(*.0))]
    Kernel(Architecture),
    /// The command line has other bytes.
    #[error("the command line is not printable ASCII")]
    CommandLine,
    /// Bytes that belong to no section.
    #[error("the image goes on after its last section")]
    TrailingBytes,
    /// The file was damaged.
    #[error("the image's checksum is wrong")]
    Checksum,
    /// The signature section has another form.
    #[error("the signature section is not one PEM certificate and one signature")]
    Signature,
}

fn kernel_format(architecture: Architecture) -> &'static str {
    match architecture {
        Architecture::Amd64 => "bzImage",
        Architecture::Arm64 => "Image",
    }
}

/// The fields of the header that are read; big-endian in the file.
struct Header {
    architecture: Architecture,
    sections: usize,
    offsets: [u64; MAX_SECTIONS],
    lens: [u64; MAX_SECTIONS],
    crc: u32,
}

impl Header {
    fn parse(bytes: &[u8; HEADER_LEN]) -> Result<Self, EifError> {
        let u16_at = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        let u32_at = |at: usize| {
            u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let u64_at = |at: usize| u64::from(u32_at(at)) << 32 | u64::from(u32_at(at + 4));

        if !bytes.starts_with(b".eif") {
            return Err(EifError::Magic);
        }
        if u16_at(4) != VERSION {
            return Err(EifError::Version(u16_at(4)));
        }
        let architecture = match u16_at(6) {
            0 => Architecture::Amd64,
            1 => Architecture::Arm64,
            flags => return Err(EifError::Flags(flags)),
        };
        // 8 to 23: default memory and processors, which are overridden when an enclave is started.
        let count = u16_at(26);
        let sections = usize::from(count);
        if !(MIN_SECTIONS..=MAX_SECTIONS).contains(&sections) {
            return Err(EifError::SectionCount(count));
        }
        let offsets = std::array::from_fn(|index| u64_at(OFFSETS_AT + 8 * index));
        let lens = std::array::from_fn(|index| u64_at(LENS_AT + 8 * index));
        let unused = offsets[sections..]
            .iter()
            .chain(&lens[sections..])
            .any(|value| *value != 0);
        if u16_at(24) != 0 || u32_at(CRC_AT - 4) != 0 || unused {
            return Err(EifError::Reserved);
        }
        Ok(Self {
            architecture,
            sections,
            offsets,
            lens,
            crc: u32_at(CRC_AT),
        })
    }
}

/// The kind of a section, with its number in the file.
#[derive(Clone, Copy)]
enum Kind {
    Kernel = 1,
    CommandLine = 2,
    Ramdisk = 3,
    Signature = 4,
    Metadata = 5,
}

impl Kind {
    /// In bytes. Linux takes command lines of 2048 bytes; the others are many times what AWS's
    /// tools write.
    fn max_len(self) -> usize {
        match self {
            Self::Kernel | Self::Ramdisk => Eif::MAX_LEN,
            Self::CommandLine => 2048,
            Self::Signature => 64 << 10,
            Self::Metadata => 1 << 20,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::CommandLine => "command line",
            Self::Ramdisk => "ramdisk",
            Self::Signature => "signature",
            Self::Metadata => "metadata",
        }
    }
}

/// Walks the sections in the order of the file.
struct Sections<'a> {
    bytes: &'a [u8],
    header: &'a Header,
    next: usize,
    position: usize,
}

impl Sections<'_> {
    /// The header counts another section.
    fn more(&self) -> bool {
        self.next < self.header.sections
    }

    /// The kind of the next section, as in the file.
    fn peek(&self) -> Option<u16> {
        let kind = self.bytes.get(self.position..)?.first_chunk()?;
        self.more().then(|| u16::from_be_bytes(*kind))
    }

    fn next_is(&self, kind: Kind) -> bool {
        self.peek() == Some(kind as u16)
    }

    /// The contents of the next section, which has to be of this kind.
    fn take(&mut self, kind: Kind) -> Result<Range<usize>, EifError> {
        let index = self.next;
        if !self.more() {
            return Err(EifError::Missing(kind.name()));
        }
        if u64::try_from(self.position) != Ok(self.header.offsets[index]) {
            return Err(EifError::Gap(index));
        }
        let rest = self.bytes.get(self.position..).ok_or(EifError::Truncated)?;
        let (section, rest) = rest
            .split_first_chunk::<SECTION_HEADER_LEN>()
            .ok_or(EifError::Truncated)?;
        let [kind_0, kind_1, flags_0, flags_1, len @ ..] = *section;

        let found = u16::from_be_bytes([kind_0, kind_1]);
        if found != kind as u16 {
            return Err(EifError::Order { index, found });
        }
        let len = u64::from_be_bytes(len);
        if len != self.header.lens[index] || [flags_0, flags_1] != [0, 0] {
            return Err(EifError::Section(index));
        }
        let len = usize::try_from(len).map_err(|_| EifError::Truncated)?;
        if len > rest.len() {
            return Err(EifError::Truncated);
        }
        if len > kind.max_len() {
            return Err(EifError::SectionLen(index));
        }
        let start = self.position + SECTION_HEADER_LEN;
        self.position = start + len;
        self.next += 1;
        Ok(start..self.position)
    }

    fn finish(self) -> Result<(), EifError> {
        if self.more() {
            let index = self.next;
            return Err(self
                .peek()
                .map_or(EifError::Truncated, |found| EifError::Order {
                    index,
                    found,
                }));
        }
        if self.position == self.bytes.len() {
            Ok(())
        } else {
            Err(EifError::TrailingBytes)
        }
    }
}

const ELF: &[u8] = b"\x7fELF";
const VERSION: u16 = 4;
const MAX_SECTIONS: usize = 32;
/// Kernel, command line, metadata and one ramdisk.
const MIN_SECTIONS: usize = 4;
const OFFSETS_AT: usize = 28;
const LENS_AT: usize = OFFSETS_AT + 8 * MAX_SECTIONS;
const CRC_AT: usize = HEADER_LEN - 4;
const HEADER_LEN: usize = 548;
const SECTION_HEADER_LEN: usize = 12;
