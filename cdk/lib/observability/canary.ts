/**
 * The canary: a function that compares the key and the trail with what was deployed, and alarms if it fails or stops.
 * Its findings are lines with an `event`, which `LINES` counts.
 */

import { Duration, type Stack, Validations } from 'aws-cdk-lib';
import * as cloudwatch from 'aws-cdk-lib/aws-cloudwatch';
import * as events from 'aws-cdk-lib/aws-events';
import * as targets from 'aws-cdk-lib/aws-events-targets';
import * as iam from 'aws-cdk-lib/aws-iam';
import type * as logs from 'aws-cdk-lib/aws-logs';

import { digests } from '../../functions/canary/policy';
import { type Configuration, names } from '../configuration';
import { openPolicy } from '../key';
import type { Releases } from '../release';
import { smallFunction } from '../small-function';
import { trailArn } from '../trail';
import { EVERY_CALL, ofKms } from './key';

export interface Canary {
  readonly log: logs.ILogGroup;
  /** Missing data is a canary that has stopped. Before its first run, the alarm has no state to change from. */
  readonly alarm: cloudwatch.Alarm;
}

export function canary(stack: Stack, configuration: Configuration, releases: Releases, cmkArn: string): Canary {
  const name = names(configuration);
  const heardRule = name.of('canary-heard');
  const { handler, role } = smallFunction(
    stack,
    configuration,
    'canary',
    'Compares the key and the trail with what was deployed, and calls KMS without an enclave',
    {
      CMK_ARN: cmkArn,
      KEY_POLICY: digests(JSON.stringify(openPolicy(releases.release, releases.next))).join(),
      TRAIL_ARN: trailArn(configuration),
      HEARD_RULE: heardRule,
    },
  );
  // KMS has to deny GenerateDataKey by the key's policy alone.
  const kms = ['GetKeyPolicy', 'DescribeKey', 'GetKeyRotationStatus', 'ListGrants', 'GenerateDataKey'];
  role.addToPolicy(new iam.PolicyStatement({ actions: kms.map((action) => `kms:${action}`), resources: [cmkArn] }));
  role.addToPolicy(
    new iam.PolicyStatement({
      actions: ['cloudtrail:GetTrail', 'cloudtrail:GetTrailStatus', 'cloudtrail:GetEventSelectors'],
      resources: [trailArn(configuration)],
    }),
  );
  role.addToPolicy(new iam.PolicyStatement({ actions: ['cloudwatch:GetMetricStatistics'], resources: ['*'] }));
  Validations.of(role).acknowledge({
    id: 'AwsSolutions-IAM5[Resource::*]',
    reason: 'cloudwatch:GetMetricStatistics has no resource level.',
  });
  new events.Rule(stack, 'CanarySchedule', {
    schedule: events.Schedule.rate(PERIOD),
    targets: [new targets.LambdaFunction(handler, { retryAttempts: 0 })],
  });
  const heard = new events.Rule(stack, 'CanaryHeard', {
    ruleName: heardRule,
    description: 'The canary’s own calls, which CloudTrail has to report',
    eventPattern: ofKms({
      eventName: ['GenerateDataKey'],
      userIdentity: { sessionContext: { sessionIssuer: { arn: [role.roleArn] } } },
    }),
    targets: [new targets.LambdaFunction(handler, { retryAttempts: 0 })],
  });
  (heard.node.defaultChild as events.CfnRule).state = EVERY_CALL;
  return { log: handler.logGroup, alarm: failures(stack, configuration, handler.metricErrors({ period: HOUR })) };
}

function failures(stack: Stack, configuration: Configuration, errors: cloudwatch.Metric): cloudwatch.Alarm {
  return new cloudwatch.Alarm(stack, 'Alarm-canary', {
    alarmName: names(configuration).of('canary'),
    alarmDescription:
      'The key and the trail could not be compared with what was deployed: the canary failed twice within an hour, or has stopped; the function’s log has the cause.',
    metric: errors,
    threshold: 1,
    comparisonOperator: cloudwatch.ComparisonOperator.GREATER_THAN_THRESHOLD,
    evaluationPeriods: 1,
    treatMissingData: cloudwatch.TreatMissingData.MISSING,
  });
}

const HOUR = Duration.hours(1);
/** Three runs an hour: an alarm can ask for more than one, and an update of the deployment is over before the second. */
const PERIOD = Duration.minutes(20);
