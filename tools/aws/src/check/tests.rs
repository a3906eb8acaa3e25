//! Rows against recorded answers, and the runner against a faulty AWS.
//!
//! `answers/ROW.json` has the answers of AWS to the commands of a row, in its documented form, in
//! order: those under which the row holds, and others that replace them from some command on.

mod table;

use std::collections::{BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;

use super::*;
use crate::check::programs::{Done, Programs};
use crate::check::row::Step;
use crate::check::runner::{heads, plain};
use crate::check::tests::table::lines;

/// The answers to the commands of a row.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Recorded {
    held: Vec<(String, Value)>,
    #[serde(default)]
    also_held: Vec<Instead>,
    not_held: Vec<Instead>,
    #[serde(default)]
    not_checked: Vec<Instead>,
    #[serde(default)]
    not_applicable: Vec<Instead>,
}

/// Answers in the place of those that come after some.
#[derive(Debug, Deserialize)]
struct Instead {
    after: usize,
    answers: Vec<(String, Value)>,
}

/// Answers commands in order, and applies their `--query` as the aws tool does.
#[derive(Debug, Default)]
struct Answers {
    answers: Mutex<VecDeque<(String, Value)>>,
    calls: Mutex<Vec<Call>>,
    /// Set by the command with this number.
    interrupts: Option<(usize, Arc<AtomicBool>)>,
}

impl Answers {
    fn new(answers: impl IntoIterator<Item = (String, Value)>) -> Self {
        Self {
            answers: Mutex::new(answers.into_iter().collect()),
            ..Self::default()
        }
    }

    fn commands(&self) -> Vec<String> {
        let calls = self.calls.lock().unwrap();
        calls.iter().map(|call| heads(&call.words)).collect()
    }
}

impl Programs for Answers {
    fn call(&self, call: &Call) -> Result<Done> {
        let mut calls = self.calls.lock().unwrap();
        calls.push(call.clone());
        if let Some((at, flag)) = &self.interrupts
            && *at == calls.len()
        {
            flag.store(true, std::sync::atomic::Ordering::SeqCst);
        }
        drop(calls);
        let head = heads(&call.words);
        if head == "aws ssm send-command" {
            return Ok(answer(call, &json!({ "Command": { "CommandId": "c" } })));
        }
        let mut answers = self.answers.lock().unwrap();
        // It runs beside others.
        let load = |(command, _): &(String, Value)| command == "cargo xtask newman";
        let next = match head == "cargo xtask newman" {
            true => answers
                .iter()
                .position(load)
                .and_then(|at| answers.remove(at)),
            false => answers.pop_front(),
        };
        drop(answers);
        let (expected, value) = next.unwrap_or_else(|| panic!("no answer to {:?}", call.words));
        let on_machine = head == "aws ssm get-command-invocation" && expected == "machine";
        assert!(
            on_machine || head == expected,
            "{expected} was expected: {:?}",
            call.words
        );
        let text = |member: &str| value[member].as_str().unwrap_or_default().to_owned();
        if on_machine {
            let status = value["status"].as_i64().unwrap();
            let invocation = json!({
                "Status": if status == 0 { "Success" } else { "Failed" },
                "ResponseCode": status,
                "StandardOutputContent": text("stdout"),
                "StandardErrorContent": text("stderr"),
            });
            return Ok(answer(call, &invocation));
        }
        if let Some(error) = value["error"].as_array() {
            let (code, message) = (error[0].as_str().unwrap(), error[1].as_str().unwrap());
            let stderr =
                format!("\nAn error occurred ({code}) when calling the X operation: {message}\n");
            return Ok(Done {
                status: 254,
                stderr,
                ..Done::default()
            });
        }
        if call.program() == "aws" {
            return Ok(answer(call, &value));
        }
        Ok(Done {
            status: i32::try_from(value["status"].as_i64().unwrap()).unwrap(),
            stdout: text("stdout"),
            stderr: text("stderr"),
        })
    }
}

