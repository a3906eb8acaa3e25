/** All stacks, by lifetime: retained ones first, often replaced ones last. */

import { App, Validations } from 'aws-cdk-lib';
import { AwsSolutionsChecks } from 'cdk-nag';

import { cloister, emptied } from '../lib/cloister';
import { configuration, orExplain } from '../lib/configuration';
import { readReleases } from '../lib/release';

const app = new App();
orExplain(() => {
  const read = configuration(process.env, (name) => app.node.tryGetContext(name), new Date());
  if (read.destroy) {
    emptied(app, read);
  } else {
    cloister(app, read, readReleases(read));
  }
});
Validations.of(app).addPlugins(new AwsSolutionsChecks(app));
