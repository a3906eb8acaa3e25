/** The dashboard. */

import type { Stack } from 'aws-cdk-lib';
import * as cloudwatch from 'aws-cdk-lib/aws-cloudwatch';

import { type Configuration, names } from '../configuration';
import type { FrontDoor } from '../front-door';
import { SERVICES } from '../release';
import { FIVE_MINUTES } from './alarm';
import { enclaveMetrics } from './enclaves';
import { type Logs, lineMetrics } from './lines';
import { requestMetrics } from './requests';

export function dashboard(
  stack: Stack,
  configuration: Configuration,
  { frontDoor, log }: { readonly frontDoor?: FrontDoor; readonly log: Logs },
  alarms: readonly cloudwatch.Alarm[],
): void {
  const enclaves = log.pods === undefined ? [] : SERVICES.map((service) => enclaveMetrics(configuration, service));
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
      ...(frontDoor ? [requestWidgets(frontDoor)] : []),
      [
        new cloudwatch.GraphWidget({
          title: 'Unexpected log events',
          left: lineMetrics(configuration, log),
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

function requestWidgets({ api, function: handler }: FrontDoor): cloudwatch.IWidget[] {
  const { all, errors, p50, p99 } = requestMetrics(api);
  return [
    new cloudwatch.GraphWidget({ title: 'Requests', left: [all], right: [errors], width: 8 }),
    new cloudwatch.GraphWidget({ title: 'Time to answer', left: [p50, p99], width: 8 }),
    new cloudwatch.GraphWidget({
      title: 'Function',
      left: [handler.metricInvocations(), handler.metricErrors(), handler.metricThrottles()],
      right: [handler.metricDuration({ statistic: 'p99' })],
      width: 8,
    }),
  ];
}
