//! External commands: shown as lines that can be pasted into a shell in the repository's root, and
//! run, or only listed.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use cloister_toolchain::cargo::workspace_root;
use cloister_toolchain::command;
use cloister_toolchain::node::Node;
use fs_err as fs;

use crate::error::{Error, of_aws};

/// Runs commands, or lists them.
#[derive(Debug)]
pub struct Commands {
    /// `--dry-run`: the lines so far, of which none was run.
    listing: Option<Mutex<String>>,
    /// Set for every command, beside this process's own environment.
    environment: BTreeMap<String, String>,
    /// The repository, in which every line runs.
    root: PathBuf,
    /// Programs in place of the usual ones, by their names in a line.
    programs: BTreeMap<&'static str, PathBuf>,
    /// Between two looks at something that takes its time.
    pub pause: Duration,
}

impl Commands {
    /// Commands that run.
    pub fn new(environment: BTreeMap<String, String>) -> Self {
        Self {
            listing: None,
            environment,
            root: workspace_root().to_owned(),
            programs: BTreeMap::new(),
            pause: Duration::from_secs(10),
        }
    }

    /// Commands that are listed only.
    pub fn dry(environment: BTreeMap<String, String>) -> Self {
        let mut listing = String::new();
        for (name, value) in &environment {
            listing.push_str(&format!("export {name}={}\n", quoted(value)));
        }
        Self {
            listing: Some(Mutex::new(listing)),
            ..Self::new(environment)
        }
    }

    /// Runs in another directory, with other programs in the place of `npx`, `npm` or `cargo`: for
    /// tests.
    #[must_use]
    pub fn within(mut self, root: PathBuf, programs: BTreeMap<&'static str, PathBuf>) -> Self {
        self.root = root;
        self.programs = programs;
        self
    }

    /// A path of the repository.
    pub(crate) fn path(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.root.join(relative)
    }

    /// True if another program takes the place of `name`.
    pub(crate) fn replaces(&self, name: &str) -> bool {
        self.programs.contains_key(name)
    }

    /// Installs the CDK and its libraries, unless they are there.
    ///
    /// # Errors
    /// If npm fails.
    pub(crate) fn install_cdk(&self) -> Result<()> {
        if self.is_dry() || self.replaces("npm") {
            let line = Line::new(["npm", "ci", "--ignore-scripts"]).within("cdk");
            return self.run(&line, "installing the CDK");
        }
        Node::find()?.install(&self.path("cdk"))
    }

    /// True if commands are listed only. A value that a command would give is unknown then.
    pub fn is_dry(&self) -> bool {
        self.listing.is_some()
    }

    /// The lines of a dry run.
    pub fn listing(&self) -> String {
        self.listing.as_ref().map_or_else(String::new, |listing| {
            listing
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone()
        })
    }

    /// A comment among the lines of a dry run; a line of progress otherwise.
    pub fn say(&self, text: &str) {
        if !self.list(&format!("\n# {text}")) {
            eprintln!("{text}");
        }
    }

    /// Runs a command that may change something; it and its output are shown. `what` is repeated
    /// with the elapsed time while it takes long.
    ///
    /// # Errors
    /// If it does not succeed.
    pub fn run(&self, line: &Line, what: &str) -> Result<()> {
        if self.list(&line.to_string()) {
            return Ok(());
        }
        eprintln!("  {line}");
        let mut command = self.command(line)?;
        if let Some(file) = &line.file {
            let file = self.path(file);
            fs::create_dir_all(file.parent().unwrap_or(&self.root))?;
            // Not half written, if the command fails.
            let output = self.finished(command.stderr(Stdio::inherit()), line)?;
            fs::write(file, output.stdout)?;
            return Ok(());
        }
        let status = ticking(what, || command.status());
        let status = status.with_context(|| format!("failed to run {}", line.program()))?;
        if status.success() {
            return Ok(());
        }
        Err(Error::Command {
            command: line.to_string(),
            status: status.to_string(),
        }
        .into())
    }

    /// Runs a command of `aws` that changes something, and shows it, but not its output.
    ///
    /// # Errors
    /// If it does not succeed.
    pub fn change(&self, line: &Line) -> Result<()> {
        if !self.is_dry() {
            eprintln!("  {line}");
        }
        self.read(line).map(drop)
    }

    /// Runs a command with the session that another one prints as `export NAME=value …`. The
    /// session stays within a shell.
    ///
    /// # Errors
    /// If one of them does not succeed.
    pub fn run_as(&self, session: &Line, line: &Line) -> Result<()> {
        // An `eval` of nothing would succeed, and the line run with the caller's own session.
        let script = format!("(SESSION=$({session}) && eval \"$SESSION\" && {line})");
        if self.list(&script) {
            return Ok(());
        }
        eprintln!("  {script}");
        let exports = self.read(session)?.unwrap_or_default();
        let mut command = self.command(line)?;
        for export in exports.split_whitespace() {
            if let Some((name, value)) = export.split_once('=') {
                command.env(name, value);
            }
        }
        self.finished(&mut command, line).map(drop)
    }

