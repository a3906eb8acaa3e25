//! The CMK and its policy.

use crate::check::row::Check::{Destructive, Run};
use crate::check::row::Outcome::{Denied, Is, Succeeds};
use crate::check::row::Step::{Change, Expect, Let};
use crate::check::row::{Row, Table::Key};

pub(super) const ROWS: &[Row] = &[
    Row {
        id: "policy-as-put",
        table: Key,
        claim: "KMS returns the policy as it was put",
        expected: "exit code 0: exactly a rendering for this release; the measurements are those of `--measurements`",
        check: Run(&[Expect(
            "cloister kms verify-policy --key $KEY_ARN --measurements $MEASUREMENTS",
            Succeeds,
        )]),
    },
    Row {
        id: "key-rotates",
        table: Key,
        claim: "KMS rotates the key's material",
        expected: "`true`",
        check: Run(&[Expect(
            "aws kms get-key-rotation-status --key-id $KEY_ARN --query KeyRotationEnabled",
            Is("true"),
        )]),
    },
    Row {
        id: "tag-stays",
        table: Key,
        claim: "the key's tag cannot be changed",
        expected: "denied by the key's policy, to an administrator of the account. The attempt sets the tag to what it is",
        check: Run(&[Expect(
            "aws kms tag-resource --key-id $KEY_ARN --tags TagKey=cloister,TagValue=$NAME",
            Denied("resource-based policy"),
        )]),
    },
    Row {
        id: "no-grants",
        table: Key,
        claim: "nobody creates grants, which bypass the policy",
        expected: "denied by the key's policy, to an administrator of the account",
        check: Run(&[Expect(
            "aws kms create-grant --key-id $KEY_ARN --operations DescribeKey \
             --grantee-principal arn:$PARTITION:iam::$ACCOUNT:role/$NAME-signer --dry-run",
            Denied("resource-based policy"),
        )]),
    },
    Row {
        id: "policy-stays",
        table: Key,
        claim: "only `cloister-administrator` replaces the key's policy",
        expected: "denied by the key's policy, to an administrator of the account. The attempt puts the policy that the key has; the alarm `key-changed` reports it",
        check: Destructive {
            steps: &[
                Let(
                    "POLICY",
                    "aws kms get-key-policy --key-id $KEY_ARN --policy-name default --query Policy",
                ),
                Expect(
                    "aws kms put-key-policy --key-id $KEY_ARN --policy-name default --policy \"$POLICY\"",
                    Denied("resource-based policy"),
                ),
            ],
            restore: &[],
        },
    },
    Row {
        id: "deletion-denied",
        table: Key,
        claim: "only `cloister-retirement` schedules the key's deletion",
        expected: "denied by the key's policy, to an administrator of the account; the alarm `key-changed` reports it",
        check: Destructive {
            steps: &[
                Expect(
                    "aws kms schedule-key-deletion --key-id $KEY_ARN --pending-window-in-days 30",
                    Denied("resource-based policy"),
                ),
                Expect(
                    "aws kms describe-key --key-id $KEY_ARN --query KeyMetadata.KeyState",
                    Is("Enabled"),
                ),
            ],
            restore: &[
                Change("aws kms cancel-key-deletion --key-id $KEY_ARN --query KeyId"),
                Change("aws kms enable-key --key-id $KEY_ARN"),
            ],
        },
    },
    Row {
        id: "who-may-do-what",
        table: Key,
        claim: "KMS decides as `who-may-do-what.json` predicts, in the open and the locked form. A locked key cannot be changed, and is deleted by the retirement role only, also after that role was deleted and created again",
        expected: "exit code 0: every row as predicted. By hand, with `--other-account-profile NAME` as well. Two throw-away keys and their roles are made; KMS deletes the keys after 30 days",
        check: Destructive {
            steps: &[Expect(
                "cloister kms rehearse --confirm $ACCOUNT --measurements $MEASUREMENTS",
                Succeeds,
            )],
            restore: &[],
        },
    },
];
