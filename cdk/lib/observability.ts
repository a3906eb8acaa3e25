/**
 * Alarms, and a dashboard of the metrics that they watch.
 *
 * A metric is published by AWS, or counts log lines of the front door, the pods and the enclaves by their `event` or
 * `code`.
 */

import { Duration, type Stack } from 'aws-cdk-lib';
import type { RestApi } from 'aws-cdk-lib/aws-apigateway';
import * as cloudwatch from 'aws-cdk-lib/aws-cloudwatch';
import { SnsAction } from 'aws-cdk-lib/aws-cloudwatch-actions';
import * as events from 'aws-cdk-lib/aws-events';
import * as targets from 'aws-cdk-lib/aws-events-targets';
import * as iam from 'aws-cdk-lib/aws-iam';
import * as logs from 'aws-cdk-lib/aws-logs';
import * as sns from 'aws-cdk-lib/aws-sns';

import { keyTag } from './base';
import { type Configuration, names } from './configuration';
import { CONTRACT } from './contract';
import type { FrontDoor } from './front-door';
import { type Releases, type Service, SERVICES } from './release';
import { smallFunction } from './small-function';

export interface Watched {
  readonly frontDoor: FrontDoor;
  /** The pods' log, which contains the enclaves' lines. */
  readonly podLog?: logs.ILogGroup;
  readonly cmkArn: string;
}

/** A kind of log line that is counted: by its `event`, or in the front door's log by the code of the refusal. */
interface Line {
  readonly id: string;
  readonly log: 'front-door' | 'pods';
  readonly by: { readonly event: string } | { readonly code: string };
  /** The alarm fires if five minutes have more lines than this. */
  readonly atMost: number;
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
    id: 'enclave-restarts',
    log: 'pods',
    by: { event: 'enclave_down' },
    atMost: 2,
    meaning: 'enclaves end or do not boot: the line has the cause',
  },
  {
    id: 'enclave-not-ready',
    log: 'pods',
    by: { event: 'enclave_not_ready' },
    atMost: 5,
    meaning: 'an enclave runs and cannot serve: the line has the cause',
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
];

export function observability(stack: Stack, configuration: Configuration, releases: Releases, watched: Watched): void {
  const name = names(configuration);
  const topic = new sns.Topic(stack, 'Alarms', { topicName: name.of('alarms'), enforceSSL: true });
  const alarms = [
    ...requestAlarms(stack, configuration, watched.frontDoor),
    ...lineAlarms(stack, configuration, watched),
    ...keyAlarms(stack, configuration, releases, watched.cmkArn, topic),
    canary(stack, configuration, watched.cmkArn),
    ...enclaveAlarms(stack, configuration, watched),
    ...tableAlarms(stack, configuration),
  ];
  alarms.forEach((alarm) => alarm.addAlarmAction(new SnsAction(topic)));
  dashboard(stack, configuration, watched, alarms);
}

function requestAlarms(
  stack: Stack,
  configuration: Configuration,
  { api, function: handler }: FrontDoor,
): cloudwatch.Alarm[] {
  const { errors, p99 } = requestMetrics(api);
  return [
    alarm(stack, configuration, 'errors', errors, 0.01, 'more than 1 % of the requests are answered with 5xx', 2),
    alarm(stack, configuration, 'slow', p99, 1000, 'the 99th percentile of the latency is above one second', 3),
    alarm(
      stack,
      configuration,
      'function-errors',
      handler.metricErrors({ period: FIVE_MINUTES }),
      0,
      'the function crashed or ran out of time; all other failures are answers',
    ),
    alarm(
      stack,
      configuration,
      'function-throttles',
      handler.metricThrottles({ period: FIVE_MINUTES }),
      0,
      'Lambda refuses to run the function: raise the account’s concurrency',
    ),
  ];
}

function requestMetrics(api: RestApi) {
  const over = (statistic: string) => ({ period: FIVE_MINUTES, statistic });
  return {
    all: api.metricCount(over('Sum')),
    // The average is the rate: each request counts as one or zero.
    errors: api.metricServerError(over('Average')),
    p50: api.metricLatency(over('p50')),
    p99: api.metricLatency(over('p99')),
  };
}

