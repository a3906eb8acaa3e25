/** The form of this deployment's alarms. */

import { Duration, type Stack } from 'aws-cdk-lib';
import * as cloudwatch from 'aws-cdk-lib/aws-cloudwatch';

import { type Configuration, names } from '../configuration';

export const FIVE_MINUTES = Duration.minutes(5);

/** Fires if so many periods in a row are above `atMost`. No data is no alarm. */
export function alarm(
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
