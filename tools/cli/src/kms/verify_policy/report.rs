//! The verdict in words.

use cloister_key_policy::{Form, Measurements};

use super::super::release::Release;
use super::grantee::short;
use super::{Ability, Verdict};

pub(super) fn text(verdict: &Verdict, release: &Release) -> String {
    let Measurements {
        signer, generator, ..
    } = release.measurements;
    let subject = verdict.key.as_deref().unwrap_or("the policy");
    let mut text = match (verdict.ok, verdict.form) {
        (true, Some(form)) => format!(
            "{subject}: exactly the {form} form for account {}, signer {}, key generator {}\n",
            release.deployment.account,
            short(&signer),
            short(&generator)
        ),
        _ => format!("{subject}: NOT a policy of this release\n"),
    };
    let mut list = |title: &str, lines: &[String]| {
        if !lines.is_empty() {
            text.push_str(&format!("\n{title}\n"));
            lines
                .iter()
                .for_each(|line| text.push_str(&format!("  {line}\n")));
        }
    };
    list("Problems", &verdict.problems);
    list("Departures from the template", &verdict.departures);
    let today: Vec<_> = verdict
        .today
        .iter()
        .flat_map(|Ability { may, who }| {
            std::iter::once((*may).to_owned()).chain(who.iter().map(|who| format!("    {who}")))
        })
        .collect();
    list("Permissions", &today);
    list("Changes", &verdict.by_a_change);
    list("Notes", &verdict.notes);
    text
}

pub(super) fn form_name(form: Form) -> &'static str {
    match form {
        Form::Open => "open",
        Form::Locked => "locked",
    }
}