fn answer(call: &Call, value: &Value) -> Done {
    let query = call
        .words
        .iter()
        .skip_while(|word| *word != "--query")
        .nth(1);
    let stdout = match query {
        None => value.to_string(),
        Some(query) => {
            let query = jmespath::compile(query).unwrap_or_else(|error| panic!("{query}: {error}"));
            query.search(value).unwrap().to_string()
        }
    };
    Done {
        stdout,
        ..Done::default()
    }
}

fn runner(programs: Arc<Answers>) -> Runner {
    let deployment = deployment("dev-");
    let mut variables = given(&arguments(&[]), &deployment, Utc::now());
    for (name, value) in [
        ("KEY_ARN", "arn:aws:kms:eu-central-1:123456789012:key/k"),
        (
            "URL",
            "https://a1b2c3d4e5.execute-api.eu-central-1.amazonaws.com/prod",
        ),
        ("API", "a1b2c3d4e5"),
        ("MACHINES", "i-0123456789abcdef0 i-0123456789abcdef1"),
        ("MACHINE", "i-0123456789abcdef0"),
        ("ECS_CLUSTER", "dev-cloister-pods"),
        ("NONCE", "00112233445566778899aabbccddeeff"),
        ("CLOISTER_SECRET", "secret"),
        ("WRONG_SECRET", "wrong"),
    ] {
        variables.insert(name.to_owned(), value.to_owned());
    }
    Runner {
        programs,
        variables,
        environment: BTreeMap::new(),
        credentials: credentials("id".into(), "key".into(), "token".into()),
        pause: Duration::ZERO,
        interrupted: Arc::default(),
    }
}

fn deployment(prefix: &str) -> Deployment {
    let target = Target {
        account: Some("123456789012".into()),
        region: Some("eu-central-1".into()),
        prefix: Some(prefix.into()),
        architecture: None,
    };
    Deployment::new(&target, &BTreeMap::new()).unwrap()
}

fn arguments(rest: &[&str]) -> Arguments {
    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }
    let line = ["check"].iter().chain(rest);
    <Line as clap::Parser>::try_parse_from(line)
        .unwrap()
        .arguments
}

fn recorded(row: &Row) -> Recorded {
    let file = answers().join(format!("{}.json", row.id));
    let text = fs::read_to_string(file).unwrap();
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", row.id))
}

fn answers() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/check/answers")
}

fn row(id: &str) -> &'static Row {
    rows().find(|row| row.id == id).unwrap()
}

fn automatic() -> impl Iterator<Item = &'static Row> {
    rows().filter(|row| !matches!(row.check, Check::ByHand(_)))
}

/// The verdict, after which every answer has been used.
fn verdict(row: &Row, answers: impl IntoIterator<Item = (String, Value)>) -> Verdict {
    let programs = Arc::new(Answers::new(answers));
    let verdict = runner(Arc::clone(&programs)).check(row).unwrap();
    let left = programs.answers.lock().unwrap().len();
    assert_eq!(left, 0, "{}: answers are left after {verdict:?}", row.id);
    verdict
}

#[test]
fn every_row_is_judged_by_recorded_answers() {
    for row in automatic() {
        let recorded = recorded(row);
        let held = verdict(row, recorded.held.clone());
        assert!(held.held(), "{}: {held:?}", row.id);
        let of = |instead: &Instead| {
            let before = recorded.held[..instead.after].to_vec();
            verdict(row, before.into_iter().chain(instead.answers.clone()))
        };
        assert!(!recorded.not_held.is_empty(), "{}", row.id);
        for instead in &recorded.not_held {
            let found = of(instead);
            assert!(
                matches!(found, Verdict::NotHeld(_)),
                "{}: {found:?}",
                row.id
            );
        }
        for instead in &recorded.also_held {
            assert!(of(instead).held(), "{}", row.id);
        }
        for instead in &recorded.not_checked {
            let found = of(instead);
            assert!(
                matches!(found, Verdict::NotChecked(_)),
                "{}: {found:?}",
                row.id
            );
        }
        for instead in &recorded.not_applicable {
            let found = of(instead);
            assert!(
                matches!(found, Verdict::NotApplicable(_)),
                "{}: {found:?}",
                row.id
            );
        }
    }
}

