/**
 * `npm run templates -- DIRECTORY`: writes the templates of base and key as CloudFormation takes them, for tools other
 * than CDK: without parameters, without files, and short enough to be sent inline.
 */

import * as fs from 'node:fs';
import * as path from 'node:path';

import { App, BootstraplessSynthesizer } from 'aws-cdk-lib';

import { baseStack } from '../lib/base';
import { configuration, orExplain } from '../lib/configuration';
import { keyStack } from '../lib/key';
import { readReleases } from '../lib/release';

orExplain(() => {
  const [directory = '.'] = process.argv.slice(2);
  const read = configuration(process.env, () => undefined, new Date());
  // The feature flags, which `cdk` reads by itself.
  const { context } = JSON.parse(fs.readFileSync(path.join(__dirname, '../cdk.json'), 'utf8')) as {
    context: Record<string, unknown>;
  };
  const app = new App({
    analyticsReporting: false,
    context,
    // Refuses files, and asks no bootstrap stack.
    defaultStackSynthesizer: new BootstraplessSynthesizer(),
  });
  baseStack(app, read);
  keyStack(app, read, readReleases(read));
  fs.mkdirSync(directory, { recursive: true });
  for (const { stackName, template } of app.synth().stacks) {
    const file = path.join(directory, `${stackName}.json`);
    fs.writeFileSync(file, `${JSON.stringify(template)}\n`);
    console.log(file);
  }
});
