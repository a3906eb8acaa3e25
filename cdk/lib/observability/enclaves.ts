/** Alarms on the enclaves, and on the pods as the load balancer sees them. */

import type { Stack } from 'aws-cdk-lib';
import * as cloudwatch from 'aws-cdk-lib/aws-cloudwatch';

import { type Configuration, names } from '../configuration';
import { CONTRACT } from '../contract';
import type { Dimensions } from '../network';
import { type Service, SERVICES } from '../release';
import { alarm, FIVE_MINUTES } from './alarm';

export function enclaveAlarms(stack: Stack, configuration: Configuration): cloudwatch.Alarm[] {
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
export function enclaveMetrics({ prefix }: Configuration, service: Service) {
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

/** A pod is a healthy target while its enclave can serve. */
export function targetAlarms(
  stack: Stack,
  configuration: Configuration,
  targetMetrics: Readonly<Record<Service, Dimensions>>,
): { readonly unhealthy: cloudwatch.Alarm[]; readonly down: cloudwatch.Alarm[] } {
  // Each zone reports a number of its own, of which any tells enough.
  const metric = (service: Service, metricName: string) =>
    new cloudwatch.Metric({
      namespace: 'AWS/NetworkELB',
      metricName,
      dimensionsMap: targetMetrics[service],
      statistic: 'Maximum',
      period: FIVE_MINUTES,
    });
  return {
    unhealthy: SERVICES.map((service) =>
      alarm(
        stack,
        configuration,
        `${service}-unhealthy`,
        metric(service, 'UnHealthyHostCount'),
        0,
        `a pod of the ${service} has not been able to serve for a quarter of an hour: its /readyz has the cause`,
        3,
      ),
    ),
    down: SERVICES.map((service) => {
      const id = `${service}-down`;
      return new cloudwatch.Alarm(stack, `Alarm-${id}`, {
        alarmName: names(configuration).of(id),
        alarmDescription: `No pod of the ${service} can serve, or there is none.`,
        metric: metric(service, 'HealthyHostCount'),
        threshold: 1,
        comparisonOperator: cloudwatch.ComparisonOperator.LESS_THAN_THRESHOLD,
        evaluationPeriods: 2,
        // The load balancer reports nothing without targets: also before the first one.
        treatMissingData: cloudwatch.TreatMissingData.MISSING,
      });
    }),
  };
}
