//! Deployments, updates and their end.

use crate::check::row::Check::{ByHand, Destructive, Run};
use crate::check::row::Outcome::Contains;
use crate::check::row::Step::{Each, Expect, Let};
use crate::check::row::{Row, Table::Lifetime};

pub(super) const ROWS: &[Row] = &[
    Row {
        id: "no-difference",
        table: Lifetime,
        claim: "what is deployed is what the configuration describes",
        expected: "`cdk diff`, with the variables of the deployment, finds no difference",
        check: Run(&[Expect(
            "npx cdk diff --all",
            Contains("Number of stacks with differences: 0"),
        )]),
    },
    Row {
        id: "deployed-twice",
        table: Lifetime,
        claim: "everything deploys, and a second time changes nothing",
        expected: "`no changes` for every stack",
        check: Destructive {
            steps: &[
                Let(
                    "STACKS",
                    "aws cloudformation describe-stacks \
                     --query \"Stacks[?StackName=='$NAME-base' || StackName=='$NAME-key' || StackName=='$CLUSTER' || \
                     StackName=='$NAME-application' || StackName=='$NAME-ecs'].StackName\"",
                ),
                Each(
                    "STACK",
                    "$STACKS",
                    &[Expect(
                        "npx cdk deploy $STACK --exclusively --require-approval never",
                        Contains("(no changes)"),
                    )],
                ),
            ],
            restore: &[],
        },
    },
    Row {
        id: "update",
        table: Lifetime,
        claim: "an update with other measurements switches traffic without an error",
        expected: "no failed request",
        check: ByHand(
            "`cargo xtask newman 4 200` against the endpoint during [step 2](operate.md#with-new-measurements)",
        ),
    },
    Row {
        id: "failed-update",
        table: Lifetime,
        claim: "a release that does not become available leaves traffic where it is",
        expected: "CloudFormation goes back; no failed request",
        check: ByHand("the same with `CDK_NEXT_IMAGES` of images that the key does not admit"),
    },
    Row {
        id: "back",
        table: Lifetime,
        claim: "traffic goes back to the present release without an error",
        expected: "no failed request",
        check: ByHand("the same, then `CDK_TRAFFIC=present` and a deployment"),
    },
    Row {
        id: "destroyed",
        table: Lifetime,
        claim: "`cdk destroy` leaves nothing behind, log groups included",
        expected: "only what [deploying.md](deploying.md#destroying) retains",
        check: ByHand(
            "`cdk destroy`; `aws resourcegroupstaggingapi get-resources`, `aws logs describe-log-groups`, load balancers, network interfaces",
        ),
    },
    Row {
        id: "found-again",
        table: Lifetime,
        claim: "destroy leaves table and key, and the next deployment finds them",
        expected: "the signature of a key of before",
        check: ByHand(
            "`cdk destroy`, deploy again under the same prefix, sign with a key of before",
        ),
    },
    Row {
        id: "same-name-again",
        table: Lifetime,
        claim: "a prefix whose keys were destroyed can be deployed again",
        expected: "the deployment succeeds, beside what is still retained",
        check: ByHand("destroy with keys, then deploy under the same prefix"),
    },
];
