//! `cloister kms rehearse`, with the stack's KMS, whose policies are evaluated, and an IAM that
//! only remembers roles.

use cloister_e2e::{Local, eventually};
use cloister_local::identity::{ACCOUNT, Identity};
use cloister_local::part::Part;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::account::Account;
use crate::program::{Ended, Shell};

struct Rehearsal {
    local: Local,
    account: Account,
    shell: Shell,
}

impl Rehearsal {
    async fn start() -> Self {
        let local = Local::start().await;
        let account = Account::start(&local).await;
        let operator: &Identity = &local.stack.identities().administrator;
        let mut shell = Shell::of(operator, &local);
        shell.set("AWS_ENDPOINT_URL_STS", account.url());
        shell.set("AWS_ENDPOINT_URL_IAM", account.url());
        let root = local.stack.data().path("root.pem");
        std::fs::write(&root, local.stack.root_certificate()).unwrap();
        shell.set("AWS_CA_BUNDLE", root.to_str().unwrap());
        Self {
            local,
            account,
            shell,
        }
    }

    async fn run(&self, more: &[&str]) -> Ended {
        let kms = self.local.stack.https(Part::Kms).unwrap();
        self.shell
            .run(&[&["kms", "rehearse", "--endpoint-url", &kms], more].concat())
            .await
    }

    /// Somebody of another account, as a profile.
    fn add_a_stranger(&mut self) {
        let root = "arn:aws:iam::999999999999:root";
        let (id, secret) = self.account.credentials(root, "");
        let file = self.local.stack.data().path("aws-credentials");
        std::fs::write(
            &file,
            format!("[stranger]\naws_access_key_id={id}\naws_secret_access_key={secret}\n"),
        )
        .unwrap();
        self.shell
            .set("AWS_SHARED_CREDENTIALS_FILE", file.to_str().unwrap());
    }

    /// Starts one and sends it a Ctrl-C once it has made a key.
    async fn interrupt(&self) -> Ended {
        let kms = self.local.stack.https(Part::Kms).unwrap();
        let child = self.shell.start(&[
            "kms",
            "rehearse",
            "--endpoint-url",
            &kms,
            "--confirm",
            ACCOUNT,
        ]);
        eventually("the first key", async || !self.keys().await.is_empty()).await;
        let id = i32::try_from(child.id().unwrap()).unwrap();
        kill_process(Pid::from_raw(id).unwrap(), Signal::INT).unwrap();
        self.shell.end(child).await
    }

