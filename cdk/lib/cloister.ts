/** All stacks of a deployment. */

import { type App, Aspects } from 'aws-cdk-lib';

import { applicationStack } from './application';
import { baseStack } from './base';
import { clusterStack } from './cluster';
import type { Configuration } from './configuration';
import { ecsStack } from './ecs';
import { FunctionLogs } from './function-logs';
import { existingClusterStacks } from './existing-cluster';
import { keyStack } from './key';
import type { Releases } from './release';

export function cloister(app: App, configuration: Configuration, releases: Releases): void {
  Aspects.of(app).add(new FunctionLogs());
  const base = baseStack(app, configuration);
  const key = keyStack(app, configuration, releases);
  key.addStackDependency(base);
  if (configuration.variant === 'ecs') {
    ecsStack(app, configuration, releases).addStackDependency(key);
    return;
  }
  if (configuration.variant === 'identities') {
    const [identities, application] = existingClusterStacks(app, configuration, releases);
    identities.addStackDependency(key);
    application?.addStackDependency(key);
    return;
  }
  const cluster = clusterStack(app, configuration, releases);
  const application = applicationStack(app, configuration, releases, cluster);
  cluster.stack.addStackDependency(base);
  application.addStackDependency(key);
  application.addStackDependency(cluster.stack);
}
