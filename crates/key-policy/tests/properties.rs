//! Properties: nothing panics, and no single change of a rendered policy survives the check.

#![allow(clippy::unwrap_used, reason = "a test says what is wrong by panicking")]

use std::collections::{BTreeMap, BTreeSet};

use cloister_key_policy::{
    Deployment, Expected, Form, KmsRequest, Measurements, NextRelease, Pcr0, RenderError, check,
    evaluate, render,
};
use proptest::prelude::*;
use serde_json::{Value, json};

proptest! {
    #[test]
    fn arbitrary_text_never_panics(text in ".*") {
        let _ = check(&text, &expected(&deployment(), None));
        let _ = evaluate(&text, &request("kms:Decrypt"));
    }

    #[test]
    fn arbitrary_json_never_panics(value in arbitrary_json(), members in prop::collection::vec((statement_member(), arbitrary_json()), 0..8)) {
        let statement: Value = members.into_iter().collect();
        for policy in [value, json!({"Version": "2012-10-17", "Statement": [statement]})] {
            let text = policy.to_string();
            prop_assert!(check(&text, &expected(&deployment(), None)).is_err());
            let _ = evaluate(&text, &request("kms:Decrypt"));
        }
    }

    #[test]
    fn no_single_change_survives(
        which in 0_usize..4,
        place in any::<prop::sample::Index>(),
        change in change(),
        knows_generator in any::<bool>(),
    ) {
        let next = Some(NextRelease { signer: pcr0(4), generator: pcr0(5) });
        let (form, previous_generator, next) =
            [(Form::Locked, None, None), (Form::Locked, Some(pcr0(3)), None), (Form::Open, Some(pcr0(3)), None), (Form::Open, None, next)][which];
        let measurements = Measurements { previous_generator, next, ..Measurements::new(pcr0(1), pcr0(2)) };
        let deployment = deployment();
        let original: Value = serde_json::from_str(&render(&deployment, &measurements, form).unwrap()).unwrap();

        let mut changed = original.clone();
        let mut places = Vec::new();
        list_places(&original, String::new(), &mut places);
        let at = place.get(&places);
        change.apply(&mut changed, at);
        prop_assume!(changed != original);

        let expected = expected(&deployment, knows_generator.then(|| pcr0(2)));
        prop_assert!(check(&changed.to_string(), &expected).is_err(), "{change:?} at {at}");
    }

    #[test]
    fn every_rendering_is_accepted_and_decidable(
        signer in 1_u8..9,
        generator in 1_u8..9,
        previous in prop::option::of(1_u8..9),
        next in prop::option::of((1_u8..9, 1_u8..9)),
        open in any::<bool>(),
    ) {
        let form = if open { Form::Open } else { Form::Locked };
        let deployment = deployment();
        let measurements = Measurements {
            signer: pcr0(signer),
            generator: pcr0(generator),
            previous_generator: previous.map(pcr0),
            next: next.map(|(signer, generator)| NextRelease { signer: pcr0(signer), generator: pcr0(generator) }),
        };
        // No image is in two slots, but a signer that is the next one, too.
        let mut images: Vec<_> = [Some(signer), Some(generator), previous].into_iter().flatten().collect();
        images.extend(next.iter().flat_map(|&(next_signer, generator)| [Some(generator), (next_signer != signer).then_some(next_signer)]).flatten());
        let distinct = images.iter().collect::<BTreeSet<_>>().len() == images.len();
        match render(&deployment, &measurements, form) {
            Ok(text) => {
                prop_assert!(distinct && (open || next.is_none()));
                for signer in [Some(signer), next.map(|next| next.0)].into_iter().flatten() {
                    let expected = Expected { deployment: &deployment, signer: pcr0(signer), generator: None, accept_open: true };
                    prop_assert_eq!(check(&text, &expected).unwrap().measurements, measurements);
                }
                prop_assert!(evaluate(&text, &request("kms:Decrypt")).is_ok());
            }
            Err(RenderError::SameImage(..)) => prop_assert!(!distinct),
            Err(error) => prop_assert!(error == RenderError::NextInLockedForm && !open && next.is_some()),
        }
    }
}

#[test]
fn ambiguous_deployments_are_not_rendered() {
    let measurements = Measurements::new(pcr0(1), pcr0(2));
    let changes: [fn(&mut Deployment); 12] = [
        |d| d.signer_role = "arn:aws:iam::444455556666:role/s".into(), // another account's role
        |d| d.generator_role = "arn:aws-cn:iam::111122223333:role/s".into(), // another partition's role
        |d| d.signer_role = "arn:aws:iam::111122223333:role/*".into(),       // wildcard
        |d| d.signer_role = "arn:aws:iam::111122223333:role/signe?".into(), // one-character wildcard
        |d| d.retirement_role = "arn:aws:iam::111122223333:role/${aws:username}".into(), // policy variable
        |d| d.administrator_role = "arn:aws:iam::111122223333:user/a".into(),            // user
        |d| d.signer_role = "arn:aws:sts::111122223333:assumed-role/s/x".into(),         // session
        |d| d.signer_role = "arn:aws:iam::111122223333:role/".into(),                    // no name
        |d| d.signer_role = "arn:aws:iam::111122223333:role/a/".into(), // path only
        |d| d.account = "11112222333".into(),                           // short account
        |d| d.account = "11112222333a".into(),                          // letters in the account
        |d| d.partition = "*".into(),                                   // wildcard partition
    ];
    for change in changes {
        let mut deployment = deployment();
        change(&mut deployment);
        assert!(
            render(&deployment, &measurements, Form::Locked).is_err(),
            "{deployment:?}"
        );
    }
}

