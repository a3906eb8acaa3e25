//! `cargo aws` with the real `aws` against an AWS that fails: each cause is recognised, nothing is
//! made before the checks have passed, and the next run goes on.

#![allow(clippy::unwrap_used, reason = "what cannot go on in a test fails it")]

mod aws;
mod checkout;

use std::fs;

use cloister_aws::Environment;
use cloister_aws::deployment::{Deployment, Target};
use cloister_aws::error::Error;
use cloister_aws::up::instructions;

use crate::aws::{Aws, Failure, KEY_ID, REGION, Secret};
use crate::checkout::Checkout;

/// The failure of `up`, before which nothing was built or deployed.
fn refusal(aws: &Aws, checkout: &Checkout) -> Error {
    let error = checkout.fails(&["up"]);
    assert_eq!(checkout.ran("xtask"), [""; 0]);
    assert_eq!(checkout.ran("cdk "), [""; 0]);
    assert!(aws.state().stacks.is_empty());
    assert!(!error.to_string().contains('\n'), "{error}");
    error
}

fn refused(change: impl FnOnce(&Aws, &mut Checkout)) -> Error {
    let aws = Aws::start();
    let mut checkout = Checkout::new(&aws);
    change(&aws, &mut checkout);
    refusal(&aws, &checkout)
}

fn faulty(operation: &'static str, code: &'static str) -> Error {
    refused(|aws, checkout| {
        checkout.set("AWS_MAX_ATTEMPTS", "2");
        aws.state().faults.push((operation, code, 10));
    })
}

#[test]
fn credentials_that_cannot_be_used_are_told_apart() {
    let sts = "GetCallerIdentity";
    assert_eq!(faulty(sts, "ExpiredToken"), Error::CredentialsExpired);
    let code = "InvalidClientTokenId".to_owned();
    assert_eq!(
        faulty(sts, "InvalidClientTokenId"),
        Error::CredentialsInvalid { code }
    );
    let throttled = Error::Throttled {
        operation: sts.to_owned(),
    };
    assert_eq!(faulty(sts, "Throttling"), throttled);
    let denied = faulty(sts, "AccessDenied");
    assert!(
        matches!(&denied, Error::NotPermitted { operation, principal, .. }
            if operation == sts && principal == "arn:aws:iam::123456789012:user/a"),
        "{denied}"
    );
    let none = refused(|_, checkout| {
        checkout.set("AWS_ACCESS_KEY_ID", "");
        checkout.set("AWS_SECRET_ACCESS_KEY", "");
    });
    assert_eq!(none, Error::NoCredentials);
}

#[test]
fn the_account_and_the_region_have_to_fit() {
    let wrong = refused(|aws, _| aws.state().account = "999999999999");
    assert!(matches!(wrong, Error::WrongAccount { .. }), "{wrong}");
    let cluster = refused(|_, checkout| checkout.set("CDK_VARIANT", "identities"));
    assert!(
        matches!(cluster, Error::Option { option, .. } if option == "CDK_VARIANT"),
        "{cluster}"
    );
    let region = REGION.to_owned();
    let unknown = faulty("DescribeRegions", "InvalidParameterValue");
    assert_eq!(
        unknown,
        Error::UnknownRegion {
            region: region.clone()
        }
    );
    let closed = refused(|aws, _| aws.state().opt_in = "not-opted-in");
    assert_eq!(closed, Error::RegionNotEnabled { region });
    let without = refused(|aws, _| aws.state().machine_types = "");
    assert!(
        matches!(&without, Error::RegionLacks { what, .. } if what.contains("m6i")),
        "{without}"
    );
    let without = refused(|_, checkout| {
        checkout.set("AWS_MAX_ATTEMPTS", "1");
        checkout.set("AWS_ENDPOINT_URL_EKS", "http://127.0.0.1:1");
    });
    assert!(
        matches!(&without, Error::RegionLacks { what, .. } if what == "EKS"),
        "{without}"
    );
    let quota = refused(|aws, _| aws.state().quota = 23.0);
    assert!(
        matches!(
            quota,
            Error::Quota {
                quota: "L-1216C47A",
                limit: 23,
                needed: 24,
                ..
            }
        ),
        "{quota}"
    );
}