    /// Runs two commands with the left one's output as the right one's input, which is shown
    /// nowhere.
    ///
    /// # Errors
    /// If one of them does not succeed.
    pub fn pipe(&self, left: &Line, right: &Line) -> Result<()> {
        let script = format!("{left} | {right}");
        if self.list(&script) {
            return Ok(());
        }
        eprintln!("  {script}");
        let mut right = self.command(right)?;
        command::pipe(
            &mut self.command(left)?,
            right.stdout(Stdio::null()).stderr(Stdio::inherit()),
        )
    }

    /// The standard output of a command that changes nothing; `None` in a dry run.
    ///
    /// # Errors
    /// If it does not succeed.
    pub fn read(&self, line: &Line) -> Result<Option<String>> {
        if self.list(&line.to_string()) {
            return Ok(None);
        }
        self.output(line).map(Some)
    }

    /// The output of a command as a value for later lines: in a dry run a variable of the shell.
    ///
    /// # Errors
    /// If it does not succeed.
    pub fn value(&self, variable: &str, line: &Line) -> Result<String> {
        if self.list(&format!("{variable}=$({line})")) {
            return Ok(format!("${variable}"));
        }
        self.output(line)
    }

    /// A variable for every later command, from the line `printed=VALUE` of a command's output.
    ///
    /// # Errors
    /// If the command does not succeed or prints no such line.
    pub fn export(&mut self, variable: &str, line: &Line, printed: &str) -> Result<()> {
        if self.list(&format!(
            "export {variable}=\"$({line} | sed -n 's/^{printed}=//p')\""
        )) {
            return Ok(());
        }
        eprintln!("  {line}");
        let mut command = self.command(line)?;
        let output = self.finished(command.stderr(Stdio::inherit()), line)?;
        let text = String::from_utf8_lossy(&output.stdout);
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix(printed)?.strip_prefix('='))
            .ok_or_else(|| anyhow!("{line} did not print {printed}=…"))?;
        self.environment
            .insert(variable.to_owned(), value.to_owned());
        Ok(())
    }

    /// Notes a line of a dry run; false in any other.
    pub(crate) fn list(&self, line: &str) -> bool {
        let Some(listing) = &self.listing else {
            return false;
        };
        let mut listing = listing.lock().unwrap_or_else(PoisonError::into_inner);
        listing.push_str(line);
        listing.push('\n');
        true
    }

    fn output(&self, line: &Line) -> Result<String> {
        let output = self.finished(&mut self.command(line)?, line)?;
        let text = String::from_utf8(output.stdout).context("the output is not UTF-8")?;
        Ok(text.trim().to_owned())
    }

    fn finished(&self, command: &mut Command, line: &Line) -> Result<Output> {
        let output = command
            .stdin(Stdio::inherit())
            .stdout(Stdio::piped())
            .spawn()
            .and_then(std::process::Child::wait_with_output)
            .with_context(|| format!("failed to run {}", line.program()))?;
        if output.status.success() {
            return Ok(output);
        }
        let stderr = String::from_utf8_lossy(&output.stderr);
        if line.program() == "aws" {
            return Err(of_aws(&line.words, &stderr).into());
        }
        let _ = std::io::stderr().write_all(&output.stderr);
        Err(Error::Command {
            command: line.to_string(),
            status: output.status.to_string(),
        }
        .into())
    }

    /// The process of a line.
    pub(crate) fn command(&self, line: &Line) -> Result<Command> {
        let (program, arguments) = (line.program(), &line.words[1..]);
        let mut command = match (self.programs.get(program), program) {
            (Some(other), _) => Command::new(other),
            (None, "aws") => cloister_toolchain::aws::command()?,
            (None, "npm") => Node::find()?.npm()?,
            (None, "npx") => {
                let mut command = Node::find()?.node()?;
                command.arg("node_modules/aws-cdk/bin/cdk");
                command
            }
            (None, "cargo") => cloister_toolchain::cargo::cargo(),
            (None, other) => Command::new(other),
        };
        // `npx cdk`: the program is the CDK itself.
        let skipped = usize::from(program == "npx" && !self.programs.contains_key("npx"));
        command.args(&arguments[skipped..]);
        command.current_dir(self.path(line.directory));
        if program == "aws" {
            command.stderr(Stdio::piped());
        }
        for (name, value) in DEFAULTS {
            if std::env::var_os(name).is_none() {
                command.env(name, value);
            }
        }
        command.envs(&self.environment);
        Ok(command)
    }
}

/// Repeats `what` with the elapsed time on standard error, once a minute.
fn ticking<T>(what: &str, body: impl FnOnce() -> T) -> T {
    let began = Instant::now();
    thread::scope(|scope| {
        let (ended, end) = channel::<()>();
        scope.spawn(move || {
            while end.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
                eprintln!("  … {what}, {} so far", elapsed(began));
            }
        });
        let value = body();
        drop(ended);
        value
    })
}

