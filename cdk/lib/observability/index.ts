/**
 * Alarms, and a dashboard of the metrics that they watch.
 *
 * A metric is published by AWS, or counts log lines by their `event` or `code`.
 */

import type { Stack } from 'aws-cdk-lib';
import { SnsAction } from 'aws-cdk-lib/aws-cloudwatch-actions';
import type { ILogGroup } from 'aws-cdk-lib/aws-logs';

import type { Configuration } from '../configuration';
import type { FrontDoor } from '../front-door';
import type { Releases } from '../release';
import { canary } from './canary';
import { dashboard } from './dashboard';
import { enclaveAlarms } from './enclaves';
import { keyAlarms } from './key';
import { lineAlarms } from './lines';
import { requestAlarms } from './requests';
import { tableAlarms } from './table';
import { alarmTopic } from './topic';

export interface Watched {
  readonly frontDoor: FrontDoor;
  /** The pods' log, which contains the enclaves' lines. */
  readonly podLog?: ILogGroup;
  readonly cmkArn: string;
}

export function observability(stack: Stack, configuration: Configuration, releases: Releases, watched: Watched): void {
  const { frontDoor, podLog, cmkArn } = watched;
  const log = { 'front-door': frontDoor.log, ...(podLog && { pods: podLog }) };
  const topic = alarmTopic(stack, configuration);
  const alarms = [
    ...requestAlarms(stack, configuration, frontDoor),
    ...lineAlarms(stack, configuration, log),
    ...keyAlarms(stack, configuration, releases, cmkArn, topic),
    canary(stack, configuration, cmkArn),
    ...(podLog === undefined ? [] : enclaveAlarms(stack, configuration)),
    ...tableAlarms(stack, configuration),
  ];
  alarms.forEach((alarm) => alarm.addAlarmAction(new SnsAction(topic)));
  dashboard(stack, configuration, { frontDoor, log }, alarms);
}
