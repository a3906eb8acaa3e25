//! Runs rows.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};
use serde_json::{Value, json};

use crate::check::judge::{Verdict, absent, judge, text};
use crate::check::line::{Variables, filled, words};
use crate::check::programs::{Call, Done, Programs};
use crate::check::row::{Check, Outcome, Row, Step};
use crate::error::{Error, of_aws};

/// Variables of the environment.
type Environment = BTreeMap<String, String>;

/// Runs rows against one deployment.
pub(crate) struct Runner {
    pub(crate) programs: Arc<dyn Programs>,
    /// Of every row.
    pub(crate) variables: Variables,
    /// Of every command.
    pub(crate) environment: Environment,
    /// The operator's credentials, for programs other than `aws`.
    pub(crate) credentials: Environment,
    /// Between two attempts.
    pub(crate) pause: Duration,
    /// Set by the operator's interruption.
    pub(crate) interrupted: Arc<AtomicBool>,
}

/// The state of a row that runs.
struct State {
    variables: Variables,
    /// Credentials of the role that the steps run as.
    role: Option<Environment>,
    beside: Option<JoinHandle<Result<Done>>>,
    /// Steps put something back: an interruption does not stop them.
    firm: bool,
    /// There is something to put back.
    changed: bool,
}

impl Runner {
    /// The verdict on a row.
    ///
    /// # Errors
    /// If no other row can be checked either: without valid credentials, or after an interruption.
    /// Whatever the row changed has been put back.
    pub(crate) fn check(&self, row: &Row) -> Result<Verdict> {
        match &row.check {
            Check::ByHand(_) => Ok(Verdict::NotChecked("it is checked by hand".into())),
            Check::Run(steps) => self.steps(steps, &mut self.state(false)),
            Check::Destructive { steps, restore } => {
                let mut state = self.state(false);
                let verdict = self.steps(steps, &mut state);
                if !state.changed {
                    return verdict;
                }
                // What the steps have found is needed to put things back.
                let mut restoring = State {
                    variables: state.variables,
                    ..self.state(true)
                };
                match self.steps(restore, &mut restoring) {
                    Ok(Verdict::Held(_)) => verdict,
                    Ok(Verdict::NotHeld(seen) | Verdict::NotChecked(seen)) => {
                        Err(not_restored(row, &seen))
                    }
                    Ok(Verdict::NotApplicable(reason)) => Err(not_restored(row, &reason)),
                    Err(error) => Err(not_restored(row, &error.to_string())),
                }
            }
        }
    }

    fn state(&self, firm: bool) -> State {
        State {
            variables: self.variables.clone(),
            role: None,
            beside: None,
            firm,
            changed: false,
        }
    }

    /// All steps have to hold. The verdict has what the last one saw.
    fn steps(&self, steps: &[Step], state: &mut State) -> Result<Verdict> {
        let mut seen = String::new();
        for step in steps {
            match self.step(step, state)? {
                Verdict::Held(text) if text.is_empty() => {}
                Verdict::Held(text) => seen = text,
                other => return Ok(other),
            }
        }
        Ok(Verdict::Held(seen))
    }

