/**
 * Alarms, and a dashboard of the metrics that they watch.
 *
 * A metric is published by AWS, or counts log lines by their `event` or `code`.
 */

import type { Stack } from 'aws-cdk-lib';
import { SnsAction } from 'aws-cdk-lib/aws-cloudwatch-actions';
import type { ILogGroup } from 'aws-cdk-lib/aws-logs';
import type { IDependable } from 'constructs';

import type { Configuration } from '../configuration';
import type { FrontDoor } from '../front-door';
import type { Dimensions } from '../network';
import type { Releases, Service } from '../release';
import { addressAlarm } from './addresses';
import { canary } from './canary';
import { dashboard } from './dashboard';
import { enclaveAlarms, targetAlarms } from './enclaves';
import { keyAlarms } from './key';
import { lineAlarms } from './lines';
import { requestAlarms } from './requests';
import { tableAlarms } from './table';
import { alarmTopic } from './topic';

export interface Watched {
  /** Absent if somebody else deploys the front door. */
  readonly frontDoor?: FrontDoor;
  /** The pods' log, which contains the enclaves' lines. */
  readonly podLog?: ILogGroup;
  /** Absent without a load balancer. */
  readonly targetMetrics?: Readonly<Record<Service, Dimensions>>;
  readonly cmkArn: string;
}

/** Returns the rules that have to be deployed before the pods of a release. */
export function observability(
  stack: Stack,
  configuration: Configuration,
  releases: Releases,
  watched: Watched,
): { readonly keyRules: readonly IDependable[] } {
  const { frontDoor, podLog, targetMetrics, cmkArn } = watched;
  const topic = alarmTopic(stack, configuration);
  const key = keyAlarms(stack, configuration, releases, cmkArn, topic);
  const watcher = canary(stack, configuration, releases, cmkArn);
  const { unhealthy, down } = targetMetrics
    ? targetAlarms(stack, configuration, targetMetrics)
    : { unhealthy: [], down: [] };
  const log = {
    ...(frontDoor && { 'front-door': frontDoor.log }),
    ...(podLog && { pods: podLog }),
    canary: watcher.log,
  };
  const alarms = [
    ...(frontDoor ? requestAlarms(stack, configuration, frontDoor) : []),
    ...lineAlarms(stack, configuration, log),
    ...key.alarms,
    watcher.alarm,
    ...(podLog === undefined ? [] : enclaveAlarms(stack, configuration)),
    ...unhealthy,
    ...down,
    ...tableAlarms(stack, configuration),
    ...(podLog !== undefined && configuration.variant === 'eks' ? [addressAlarm(stack, configuration)] : []),
  ];
  alarms.forEach((alarm) => alarm.addAlarmAction(new SnsAction(topic)));
  // Silence is an alarm as well, once there was something to hear.
  [watcher.alarm, ...down].forEach((alarm) => alarm.addInsufficientDataAction(new SnsAction(topic)));
  dashboard(stack, configuration, { ...(frontDoor && { frontDoor }), log }, alarms);
  return { keyRules: key.rules };
}