function lineAlarms(stack: Stack, configuration: Configuration, watched: Watched): cloudwatch.Alarm[] {
  return watchedLines(watched).map(({ group, ...line }) => {
    const { id, atMost, meaning } = line;
    const metric = lineMetric(configuration, id);
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

function watchedLines({ frontDoor, podLog }: Watched) {
  const groups = { 'front-door': frontDoor.log, pods: podLog };
  return LINES.flatMap((line) => {
    const group = groups[line.log];
    return group === undefined ? [] : [{ ...line, group }];
  });
}

function pattern({ by }: Line): logs.IFilterPattern {
  const [field, value] = 'event' in by ? ['$.event', by.event] : ['$.code', by.code];
  return logs.FilterPattern.stringValue(field, '=', value);
}

function lineMetric(configuration: Configuration, id: string): cloudwatch.Metric {
  return new cloudwatch.Metric({
    namespace: names(configuration).of('lines'),
    metricName: id,
    statistic: 'Sum',
    period: FIVE_MINUTES,
  });
}

/**
 * Alarms on CloudTrail's events of the key: used without an enclave or by another image, changed, or scheduled for
 * deletion. They need a trail that logs management events of KMS, read events included; no stack creates one.
 *
 * Form of the events: https://docs.aws.amazon.com/kms/latest/developerguide/ct-nitro-enclave.html
 */
function keyAlarms(
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
    topic.addToResourcePolicy(
      new iam.PolicyStatement({
        actions: ['sns:Publish'],
        principals: [new iam.ServicePrincipal('events.amazonaws.com')],
        resources: [topic.topicArn],
        conditions: { ArnEquals: { 'aws:SourceArn': rule.attrArn } },
      }),
    );
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

/**
 * Calls KMS every hour without an enclave, which it has to deny. The canary's role is not in the key policy, so only a
 * policy that delegates Decrypt to the account changes the outcome.
 */
function canary(stack: Stack, configuration: Configuration, cmkArn: string): cloudwatch.Alarm {
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

function enclaveAlarms(stack: Stack, configuration: Configuration, { podLog }: Watched): cloudwatch.Alarm[] {
  if (podLog === undefined) {
    return [];
  }
  return SERVICES.flatMap((service) => {
    const { cpu, memory } = enclaveMetrics(configuration, service);
    return [
      alarm(
        stack,
        configuration,
        `${service}-cpu`,
        cpu,
        80,
        `the enclaves of the ${service} are busy: add pods, or processors to their enclaves`,
        3,
      ),
      alarm(
        stack,
        configuration,
        `${service}-memory`,
        memory,
        90,
        `an enclave of the ${service} runs out of memory`,
        3,
      ),
    ];
  });
}

/** Metrics that pods write about their enclaves, in percent. */
function enclaveMetrics({ prefix }: Configuration, service: Service) {
  const metric = (metricName: string, statistic: string) =>
    new cloudwatch.Metric({
      namespace: CONTRACT.metrics.namespace,
      metricName,
      dimensionsMap: { Deployment: `${prefix}${service}` },
      statistic,
      period: FIVE_MINUTES,
    });
  // Ids have to differ between the services, which share a graph.
  const [user, system] = ['user', 'system'].map((kind) => `${kind}_${service.replace('-', '_')}`) as [string, string];
  return {
    cpu: new cloudwatch.MathExpression({
      expression: `${user} + ${system}`,
      usingMetrics: {
        [user]: metric(CONTRACT.metrics.cpuUser, 'Average'),
        [system]: metric(CONTRACT.metrics.cpuSystem, 'Average'),
      },
      period: FIVE_MINUTES,
      label: `${service}, CPU`,
    }),
    memory: metric(CONTRACT.metrics.memoryUsed, 'Maximum').with({ label: `${service}, memory` }),
  };
}

function tableAlarms(stack: Stack, configuration: Configuration): cloudwatch.Alarm[] {
  const metric = (metricName: string, operation: string) =>
    new cloudwatch.Metric({
      namespace: 'AWS/DynamoDB',
      metricName,
      dimensionsMap: { TableName: names(configuration).table, Operation: operation },
      statistic: 'Sum',
      period: FIVE_MINUTES,
    });
  const behind = new cloudwatch.Metric({
    namespace: 'AWS/Lambda',
    metricName: 'IteratorAge',
    dimensionsMap: { FunctionName: names(configuration).of('journal') },
    statistic: 'Maximum',
    period: FIVE_MINUTES,
  });
  const late = Duration.minutes(15).toMilliseconds();
  return [
    alarm(
      stack,
      configuration,
      'journal-behind',
      behind,
      late,
      'changes of the table do not reach the journal, and are lost to it after 24 hours: the function’s log has the cause',
    ),
    alarm(
      stack,
      configuration,
      'table-read-throttles',
      metric('ThrottledRequests', 'GetItem'),
      0,
      'DynamoDB throttles reads of rows',
    ),
    alarm(
      stack,
      configuration,
      'table-write-throttles',
      metric('ThrottledRequests', 'PutItem'),
      0,
      'DynamoDB throttles new rows',
    ),
  ];
}

function alarm(
  stack: Stack,
  configuration: Configuration,
  id: string,
  metric: cloudwatch.IMetric,
  atMost: number,
  meaning: string,
  periods = 1,
): cloudwatch.Alarm {
  return new cloudwatch.Alarm(stack, `Alarm-${id}`, {
    alarmName: names(configuration).of(id),
    alarmDescription: `${meaning}.`,
    metric,
    threshold: atMost,
    comparisonOperator: cloudwatch.ComparisonOperator.GREATER_THAN_THRESHOLD,
    evaluationPeriods: periods,
    treatMissingData: cloudwatch.TreatMissingData.NOT_BREACHING,
  });
}

function dashboard(
  stack: Stack,
  configuration: Configuration,
  watched: Watched,
  alarms: readonly cloudwatch.Alarm[],
): void {
  const { all, errors, p50, p99 } = requestMetrics(watched.frontDoor.api);
  const enclaves =
    watched.podLog === undefined ? [] : SERVICES.map((service) => enclaveMetrics(configuration, service));
  const handler = watched.frontDoor.function;
  const kmsCalls = new cloudwatch.Metric({
    namespace: 'AWS/Usage',
    metricName: 'CallCount',
    dimensionsMap: { Type: 'API', Service: 'KMS', Resource: 'CryptographicOperationsSymmetric', Class: 'None' },
    statistic: 'Sum',
    period: FIVE_MINUTES,
  });
  new cloudwatch.Dashboard(stack, 'Dashboard', {
    dashboardName: names(configuration).of('dashboard'),
    widgets: [
      [new cloudwatch.AlarmStatusWidget({ title: 'Alarms', alarms: [...alarms], width: 24, height: 4 })],
      [
        new cloudwatch.GraphWidget({ title: 'Requests', left: [all], right: [errors], width: 8 }),
        new cloudwatch.GraphWidget({ title: 'Time to answer', left: [p50, p99], width: 8 }),
        new cloudwatch.GraphWidget({
          title: 'Function',
          left: [handler.metricInvocations(), handler.metricErrors(), handler.metricThrottles()],
          right: [handler.metricDuration({ statistic: 'p99' })],
          width: 8,
        }),
      ],
      [
        new cloudwatch.GraphWidget({
          title: 'Unexpected log events',
          left: watchedLines(watched).map(({ id }) => lineMetric(configuration, id)),
          width: 8,
        }),
        new cloudwatch.GraphWidget({
          title: 'Enclaves, percent',
          left: enclaves.flatMap(({ cpu, memory }) => [cpu, memory]),
          width: 8,
        }),
        new cloudwatch.GraphWidget({ title: 'KMS calls of the account, for its quota', left: [kmsCalls], width: 8 }),
      ],
    ],
  });
}

const FIVE_MINUTES = Duration.minutes(5);
/** The key id of the canary row: `KeyId::CANARY`. */
const CANARY_ROW = '00000000-0000-0000-0000-000000000000';