#[test]
fn images_of_another_deployment_are_refused() {
    let other = refused(|_, checkout| {
        let images = checkout.path("others");
        fs::create_dir(&images).unwrap();
        let measured = r#"{"settings": {"table_arn": "arn:other"}}"#;
        fs::write(images.join("measurements.json"), measured).unwrap();
        checkout.set("CDK_IMAGES", &images.display().to_string());
    });
    assert!(
        matches!(&other, Error::OtherImages { found, expected, .. }
            if found == "arn:other" && expected == "arn:this"),
        "{other}"
    );
}

#[test]
fn pods_in_production_keep_their_access_to_the_key() {
    let aws = Aws::start();
    let mut checkout = Checkout::new(&aws);
    // A key that admits another generator, and one stack to see how far it goes.
    aws.state().admitted = "aa cc";
    aws.state().has("cloister-application", "CREATE_COMPLETE");
    aws.state().failures.push(("CDKToolkit", Failure::Cdk));
    checkout.set("CDK_PREFIX", "");
    let refused = checkout.fails(&["up"]);
    assert!(matches!(refused, Error::OtherRelease { .. }), "{refused}");
    assert_eq!(checkout.ran("cdk "), [""; 0]);
    aws.state().admitted = "aa bb";
    let further = checkout.fails(&["up"]);
    assert!(matches!(further, Error::Command { .. }), "{further}");
}

#[test]
fn a_stack_that_rolled_back_is_explained_and_the_next_run_goes_on() {
    let aws = Aws::start();
    let checkout = Checkout::new(&aws);
    // What may not be asked is no obstacle, and throttling passes.
    aws.state()
        .faults
        .push(("GetServiceQuota", "AccessDeniedException", 9));
    aws.state()
        .faults
        .push(("GetCallerIdentity", "Throttling", 2));
    let cluster = "dev-cloister-cluster";
    aws.state()
        .failures
        .push((cluster, Failure::Stack("ROLLBACK_COMPLETE")));

    let failed = checkout.fails(&["up"]);
    let Error::StackFailed {
        stack,
        status,
        resource,
        reason,
        ..
    } = &failed
    else {
        panic!("{failed:?}");
    };
    assert_eq!(
        (stack.as_str(), status.as_str()),
        (cluster, "ROLLBACK_COMPLETE")
    );
    assert_eq!(
        (resource.as_str(), reason.as_str()),
        ("Nodes", "Your account has no quota")
    );
    assert_eq!(aws.calls("GetCallerIdentity"), 3);
    let deployed = ["bootstrap", "base", "key", "cluster"];
    for (line, stack) in checkout.ran("cdk ").iter().zip(deployed) {
        assert!(line.contains(stack), "{line} for {stack}");
    }
    assert_eq!(checkout.ran("cdk ").len(), deployed.len());

    // A stack that was never created is removed first; what was built or bootstrapped stays.
    checkout.succeeds(&["up"]);
    assert_eq!(aws.calls("DeleteStack"), 1);
    for once in [
        "xtask image",
        "xtask containers",
        "xtask lambda",
        "bootstrap",
    ] {
        assert_eq!(checkout.ran(once).len(), 1, "{once}");
    }
    let lines = checkout.ran("cdk deploy");
    let last: Vec<_> = lines.iter().rev().take(2).collect();
    assert!(
        last[1].contains(cluster) && last[0].contains("application"),
        "{last:?}"
    );
    assert!(last[0].ends_with("# signer=123456789012.dkr.ecr.eu-central-1.amazonaws.com/dev-cloister-pods@sha256:1,key-generator=123456789012.dkr.ecr.eu-central-1.amazonaws.com/dev-cloister-pods@sha256:2"), "{last:?}");

    // A source that changed is built again, and nothing else.
    fs::write(checkout.path("enclaves/a.rs"), "changed").unwrap();
    aws.state()
        .faults
        .push(("DescribeStacks", "AccessDenied", 9));
    checkout.fails(&["up"]);
    assert_eq!(checkout.ran("xtask image").len(), 2);
    assert_eq!(checkout.ran("xtask lambda").len(), 1);
}

