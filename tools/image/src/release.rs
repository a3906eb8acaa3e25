//! A release: the files that the images of all deployments share.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context as _, Result, bail, ensure};
use cloister_contract::Architecture;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::{binary, output, ramdisk};

/// The files that a release is made of.
pub(crate) struct Ingredients<'a> {
    pub(crate) architecture: Architecture,
    pub(crate) kernel: &'a Path,
    pub(crate) kernel_config: &'a Path,
    pub(crate) cmdline: &'a Path,
    pub(crate) init: &'a Path,
    pub(crate) module: Option<&'a Path>,
    pub(crate) bridge: Option<&'a Path>,
    pub(crate) applications: &'a [Application],
}

/// An application, with the name of its images.
#[derive(Clone)]
pub(crate) struct Application {
    name: String,
    path: PathBuf,
}

impl FromStr for Application {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, path) = text.split_once('=').ok_or("NAME=FILE is expected")?;
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if name.is_empty() || [INIT, ramdisk::BRIDGE].contains(&name) || !name.bytes().all(plain) {
            return Err(format!(
                "`{name}` cannot name an application; use lower-case letters, digits and hyphens"
            ));
        }
        Ok(Self {
            name: name.to_owned(),
            path: path.into(),
        })
    }
}

/// A release in its directory, with unchanged files.
pub(crate) struct Release {
    directory: PathBuf,
    record: Record,
}

impl Release {
    /// Makes a release in `directory`; `release.json` is written last.
    pub(crate) fn make(
        ingredients: &Ingredients<'_>,
        inputs: &Path,
        directory: &Path,
    ) -> Result<()> {
        let Ingredients {
            architecture,
            kernel,
            kernel_config,
            cmdline,
            init,
            module,
            bridge,
            applications,
        } = *ingredients;
        let wrong = |path: &Path| format!("{} is not usable", path.display());

        let build = output::read(inputs, MAX_TEXT)?;
        let build = serde_json::from_slice(&build)
            .with_context(|| format!("{} is not a JSON object", inputs.display()))?;
        let kernel_bytes = output::read(kernel, MAX_BINARY)?;
        binary::check_kernel(&kernel_bytes, architecture).with_context(|| wrong(kernel))?;
        let config = output::read(kernel_config, MAX_TEXT)?;
        let line = output::read(cmdline, MAX_COMMAND_LINE)?;
        let line = command_line(&line).with_context(|| wrong(cmdline))?;
        let program = |path: &Path| {
            let bytes = output::read(path, MAX_BINARY)?;
            binary::check_program(&bytes, architecture).with_context(|| wrong(path))?;
            Ok::<_, anyhow::Error>(bytes)
        };
        let init = program(init)?;
        let module = module
            .map(|module| output::read(module, MAX_BINARY))
            .transpose()?;
        let bridge = bridge.map(program).transpose()?;

        let mut binaries = BTreeMap::from([(INIT.to_owned(), FileRecord::of(&init))]);
        binaries.extend(
            module
                .as_deref()
                .map(|module| ("nsm.ko".to_owned(), FileRecord::of(module))),
        );
        binaries.extend(
            bridge
                .as_deref()
                .map(|bridge| (ramdisk::BRIDGE.to_owned(), FileRecord::of(bridge))),
        );
        let mut files = BTreeMap::from([
            (KERNEL.to_owned(), kernel_bytes),
            (KERNEL_CONFIG.to_owned(), config),
            (CMDLINE.to_owned(), line.as_bytes().to_vec()),
            (
                ramdisk_of(INIT),
                ramdisk::init(&init, line.as_bytes(), module.as_deref(), bridge.as_deref())?,
            ),
        ]);
        for Application { name, path } in applications {
            let bytes = program(path)?;
            binaries.insert(name.clone(), FileRecord::of(&bytes));
            if files
                .insert(ramdisk_of(name), ramdisk::application(&bytes)?)
                .is_some()
            {
                bail!("the application `{name}` is given twice");
            }
        }

        output::directory(directory)?;
        for (name, contents) in &files {
            output::write(directory, name, contents)?;
        }
        let files = files
            .iter()
            .map(|(name, contents)| (name.clone(), FileRecord::of(contents)))
            .collect();
        let record = Record {
            format: FORMAT,
            architecture,
            build,
            binaries,
            files,
        };
        output::write(directory, RECORD, &output::json(&record)?)
    }