/// Such as `12 min 5 s`.
pub fn elapsed(since: Instant) -> String {
    let seconds = since.elapsed().as_secs();
    match seconds / 60 {
        0 => format!("{seconds} s"),
        minutes => format!("{minutes} min {} s", seconds % 60),
    }
}

/// A command as it would be typed in the repository's root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    directory: &'static str,
    words: Vec<String>,
    file: Option<String>,
}

impl Line {
    /// A program and its arguments.
    pub fn new<W: Into<String>>(words: impl IntoIterator<Item = W>) -> Self {
        Self {
            directory: "",
            words: words.into_iter().map(Into::into).collect(),
            file: None,
        }
    }

    /// `aws`; its answers are JSON.
    pub fn aws<W: Into<String>>(words: impl IntoIterator<Item = W>) -> Self {
        Self::new(["aws"]).args(words)
    }

    /// `npx cdk`.
    pub fn cdk<W: Into<String>>(words: impl IntoIterator<Item = W>) -> Self {
        Self::new(["npx", "cdk"]).args(words).within("cdk")
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<W: Into<String>>(mut self, words: impl IntoIterator<Item = W>) -> Self {
        self.words.extend(words.into_iter().map(Into::into));
        self
    }

    /// Runs in this directory of the repository.
    #[must_use]
    pub fn within(mut self, directory: &'static str) -> Self {
        self.directory = directory;
        self
    }

    /// Writes the standard output to a file of the repository.
    #[must_use]
    pub fn into_file(mut self, file: &str) -> Self {
        self.file = Some(file.to_owned());
        self
    }

    fn program(&self) -> &str {
        self.words.first().map_or("", String::as_str)
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<_> = self.words.iter().map(|word| quoted(word)).collect();
        let words = words.join(" ");
        if let Some((directory, _)) = self.file.as_ref().and_then(|file| file.rsplit_once('/')) {
            write!(f, "mkdir -p {directory} && ")?;
        }
        match self.directory {
            "" => f.write_str(&words)?,
            directory => write!(f, "(cd {directory} && {words})")?,
        }
        match &self.file {
            Some(file) => write!(f, " > {file}"),
            None => Ok(()),
        }
    }
}

/// A word as a shell reads it. A variable of the shell stays one.
pub fn quoted(word: &str) -> String {
    let plain =
        |character: char| character.is_ascii_alphanumeric() || "_./:@%+=,-".contains(character);
    let variable = word.strip_prefix('$').is_some_and(|name| {
        !name.is_empty() && name.chars().all(|c| c.is_ascii_uppercase() || c == '_')
    });
    if variable {
        format!("\"{word}\"")
    } else if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else if word.contains('\'') && !word.contains(['"', '$', '`', '\\', '!']) {
        format!("\"{word}\"")
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

const TICK: Duration = Duration::from_secs(60);

/// Unless the user has set them: patient retries with jitter, no pager, no metrics.
const DEFAULTS: &[(&str, &str)] = &[
    ("AWS_RETRY_MODE", "adaptive"),
    ("AWS_MAX_ATTEMPTS", "10"),
    ("AWS_PAGER", ""),
    ("AWS_CLI_AUTO_PROMPT", "off"),
    ("CDK_DISABLE_CLI_TELEMETRY", "true"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_every_word_back() {
        for word in [
            "",
            "a b",
            "it's",
            "$(id)",
            "$HOME/x",
            "`id`",
            "a\\b",
            "é;&|",
            "Stacks[0]",
        ] {
            let script = format!("printf %s {}", quoted(word));
            let output = Command::new("sh").args(["-c", &script]).output().unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), word);
        }
        assert_eq!(quoted("dev-cloister-base"), "dev-cloister-base");
        assert_eq!(quoted("$KEY_ID"), "\"$KEY_ID\"");
    }

    #[test]
    fn a_dry_run_starts_nothing() {
        let mut commands = Commands::dry(BTreeMap::from([("A".to_owned(), "b c".to_owned())]));
        let missing = Line::new(["/nonexistent", "x y"]);
        commands
            .run(&missing.clone().within("cdk").into_file("f"), "")
            .unwrap();
        assert_eq!(commands.read(&missing).unwrap(), None);
        assert_eq!(commands.value("KEY_ID", &missing).unwrap(), "$KEY_ID");
        commands.export("B", &missing, "A").unwrap();
        assert_eq!(
            commands.listing(),
            "export A='b c'\n(cd cdk && /nonexistent 'x y') > f\n/nonexistent 'x y'\n\
             KEY_ID=$(/nonexistent 'x y')\nexport B=\"$(/nonexistent 'x y' | sed -n 's/^A=//p')\"\n"
        );
    }
}