#[test]
fn a_base_that_failed_does_not_block_its_names() {
    for (status, rollbacks) in [
        // The table withstood the rollback.
        ("ROLLBACK_FAILED", 0),
        // With --no-rollback.
        ("CREATE_FAILED", 1),
    ] {
        let aws = Aws::start();
        let checkout = Checkout::new(&aws);
        let base = "dev-cloister-base";
        let failure = (base, Failure::Stack(status));
        aws.state().failures.push(failure);
        let failed = checkout.fails(&["up"]);
        assert!(matches!(failed, Error::StackFailed { .. }), "{failed:?}");
        // As far as the next stack.
        let failure = ("dev-cloister-key", Failure::Cdk);
        aws.state().failures.push(failure);
        checkout.fails(&["up"]);
        assert_eq!(aws.calls("RollbackStack"), rollbacks, "{status}");
        assert_eq!(aws.calls("DeleteStack"), 1, "{status}");
        assert_eq!(aws.state().stacks[base].status, "CREATE_COMPLETE");
    }
}

#[test]
fn what_an_account_has_from_before_is_no_obstacle_on_ecs() {
    for (secret, role, restored) in [
        (None, "InvalidInput", 0),
        (Some(Secret::Deleted), "AccessDenied", 1),
    ] {
        let aws = Aws::start();
        let mut checkout = Checkout::new(&aws);
        checkout.set("CDK_VARIANT", "ecs");
        aws.state().secret = secret;
        let fault = ("CreateServiceLinkedRole", role, 1);
        aws.state().faults.push(fault);
        checkout.succeeds(&["up"]);
        assert_eq!(aws.state().secret, Some(Secret::There));
        assert_eq!(aws.calls("RestoreSecret"), restored);
        assert_eq!(aws.calls("CreateServiceLinkedRole"), 1);
    }
}

#[test]
fn stacks_are_taken_as_an_interrupted_run_left_them() {
    let aws = Aws::start();
    let checkout = Checkout::new(&aws);
    {
        let mut state = aws.state();
        state.has("CDKToolkit", "UPDATE_COMPLETE");
        state.has("dev-cloister-base", "UPDATE_COMPLETE");
        state.stacks.get_mut("dev-cloister-base").unwrap().busy = 3;
        state.has("dev-cloister-key", "UPDATE_FAILED");
        state.has("dev-cloister-cluster", "UPDATE_ROLLBACK_FAILED");
    }
    let stuck = checkout.fails(&["up"]);
    assert!(
        matches!(&stuck, Error::StackStuck { status, next, .. }
            if status == "UPDATE_ROLLBACK_FAILED" && next.contains("continue-update-rollback")),
        "{stuck:?}"
    );
    assert_eq!(aws.calls("RollbackStack"), 1);
    assert_eq!(checkout.ran("cdk deploy").len(), 2);

    // The CDK's own failure is not taken for one of CloudFormation's earlier ones.
    aws.state()
        .has("dev-cloister-cluster", "UPDATE_ROLLBACK_COMPLETE");
    aws.state().failures.push((
        "dev-cloister-cluster",
        Failure::Stack("UPDATE_ROLLBACK_COMPLETE"),
    ));
    let failed = checkout.fails(&["up"]);
    assert!(matches!(failed, Error::StackFailed { .. }), "{failed:?}");
    aws.state()
        .failures
        .push(("dev-cloister-cluster", Failure::Cdk));
    let failed = checkout.fails(&["up"]);
    assert!(matches!(failed, Error::Command { .. }), "{failed:?}");
}

#[test]
fn the_last_lines_can_be_pasted() {
    let aws = Aws::start();
    let checkout = Checkout::new(&aws);
    let target = Target {
        account: Some(aws::ACCOUNT.to_owned()),
        region: Some(REGION.to_owned()),
        ..Target::default()
    };
    let deployment = Deployment::new(&target, &Environment::new()).unwrap();
    let role = deployment.role("invoke");
    let text = instructions(&deployment, &format!("{}/prod/", aws.endpoint()), &role);
    let begin = text.find("  SECRET=").unwrap();
    let end = text.find("\n\n`cargo").unwrap();
    let printed = checkout.paste(&text[begin..end]);
    assert!(printed.starts_with("secret ") && printed.ends_with("\na new key"));
}

