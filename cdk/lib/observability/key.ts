/** Alarms on calls of KMS, which EventBridge receives from CloudTrail. */

import type { Stack } from 'aws-cdk-lib';
import * as cloudwatch from 'aws-cdk-lib/aws-cloudwatch';
import * as events from 'aws-cdk-lib/aws-events';
import type * as sns from 'aws-cdk-lib/aws-sns';

import { type Configuration, names } from '../configuration';
import { type Releases, SERVICES } from '../release';
import { alarm, FIVE_MINUTES } from './alarm';
import { publisher } from './topic';

/**
 * Alarms on CloudTrail's events of the key: used without an enclave or by another image, changed, or scheduled for
 * deletion. They need a trail that logs management events of KMS, read events included; no stack creates one.
 *
 * Form of the events: https://docs.aws.amazon.com/kms/latest/developerguide/ct-nitro-enclave.html
 */
export function keyAlarms(
  stack: Stack,
  configuration: Configuration,
  releases: Releases,
  cmkArn: string,
  topic: sns.Topic,
): cloudwatch.Alarm[] {
  const digests = [releases.release, releases.next].flatMap((release) =>
    release === undefined ? [] : SERVICES.map((service) => release.images[service].pcr0),
  );
  const digest = 'attestationDocumentEnclaveImageDigest';
  const call = { source: ['aws.kms'], 'detail-type': ['AWS API Call via CloudTrail'] };
  const rules = [
    {
      id: 'key-used-outside',
      meaning: 'KMS used the key for a caller other than the deployed images',
      detail: {
        eventName: [
          'Decrypt',
          'GenerateDataKey',
          'GenerateDataKeyWithoutPlaintext',
          'ReEncrypt',
          'Encrypt',
          'DeriveSharedSecret',
        ],
        errorCode: [{ exists: false }],
        resources: { ARN: [cmkArn] },
        $or: [
          { additionalEventData: { recipient: { [digest]: [{ exists: false }] } } },
          { additionalEventData: { recipient: { [digest]: [{ 'anything-but': [...new Set(digests)] }] } } },
        ],
      },
    },
    {
      id: 'key-changed',
      meaning:
        'the key’s deletion was scheduled, or the key was disabled or its policy or grants changed: cancel it if it was not you',
      detail: {
        eventName: ['ScheduleKeyDeletion', 'DisableKey', 'PutKeyPolicy', 'CreateGrant', 'DisableKeyRotation'],
        resources: { ARN: [cmkArn] },
      },
    },
  ];
  return rules.map(({ id, meaning, detail }) => {
    const rule = new events.CfnRule(stack, `Rule-${id}`, {
      name: names(configuration).of(id),
      description: meaning,
      // Decrypt and GenerateDataKey are read events, which a rule receives only in this state.
      state: 'ENABLED_WITH_ALL_CLOUDTRAIL_MANAGEMENT_EVENTS',
      eventPattern: { ...call, detail },
      targets: [{ id: 'Alarms', arn: topic.topicArn }],
    });
    publisher(topic, 'events.amazonaws.com', { ArnEquals: { 'aws:SourceArn': rule.attrArn } });
    const matched = new cloudwatch.Metric({
      namespace: 'AWS/Events',
      metricName: 'MatchedEvents',
      dimensionsMap: { RuleName: names(configuration).of(id) },
      statistic: 'Sum',
      period: FIVE_MINUTES,
    });
    return alarm(stack, configuration, id, matched, 0, meaning);
  });
}
