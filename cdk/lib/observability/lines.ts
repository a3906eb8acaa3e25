/**
 * Alarms on log lines of the front door, the pods, the enclaves and the canary, which are counted by their `event` or
 * `code`.
 */

import { Duration, type Stack } from 'aws-cdk-lib';
import * as cloudwatch from 'aws-cdk-lib/aws-cloudwatch';
import * as logs from 'aws-cdk-lib/aws-logs';

import { EVENTS } from '../../functions/canary/findings';
import { type Configuration, names } from '../configuration';
import { alarm, FIVE_MINUTES } from './alarm';

/** A kind of log line that is counted: by its `event`, or in the front door's log by the code of the refusal. */
interface Line {
  readonly id: string;
  readonly log: 'front-door' | 'pods' | 'canary';
  readonly by: { readonly event: string | readonly string[] } | { readonly code: string };
  /** The alarm fires if a period has more lines than this. */
  readonly atMost: number;
  /** Five minutes, unless stated. */
  readonly period?: Duration;
  readonly meaning: string;
}

/** Lines of enclaves are in the pods' log, where a pod repeats their event. */
export const LINES: readonly Line[] = [
  {
    id: 'kms-unavailable',
    log: 'front-door',
    by: { code: 'kms_unavailable' },
    atMost: 5,
    meaning: 'KMS throttles or fails calls of the enclaves: compare with the quota of cryptographic operations',
  },
  {
    id: 'kms-denied',
    log: 'front-door',
    by: { code: 'kms_denied' },
    atMost: 0,
    meaning: 'KMS denies an enclave: its PCR0 is not in the key’s policy, or its role lacks the permission',
  },
  {
    id: 'row-refused',
    log: 'front-door',
    by: { code: 'sealed_row_refused' },
    atMost: 0,
    meaning: 'a stored row is damaged, or was exchanged with another row',
  },
  {
    id: 'wrong-secrets',
    log: 'front-door',
    by: { code: 'authentication_failed' },
    atMost: 10,
    meaning: 'signature requests with wrong secrets: the lines have the caller and the key id',
  },
  {
    id: 'guessing',
    log: 'front-door',
    by: { code: 'too_many_failures' },
    atMost: 0,
    meaning: 'many wrong secrets for one key within a minute: the lines have the caller and the key id',
  },
  {
    id: 'pod-unreachable',
    log: 'front-door',
    by: { event: 'pod_unreachable' },
    atMost: 5,
    meaning: 'the front door cannot reach pods: load balancer, DNS, or the pods’ certificates',
  },
  {
    id: 'panic',
    log: 'front-door',
    by: { event: 'panicked' },
    atMost: 0,
    meaning: 'a bug in the front door: the line has its place',
  },
  {
    id: 'pod-panic',
    log: 'pods',
    by: { event: 'panicked' },
    atMost: 0,
    meaning: 'a bug in a pod or an enclave: the line has its place',
  },
  {
    id: 'not-from-front-door',
    log: 'pods',
    by: { event: 'not_from_front_door' },
    atMost: 0,
    meaning:
      'somebody but the front door called a pod, or the front door has another key than the pods: the line has the peer and the reason',
  },
  {
    id: 'front-door-keys',
    log: 'pods',
    by: { event: 'front_door_keys_not_read' },
    atMost: 5,
    meaning:
      'pods cannot read the front door’s key: those that run keep the keys they have, new ones do not become ready',
  },
  {
    id: 'enclave-restarts',
    log: 'pods',
    by: { event: 'enclave_down' },
    atMost: 2,
    meaning: 'enclaves end or do not boot: the line has the cause',
  },
  {
    id: 'stranger',
    log: 'pods',
    by: { event: 'session_mismatch' },
    atMost: 0,
    meaning: 'a process on a node, other than its pod, connects to an enclave or bound it first',
  },
  {
    id: 'policy-refused',
    log: 'pods',
    by: { event: 'cmk_not_adopted' },
    atMost: 0,
    meaning: 'an enclave does not adopt the key: its policy is not a rendering of what the image measures',
  },
  {
    id: 'signing-certificate',
    log: 'pods',
    by: { event: 'signing_certificate_ends' },
    atMost: 0,
    meaning: 'the certificate that signed an image has expired or ends within 30 days: sign the image again',
  },
  {
    id: 'clock-stepped',
    log: 'pods',
    by: { event: 'clock_stepped' },
    atMost: 0,
    meaning: 'an enclave’s clock was off by a second or more',
  },
  {
    id: 'clock-unchecked',
    log: 'pods',
    by: { event: 'clock_unchecked' },
    atMost: 2,
    meaning: 'an enclave cannot compare its clock with the NSM’s',
  },
  {
    id: 'unknown-root',
    log: 'pods',
    by: { event: 'aws_tls_unknown_issuer' },
    atMost: 0,
    meaning: 'a TLS chain of AWS ends in a root that the images do not measure, or the connection was intercepted',
  },
  {
    id: 'no-tls',
    log: 'pods',
    by: { event: 'aws_tls_failed' },
    atMost: 10,
    meaning: 'enclaves cannot talk to KMS or DynamoDB: the line has the cause',
  },
  {
    id: 'key-unattested',
    log: 'pods',
    by: { event: 'key_released' },
    atMost: 0,
    meaning: 'KMS would have given a data key to the key generator’s role without an enclave',
  },
  {
    id: 'key-not-probed',
    log: 'pods',
    by: { event: 'key_not_probed' },
    // A lasting failure of a single pod has at least four lines within this time.
    atMost: 2,
    period: Duration.hours(6),
    meaning: 'key generators could not ask KMS for a data key without an enclave: the line has the cause',
  },
  {
    id: 'key-policy-differs',
    log: 'canary',
    // Twice within an hour: the key's stack is updated some minutes before the canary.
    by: { event: EVENTS.keyPolicyDiffers },
    atMost: 1,
    period: Duration.hours(1),
    meaning: 'the key’s policy is not the deployed one: the line names the statements',
  },
  {
    id: 'key-state-differs',
    log: 'canary',
    by: { event: EVENTS.keyStateDiffers },
    atMost: 0,
    meaning:
      'the key is disabled or about to be deleted, is not rotated, has a grant, or is not a key of the deployed kind: the line’s event says which',
  },
  {
    id: 'key-released',
    log: 'canary',
    by: { event: EVENTS.keyReleased },
    atMost: 0,
    meaning: 'KMS would have given a data key to a caller without an enclave',
  },
  {
    id: 'trail-incomplete',
    log: 'canary',
    by: { event: EVENTS.trailIncomplete },
    atMost: 0,
    meaning: 'CloudTrail does not record the calls of KMS, so that no alarm can fire on them: the line has the problem',
  },
  {
    id: 'unheard',
    log: 'canary',
    by: { event: EVENTS.unheard },
    atMost: 0,
    meaning: 'calls of KMS do not reach EventBridge within an hour, so that no alarm can fire on them',
  },
];
export type Logs = Readonly<Partial<Record<Line['log'], logs.ILogGroup>>>;