    fn step(&self, step: &Step, state: &mut State) -> Result<Verdict> {
        let nothing = Verdict::Held(String::new());
        match step {
            Step::Expect(line, outcome) => {
                let verdict = self.expect(line, *outcome, state)?;
                // What should have been denied has happened.
                let denies = matches!(outcome, Outcome::Denied(_) | Outcome::Refused(_));
                state.changed |= denies && matches!(verdict, Verdict::NotHeld(_));
                Ok(verdict)
            }
            Step::Change(line) => {
                self.go_on(state.firm)?;
                state.changed = true;
                self.expect(line, Outcome::Succeeds, state)
            }
            Step::Until(minutes, line, outcome) => {
                self.until(*minutes, state, |state| self.expect(line, *outcome, state))
            }
            Step::Let(name, line) => self.bind(name, (line, None), Verdict::NotChecked, state),
            Step::LetMember(name, member, line) => {
                self.bind(name, (line, Some(member)), Verdict::NotChecked, state)
            }
            Step::If(name, line) => self.bind(name, (line, None), Verdict::NotApplicable, state),
            Step::Append(name, line) => {
                let before = state.variables.get(*name).cloned().unwrap_or_default();
                let verdict = self.bind(name, (line, None), Verdict::NotChecked, state)?;
                if let Some(value) = state.variables.get_mut(*name).filter(|_| verdict.held()) {
                    *value = format!("{before} {value}").trim().to_owned();
                }
                Ok(verdict)
            }
            Step::LetMachines(name, script) => self.first_machine(name, script, state),
            Step::Machines(script) => self.on_machines("$MACHINES", script, state),
            Step::Machine(minutes, script) => {
                self.go_on(state.firm)?;
                state.changed |= state.variables.contains_key("MACHINE");
                self.until(*minutes, state, |state| {
                    self.on_machines("$MACHINE", script, state)
                })
            }
            Step::Each(name, list, steps) => {
                let list = match filled(list, &state.variables) {
                    Ok(list) => list,
                    Err(name) => return Ok(unknown(&name, &state.variables)),
                };
                let mut seen = Verdict::NotChecked(format!("{name}: there is none"));
                for element in list.split_whitespace() {
                    state
                        .variables
                        .insert((*name).to_owned(), element.to_owned());
                    seen = self.steps(steps, state)?;
                    if !seen.held() {
                        break;
                    }
                }
                Ok(seen)
            }
            Step::As(role) => self.assume(role, state),
            Step::AsOperator => {
                state.role = None;
                Ok(nothing)
            }
            Step::Beside(line) => {
                let call = match self.command(line, state) {
                    Ok(call) => call,
                    Err(verdict) => return Ok(verdict),
                };
                let programs = Arc::clone(&self.programs);
                state.beside = Some(thread::spawn(move || programs.call(&call)));
                Ok(nothing)
            }
            Step::Finished => {
                let beside = state.beside.take().map(JoinHandle::join);
                let done = beside.ok_or_else(|| anyhow!("nothing runs beside"))?;
                let done = done.map_err(|_| anyhow!("a thread panicked"))??;
                Ok(judge(Outcome::Succeeds, "", &done, None, &state.variables))
            }
        }
    }

    fn expect(&self, line: &str, outcome: Outcome, state: &mut State) -> Result<Verdict> {
        let mut call = match self.command(line, state) {
            Ok(call) => call,
            Err(verdict) => return Ok(verdict),
        };
        // What has to be denied may be allowed: it ends before an interruption is heard.
        self.go_on(state.firm)?;
        call.firm |= matches!(outcome, Outcome::Denied(_) | Outcome::Refused(_));
        let (done, error) = self.call(&call)?;
        Ok(judge(
            outcome,
            call.program(),
            &done,
            error.as_ref(),
            &state.variables,
        ))
    }

    /// Repeats an attempt until it holds, for some minutes.
    fn until(
        &self,
        minutes: u64,
        state: &mut State,
        mut attempt: impl FnMut(&mut State) -> Result<Verdict>,
    ) -> Result<Verdict> {
        let limit = self.pause * u32::try_from(minutes * 60 / PAUSE.as_secs()).unwrap_or(u32::MAX);
        let began = Instant::now();
        loop {
            let verdict = attempt(state)?;
            if verdict.held() || began.elapsed() >= limit {
                return Ok(verdict);
            }
            self.wait(state.firm)?;
        }
    }

    /// The output of a command as a value; nothing if there is none, or what AWS does not know.
    fn value(
        &self,
        line: &str,
        member: Option<&str>,
        state: &State,
    ) -> Result<std::result::Result<Option<String>, Verdict>> {
        let call = match self.command(line, state) {
            Ok(call) => call,
            Err(verdict) => return Ok(Err(verdict)),
        };
        let (done, error) = self.call(&call)?;
        match error {
            Some(error) if is_absent(&error) => return Ok(Ok(None)),
            Some(error) => return Ok(Err(Verdict::NotChecked(error.to_string()))),
            None => {}
        }
        if done.status != 0 {
            let seen = done.stderr.trim().lines().last().unwrap_or_default();
            let (program, status) = (call.program(), done.status);
            let reason = format!("{program} ended with exit code {status}: {seen}");
            return Ok(Err(Verdict::NotChecked(reason)));
        }
        let value = match (serde_json::from_str(&done.stdout), member) {
            (Ok(Value::Object(object)), Some(member)) => {
                object.get(member).map(|value| text(&value.to_string()))
            }
            (Ok(Value::Array(list)), None) => {
                let list = list.iter().map(|value| text(&value.to_string()));
                Some(list.collect::<Vec<_>>().join(" "))
            }
            (Ok(Value::Null), None) | (_, Some(_)) => None,
            (_, None) => Some(text(&done.stdout)),
        };
        Ok(Ok(value.filter(|value| !value.is_empty() && value != "{}")))
    }

