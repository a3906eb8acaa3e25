/** The canary. */

import { Duration, type Stack } from 'aws-cdk-lib';
import * as cloudwatch from 'aws-cdk-lib/aws-cloudwatch';
import * as events from 'aws-cdk-lib/aws-events';
import * as targets from 'aws-cdk-lib/aws-events-targets';
import * as iam from 'aws-cdk-lib/aws-iam';

import { keyTag } from '../base';
import { type Configuration, names } from '../configuration';
import { smallFunction } from '../small-function';

/**
 * Calls KMS every hour without an enclave, which it has to deny. The canary's role is not in the key policy, so only a
 * policy that delegates Decrypt to the account changes the outcome.
 */
export function canary(stack: Stack, configuration: Configuration, cmkArn: string): cloudwatch.Alarm {
  const name = names(configuration);
  const environment = { TABLE: name.tableArn, CANARY_ROW, CMK_ARN: cmkArn };
  const { handler: asks, role } = smallFunction(
    stack,
    configuration,
    'canary',
    'Calls KMS for a data key without an enclave, which it has to deny',
    environment,
  );
  const { key, value } = keyTag(configuration);
  role.addToPolicy(
    new iam.PolicyStatement({
      actions: ['kms:Decrypt'],
      resources: [cmkArn],
      conditions: { StringEquals: { [`aws:ResourceTag/${key}`]: value } },
    }),
  );
  role.addToPolicy(new iam.PolicyStatement({ actions: ['dynamodb:GetItem'], resources: [name.tableArn] }));
  new events.Rule(stack, 'CanaryHourly', {
    schedule: events.Schedule.rate(Duration.hours(1)),
    targets: [new targets.LambdaFunction(asks, { retryAttempts: 0 })],
  });
  return new cloudwatch.Alarm(stack, 'Alarm-canary', {
    alarmName: name.of('canary'),
    alarmDescription:
      'KMS did not deny a data key to a caller without an enclave, or was not called; the function’s log has the outcome.',
    metric: asks.metricErrors({ period: Duration.hours(1) }),
    threshold: 0,
    comparisonOperator: cloudwatch.ComparisonOperator.GREATER_THAN_THRESHOLD,
    evaluationPeriods: 2,
    datapointsToAlarm: 1,
    treatMissingData: cloudwatch.TreatMissingData.BREACHING,
  });
}

/** The key id of the canary row: `KeyId::CANARY`. */
const CANARY_ROW = '00000000-0000-0000-0000-000000000000';
