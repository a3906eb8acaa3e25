/** `npm run costs`: prints the monthly costs of the configuration in the environment, without requests. */

import { App } from 'aws-cdk-lib';

import { cloister } from '../lib/cloister';
import { configuration, orExplain } from '../lib/configuration';
import { costs, type Template, total } from '../lib/costs';
import { readReleases } from '../lib/release';

const app = new App();
orExplain(() => {
  const read = configuration(process.env, (name) => app.node.tryGetContext(name), new Date());
  cloister(app, read, readReleases(read));
  const templates = app.synth().stacks.map(({ template }) => template as Template);
  const all = costs(templates, read.region);
  for (const { item, count, dollars } of all) {
    console.log(`${dollars.toFixed(2).padStart(10)} $  ${count} ${item}`);
  }
  console.log(`${total(all).toFixed(2).padStart(10)} $  a month, without requests`);
});