    /// Keeps a value as a variable; without one the verdict is `otherwise`.
    fn bind(
        &self,
        name: &str,
        (line, member): (&str, Option<&str>),
        otherwise: fn(String) -> Verdict,
        state: &mut State,
    ) -> Result<Verdict> {
        Ok(match self.value(line, member, state)? {
            Err(verdict) => verdict,
            Ok(None) => otherwise(format!("there is none: `{}`", plain(line))),
            Ok(Some(value)) => {
                state.variables.insert(name.to_owned(), value);
                Verdict::Held(String::new())
            }
        })
    }

    /// A line as a command with its surroundings.
    fn command(&self, line: &str, state: &State) -> std::result::Result<Call, Verdict> {
        let words =
            words(line, &state.variables).map_err(|name| unknown(&name, &state.variables))?;
        let mut environment = self.environment.clone();
        if words.first().is_some_and(|program| program != "aws") {
            environment.extend(self.credentials.clone());
        }
        environment.extend(state.role.clone().unwrap_or_default());
        let mut call = Call {
            words,
            environment,
            input: String::new(),
            firm: state.firm,
        };
        if let Some(at) = call.words.iter().position(|word| word == "<<<") {
            call.input = call.words.split_off(at).pop().unwrap_or_default();
        }
        if call.words.iter().any(|word| word == "--aws-sigv4") {
            if !call.environment.contains_key("AWS_SECRET_ACCESS_KEY") {
                return Err(Verdict::NotChecked(
                    "curl has no credentials: set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and \
                     AWS_SESSION_TOKEN, or install version 2 of the aws tool"
                        .into(),
                ));
            }
            call.words.extend(["--config".into(), "-".into()]);
            call.input = signing(&call.environment);
        }
        Ok(call)
    }