#[test]
fn no_answers_are_left_of_a_row_that_is_gone() {
    let ids: BTreeSet<_> = automatic().map(|row| format!("{}.json", row.id)).collect();
    let files = fs::read_dir(answers()).unwrap();
    let files = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    assert_eq!(files.collect::<BTreeSet<_>>(), ids);
}

#[test]
fn a_missing_permission_is_no_verdict() {
    for row in automatic() {
        let first = recorded(row).held[0].0.clone();
        if !first.starts_with("aws ") {
            continue;
        }
        let error =
            json!({ "error": ["AccessDenied", "User: arn:aws:iam::1:user/a is not authorized"] });
        let programs = Arc::new(Answers::new([(first, error)]));
        let found = runner(programs).check(row).unwrap();
        assert!(
            matches!(found, Verdict::NotChecked(_)),
            "{}: {found:?}",
            row.id
        );
    }
}

#[test]
fn what_was_changed_is_put_back_after_every_interruption() {
    let mut runs = 0;
    for row in automatic() {
        let Check::Destructive { restore, .. } = &row.check else {
            continue;
        };
        if restore.is_empty() {
            continue;
        }
        let held = recorded(row).held;
        for at in 1..=held.len() {
            let flag = Arc::new(AtomicBool::new(false));
            let programs = Arc::new(Answers {
                answers: Mutex::default(),
                calls: Mutex::default(),
                interrupts: Some((at, Arc::clone(&flag))),
            });
            let all = Arc::new(Forgiving(programs, held.clone()));
            let mut runner = runner(Arc::default());
            runner.programs = Arc::clone(&all) as Arc<dyn Programs>;
            runner.interrupted = flag;
            let _ = runner.check(row);
            let commands = all.0.commands();
            let restoring: Vec<_> = lines(restore).into_iter().map(plain).collect();
            let restored = {
                let calls = all.0.calls.lock().unwrap();
                let puts_back = |call: &&Call| {
                    let head = heads(&call.words);
                    head == "aws ssm send-command" || restoring.contains(&head)
                };
                calls
                    .iter()
                    .filter(|call| call.firm)
                    .any(|call| puts_back(&call))
            };
            let changes = [
                "aws apigateway update-stage",
                "aws kms put-key-policy",
                "aws ssm send-command",
            ];
            let until = at.min(commands.len());
            let changed = commands[..until]
                .iter()
                .any(|head| changes.contains(&head.as_str()));
            assert_eq!(restored, changed, "{} at {at}: {commands:?}", row.id);
            runs += 1;
        }
    }
    assert!(runs > 10, "{runs}");
}

/// Answers each command by its first recorded answer, however often it is repeated.
#[derive(Debug)]
struct Forgiving(Arc<Answers>, Vec<(String, Value)>);

impl Programs for Forgiving {
    fn call(&self, call: &Call) -> Result<Done> {
        let head = heads(&call.words);
        let of = |(command, _): &&(String, Value)| {
            *command == head || command == "machine" && head == "aws ssm get-command-invocation"
        };
        if let Some(next) = self.1.iter().find(of) {
            self.0.answers.lock().unwrap().push_front(next.clone());
        }
        self.0.call(call)
    }
}

#[test]
fn without_credentials_the_run_stops_with_a_sentence() {
    for (code, expected) in [
        ("ExpiredToken", "expired"),
        ("InvalidClientTokenId", "refuses the credentials"),
        ("ThrottlingException", "throttles"),
    ] {
        let error = json!({ "error": [code, "m"] });
        let command = "aws kms get-key-rotation-status".to_owned();
        let programs = Arc::new(Answers::new(vec![(command, error); 4]));
        let runner = runner(Arc::clone(&programs));
        let mut found = Vec::new();
        let rows = [row("key-rotates"), row("doctor")];
        let stopped = check(&runner, &rows, &mut found).unwrap_err();
        assert!(found.is_empty());
        let text = stopped.to_string();
        assert!(
            text.contains(expected) && text.lines().count() == 1,
            "{text}"
        );
        let attempts = if code == "ThrottlingException" { 4 } else { 1 };
        assert_eq!(programs.commands().len(), attempts, "{code}");
    }
}

