/**
 * Alarms on calls of KMS, which CloudTrail reports to EventBridge.
 *
 * Form of the events: https://docs.aws.amazon.com/kms/latest/developerguide/ct-nitro-enclave.html
 */

import type { Stack } from 'aws-cdk-lib';
import * as cloudwatch from 'aws-cdk-lib/aws-cloudwatch';
import * as events from 'aws-cdk-lib/aws-events';
import type * as sns from 'aws-cdk-lib/aws-sns';

import { type Configuration, names } from '../configuration';
import { type Releases, SERVICES } from '../release';
import { alarm, FIVE_MINUTES } from './alarm';
import { publisher } from './topic';

export interface KeyAlarms {
  readonly alarms: readonly cloudwatch.Alarm[];
  /** They name the admitted images: deployed before the pods, whose first call would be an alarm otherwise. */
  readonly rules: readonly events.CfnRule[];
}

export function keyAlarms(
  stack: Stack,
  configuration: Configuration,
  releases: Releases,
  cmkArn: string,
  topic: sns.Topic,
): KeyAlarms {
  const watched = keyRules(configuration, releases, cmkArn).map(({ id, meaning, detail, atMost }) => {
    const { source, detailType } = ofKms(detail);
    const rule = new events.CfnRule(stack, `Rule-${id}`, {
      name: names(configuration).of(id),
      description: meaning,
      state: EVERY_CALL,
      eventPattern: { source, 'detail-type': detailType, detail },
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
    return { rule, alarm: alarm(stack, configuration, id, matched, atMost ?? 0, meaning) };
  });
  return { alarms: watched.map(({ alarm }) => alarm), rules: watched.map(({ rule }) => rule) };
}

/** Most calls of KMS are read events, which a rule receives only in this state. */
export const EVERY_CALL = 'ENABLED_WITH_ALL_CLOUDTRAIL_MANAGEMENT_EVENTS';

export function ofKms(detail: Readonly<Record<string, unknown>>) {
  return { source: ['aws.kms'], detailType: ['AWS API Call via CloudTrail'], detail };
}

interface KeyRule {
  readonly id: string;
  readonly meaning: string;
  readonly detail: Readonly<Record<string, unknown>>;
  readonly atMost?: number;
}

function keyRules(configuration: Configuration, releases: Releases, cmkArn: string): readonly KeyRule[] {
  const { signerRole, generatorRole } = names(configuration);
  const images = [releases.release, releases.next].flatMap((release) =>
    release === undefined ? [] : SERVICES.map((service) => release.images[service].pcr0),
  );
  const image = (digest: readonly unknown[]) => ({
    additionalEventData: { recipient: { attestationDocumentEnclaveImageDigest: digest } },
  });
  const ours = [...new Set(images)];
  const another = image([{ 'anything-but': ours }]);
  const roles = { sessionContext: { sessionIssuer: { arn: [signerRole, generatorRole] } } };
  const onKey = { resources: { ARN: [cmkArn] } };
  const onAnotherKey = { resources: { ARN: [{ 'anything-but': [cmkArn] }] } };
  return [
    {
      id: 'key-used-outside',
      meaning: 'KMS used the key for a caller other than the deployed images, or would have in a dry run',
      detail: {
        eventName: USES,
        errorCode: [{ exists: false }, 'DryRunOperationException'],
        ...onKey,
        $or: [image([{ exists: false }]), another],
      },
    },
    {
      id: 'key-changed',
      meaning:
        'the key’s deletion was scheduled, or the key was disabled or its policy, grants, material or rotation changed: cancel it if it was not you',
      detail: {
        eventName: [
          'ScheduleKeyDeletion',
          'DisableKey',
          'PutKeyPolicy',
          'CreateGrant',
          'DisableKeyRotation',
          'ReplicateKey',
          'ImportKeyMaterial',
          'DeleteImportedKeyMaterial',
        ],
        ...onKey,
      },
    },
    {
      id: 'another-key',
      meaning: 'a role or an image of the deployment made, changed or used another key than the deployed one',
      detail: {
        eventName: [...USES, 'CreateKey', 'PutKeyPolicy', 'CreateGrant'],
        ...onAnotherKey,
        // Services that read or write for a role, such as Secrets Manager, use their own keys.
        $or: [{ userIdentity: { ...roles, invokedBy: [{ exists: false }] } }, image(ours)],
      },
    },
    {
      id: 'image-refused',
      meaning: 'KMS refused an enclave that runs none of the deployed images',
      // Pods of a release that was just dropped ask until they end.
      atMost: 5,
      detail: {
        eventName: USES,
        errorCode: [{ exists: true }],
        ...another,
        $or: [onKey, { userIdentity: roles }],
      },
    },
  ];
}

/** Calls that use a key for encryption. */
const USES = ['Decrypt', 'Encrypt', 'DeriveSharedSecret', { prefix: 'GenerateDataKey' }, { prefix: 'ReEncrypt' }];