    /// The state of every key but the stack's own.
    async fn keys(&self) -> Vec<String> {
        let kms = self
            .local
            .stack
            .kms(&self.local.stack.identities().administrator)
            .unwrap();
        let mut states = Vec::new();
        for key in kms.list_keys().send().await.unwrap().keys() {
            let arn = key.key_arn().unwrap();
            if arn != self.local.stack.cmk_arn() {
                let key = kms
                    .describe_key()
                    .key_id(arn)
                    .send()
                    .await
                    .unwrap()
                    .key_metadata
                    .unwrap();
                states.push(key.key_state.unwrap().to_string());
            }
        }
        states
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_confirmation_nothing_is_done() {
    let rehearsal = Rehearsal::start().await;
    let plan = rehearsal.run(&[]).await;
    assert!(
        plan.code == 2 && plan.err.contains("It leaves two keys"),
        "{plan:?}"
    );
    assert!(
        plan.err.contains(&format!("--confirm {ACCOUNT}")),
        "{plan:?}"
    );
    let elsewhere = rehearsal.run(&["--confirm", "999999999999"]).await;
    assert!(
        elsewhere.code == 2 && elsewhere.err.contains("nothing was done"),
        "{elsewhere:?}"
    );
    assert_eq!(
        (rehearsal.account.created(), rehearsal.keys().await.len()),
        (0, 0)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn both_forms_decide_as_the_table_says() {
    let mut rehearsal = Rehearsal::start().await;
    rehearsal.add_a_stranger();
    let ended = rehearsal
        .run(&[
            "--confirm",
            ACCOUNT,
            "--other-account-profile",
            "stranger",
            "--json",
        ])
        .await;
    let report = ended.json();
    let wrong: Vec<_> = report["rows"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|row| row["ok"] != true)
        .collect();
    assert!(ended.code == 0 && wrong.is_empty(), "{wrong:#?}");
    let has = |form: &str, caller: &str, action: &str, found: &str| {
        let row = json!({ "form": form, "caller": caller, "action": action, "expected": found, "found": found, "ok": true });
        assert!(report["rows"].as_array().unwrap().contains(&row), "{row}");
    };
    has(
        "locked",
        "signer outside of an enclave",
        "Decrypt a wallet's data key",
        "denied explicitly",
    );
    has(
        "locked",
        "administrator outside of an enclave",
        "PutKeyPolicy",
        "denied explicitly",
    );
    has(
        "open",
        "administrator outside of an enclave",
        "PutKeyPolicy",
        "allowed",
    );
    has(
        "locked",
        "retirement role outside of an enclave",
        "ScheduleKeyDeletion in 7 days",
        "denied",
    );
    has(
        "locked",
        "re-created retirement role outside of an enclave",
        "ScheduleKeyDeletion in 30 days",
        "allowed",
    );
    has("open", "another account's root", "DescribeKey", "denied");
    has(
        "locked",
        "anybody else of the account",
        "CreateGrant",
        "denied explicitly",
    );

    // Left behind is what was announced, and nothing else.
    assert_eq!(
        rehearsal.keys().await,
        ["PendingDeletion", "PendingDeletion"]
    );
    assert_eq!(
        (rehearsal.account.roles(), rehearsal.account.created()),
        (Vec::<String>::new(), 7)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_fails_or_is_interrupted_cleans_up() {
    let rehearsal = Rehearsal::start().await;
    let interrupted = rehearsal.interrupt().await;
    assert!(
        interrupted.code == 1
            && interrupted
                .err
                .contains("deletion scheduled, roles deleted"),
        "{interrupted:?}"
    );
    assert!(
        rehearsal
            .keys()
            .await
            .iter()
            .all(|state| state == "PendingDeletion")
    );
    assert_eq!(rehearsal.account.roles(), Vec::<String>::new());

    rehearsal
        .local
        .fault(Part::Kms, "GetKeyPolicy", "KMSInternalException", 20)
        .await;
    let ended = rehearsal.run(&["--confirm", ACCOUNT]).await;
    assert!(
        ended.code == 6 && ended.err.contains("deletion scheduled, roles deleted"),
        "{ended:?}"
    );
    assert!(
        rehearsal
            .keys()
            .await
            .iter()
            .all(|state| state == "PendingDeletion")
    );
    assert_eq!(rehearsal.account.roles(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kms_that_decides_otherwise_is_told() {
    let rehearsal = Rehearsal::start().await;
    // Five roles and the operator try it on the first key, three times each before it counts.
    rehearsal
        .local
        .fault(
            Part::Kms,
            "RotateKeyOnDemand",
            "KMSInvalidStateException",
            18,
        )
        .await;
    let ended = rehearsal.run(&["--confirm", ACCOUNT]).await;
    assert_eq!(ended.code, 3, "{ended:?}");
    let wrong: Vec<_> = ended
        .out
        .lines()
        .filter(|line| line.starts_with("open "))
        .collect();
    let told = |line: &&str| line.contains("RotateKeyOnDemand  denied    allowed");
    assert!(wrong.len() == 6 && wrong.iter().all(told), "{ended:?}");
    assert_eq!(
        rehearsal.keys().await,
        ["PendingDeletion", "PendingDeletion"]
    );
    assert_eq!(rehearsal.account.roles(), Vec::<String>::new());
}