    /// The JSON that a command of `aws` prints, or AWS's error.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub(crate) fn answer(&self, call: &Call) -> Result<std::result::Result<Value, Error>> {
        let (done, error) = self.call(call)?;
        Ok(match error {
            Some(error) => Err(error),
            None => Ok(serde_json::from_str(&done.stdout)?),
        })
    }

    /// Runs a command. Of `aws`, a failure is classified.
    fn call(&self, call: &Call) -> Result<(Done, Option<Error>)> {
        for patience in 1.. {
            self.go_on(call.firm)?;
            let done = self.programs.call(call)?;
            if done.status == 0 || call.program() != "aws" {
                return Ok((done, None));
            }
            match of_aws(&call.words, &done.stderr) {
                // The tool itself has made ten attempts.
                Error::Throttled { .. } if patience < 4 => {
                    for _ in 0..patience {
                        self.wait(call.firm)?;
                    }
                }
                error @ (Error::NoCredentials
                | Error::CredentialsExpired
                | Error::CredentialsInvalid { .. }
                | Error::Unreachable { .. }
                | Error::Throttled { .. }) => return Err(error.into()),
                error => return Ok((done, Some(error))),
            }
        }
        unreachable!("the last attempt returns")
    }

    fn assume(&self, role: &str, state: &mut State) -> Result<Verdict> {
        let line =
            format!("aws sts assume-role --role-arn {role} --role-session-name cloister-check");
        let call = match self.command(&line, state) {
            Ok(call) => call,
            Err(verdict) => return Ok(verdict),
        };
        let (done, error) = self.call(&call)?;
        if let Some(error) = error {
            return Ok(Verdict::NotChecked(error.to_string()));
        }
        let answer: Value = serde_json::from_str(&done.stdout).unwrap_or_default();
        let of = |member: &str| answer["Credentials"][member].as_str().map(str::to_owned);
        let (Some(id), Some(key), Some(token)) =
            (of("AccessKeyId"), of("SecretAccessKey"), of("SessionToken"))
        else {
            bail!("AWS answered AssumeRole without credentials");
        };
        state.role = Some(credentials(id, key, token));
        Ok(Verdict::Held(String::new()))
    }

    /// The output of a script on the first machine that has one.
    fn first_machine(&self, name: &str, script: &str, state: &mut State) -> Result<Verdict> {
        let Some(machines) = state.variables.get("MACHINES").cloned() else {
            return Ok(unknown("MACHINES", &state.variables));
        };
        let script = match filled(script, &state.variables) {
            Ok(script) => script,
            Err(name) => return Ok(unknown(&name, &state.variables)),
        };
        for machine in machines.split(' ') {
            match self.on_machine(machine, &script, state)? {
                Err(verdict) => return Ok(verdict),
                Ok(done) if done.status != 0 => return Ok(Verdict::NotHeld(done.stderr)),
                Ok(done) if done.stdout.trim().is_empty() => {}
                Ok(done) => {
                    state.variables.insert(name.to_owned(), done.stdout);
                    return Ok(Verdict::Held(String::new()));
                }
            }
        }
        Ok(Verdict::NotHeld("no machine had an answer".into()))
    }

    /// A script on machines, all of which have to succeed.
    fn on_machines(&self, machines: &str, script: &str, state: &mut State) -> Result<Verdict> {
        let filled = filled(machines, &state.variables)
            .and_then(|machines| Ok((machines, filled(script, &state.variables)?)));
        let (machines, script) = match filled {
            Ok(filled) => filled,
            Err(name) => return Ok(unknown(&name, &state.variables)),
        };
        let mut seen: Vec<String> = Vec::new();
        for machine in machines.split_whitespace() {
            let done = match self.on_machine(machine, &script, state)? {
                Ok(done) => done,
                Err(verdict) => return Ok(verdict),
            };
            let output = done.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
            if done.status != 0 {
                let error = done.stderr.split_whitespace().collect::<Vec<_>>().join(" ");
                return Ok(Verdict::NotHeld(
                    format!("{output} {error}").trim().to_owned(),
                ));
            }
            if !output.is_empty() && !seen.contains(&output) {
                seen.push(output);
            }
        }
        Ok(match seen.is_empty() {
            true => Verdict::NotHeld("no machine had anything to check".into()),
            false => Verdict::Held(seen.join("; ")),
        })
    }

    /// A script on a machine, through Session Manager, or why it did not run.
    fn on_machine(
        &self,
        machine: &str,
        script: &str,
        state: &mut State,
    ) -> Result<std::result::Result<Done, Verdict>> {
        let mut variables = state.variables.clone();
        variables.insert("MACHINE".into(), machine.to_owned());
        variables.insert("COMMANDS".into(), commands(script));
        let mut here = State {
            variables,
            role: state.role.clone(),
            beside: None,
            firm: state.firm,
            changed: false,
        };
        let none = Verdict::NotChecked("Session Manager returned no command".into());
        match self.value(SEND, None, &here)? {
            Ok(Some(command)) => here.variables.insert("COMMAND".into(), command),
            Ok(None) => return Ok(Err(none)),
            Err(verdict) => return Ok(Err(verdict)),
        };
        let began = Instant::now();
        loop {
            self.wait(state.firm)?;
            let call = self
                .command(RECEIVE, &here)
                .map_err(|verdict| anyhow!("{verdict:?}"))?;
            let (done, error) = self.call(&call)?;
            match error {
                // It takes a moment until the machine is known to have the command.
                Some(Error::Aws { code, .. }) if code == "InvocationDoesNotExist" => {}
                Some(error) => return Ok(Err(Verdict::NotChecked(error.to_string()))),
                None => {
                    let answer: Value = serde_json::from_str(&done.stdout)?;
                    let of = |at: usize| answer[at].as_str().unwrap_or_default().to_owned();
                    match of(0).as_str() {
                        "Success" | "Failed" => {
                            let status = answer[1].as_i64().and_then(|of| i32::try_from(of).ok());
                            return Ok(Ok(Done {
                                status: status.unwrap_or(-1),
                                stdout: of(2),
                                stderr: of(3),
                            }));
                        }
                        "Pending" | "InProgress" | "Delayed" => {}
                        other => {
                            let reason = format!("the command on the machine: {other}");
                            return Ok(Err(Verdict::NotChecked(reason)));
                        }
                    }
                }
            }
            if began.elapsed() > self.pause * 180 {
                return Ok(Err(Verdict::NotChecked(
                    "the machine did not answer".into(),
                )));
            }
        }
    }

    fn wait(&self, firm: bool) -> Result<()> {
        let end = Instant::now() + self.pause;
        while Instant::now() < end {
            self.go_on(firm)?;
            thread::sleep((self.pause / 20).max(Duration::from_millis(1)));
        }
        self.go_on(firm)
    }

    /// # Errors
    /// After an interruption, unless something is being put back.
    fn go_on(&self, firm: bool) -> Result<()> {
        match !firm && self.interrupted.load(Ordering::SeqCst) {
            true => Err(anyhow!("interrupted")),
            false => Ok(()),
        }
    }
}

