/** The stacks, by lifetime: what is retained first, what is replaced often last. */

import { App } from 'aws-cdk-lib';

import { cloister } from '../lib/cloister';
import { ConfigurationError, configuration } from '../lib/configuration';
import { readReleases } from '../lib/release';

const app = new App();
try {
  const read = configuration(process.env, (name) => app.node.tryGetContext(name), new Date());
  cloister(app, read, readReleases(read));
} catch (error) {
  if (!(error instanceof ConfigurationError)) {
    throw error;
  }
  console.error(error.message);
  process.exit(1);
}
