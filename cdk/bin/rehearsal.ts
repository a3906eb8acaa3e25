/**
 * A deployment without a cluster for the rehearsal: its pods are those of the laptop stack, whose `endpoint.env` is in
 * the environment.
 */

import * as fs from 'node:fs';

import { App, CliCredentialsStackSynthesizer, Stack } from 'aws-cdk-lib';

import { beforePods } from '../lib/application';
import { baseStack } from '../lib/base';
import { emptied } from '../lib/cloister';
import { configuration, ConfigurationError, names, orExplain } from '../lib/configuration';
import { keyStack } from '../lib/key';
import { readReleases } from '../lib/release';

// Deployed with the caller's credentials: the bootstrapped roles of a stand-in are not under test.
const app = new App({ defaultStackSynthesizer: new CliCredentialsStackSynthesizer() });
orExplain(() => {
  const read = configuration(process.env, (name) => app.node.tryGetContext(name), new Date());
  if (read.destroy) {
    emptied(app, read);
    return;
  }
  const releases = readReleases(read);
  const pods = {
    urls: { signer: variable('CLOISTER_SIGNER_URL'), 'key-generator': variable('CLOISTER_KEY_GENERATOR_URL') },
    podCertificateAuthority: fs.readFileSync(variable('CLOISTER_POD_CA_FILE')).toString('base64'),
    key: variable('CLOISTER_POD_KEY'),
  };
  const base = baseStack(app, read);
  const key = keyStack(app, read, releases);
  const application = new Stack(app, names(read).of('application'), { env: read });
  beforePods(application, read, releases, pods);
  key.addStackDependency(base);
  application.addStackDependency(key);
});

function variable(name: string): string {
  const value = process.env[name];
  if (value === undefined) {
    throw new ConfigurationError(`${name} is not set: \`cargo local up\` writes it to its endpoint.env`);
  }
  return value;
}