export function lineAlarms(stack: Stack, configuration: Configuration, of: Logs): cloudwatch.Alarm[] {
  return watchedLines(of).map(({ group, ...line }) => {
    const { id, atMost, meaning } = line;
    const metric = lineMetric(configuration, line);
    new logs.MetricFilter(stack, `Line-${id}`, {
      logGroup: group,
      filterPattern: pattern(line),
      metricNamespace: metric.namespace,
      metricName: metric.metricName,
      defaultValue: 0,
    });
    return alarm(stack, configuration, id, metric, atMost, meaning);
  });
}

/** The numbers of counted lines. */
export function lineMetrics(configuration: Configuration, of: Logs): cloudwatch.Metric[] {
  return watchedLines(of).map((line) => lineMetric(configuration, line));
}

function watchedLines(of: Logs) {
  return LINES.flatMap((line) => {
    const group = of[line.log];
    return group === undefined ? [] : [{ ...line, group }];
  });
}

function pattern({ by }: Line): logs.IFilterPattern {
  const [field, values] = 'event' in by ? ['$.event', [by.event].flat()] : ['$.code', [by.code]];
  return logs.FilterPattern.any(...values.map((value) => logs.FilterPattern.stringValue(field, '=', value)));
}

function lineMetric(configuration: Configuration, { id, period }: Line): cloudwatch.Metric {
  return new cloudwatch.Metric({
    namespace: names(configuration).of('lines'),
    metricName: id,
    statistic: 'Sum',
    period: period ?? FIVE_MINUTES,
  });
}
