//! The plan and the report of a rehearsal, in words.

use cloister_key_policy::Deployment;

use super::{ROLES, Report, roles};
use crate::answer::table;

pub(super) fn plan(arn: &str, deployment: &Deployment, name: &str) -> String {
    let Deployment {
        account, region, ..
    } = deployment;
    let roles: Vec<_> = ROLES.map(|role| roles::name(name, role)).into();
    format!(
        "\
as {arn}, in account {account}, region {region}:

  1. create five roles that the account may assume ({}; the number differs each time)
     and that may use the keys created here, and nothing else;
  2. create a KMS key, encrypt seven bytes under it, put the open form of the key policy on it for
     two images that do not exist, and try each action of the permission table as each of these
     roles and as you, with DryRun where KMS supports it;
  3. delete the retirement role, create it again under its name, and check its permissions again;
  4. repeat 2 and 3 with the locked form, which cannot be changed afterwards;
  5. schedule the deletion of both keys, and delete the roles.

It leaves two keys that KMS deletes after 30 days, the period their policy demands (disabled until
then and not charged for), and lines in CloudTrail. Ctrl-C also cleans up. If the program is killed,
roles and keys of that name remain: create the retirement role again under its name to schedule the
deletion; no other principal can, once the policy is on a key.
It needs kms:CreateKey and every action on the keys it creates, iam:CreateRole, DeleteRole,
PutRolePolicy, DeleteRolePolicy, sts:AssumeRole.
",
        roles.join(", ")
    )
}

pub(super) fn text(report: &Report) -> String {
    let (held, wrong): (Vec<_>, Vec<_>) = report.rows.iter().partition(|row| row.ok);
    let mut text = format!(
        "{} of {} rows are as in the table, in account {}\n",
        held.len(),
        report.rows.len(),
        report.account
    );
    if !wrong.is_empty() {
        let cells = wrong.iter().map(|row| {
            [row.form, &row.caller, &row.action, row.expected, &row.found]
                .map(str::to_owned)
                .to_vec()
        });
        let header = ["form", "caller", "action", "expected", "found"];
        text.push_str(&format!("\n{}\n", table(Some(&header), cells)));
    }
    for (why, what) in &report.not_tried {
        text.push_str(&format!(
            "\nnot tried, because {why}: {}\n",
            what.join("; ")
        ));
    }
    text.push_str(&format!(
        "\nremaining until their deletion in 30 days: {}\n",
        report.keys.join(" ")
    ));
    text
}
