//! Alarms, journal, and what they need.

use crate::check::row::Check::{Destructive, Run};
use crate::check::row::Outcome::{AtLeast, Contains, Is, Nothing, Refused, Something, Succeeds};
use crate::check::row::Step::{As, AsOperator, Change, Each, Expect, Let, LetMember, Until};
use crate::check::row::{Row, Table::Monitoring};

pub(super) const ROWS: &[Row] = &[
    Row {
        id: "somebody-subscribed",
        table: Monitoring,
        claim: "somebody gets the alarms",
        expected: "a confirmed subscription of the topic `cloister-alarms`",
        check: Run(&[Expect(
            "aws sns list-subscriptions-by-topic --topic-arn arn:$PARTITION:sns:$REGION:$ACCOUNT:$NAME-alarms \
             --query \"Subscriptions[?SubscriptionArn!='PendingConfirmation'].Protocol\"",
            Something,
        )]),
    },
    Row {
        id: "alarms-complete",
        table: Monitoring,
        claim: "every alarm has an action, and CloudWatch evaluates it",
        expected: "more than 20 alarms, none without an action or with disabled ones",
        check: Run(&[
            Expect(
                "aws cloudwatch describe-alarms --alarm-name-prefix $NAME- --query 'length(MetricAlarms)'",
                AtLeast(20),
            ),
            Expect(
                "aws cloudwatch describe-alarms --alarm-name-prefix $NAME- \
                 --query 'MetricAlarms[?!ActionsEnabled || length(AlarmActions)==`0`].AlarmName'",
                Nothing,
            ),
        ]),
    },
    Row {
        id: "alarms-quiet",
        table: Monitoring,
        claim: "a deployment at rest raises no alarm",
        expected: "no alarm is in the state `ALARM`",
        check: Run(&[Expect(
            "aws cloudwatch describe-alarms --alarm-name-prefix $NAME- --state-value ALARM --query MetricAlarms[].AlarmName",
            Nothing,
        )]),
    },
    Row {
        id: "canary-content",
        table: Monitoring,
        claim: "KMS denies the canary; key, policy and trail are as they were deployed",
        expected: "the function `cloister-canary` ends without an error, and its log line has no finding",
        check: Run(&[
            Expect(
                "aws lambda invoke --function-name $NAME-canary --query FunctionError /dev/null",
                Nothing,
            ),
            Until(
                5,
                "aws logs filter-log-events --log-group-name /aws/lambda/$NAME-canary --start-time $STARTED_MS \
                 --filter-pattern '{ $.findings = 0 }' --query 'length(events)'",
                AtLeast(1),
            ),
        ]),
    },
    Row {
        id: "trail",
        table: Monitoring,
        claim: "the trail of the deployment logs read and write management events of KMS",
        expected: "it is logging, with a selector of all management events that does not leave KMS out",
        check: Run(&[
            Let(
                "TRAIL",
                "aws lambda get-function-configuration --function-name $NAME-canary --query Environment.Variables.TRAIL_ARN",
            ),
            Expect(
                "aws cloudtrail get-trail-status --name $TRAIL --query IsLogging",
                Is("true"),
            ),
            Expect(
                "aws cloudtrail get-event-selectors --trail-name $TRAIL --query \
                 \"[EventSelectors[?IncludeManagementEvents && ReadWriteType=='All' && \
                 !contains(not_null(ExcludeManagementEventSources, \\`[]\\`), 'kms.amazonaws.com')][], \
                 AdvancedEventSelectors[?length(FieldSelectors[?Field=='eventCategory' && Equals[0]=='Management'])==\\`1\\` && \
                 length(FieldSelectors)==\\`1\\`][]][] | length(@)\"",
                AtLeast(1),
            ),
        ]),
    },
    Row {
        id: "kms-heard",
        table: Monitoring,
        claim: "EventBridge hears read events of KMS: the canary's own calls",
        expected: "the rule `cloister-canary-heard` matched within the last three hours",
        check: Run(&[Expect(
            "aws cloudwatch get-metric-statistics --namespace AWS/Events --metric-name MatchedEvents \
             --dimensions Name=RuleName,Value=$NAME-canary-heard --start-time $EARLIER --end-time $STARTED --period 300 \
             --statistics Sum --query 'sum(Datapoints[].Sum)'",
            AtLeast(1),
        )]),
    },
    Row {
        id: "alarms-notify",
        table: Monitoring,
        claim: "an alarm publishes to its topic. Sends one notification, of the alarm `slow`",
        expected: "CloudWatch executed the action, and SNS counts a message",
        check: Run(&[
            Expect(
                "aws cloudwatch set-alarm-state --alarm-name $NAME-slow --state-value ALARM --state-reason 'cargo aws check'",
                Succeeds,
            ),
            Until(
                3,
                "aws cloudwatch describe-alarm-history --alarm-name $NAME-slow --history-item-type Action \
                 --start-date $STARTED --query AlarmHistoryItems[0].HistorySummary",
                Contains("Successfully executed action"),
            ),
            Until(
                15,
                "aws cloudwatch get-metric-statistics --namespace AWS/SNS --metric-name NumberOfMessagesPublished \
                 --dimensions Name=TopicName,Value=$NAME-alarms --start-time $STARTED --end-time $ENDS --period 60 \
                 --statistics Sum --query 'sum(Datapoints[].Sum)'",
                AtLeast(1),
            ),
        ]),
    },
    Row {
        id: "key-alarms",
        table: Monitoring,
        claim: "a policy that lets keys out is noticed, and so is a use of the key without an image",
        expected: "under AWS's default key policy the alarm `key-released` fires, and a data key without an enclave raises `key-used-outside`",
        check: Destructive {
            steps: &[
                Let(
                    "POLICY",
                    "aws kms get-key-policy --key-id $KEY_ARN --policy-name default --query Policy",
                ),
                As("arn:$PARTITION:iam::$ACCOUNT:role/$NAME-administrator"),
                Change(
                    "aws kms put-key-policy --key-id $KEY_ARN --policy-name default --bypass-policy-lockout-safety-check --policy \
                     \"{\\\"Version\\\":\\\"2012-10-17\\\",\\\"Statement\\\":[{\\\"Effect\\\":\\\"Allow\\\",\\\"Principal\\\":{\\\"AWS\\\":\\\"arn:$PARTITION:iam::$ACCOUNT:root\\\"},\\\"Action\\\":\\\"kms:*\\\",\\\"Resource\\\":\\\"*\\\"}]}\"",
                ),
                AsOperator,
                Until(
                    5,
                    "aws kms generate-data-key-without-plaintext --key-id $KEY_ARN --key-spec AES_256 --query KeyId",
                    Something,
                ),
                Expect(
                    "aws lambda invoke --function-name $NAME-canary --query FunctionError /dev/null",
                    Nothing,
                ),
                Until(
                    15,
                    "aws cloudwatch describe-alarms --alarm-names $NAME-key-released --query MetricAlarms[0].StateValue",
                    Is("ALARM"),
                ),
                Until(
                    20,
                    "aws cloudwatch describe-alarms --alarm-names $NAME-key-used-outside --query MetricAlarms[0].StateValue",
                    Is("ALARM"),
                ),
            ],
            restore: &[
                As("arn:$PARTITION:iam::$ACCOUNT:role/$NAME-administrator"),
                Change(
                    "aws kms put-key-policy --key-id $KEY_ARN --policy-name default --bypass-policy-lockout-safety-check --policy \"$POLICY\"",
                ),
            ],
        },
    },
    Row {
        id: "journal",
        table: Monitoring,
        claim: "a change of the table is in the journal, under retention",
        expected: "an object for the new row with a retention. Makes one key",
        check: Run(&[
            Let(
                "JOURNAL",
                "aws ssm get-parameter --name $PARAMETERS/journal_bucket --query Parameter.Value",
            ),
            LetMember(
                "WALLET",
                "key_id",
                "cloister key generate --endpoint $URL --json",
            ),
            Until(
                5,
                "aws s3api list-objects-v2 --bucket $JOURNAL --prefix $WALLET/ --query Contents[0].Key",
                Something,
            ),
            Let(
                "OBJECT",
                "aws s3api list-objects-v2 --bucket $JOURNAL --prefix $WALLET/ --query Contents[0].Key",
            ),
            Expect(
                "aws s3api get-object-retention --bucket $JOURNAL --key $OBJECT --query Retention.Mode",
                Something,
            ),
        ]),
    },
    Row {
        id: "journal-locked",
        table: Monitoring,
        claim: "nobody removes a change from the journal before its time",
        expected: "`AccessDenied`, to an administrator of the account",
        check: Destructive {
            steps: &[
                Let(
                    "JOURNAL",
                    "aws ssm get-parameter --name $PARAMETERS/journal_bucket --query Parameter.Value",
                ),
                Let(
                    "OBJECT",
                    "aws s3api list-object-versions --bucket $JOURNAL --max-items 1 --query Versions[0].Key",
                ),
                Let(
                    "OBJECT_VERSION",
                    "aws s3api list-object-versions --bucket $JOURNAL --max-items 1 --query Versions[0].VersionId",
                ),
                Expect(
                    "aws s3api delete-object --bucket $JOURNAL --key $OBJECT --version-id $OBJECT_VERSION",
                    Refused("AccessDenied"),
                ),
            ],
            restore: &[],
        },
    },
    Row {
        id: "table-protected",
        table: Monitoring,
        claim: "the table is protected",
        expected: "protection against deletion, and recovery to any point of 35 days",
        check: Run(&[
            Expect(
                "aws dynamodb describe-table --table-name $NAME-keys --query Table.DeletionProtectionEnabled",
                Is("true"),
            ),
            Expect(
                "aws dynamodb describe-continuous-backups --table-name $NAME-keys \
                 --query ContinuousBackupsDescription.PointInTimeRecoveryDescription.PointInTimeRecoveryStatus",
                Is("ENABLED"),
            ),
        ]),
    },
    Row {
        id: "logs-expire",
        table: Monitoring,
        claim: "every log group of the deployment has a retention",
        expected: "none without",
        check: Run(&[
            Let(
                "GROUPS",
                "aws logs describe-log-groups --log-group-name-pattern $NAME- --query 'logGroups[].logGroupName'",
            ),
            Expect(
                "aws logs describe-log-groups --log-group-name-pattern $NAME- --query 'logGroups[?!retentionInDays].logGroupName'",
                Nothing,
            ),
            Each(
                "GROUP",
                "/aws/lambda/$NAME-front-door /aws/apigateway/$NAME-access",
                &[Expect(
                    "aws logs describe-log-groups --log-group-name-prefix $GROUP --query 'logGroups[0].retentionInDays'",
                    AtLeast(1),
                )],
            ),
        ]),
    },
];
