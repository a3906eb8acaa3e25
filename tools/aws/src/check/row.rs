//! A claim that only AWS or Nitro hardware can show, and the commands that show it.

/// A line of `docs/hardware-checked.md`.
#[derive(Debug)]
pub(crate) struct Row {
    /// Stable: the page's lines and `--row` are named by it.
    pub(crate) id: &'static str,
    pub(crate) table: Table,
    /// Markdown.
    pub(crate) claim: &'static str,
    /// Markdown.
    pub(crate) expected: &'static str,
    pub(crate) check: Check,
}

/// A table of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Table {
    Enclaves,
    Machines,
    Key,
    Api,
    Monitoring,
    Lifetime,
}

impl Table {
    pub(crate) const ALL: [Self; 6] = [
        Self::Enclaves,
        Self::Machines,
        Self::Key,
        Self::Api,
        Self::Monitoring,
        Self::Lifetime,
    ];

    /// Its name in the page's markers.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Enclaves => "enclaves",
            Self::Machines => "machines",
            Self::Key => "key",
            Self::Api => "api",
            Self::Monitoring => "monitoring",
            Self::Lifetime => "lifetime",
        }
    }
}

/// The kind of a row.
#[derive(Debug)]
pub(crate) enum Check {
    /// Changes nothing, but for the wallet keys and the test notification that it says it makes.
    Run(&'static [Step]),
    /// Changes a throw-away deployment, and puts it back.
    Destructive {
        steps: &'static [Step],
        /// Runs in any case, after success, failure or an interruption, once something was changed, or
        /// was not denied.
        restore: &'static [Step],
    },
    /// Needs a console, other images, or an instance outside of the deployment. Markdown.
    ByHand(&'static str),
}

/// A part of a check. Commands are lines of a shell without pipes, lists or substitutions; `<<<` gives
/// a program its standard input.
#[derive(Debug)]
pub(crate) enum Step {
    /// Runs a command and judges its output.
    Expect(&'static str, Outcome),
    /// Runs a command that changes something, which the row's `restore` puts back.
    Change(&'static str),
    /// Repeats a command until its output is as expected, for some minutes.
    Until(u64, &'static str, Outcome),
    /// Keeps the output as a variable: a text, or a list of texts separated by spaces.
    Let(&'static str, &'static str),
    /// The same, of one member of the object that the command prints.
    LetMember(&'static str, &'static str, &'static str),
    /// The same, behind what the variable already has.
    Append(&'static str, &'static str),
    /// The same. Without an output the row does not apply to this deployment.
    If(&'static str, &'static str),
    /// The same, of a script on the first machine that prints something.
    LetMachines(&'static str, &'static str),
    /// A script on every machine. Its exit status is the verdict and its output the evidence; without
    /// output a machine has nothing to check.
    Machines(&'static str),
    /// The same on `$MACHINE`, repeated until it succeeds, for some minutes. It may change something.
    Machine(u64, &'static str),
    /// Steps for each element of a list, all of which have to hold.
    Each(&'static str, &'static str, &'static [Step]),
    /// The remaining steps run as a role.
    As(&'static str),
    /// The remaining steps run with the operator's own credentials again.
    AsOperator,
    /// A command that runs beside the following steps.
    Beside(&'static str),
    /// Waits for that command, which has to succeed.
    Finished,
}

impl Step {
    /// Its command, if it has one; scripts on machines are none.
    pub(crate) fn line(&self) -> Option<&'static str> {
        match self {
            Self::Expect(line, _)
            | Self::Change(line)
            | Self::Until(_, line, _)
            | Self::Let(_, line)
            | Self::LetMember(_, _, line)
            | Self::Append(_, line)
            | Self::If(_, line)
            | Self::Beside(line) => Some(line),
            _ => None,
        }
    }
}

/// An expectation of a command.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Outcome {
    /// It succeeds.
    Succeeds,
    /// It prints this, variables replaced.
    Is(&'static str),
    /// It prints something other than nothing, `null`, `""`, `[]` and `{}`.
    Something,
    /// It prints one of these.
    Nothing,
    /// It prints this among others, variables replaced.
    Contains(&'static str),
    /// It prints a number of at least this.
    AtLeast(u64),
    /// It prints a list that is not empty and has no other elements.
    All(&'static str),
    /// AWS denies it. The text names the policy that has to be the cause, in AWS's words; a denial for
    /// another cause says nothing about it.
    Denied(&'static str),
    /// AWS refuses it with this code.
    Refused(&'static str),
    /// The program ends with this status and prints this text.
    Ends(i32, &'static str),
}