    /// Opens a release and checks that its files are those that it was made with.
    pub(crate) fn open(directory: &Path) -> Result<Self> {
        let path = directory.join(RECORD);
        let record =
            output::read(&path, MAX_TEXT).context("is this the directory of a release?")?;
        let record: Record = serde_json::from_slice(&record)
            .with_context(|| format!("{} is damaged", path.display()))?;
        ensure!(
            record.format == FORMAT,
            "{} has format {}, not {FORMAT}",
            path.display(),
            record.format
        );
        for (name, file) in &record.files {
            ensure!(
                Path::new(name).components().count() == 1,
                "{} names {name}",
                path.display()
            );
            let path = directory.join(name);
            let found = FileRecord::of(&output::read(&path, MAX_BINARY)?);
            ensure!(
                found == *file,
                "{} is not the file that the release was made with; make it again",
                path.display()
            );
        }
        Ok(Self {
            directory: directory.to_owned(),
            record,
        })
    }

    pub(crate) fn architecture(&self) -> Architecture {
        self.record.architecture
    }

    pub(crate) fn kernel(&self) -> Result<PathBuf> {
        self.file(KERNEL)
    }

    pub(crate) fn command_line(&self) -> Result<String> {
        let path = self.file(CMDLINE)?;
        command_line(&output::read(&path, MAX_COMMAND_LINE)?)
            .with_context(|| format!("{}", path.display()))
    }

    /// The version of the kernel as its configuration names it:
    /// `# Linux/x86 6.12.0 Kernel Configuration`.
    pub(crate) fn kernel_version(&self) -> Result<String> {
        let config = output::read(&self.file(KERNEL_CONFIG)?, MAX_TEXT)?;
        let config = String::from_utf8_lossy(&config);
        let title = config
            .lines()
            .find_map(|line| line.strip_prefix("# Linux/"));
        Ok(title
            .and_then(|title| title.split_whitespace().nth(1))
            .unwrap_or("unknown")
            .to_owned())
    }

    pub(crate) fn init_ramdisk(&self) -> Result<PathBuf> {
        self.file(&ramdisk_of(INIT))
    }

    pub(crate) fn application_ramdisk(&self, name: &str) -> Result<PathBuf> {
        self.file(&ramdisk_of(name))
            .with_context(|| format!("the release has no application `{name}`"))
    }

    /// Everything that images of this release are made of, for `measurements.json`.
    pub(crate) fn inputs(&self) -> Result<Value> {
        let Record {
            build,
            binaries,
            files,
            ..
        } = &self.record;
        Ok(json!({
            "build": build,
            "binaries": binaries,
            "files": files,
            "command_line": self.command_line()?,
        }))
    }

    fn file(&self, name: &str) -> Result<PathBuf> {
        ensure!(
            self.record.files.contains_key(name),
            "{} has no {name}",
            self.directory.display()
        );
        Ok(self.directory.join(name))
    }
}

/// `release.json`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    format: u32,
    architecture: Architecture,
    /// Versions of sources and compilers, as given by the maker.
    build: Map<String, Value>,
    /// The programs in the ramdisks.
    binaries: BTreeMap<String, FileRecord>,
    /// The files of the directory.
    files: BTreeMap<String, FileRecord>,
}

#[derive(PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileRecord {
    size: usize,
    sha256: String,
}

impl FileRecord {
    fn of(contents: &[u8]) -> Self {
        Self {
            size: contents.len(),
            sha256: output::sha256(contents),
        }
    }
}

/// One line of printable ASCII, its line break taken off.
fn command_line(bytes: &[u8]) -> Result<String> {
    let line = str::from_utf8(bytes).unwrap_or_default().trim_end();
    let printable = !line.is_empty() && line.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    ensure!(printable, "a command line is one line of printable ASCII");
    Ok(line.to_owned())
}

fn ramdisk_of(name: &str) -> String {
    format!("{name}.cpio.gz")
}

const FORMAT: u32 = 1;
const RECORD: &str = "release.json";
const KERNEL: &str = "kernel";
const KERNEL_CONFIG: &str = "kernel.config";
const CMDLINE: &str = "cmdline";
const INIT: &str = "init";
/// Bytes. Linux takes no longer command line.
const MAX_COMMAND_LINE: u64 = 2048;
const MAX_TEXT: u64 = 1 << 20;
const MAX_BINARY: u64 = 256 << 20;
