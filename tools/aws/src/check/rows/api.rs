//! The API and its callers.

use crate::check::row::Check::{ByHand, Destructive, Run};
use crate::check::row::Outcome::{AtLeast, Contains, Ends, Is, Nothing, Refused, Succeeds};
use crate::check::row::Step::{As, Change, Each, Expect, If, Let, LetMember, Until};
use crate::check::row::{Row, Table::Api};

pub(super) const ROWS: &[Row] = &[
    Row {
        id: "doctor",
        table: Api,
        claim: "the whole path works, and the front door trusts the cluster's CA",
        expected: "`cloister doctor` finds no fault",
        check: Run(&[Expect("cloister doctor --endpoint $URL", Succeeds)]),
    },
    Row {
        id: "invoke-role",
        table: Api,
        claim: "callers get the role `cloister-invoke`",
        expected: "the same as that role, whose ARN is the parameter `rest_url_role_arn`",
        check: Run(&[
            Let(
                "ROLE",
                "aws ssm get-parameter --name $PARAMETERS/rest_url_role_arn --query Parameter.Value",
            ),
            As("$ROLE"),
            Expect("cloister doctor --endpoint $URL", Succeeds),
        ]),
    },
    Row {
        id: "unsigned-refused",
        table: Api,
        claim: "an unsigned request is refused",
        expected: "403 of AWS",
        check: Run(&[Expect(
            "curl --silent --show-error --output /dev/null --write-out %{http_code} $URL/version",
            Is("403"),
        )]),
    },
    Row {
        id: "unknown-route",
        table: Api,
        claim: "an unknown route gets the API's answer",
        expected: "404 `unknown_route`",
        check: Run(&[Expect(
            "curl --silent --show-error --aws-sigv4 aws:amz:$REGION:execute-api --write-out ' %{http_code}' $URL/nothing",
            Contains("\"unknown_route\""),
        )]),
    },
    Row {
        id: "body-required",
        table: Api,
        claim: "a POST without a body is refused in the API's form",
        expected: "400 `malformed_json`",
        check: Run(&[Expect(
            "curl --silent --show-error --aws-sigv4 aws:amz:$REGION:execute-api --request POST --write-out ' %{http_code}' $URL/generate_key",
            Contains("\"malformed_json\""),
        )]),
    },
    Row {
        id: "key-signs",
        table: Api,
        claim: "a key that was just created signs",
        expected: "a signature by the key's address. Makes one key, whose secret nobody keeps",
        check: Run(&[
            LetMember(
                "WALLET",
                "key_id",
                "cloister key generate --endpoint $URL --json",
            ),
            Expect(
                "cloister sign user-op-hash 1111111111111111111111111111111111111111111111111111111111111111 \
                 --endpoint $URL --key-id $WALLET",
                Succeeds,
            ),
        ]),
    },
    Row {
        id: "collection",
        table: Api,
        claim: "the Postman collection runs against the deployment",
        expected: "every assertion held. Makes two keys",
        check: Run(&[Expect("cargo xtask newman 2 5", Succeeds)]),
    },
    Row {
        id: "doctor-region",
        table: Api,
        claim: "`cloister doctor` recognises API Gateway's own refusals: another region",
        expected: "exit code 3, and advice about the region",
        check: Run(&[Expect(
            "cloister doctor --endpoint $URL --region $OTHER_REGION",
            Ends(3, "--region"),
        )]),
    },
    Row {
        id: "doctor-others",
        table: Api,
        claim: "the same: a wrong secret key, an expired token, a wrong stage, no `execute-api:Invoke`",
        expected: "the advice names the cause each time",
        check: ByHand("`cloister doctor` with each of them"),
    },
    Row {
        id: "no-bodies-in-logs",
        table: Api,
        claim: "no log contains bodies",
        expected: "the secret of a `generate_key` is in no log group of the deployment. Makes one key",
        check: Run(&[
            LetMember(
                "WALLET",
                "key_id",
                "cloister key generate --endpoint $URL --json",
            ),
            Until(
                10,
                "aws logs filter-log-events --log-group-name /aws/apigateway/$NAME-access --start-time $STARTED_MS \
                 --filter-pattern '{ $.route = \"/generate_key\" }' --query 'length(events)'",
                AtLeast(1),
            ),
            Let(
                "GROUPS",
                "aws logs describe-log-groups --log-group-name-pattern $NAME- --query 'logGroups[].logGroupName'",
            ),
            Each(
                "GROUP",
                "$GROUPS",
                &[Expect(
                    "aws logs filter-log-events --log-group-name $GROUP --start-time $STARTED_MS \
                 --filter-pattern '\"'\"$CLOISTER_SECRET\"'\"' --query 'events[].logStreamName'",
                    Nothing,
                )],
            ),
        ]),
    },
    Row {
        id: "code-signing",
        table: Api,
        claim: "only signed code runs, if the deployment has code signing",
        expected: "`Enforce`",
        check: Run(&[
            If(
                "SIGNING",
                "aws lambda get-function-code-signing-config --function-name $NAME-front-door --query CodeSigningConfigArn",
            ),
            Expect(
                "aws lambda get-code-signing-config --code-signing-config-arn $SIGNING \
                 --query CodeSigningConfig.CodeSigningPolicies.UntrustedArtifactOnDeployment",
                Is("Enforce"),
            ),
        ]),
    },
    Row {
        id: "front-door-key",
        table: Api,
        claim: "the key by which pods know the front door is replaced without a failed request",
        expected: "no failed request: pods know the present and the previous one",
        check: ByHand(
            "`cargo xtask newman 2 400`, and meanwhile `aws secretsmanager put-secret-value`, then a deployment",
        ),
    },
    Row {
        id: "unsigned-code",
        table: Api,
        claim: "Lambda refuses code that was not signed",
        expected: "`CodeVerificationFailedException` for the zip of `cargo xtask lambda`",
        check: Destructive {
            steps: &[
                If(
                    "SIGNING",
                    "aws lambda get-function-code-signing-config --function-name $NAME-front-door --query CodeSigningConfigArn",
                ),
                Let(
                    "ARCHITECTURE",
                    "aws lambda get-function-configuration --function-name $NAME-front-door \
                     --query \"Architectures[0]=='arm64' && 'arm64' || 'amd64'\"",
                ),
                Expect(
                    "aws lambda update-function-code --function-name $NAME-front-door \
                     --zip-file fileb://target/lambda/front-door-$ARCHITECTURE.zip --query CodeSize",
                    Refused("CodeVerificationFailedException"),
                ),
            ],
            restore: &[],
        },
    },
    Row {
        id: "closed-api",
        table: Api,
        claim: "too many requests at once are answered `busy`; a rate of zero closes the API within seconds",
        expected: "503 `busy` with `Retry-After`",
        check: Destructive {
            steps: &[
                Let(
                    "RATE",
                    "aws apigateway get-stage --rest-api-id $API --stage-name prod --query 'methodSettings.\"*/*\".throttlingRateLimit'",
                ),
                Let(
                    "BURST",
                    "aws apigateway get-stage --rest-api-id $API --stage-name prod --query 'methodSettings.\"*/*\".throttlingBurstLimit'",
                ),
                Change(
                    "aws apigateway update-stage --rest-api-id $API --stage-name prod --query stageName --patch-operations \
                     op=replace,path='/*/*/throttling/rateLimit',value=0 op=replace,path='/*/*/throttling/burstLimit',value=0",
                ),
                Until(
                    3,
                    "curl --silent --show-error --include --aws-sigv4 aws:amz:$REGION:execute-api $URL/version",
                    Contains("\"busy\""),
                ),
                Expect(
                    "curl --silent --show-error --aws-sigv4 aws:amz:$REGION:execute-api --output /dev/null --write-out '%{http_code} %header{retry-after}' $URL/version",
                    Is("503 1"),
                ),
            ],
            restore: &[
                Change(
                    "aws apigateway update-stage --rest-api-id $API --stage-name prod --query stageName --patch-operations \
                     op=replace,path='/*/*/throttling/rateLimit',value=$RATE op=replace,path='/*/*/throttling/burstLimit',value=$BURST",
                ),
                Until(3, "cloister doctor --endpoint $URL", Succeeds),
            ],
        },
    },
    Row {
        id: "wrong-secrets",
        table: Api,
        claim: "wrong secrets are noticed",
        expected: "requests with a wrong secret are refused, after ten of a minute with `too_many_failures`, which each enclave counts for itself; the alarm `guessing` fires",
        check: Destructive {
            steps: &[
                LetMember(
                    "WALLET",
                    "key_id",
                    "cloister key generate --endpoint $URL --json",
                ),
                Each(
                    "ATTEMPT",
                    "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30",
                    &[Expect(
                        "cloister sign user-op-hash 1111111111111111111111111111111111111111111111111111111111111111 \
                     --endpoint $URL --key-id $WALLET --secret-env WRONG_SECRET",
                        Ends(4, ""),
                    )],
                ),
                Until(
                    1,
                    "cloister sign user-op-hash 1111111111111111111111111111111111111111111111111111111111111111 \
                     --endpoint $URL --key-id $WALLET --secret-env WRONG_SECRET --json",
                    Ends(4, "too_many_failures"),
                ),
                Until(
                    15,
                    "aws cloudwatch describe-alarms --alarm-names $NAME-guessing --query MetricAlarms[0].StateValue",
                    Is("ALARM"),
                ),
            ],
            restore: &[],
        },
    },
];
