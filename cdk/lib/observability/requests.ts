/** Alarms on the front door's requests. */

import type { Stack } from 'aws-cdk-lib';
import type { RestApi } from 'aws-cdk-lib/aws-apigateway';
import type { Alarm } from 'aws-cdk-lib/aws-cloudwatch';

import type { Configuration } from '../configuration';
import type { FrontDoor } from '../front-door';
import { alarm, FIVE_MINUTES } from './alarm';

export function requestAlarms(
  stack: Stack,
  configuration: Configuration,
  { api, function: handler }: FrontDoor,
): Alarm[] {
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

export function requestMetrics(api: RestApi) {
  const over = (statistic: string) => ({ period: FIVE_MINUTES, statistic });
  return {
    all: api.metricCount(over('Sum')),
    // The average is the rate: each request counts as one or zero.
    errors: api.metricServerError(over('Average')),
    p50: api.metricLatency(over('p50')),
    p99: api.metricLatency(over('p99')),
  };
}