/// The verdict on a row that needs a variable which the deployment does not give.
fn unknown(name: &str, variables: &Variables) -> Verdict {
    let elsewhere = !variables.contains_key("CLUSTER");
    match name {
        "CLUSTER" | "MACHINES" | "MACHINE" if elsewhere => {
            Verdict::NotApplicable("it has no Kubernetes cluster of its own".into())
        }
        "ECS_CLUSTER" => Verdict::NotApplicable("it is not on ECS".into()),
        "MACHINES" | "MACHINE" => Verdict::NotChecked("no machine of the cluster runs".into()),
        name => Verdict::NotChecked(format!("${name} is unknown")),
    }
}

fn not_restored(row: &Row, cause: &str) -> anyhow::Error {
    anyhow!(
        "what {} changed was not put back ({cause}): \
         `cargo aws check --row {} --destructive --dry-run` lists the commands",
        row.id,
        row.id
    )
}

/// True if AWS says that something does not exist.
pub(crate) fn is_absent(error: &Error) -> bool {
    matches!(error, Error::Aws { code, message, .. } if absent(code, message))
}

/// Variables of credentials.
pub(crate) fn credentials(id: String, key: String, token: String) -> Environment {
    [
        ("AWS_ACCESS_KEY_ID", id),
        ("AWS_SECRET_ACCESS_KEY", key),
        ("AWS_SESSION_TOKEN", token),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

/// Options of curl that must not be in the list of processes.
fn signing(environment: &Environment) -> String {
    let of = |name: &str| environment.get(name).map_or("", String::as_str);
    let mut options = format!(
        "user = \"{}:{}\"\n",
        of("AWS_ACCESS_KEY_ID"),
        of("AWS_SECRET_ACCESS_KEY")
    );
    if !of("AWS_SESSION_TOKEN").is_empty() {
        let token = of("AWS_SESSION_TOKEN");
        options.push_str(&format!("header = \"x-amz-security-token: {token}\"\n"));
    }
    options
}

/// The document's parameters for a script.
pub(crate) fn commands(script: &str) -> String {
    json!({ "commands": [format!("{PRELUDE}{script}")], "executionTimeout": ["900"] }).to_string()
}

/// A line up to its first option or variable, as words.
pub(crate) fn plain(line: &str) -> String {
    let plain = line.split(" -").next().unwrap_or_default();
    let plain = plain.split(" $").next().unwrap_or_default();
    heads(&words(plain, &BTreeMap::new()).unwrap_or_default())
}

/// The program and what it does, without options.
pub(crate) fn heads(words: &[String]) -> String {
    let plain = words
        .iter()
        .take_while(|word| !word.starts_with(['-', '$']));
    plain.take(3).cloned().collect::<Vec<_>>().join(" ")
}

/// Between two attempts of a real run.
pub(crate) const PAUSE: Duration = Duration::from_secs(5);

pub(crate) const SEND: &str = "aws ssm send-command --instance-ids $MACHINE --document-name AWS-RunShellScript \
     --timeout-seconds 60 --parameters $COMMANDS --query Command.CommandId";

pub(crate) const RECEIVE: &str = "aws ssm get-command-invocation --command-id $COMMAND --instance-id $MACHINE \
     --query '[Status,ResponseCode,StandardOutputContent,StandardErrorContent]'";

/// Before every script on a machine of the node group: the containers of the pods, and their addresses.
const PRELUDE: &str = "found=$(mktemp); \
     pods() { nerdctl ps --format '{{.ID}} {{.Names}}' | awk '$2 ~ \"^k8s://cloister/.*/pod$\" {print $1}'; }; \
     nerdctl() { command nerdctl --namespace k8s.io \"$@\"; }; \
     address() { nsenter --net --target $(nerdctl inspect --format '{{.State.Pid}}' $1) ip -4 -oneline address show dev eth0 | \
         awk '{sub(\"/.*\", \"\", $4); print $4}'; }; \
     addresses() { for pod in $(pods); do address $pod; done; }; ";