#[test]
fn down_leaves_the_keys() {
    let aws = Aws::start();
    let checkout = Checkout::new(&aws);
    all_stacks(&aws);
    aws.state()
        .failures
        .push(("dev-cloister-cluster", Failure::Stack("DELETE_FAILED")));
    let failed = checkout.fails(&["down"]);
    assert!(matches!(failed, Error::StackFailed { .. }), "{failed:?}");
    checkout.succeeds(&["down"]);
    let left: Vec<_> = aws.state().stacks.keys().cloned().collect();
    assert_eq!(
        left,
        ["CDKToolkit", "dev-cloister-base", "dev-cloister-key"]
    );
    let lines = checkout.ran("cdk ");
    assert!(
        lines.iter().all(|line| line.contains("-c destroy=true")),
        "{lines:?}"
    );
    assert_eq!(aws.calls("ScheduleKeyDeletion"), 0);
}

#[test]
fn down_with_keys_asks_and_goes_on_where_it_stopped() {
    let aws = Aws::start();
    let checkout = Checkout::new(&aws);
    all_stacks(&aws);
    let other = checkout.fails(&["down", "--with-keys", "--confirm", "another"]);
    assert!(matches!(other, Error::NotConfirmed { .. }), "{other:?}");
    assert_eq!(checkout.ran("cdk "), [""; 0]);

    let with_keys = ["down", "--with-keys", "--confirm", KEY_ID];
    aws.state()
        .failures
        .push(("dev-cloister-base", Failure::Cdk));
    checkout.fails(&with_keys);
    checkout.succeeds(&with_keys);
    let left: Vec<_> = aws.state().stacks.keys().cloned().collect();
    assert_eq!(left, ["CDKToolkit"]);
    assert_eq!(aws.calls("ScheduleKeyDeletion"), 1);
    let destroyed: Vec<_> = checkout
        .ran("cdk destroy")
        .iter()
        .map(|line| line.split(' ').nth(2).unwrap().to_owned())
        .collect();
    assert_eq!(
        destroyed,
        ["application", "cluster", "key", "base"].map(|name| format!("dev-cloister-{name}"))
    );
}

#[test]
fn down_does_not_take_the_keys_of_another_platform() {
    let aws = Aws::start();
    let mut checkout = Checkout::new(&aws);
    for name in ["base", "key", "ecs"] {
        let name = format!("dev-cloister-{name}");
        aws.state().has(&name, "CREATE_COMPLETE");
    }
    let with_keys = ["down", "--with-keys", "--confirm", KEY_ID];
    let refused = Error::OtherPlatform {
        stack: "dev-cloister-ecs".to_owned(),
        chosen: "eks",
        other: "ecs",
    };
    assert_eq!(checkout.fails(&["down"]), refused);
    aws.state().has("dev-cloister-cluster", "CREATE_COMPLETE");
    assert_eq!(checkout.fails(&with_keys), refused);
    assert_eq!(checkout.ran("cdk "), [""; 0]);
    assert_eq!(aws.calls("ScheduleKeyDeletion"), 0);
    // As it says: each platform can be removed while both are there.
    checkout.set("CDK_VARIANT", "ecs");
    checkout.succeeds(&["down"]);
    let left: Vec<_> = aws.state().stacks.keys().cloned().collect();
    let expected = ["base", "cluster", "key"].map(|name| format!("dev-cloister-{name}"));
    assert_eq!(left, expected);
}

#[test]
fn down_makes_no_base_that_is_not_there() {
    let aws = Aws::start();
    let checkout = Checkout::new(&aws);
    aws.state().has("dev-cloister-base", "CREATE_FAILED");
    checkout.succeeds(&["down", "--with-keys", "--confirm", KEY_ID]);
    assert_eq!(checkout.ran("cdk "), [""; 0]);
    assert_eq!(aws.state().stacks.len(), 0);
}

fn all_stacks(aws: &Aws) {
    for name in ["base", "key", "cluster", "application"] {
        aws.state()
            .has(&format!("dev-cloister-{name}"), "CREATE_COMPLETE");
    }
    aws.state().has("CDKToolkit", "CREATE_COMPLETE");
}