#[test]
fn throttling_passes() {
    let throttled = json!({ "error": ["ThrottlingException", "Rate exceeded"] });
    let command = "aws kms get-key-rotation-status".to_owned();
    let answers = [
        (command.clone(), throttled),
        (command, json!({ "KeyRotationEnabled": true })),
    ];
    assert!(verdict(row("key-rotates"), answers).held());
}

#[test]
fn a_row_that_fails_does_not_stop_the_others() {
    let refused = ("curl".to_owned(), json!({ "status": 0, "stdout": "200" }));
    let doctor = (
        "cloister doctor".to_owned(),
        json!({ "status": 0, "stdout": "ok" }),
    );
    let runner = runner(Arc::new(Answers::new([refused, doctor])));
    let mut found = Vec::new();
    check(
        &runner,
        &[row("unsigned-refused"), row("doctor")],
        &mut found,
    )
    .unwrap();
    assert!(!found[0].1.held() && found[1].1.held());
    let summary = summary(&found).unwrap_err().to_string();
    assert_eq!(summary, "did not hold: unsigned-refused");
}

#[test]
fn credentials_are_no_arguments() {
    let mut called = 0;
    for row in automatic() {
        let programs = Arc::new(Answers::new(recorded(row).held));
        runner(Arc::clone(&programs)).check(row).unwrap();
        for call in programs.calls.lock().unwrap().iter() {
            let line = call.words.join(" ");
            for secret in ["key:", "token\n", "wJalrXUtnFEMI", "FwoGZXIvYXdz"] {
                assert!(!line.contains(secret), "{line}");
            }
            if call.words.iter().any(|word| word == "--aws-sigv4") {
                called += 1;
                assert!(call.input.contains("user = \"id:key\"\n"), "{}", call.input);
                assert!(call.input.contains("x-amz-security-token: token"));
            }
        }
    }
    assert!(called > 0);
}

#[test]
fn steps_after_a_role_run_as_that_role() {
    let programs = Arc::new(Answers::new(recorded(row("key-alarms")).held));
    runner(Arc::clone(&programs))
        .check(row("key-alarms"))
        .unwrap();
    let roles: Vec<_> = {
        let calls = programs.calls.lock().unwrap();
        let with = |call: &Call| call.environment.contains_key("AWS_SESSION_TOKEN");
        calls
            .iter()
            .map(|call| (heads(&call.words), with(call)))
            .collect()
    };
    for (command, role) in roles {
        assert_eq!(role, command == "aws kms put-key-policy", "{command}");
    }
}

#[test]
fn production_is_not_changed() {
    for (prefix, arguments_, allowed) in [
        ("dev-", &["--destructive"][..], true),
        ("test-", &["--destructive"], true),
        ("", &["--destructive"], false),
        ("prod-dev-", &["--destructive"], false),
        ("", &["--row", "closed-api"], false),
        ("dev-", &["--row", "closed-api"], false),
        ("dev-", &["--row", "closed-api", "--destructive"], true),
        ("dev-", &["--row", "arm64"], false),
        ("dev-", &["--row", "no-such-row"], false),
        ("", &["--row", "doctor", "trail"], true),
    ] {
        let chosen = chosen(&arguments(arguments_), &deployment(prefix));
        assert_eq!(chosen.is_ok(), allowed, "{prefix} {arguments_:?}");
        for row in chosen.into_iter().flatten() {
            let destructive = matches!(row.check, Check::Destructive { .. });
            assert!(!destructive || arguments_.contains(&"--destructive"));
        }
    }
}

#[test]
fn what_is_written_has_no_ids_and_keeps_what_was_seen() {
    let place = Place {
        date: "2026-12-01".into(),
        region: "eu-central-1".into(),
        machine: "m6i.2xlarge".into(),
    };
    let mut all = Seen::from([("trail".to_owned(), "held, earlier".to_owned())]);
    let found = [
        (
            row("tag-stays"),
            Verdict::Held("User: arn:aws:iam::123456789012:user/a is `not` | authorized".into()),
        ),
        (row("doctor"), Verdict::NotHeld(String::new())),
        (row("trail"), Verdict::NotChecked("no permission".into())),
        (row("ecs-services"), Verdict::NotApplicable("none".into())),
    ];
    record(&mut all, &found, &place, "abc");
    let place = "2026-12-01, eu-central-1, m6i.2xlarge, abc";
    assert_eq!(
        all["tag-stays"],
        format!("held, {place}: `User: (ARN) is 'not' \\| authorized`")
    );
    assert_eq!(all["doctor"], format!("**did not hold**, {place}"));
    assert_eq!(all["trail"], "held, earlier");
    assert!(!all.contains_key("ecs-services"));
}

