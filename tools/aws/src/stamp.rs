//! Files that state from which inputs an artefact was built, so that it is not built again.

use std::path::PathBuf;

use anyhow::Result;
use cloister_toolchain::cargo::workspace_root;
use cloister_toolchain::{sha256, sha256_of_file, sha256_of_tree};
use fs_err as fs;

/// An artefact of the target directory.
#[derive(Debug)]
pub(crate) struct Stamp {
    name: &'static str,
    inputs: String,
    /// A file of the artefact, relative to the root.
    output: PathBuf,
}

impl Stamp {
    /// `inputs` are files and directories of the repository, `others` any other text.
    pub(crate) fn new(
        name: &'static str,
        inputs: &[&str],
        others: &[&str],
        output: &str,
    ) -> Result<Self> {
        let mut text = String::new();
        for input in inputs {
            let path = workspace_root().join(input);
            let hashes = match path.is_dir() {
                true => sha256_of_tree(&path)?,
                false => [(String::new(), sha256_of_file(&path)?)].into(),
            };
            for (file, hash) in hashes {
                text.push_str(&format!("{input}/{file} {hash}\n"));
            }
        }
        text.push_str(&others.join("\n"));
        Ok(Self {
            name,
            inputs: sha256(text.as_bytes()),
            output: workspace_root().join(output),
        })
    }

    /// True if the artefact is there, unchanged, and of these inputs.
    pub(crate) fn is_current(&self) -> bool {
        let current = self.content().ok();
        current.is_some() && fs::read_to_string(self.path()).ok() == current
    }

    /// Notes that the artefact was built.
    pub(crate) fn write(&self) -> Result<()> {
        let path = self.path();
        fs::create_dir_all(path.parent().unwrap_or(&path))?;
        Ok(fs::write(path, self.content()?)?)
    }

    fn content(&self) -> Result<String> {
        Ok(format!(
            "{} {}\n",
            self.inputs,
            sha256_of_file(&self.output)?
        ))
    }

    fn path(&self) -> PathBuf {
        workspace_root()
            .join("target/aws")
            .join(format!("{}.stamp", self.name))
    }
}
