/** The end of what outlives its stack. */

import { RemovalPolicy } from 'aws-cdk-lib';

import type { Configuration } from '../configuration';

/** Kept, except if its own creation is rolled back: otherwise its name would block the next attempt. */
export const KEPT = RemovalPolicy.RETAIN_ON_UPDATE_OR_DELETE;

/** Kept until the keys are given up. */
export function removal({ withKeys }: Pick<Configuration, 'withKeys'>): RemovalPolicy {
  return withKeys ? RemovalPolicy.DESTROY : KEPT;
}
