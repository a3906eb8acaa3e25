/** An alarm on DynamoDB's addresses, which the cluster's network policy names. */

import { Duration, type Stack } from 'aws-cdk-lib';
import * as cloudwatch from 'aws-cdk-lib/aws-cloudwatch';

import { type Configuration, names } from '../configuration';
import { SET_UP } from '../set-up';
import { alarm } from './alarm';

export function addressAlarm(stack: Stack, configuration: Configuration): cloudwatch.Alarm {
  const failures = new cloudwatch.Metric({
    namespace: 'AWS/Lambda',
    metricName: 'Errors',
    dimensionsMap: { FunctionName: names(configuration).of(SET_UP) },
    statistic: 'Sum',
    period: Duration.days(1),
  });
  return alarm(
    stack,
    configuration,
    'dynamodb-addresses',
    failures,
    0,
    'AWS has other addresses for DynamoDB than pods may call, or they could not be compared: the function’s log has them; deploy the cluster with another CDK_RENEW',
  );
}
