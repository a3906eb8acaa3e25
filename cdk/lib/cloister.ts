/** All stacks of a deployment. */

import type { App } from 'aws-cdk-lib';

import { baseStack } from './base';
import type { Configuration } from './configuration';
import { keyStack } from './key';
import type { Releases } from './release';

export function cloister(app: App, configuration: Configuration, releases: Releases): void {
  const base = baseStack(app, configuration);
  const key = keyStack(app, configuration, releases);
  key.addStackDependency(base);
}
