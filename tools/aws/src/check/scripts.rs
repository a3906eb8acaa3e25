//! Scripts of rows, on a machine whose programs answer as the test says.

use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output};

use fs_err as fs;

use crate::check::line::filled;
use crate::check::row::{Check, Row, Step};
use crate::check::rows::rows;
use crate::check::runner::commands;

/// Runs the first script of a row where `programs` (name and body) are the only ones beside coreutils.
fn run(id: &str, at: usize, programs: &[(&str, &str)]) -> Output {
    let row = rows().find(|row| row.id == id).unwrap();
    let script = scripts(row)[at];
    let variables = [
        ("CLUSTER", "dev-cloister-cluster"),
        ("REGION", "eu-central-1"),
        ("SERVICE", "signer"),
        ("NONCE", "00112233445566778899aabbccddeeff"),
        ("TARGETS", "10.0.1.1 10.0.2.2"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    let parameters = commands(&filled(script, &variables).unwrap());
    let parameters: serde_json::Value = serde_json::from_str(&parameters).unwrap();
    let directory = tempfile::tempdir().unwrap();
    for (name, body) in [PODS, programs].concat() {
        let file = directory.path().join(name);
        fs::write(&file, format!("#!/bin/bash\n{body}\n")).unwrap();
        fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let path = format!("{}:/usr/bin:/bin", directory.path().display());
    Command::new("bash")
        // As Amazon Linux's sh.
        .args(["--posix", "-c", parameters["commands"][0].as_str().unwrap()])
        .env("PATH", path)
        .output()
        .unwrap()
}

fn scripts(row: &'static Row) -> Vec<&'static str> {
    match &row.check {
        Check::Run(steps) | Check::Destructive { steps, .. } => of(steps),
        Check::ByHand(_) => vec![],
    }
}

fn of(steps: &'static [Step]) -> Vec<&'static str> {
    let script = |step: &'static Step| match step {
        Step::Machines(script) | Step::Machine(_, script) | Step::LetMachines(_, script) => {
            vec![*script]
        }
        Step::Each(_, _, steps) => of(steps),
        _ => vec![],
    };
    steps.iter().flat_map(script).collect()
}

fn holds(id: &str, at: usize, programs: &[(&str, &str)]) -> (bool, String) {
    let output = run(id, at, programs);
    let text = String::from_utf8(output.stdout).unwrap();
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        output.status.success() || !text.is_empty() || !output.stderr.is_empty(),
        "{id} fails without evidence"
    );
    (output.status.success(), text)
}

#[test]
fn a_shell_parses_every_script() {
    for row in rows() {
        for script in scripts(row) {
            let parsed = Command::new("bash")
                .args(["--posix", "-n", "-c", script])
                .output();
            assert!(parsed.unwrap().status.success(), "{}: {script}", row.id);
        }
    }
}

#[test]
fn enclaves_run() {
    let of = |answer: &str| {
        let body = format!(
            "case \"$*\" in *' ps '*) printf 'a1 k8s://cloister/signer-0/pod\\nb2 k8s://kube-system/x/y\\n' ;; \
             *--version) echo 'Nitro CLI 1.4.2' ;; *describe-enclaves) echo '{answer}' ;; esac"
        );
        holds("enclaves-run", 0, &[("nerdctl", &body), ("jq", JQ)])
    };
    let running = r#"[{"State": "RUNNING", "Flags": "NONE"}]"#;
    assert_eq!(
        of(running),
        (true, "1 Nitro CLI 1.4.2 1 RUNNING NONE".into())
    );
    let debug = r#"[{"State": "RUNNING", "Flags": "DEBUG_MODE"}]"#;
    assert!(!of(debug).0);
    assert!(!of(r#"[{"State": "TERMINATING", "Flags": "NONE"}]"#).0);
    assert!(!of("[]").0);
    let none = holds("enclaves-run", 0, &[("nerdctl", ""), ("jq", JQ)]);
    assert_eq!(
        none,
        (true, String::new()),
        "a machine without pods has nothing to check"
    );
}

#[test]
fn enclaves_are_ready() {
    assert_eq!(
        holds("enclaves-ready", 0, &[("curl", "echo 200")]),
        (true, "1 200".into())
    );
    assert!(!holds("enclaves-ready", 0, &[("curl", "echo 503")]).0);
    assert!(!holds("enclaves-ready", 0, &[("curl", "echo 000; exit 7")]).0);
}

#[test]
fn proofs_are_those_of_the_service() {
    let curl = [("curl", "echo \"${@: -1}\"")];
    let url = "http://10.0.1.1:8080/attestation/00112233445566778899aabbccddeeff";
    assert_eq!(holds("attestation", 0, &curl), (true, url.into()));
    let other = (
        "nerdctl",
        "case \"$*\" in *' ps '*) echo 'a1 k8s://cloister/key-generator-0/pod' ;; esac",
    );
    assert_eq!(
        holds("attestation", 0, &[curl[0], other]),
        (true, String::new())
    );
    assert!(
        !run("attestation", 0, &[("curl", "exit 22")])
            .status
            .success()
    );
}

#[test]
fn requests_without_a_signature_are_refused() {
    let of = |answer| holds("requests-from-within", 0, &[("curl", answer)]);
    assert_eq!(of("echo 401"), (true, "2 401".into()));
    assert!(!of("echo 200").0);
    assert!(!of("case $* in *health) echo 401 ;; *) echo 400 ;; esac").0);
}

#[test]
fn pods_of_other_machines_are_not_reached() {
    let of = |answer| holds("network-policy", 0, &[("curl", answer)]);
    assert_eq!(of("exit 28"), (true, "1 curl 28".into()));
    assert!(!of("exit 0").0);
    // It was reached, and refused the connection or the handshake.
    assert!(!of("exit 7").0);
    assert!(!of("exit 35").0);
    // Its own pod is not called.
    assert!(of("case $* in *10.0.1.1*) exit 0 ;; *) exit 28 ;; esac").0);
}

#[test]
fn room_is_what_the_allocator_reserved() {
    let of = |allocatable: &str| {
        let jq = format!("printf '%s\\n' {allocatable}");
        let awk = "case $* in *kubeconfig) echo https://k ;; *memory_mib*) echo 768 ;; *cpu_count*) echo 6 ;; esac";
        let programs = [
            ("pgrep", "echo $$"),
            ("aws", "echo t"),
            ("curl", "cat > /dev/null"),
            ("jq", jq.as_str()),
            ("awk", awk),
        ];
        holds("room-for-enclaves", 0, &programs)
    };
    let (held, seen) = of("768Mi 3 6");
    assert!(held && seen == "hugepages-2Mi 768Mi of 768Mi, enclaves 3, processors 6 of 6");
    assert!(!of("0 3 6").0);
    assert!(!of("768Mi 0 6").0);
    assert!(!of("768Mi 3 4").0);
    assert!(!of("").0);
}

#[test]
fn processes_are_confined() {
    // The test's own process has capabilities or none, but no profile as the pods have.
    let me = std::process::id();
    let body = format!("echo {me}");
    let (_, seen) = holds("pods-confined", 0, &[("pgrep", &body)]);
    assert!(
        seen.contains("Seccomp:") && seen.contains("CapEff:"),
        "{seen}"
    );
    let status = "CapEff:0 CapBnd:0 CapAmb:0 NoNewPrivs:1 Seccomp:2";
    let of = |line: &str| {
        let awk = format!("echo '{line} '");
        holds("pods-confined", 0, &[("pgrep", "echo 1"), ("awk", &awk)]).0
    };
    assert!(of(status));
    assert!(!of(&status.replace("Seccomp:2", "Seccomp:0")));
    assert!(!of(&status.replace("CapBnd:0", "CapBnd:3f")));
}

/// A machine with one pod, at 10.0.1.1.
const PODS: &[(&str, &str)] = &[
    (
        "nerdctl",
        "case \"$*\" in *' ps '*) echo 'a1 k8s://cloister/signer-0/pod' ;; *inspect*) echo 1 ;; esac",
    ),
    (
        "nsenter",
        "echo '2: eth0    inet 10.0.1.1/32 scope global eth0'",
    ),
];

/// The part of jq that scripts use: states and flags of enclaves.
const JQ: &str = "tr '{' '\\n' | sed -n 's/.*\"State\": \"\\([A-Z]*\\)\", \"Flags\": \"\\([A-Z_]*\\)\".*/\\1 \\2/p'";
