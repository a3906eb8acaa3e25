/** Alarms on the table of sealed rows and its journal. */

import { Duration, type Stack } from 'aws-cdk-lib';
import * as cloudwatch from 'aws-cdk-lib/aws-cloudwatch';

import { type Configuration, names } from '../configuration';
import { alarm, FIVE_MINUTES } from './alarm';

export function tableAlarms(stack: Stack, configuration: Configuration): cloudwatch.Alarm[] {
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