#[test]
fn another_account_stops_the_run() {
    let identity = (
        "aws sts get-caller-identity".to_owned(),
        json!({ "Account": "210987654321" }),
    );
    let programs = Arc::new(Answers::new([identity]));
    let stopped = prepare(runner(programs), &deployment("dev-"), &BTreeMap::new())
        .err()
        .unwrap();
    assert!(matches!(
        stopped.downcast_ref(),
        Some(Error::WrongAccount { .. })
    ));
}

#[test]
fn a_deployment_that_does_not_exist_stops_the_run() {
    let absent = json!({ "error": ["ParameterNotFound", ""] });
    let answers = [
        (
            "aws sts get-caller-identity",
            json!({ "Account": "123456789012" }),
        ),
        ("aws ssm get-parameter", absent.clone()),
        ("aws ssm get-parameter", absent),
        ("aws ec2 describe-instances", json!({ "Reservations": [] })),
        ("aws ec2 describe-instances", json!({ "Reservations": [] })),
    ];
    let answers = answers.map(|(command, value)| (command.to_owned(), value));
    let mut runner = runner(Arc::new(Answers::new(answers)));
    runner
        .variables
        .retain(|name, _| !["KEY_ID", "URL"].contains(&name.as_str()));
    let stopped = prepare(runner, &deployment("dev-"), &BTreeMap::new())
        .err()
        .unwrap()
        .to_string();
    assert!(stopped.contains("no deployment"), "{stopped}");
}

#[test]
fn facts_become_variables() {
    let instance = json!({ "Reservations": [{ "Instances": [
        { "InstanceId": "i-1", "InstanceType": "m6i.2xlarge" },
        { "InstanceId": "i-2", "InstanceType": "m6i.2xlarge" },
    ] }] });
    let url = "https://a1b2.execute-api.eu-central-1.amazonaws.com/prod/";
    let answers = [
        (
            "aws sts get-caller-identity",
            json!({ "Account": "123456789012" }),
        ),
        (
            "aws ssm get-parameter",
            json!({ "Parameter": { "Value": "k" } }),
        ),
        (
            "aws ssm get-parameter",
            json!({ "Parameter": { "Value": url } }),
        ),
        ("aws ec2 describe-instances", instance.clone()),
        ("aws ec2 describe-instances", instance),
        (
            "aws configure export-credentials",
            json!({ "Version": 1, "AccessKeyId": "a", "SecretAccessKey": "b" }),
        ),
    ];
    let answers = answers.map(|(command, value)| (command.to_owned(), value));
    let mut runner = runner(Arc::new(Answers::new(answers)));
    runner.variables = given(&arguments(&[]), &deployment("dev-"), Utc::now());
    let (runner, place) = prepare(runner, &deployment("dev-"), &BTreeMap::new()).unwrap();
    let of = |name: &str| runner.variables[name].as_str();
    assert_eq!(of("KEY_ARN"), "arn:aws:kms:eu-central-1:123456789012:key/k");
    assert_eq!(
        of("URL"),
        "https://a1b2.execute-api.eu-central-1.amazonaws.com/prod"
    );
    assert_eq!(
        (of("API"), of("MACHINES"), of("MACHINE")),
        ("a1b2", "i-1 i-2", "i-1")
    );
    assert_eq!(of("NAME"), "dev-cloister");
    assert_eq!(of("PARAMETERS"), "/dev-app/ethereum");
    assert_eq!(place.machine, "m6i.2xlarge");
    assert_eq!(runner.credentials.len(), 2);
    let given = credentials("a".into(), "b".into(), "c".into());
    assert_eq!(operator(&runner, &given).unwrap(), given);
    assert_eq!(of("CLOISTER_SECRET").len(), 64);
}