/// One change of the value at a place.
#[derive(Debug, Clone)]
enum Change {
    Remove,
    Replace(Value),
    AddMember(String, Value),
    Append(Value),
    Repeat,
    Swap,
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        Just(Change::Remove),
        arbitrary_json().prop_map(Change::Replace),
        (statement_member(), arbitrary_json())
            .prop_map(|(name, value)| Change::AddMember(name, value)),
        arbitrary_json().prop_map(Change::Append),
        Just(Change::Repeat),
        Just(Change::Swap),
    ]
}

impl Change {
    fn apply(&self, policy: &mut Value, at: &str) {
        match self {
            Self::Remove => {
                let (parent, name) = at.rsplit_once('/').unwrap_or(("", at));
                let name = name.replace("~1", "/").replace("~0", "~");
                match policy.pointer_mut(parent) {
                    Some(Value::Object(members)) => drop(members.remove(&name)),
                    Some(Value::Array(items)) => drop(items.remove(name.parse().unwrap())),
                    _ => {}
                }
            }
            Self::Replace(value) => *policy.pointer_mut(at).unwrap() = value.clone(),
            Self::AddMember(name, value) => {
                if let Value::Object(members) = policy.pointer_mut(at).unwrap() {
                    members.insert(name.clone(), value.clone());
                }
            }
            Self::Append(value) => match policy.pointer_mut(at).unwrap() {
                Value::Array(items) => items.push(value.clone()),
                Value::String(text) => text.push('*'),
                _ => {}
            },
            Self::Repeat => match policy.pointer_mut(at).unwrap() {
                Value::Array(items) => items.extend(items.first().cloned()),
                Value::String(text) => *text = text.repeat(2),
                _ => {}
            },
            Self::Swap => match policy.pointer_mut(at).unwrap() {
                Value::Array(items) => items.reverse(),
                Value::String(text) => *text = text.to_uppercase(),
                _ => {}
            },
        }
    }
}

fn list_places(value: &Value, at: String, places: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                list_places(
                    member,
                    format!("{at}/{}", name.replace('~', "~0").replace('/', "~1")),
                    places,
                );
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                list_places(item, format!("{at}/{index}"), places);
            }
        }
        _ => {}
    }
    places.push(at);
}

fn statement_member() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec![
            "Sid",
            "Effect",
            "Principal",
            "Action",
            "Resource",
            "Condition",
            "NotAction",
            "NotPrincipal",
            "NotResource",
            "Id",
        ])
        .prop_map(str::to_owned),
        ".{0,8}",
    ]
}

fn arbitrary_json() -> impl Strategy<Value = Value> {
    let words = prop::sample::select(vec![
        "*",
        "Allow",
        "Deny",
        "kms:*",
        "kms:Decrypt",
        "arn:aws:iam::111122223333:root",
        "Frozen",
        "true",
        "30",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        words.prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    let names = prop_oneof![
        prop::sample::select(vec![
            "AWS",
            "StringEquals",
            "Null",
            "Bool",
            "NumericEquals",
            "ArnLike",
            "kms:EncryptionContext:x"
        ])
        .prop_map(str::to_owned),
        ".{0,8}",
    ];
    leaf.prop_recursive(4, 32, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(names.clone(), inner, 0..6)
                .prop_map(|members| members.into_iter().collect()),
        ]
    })
}

fn deployment() -> Deployment {
    let role = |name: &str| format!("arn:aws:iam::111122223333:role/{name}");
    Deployment {
        partition: "aws".into(),
        account: "111122223333".into(),
        region: "eu-central-1".into(),
        signer_role: role("signer"),
        generator_role: role("key-generator"),
        retirement_role: role("retirement"),
        administrator_role: role("administrator"),
    }
}

fn expected(deployment: &Deployment, generator: Option<Pcr0>) -> Expected<'_> {
    Expected {
        deployment,
        signer: pcr0(1),
        generator,
        accept_open: true,
    }
}

fn pcr0(byte: u8) -> Pcr0 {
    Pcr0::try_from([byte; 48]).unwrap()
}

fn request(action: &str) -> KmsRequest {
    KmsRequest {
        principal_arn: "arn:aws:iam::111122223333:role/signer".into(),
        account: "111122223333".into(),
        action: action.into(),
        resource: "arn:aws:kms:eu-central-1:111122223333:key/3c0e3a1e-6d5f-4b2b-9d6e-2f1d3f0a7f11"
            .into(),
        context: BTreeMap::new(),
    }
}
