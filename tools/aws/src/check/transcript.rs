//! The commands of a run, as lines of a shell.

use std::fmt::Write as _;

use crate::check::row::{Check, Outcome, Row, Step};
use crate::check::runner::{RECEIVE, SEND, commands};
use crate::commands::quoted;

/// The commands of rows, to be pasted behind the lines that set their variables.
pub(crate) fn transcript<'a>(rows: impl Iterator<Item = &'a Row>) -> String {
    let mut text = String::new();
    for row in rows {
        let _ = write!(text, "\n# {}: {}\n", row.id, row.claim);
        match &row.check {
            Check::ByHand(how) => {
                let _ = writeln!(text, "# by hand: {how}");
            }
            Check::Run(steps) => write_steps(&mut text, steps, ""),
            Check::Destructive { steps, restore } => {
                write_steps(&mut text, steps, "");
                if !restore.is_empty() {
                    text.push_str("# restored in any case:\n");
                    write_steps(&mut text, restore, "");
                }
            }
        }
        let _ = writeln!(text, "# expected: {}", row.expected);
    }
    text
}

fn write_steps(text: &mut String, steps: &[Step], indent: &str) {
    for step in steps {
        let _ = match step {
            Step::Expect(line, outcome) => {
                writeln!(
                    text,
                    "{indent}{}    # {}",
                    flat(line),
                    expectation(*outcome)
                )
            }
            Step::Change(line) => writeln!(text, "{indent}{}", flat(line)),
            Step::Until(minutes, line, outcome) => writeln!(
                text,
                "{indent}{}    # {}, within {minutes} min",
                flat(line),
                expectation(*outcome)
            ),
            Step::Let(name, line) | Step::If(name, line) => {
                writeln!(text, "{indent}{name}=$({} --output text)", flat(line))
            }
            Step::LetMember(name, member, line) => writeln!(
                text,
                "{indent}{name}=$({} | sed -n 's/.*\"{member}\": *\"\\([^\"]*\\)\".*/\\1/p')",
                flat(line)
            ),
            Step::Append(name, line) => {
                writeln!(
                    text,
                    "{indent}{name}=\"${name} $({} --output text)\"",
                    flat(line)
                )
            }
            Step::LetMachines(name, script) => {
                let _ = writeln!(text, "{indent}# on a machine with an output:");
                write_script(text, script, indent, Some(name));
                Ok(())
            }
            Step::Machines(script) => {
                let _ = writeln!(text, "{indent}for MACHINE in $MACHINES; do");
                write_script(text, script, &format!("{indent}  "), None);
                writeln!(text, "{indent}done")
            }
            Step::Machine(minutes, script) => {
                if *minutes > 0 {
                    let _ = writeln!(text, "{indent}# until it succeeds, within {minutes} min:");
                }
                write_script(text, script, indent, None);
                Ok(())
            }
            Step::Each(name, list, steps) => {
                let _ = writeln!(text, "{indent}for {name} in {list}; do");
                write_steps(text, steps, &format!("{indent}  "));
                writeln!(text, "{indent}done")
            }
            Step::As(role) => writeln!(text, "{indent}assume {role}"),
            Step::AsOperator => writeln!(text, "{indent}as_operator"),
            Step::Beside(line) => writeln!(text, "{indent}{} &", flat(line)),
            Step::Finished => writeln!(text, "{indent}wait $!    # success"),
        };
    }
}

fn write_script(text: &mut String, script: &str, indent: &str, name: Option<&str>) {
    // Variables of the run are the shell's; those of the script are the machine's.
    let parameters = quoted(&commands(script));
    let mut parameters = parameters.as_str();
    let mut filled = String::new();
    while let Some(at) = parameters.find('$') {
        let name = parameters[at + 1..].trim_start_matches('{');
        let end = name
            .find(|c: char| !c.is_ascii_uppercase() && c != '_')
            .unwrap_or(0);
        filled.push_str(&parameters[..at]);
        let braces = parameters[at + 1..].starts_with('{');
        let length = 1 + end + if braces { 2 } else { 0 };
        if end > 0 {
            let _ = write!(filled, "'\"${}\"'", &name[..end]);
            parameters = &parameters[at + length..];
        } else {
            filled.push('$');
            parameters = &parameters[at + 1..];
        }
    }
    filled.push_str(parameters);
    let send = SEND.replace("$COMMANDS", &filled);
    let _ = writeln!(text, "{indent}COMMAND=$({} --output text)", flat(&send));
    let _ = writeln!(
        text,
        "{indent}aws ssm wait command-executed --command-id $COMMAND --instance-id $MACHINE"
    );
    let _ = match name {
        None => writeln!(text, "{indent}{}    # Success", flat(RECEIVE)),
        Some(name) => writeln!(
            text,
            "{indent}{name}=$(aws ssm get-command-invocation --command-id $COMMAND --instance-id $MACHINE \
             --query StandardOutputContent --output text)"
        ),
    };
}

fn flat(line: &str) -> String {
    let parts = line.split('\n').map(str::trim);
    let line = parts.collect::<Vec<_>>().join(" ");
    match line.starts_with("npx ") {
        true => format!("(cd cdk && {line})"),
        false => line,
    }
}

fn expectation(outcome: Outcome) -> String {
    match outcome {
        Outcome::Succeeds => "succeeds".into(),
        Outcome::Is(text) => text.to_owned(),
        Outcome::Something => "something".into(),
        Outcome::Nothing => "nothing".into(),
        Outcome::Contains(text) => format!("contains {text}"),
        Outcome::AtLeast(least) => format!("at least {least}"),
        Outcome::All(text) => format!("all are {text}"),
        Outcome::Denied(policy) => format!("denied by a {policy}"),
        Outcome::Refused(code) => format!("refused with {code}"),
        Outcome::Ends(status, "") => format!("exit code {status}"),
        Outcome::Ends(status, text) => format!("exit code {status}, {text}"),
    }
}
