//! Files that state from which inputs an artefact was built, so that it is not built again.

use std::path::PathBuf;

use anyhow::Result;
use cloister_toolchain::{sha256, sha256_of_file, sha256_of_tree};
use fs_err as fs;

use crate::commands::Commands;

/// An artefact of the target directory.
#[derive(Debug)]
pub(crate) struct Stamp {
    file: PathBuf,
    inputs: String,
    /// A file of the artefact, relative to the root.
    output: PathBuf,
}

impl Stamp {
    /// `inputs` are files and directories of the repository.
    pub(crate) fn new(
        commands: &Commands,
        name: &str,
        inputs: &[String],
        command: &str,
        output: &str,
    ) -> Result<Self> {
        let mut text = String::new();
        for input in inputs {
            let path = commands.path(input);
            let hashes = match path.is_dir() {
                true => sha256_of_tree(&path)?,
                false => [(String::new(), sha256_of_file(&path)?)].into(),
            };
            for (file, hash) in hashes {
                text.push_str(&format!("{input}/{file} {hash}\n"));
            }
        }
        text.push_str(command);
        Ok(Self {
            file: commands.path(format!("target/aws/{name}.stamp")),
            inputs: sha256(text.as_bytes()),
            output: commands.path(output),
        })
    }

    /// True if the artefact is there, unchanged, and of these inputs.
    pub(crate) fn is_current(&self) -> bool {
        let current = self.content().ok();
        current.is_some() && fs::read_to_string(&self.file).ok() == current
    }

    /// Notes that the artefact was built.
    pub(crate) fn write(&self) -> Result<()> {
        fs::create_dir_all(self.file.parent().unwrap_or(&self.file))?;
        Ok(fs::write(&self.file, self.content()?)?)
    }

    fn content(&self) -> Result<String> {
        let output = sha256_of_file(&self.output)?;
        Ok(format!("{} {output}\n", self.inputs))
    }
}
