//! The table of rows itself: what its commands may do, name and use.

use super::*;

/// A row that `cargo aws check` runs in production calls nothing that changes the deployment.
#[test]
fn rows_without_restrictions_only_read() {
    const READS: &[&str] = &["describe-", "get-", "list-", "filter-log-events"];
    const CHANGES_NOTHING: &[&str] = &[
        // Denied; the same tag and a dry run otherwise.
        "aws kms tag-resource",
        "aws kms create-grant",
        // The canary's own hourly call.
        "aws lambda invoke",
        // CloudWatch sets the alarm back when it evaluates it next.
        "aws cloudwatch set-alarm-state",
        "cloister attestation verify",
        "cloister doctor",
        "cloister kms verify-policy",
        // A key more.
        "cloister key generate",
        "cloister sign user-op-hash",
        "cargo xtask newman",
        "npx cdk diff",
        "curl",
    ];
    for row in automatic() {
        let Check::Run(steps) = &row.check else {
            continue;
        };
        for line in lines(steps) {
            let plain = line.split(" -").next().unwrap().split(" $").next().unwrap();
            let read = READS.iter().any(|verb| {
                plain.starts_with("aws ")
                    && plain
                        .split(' ')
                        .nth(2)
                        .is_some_and(|of| of.starts_with(verb))
            });
            let known = CHANGES_NOTHING.iter().any(|known| plain.starts_with(known));
            assert!(read || known, "{}: {line}", row.id);
        }
    }
}

/// Names in rows are those of the templates, and events those of the contract.
#[test]
fn rows_name_what_the_stacks_have() {
    let snapshots = workspace_root().join("cdk/test/snapshots");
    let templates: String = fs::read_dir(snapshots)
        .unwrap()
        .map(|file| fs::read_to_string(file.unwrap().path()).unwrap())
        .collect();
    let mut found = BTreeSet::new();
    for row in automatic() {
        let (mut steps, mut variables) = (Vec::new(), runner(Arc::default()).variables);
        match &row.check {
            Check::Run(of) => steps.extend(lines(of)),
            Check::Destructive { steps: of, restore } => {
                steps.extend(lines(of));
                steps.extend(lines(restore));
            }
            Check::ByHand(_) => {}
        }
        for line in steps {
            for name in line::names(line) {
                variables.entry(name).or_default();
            }
            let words = line::words(line, &variables).unwrap();
            for pair in words.windows(2) {
                let name = match pair[0].as_str() {
                    "--alarm-name" | "--alarm-names" | "--function-name" | "--table-name" => {
                        &pair[1]
                    }
                    "--log-group-name" if pair[1].contains("dev-cloister-") => &pair[1],
                    "--name" if pair[1].starts_with("/dev-app/") => &pair[1],
                    _ => pair[1].rsplit_once("Value=").map_or("", |(_, value)| value),
                };
                let ours = name.contains("dev-cloister-") || name.starts_with("/dev-app/");
                if ours
                    && !name.starts_with("/aws/containerinsights/")
                    && name != "dev-cloister-cluster"
                {
                    assert!(
                        templates.contains(&format!("\"{name}\"")),
                        "{}: {name}",
                        row.id
                    );
                    found.insert(name.to_owned());
                }
            }
            for event in line.split("$.event = \"").skip(1) {
                let event = event.split('"').next().unwrap();
                assert!(
                    cloister_contract::events::find(event).is_some(),
                    "{}: {event}",
                    row.id
                );
                found.insert(event.to_owned());
            }
        }
    }
    assert!(found.len() > 15, "{found:?}");
}

/// Every variable is known from the start, or bound by an earlier step.
#[test]
fn variables_are_bound_before_their_use() {
    let known: BTreeSet<String> = runner(Arc::default()).variables.into_keys().collect();
    for row in automatic() {
        let mut bound = known.clone();
        match &row.check {
            Check::Destructive { steps, restore } => {
                unbound(row, steps, &mut bound);
                unbound(row, restore, &mut bound);
            }
            Check::Run(steps) => unbound(row, steps, &mut bound),
            Check::ByHand(_) => {}
        }
    }
}

fn unbound(row: &Row, steps: &[Step], bound: &mut BTreeSet<String>) {
    let used = |texts: &[&str], bound: &BTreeSet<String>| {
        for name in texts.iter().flat_map(|text| line::names(text)) {
            assert!(bound.contains(&name), "{}: ${name}", row.id);
        }
    };
    for step in steps {
        match step {
            Step::Expect(line, _)
            | Step::Change(line)
            | Step::Until(_, line, _)
            | Step::Beside(line) => {
                used(&[line], bound);
            }
            Step::Let(name, line) | Step::If(name, line) | Step::Append(name, line) => {
                used(&[line], bound);
                bound.insert((*name).to_owned());
            }
            Step::LetMember(name, _, line) => {
                used(&[line], bound);
                bound.insert((*name).to_owned());
            }
            Step::Each(name, list, steps) => {
                used(&[list], bound);
                bound.insert((*name).to_owned());
                unbound(row, steps, bound);
            }
            Step::As(role) => used(&[role], bound),
            Step::LetMachines(name, script) => {
                let quoted = format!("\"{}\"", script.replace('"', "\\\""));
                used(&[&quoted], bound);
                bound.insert((*name).to_owned());
            }
            Step::Machines(script) | Step::Machine(_, script) => {
                let quoted = format!("\"{}\"", script.replace('"', "\\\""));
                used(&[&quoted], bound);
            }
            Step::AsOperator | Step::Finished => {}
        }
    }
}

pub(super) fn lines(steps: &[Step]) -> Vec<&'static str> {
    let mut all = Vec::new();
    for step in steps {
        all.extend(step.line());
        if let Step::Each(_, _, steps) = step {
            all.extend(lines(steps));
        }
    }
    all
}

/// Rows about the other platform, and about machines that do not run.
#[test]
fn a_deployment_without_a_cluster_has_no_rows_about_it() {
    let found = |row: &Row, gone: &[&str]| {
        let answers = recorded(row).held;
        let mut runner = runner(Arc::new(Answers::new(answers)));
        runner
            .variables
            .retain(|name, _| !gone.contains(&name.as_str()));
        runner.check(row).unwrap()
    };
    let (mut cluster, mut ecs) = (0, 0);
    for row in automatic() {
        let of_cluster = found(row, &["CLUSTER", "MACHINES", "MACHINE"]);
        let of_ecs = found(row, &["ECS_CLUSTER"]);
        let no_machine = found(row, &["MACHINES", "MACHINE"]);
        for (verdict, count) in [(of_cluster, &mut cluster), (of_ecs, &mut ecs)] {
            assert!(
                matches!(verdict, Verdict::Held(_) | Verdict::NotApplicable(_)),
                "{}: {verdict:?}",
                row.id
            );
            *count += usize::from(!verdict.held());
        }
        assert!(
            matches!(no_machine, Verdict::Held(_) | Verdict::NotChecked(_)),
            "{}",
            row.id
        );
    }
    assert!(cluster > 10 && ecs == 1, "{cluster} {ecs}");
}
