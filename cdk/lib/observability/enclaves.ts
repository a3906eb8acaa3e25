/** Alarms on the enclaves. */

import type { Stack } from 'aws-cdk-lib';
import * as cloudwatch from 'aws-cdk-lib/aws-cloudwatch';

import type { Configuration } from '../configuration';
import { CONTRACT } from '../contract';
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
