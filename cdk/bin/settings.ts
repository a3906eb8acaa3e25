/**
 * Prints the measured settings of the deployment that the environment describes, for `cargo xtask image --settings
 * FILE`.
 */

import * as fs from 'node:fs';
import * as path from 'node:path';

import { configuration, orExplain } from '../lib/configuration';
import { measuredSettings } from '../lib/settings';

const example = path.join(__dirname, '../../enclaves/image/example-settings.json');
orExplain(() => {
  const { tls_roots } = JSON.parse(fs.readFileSync(example, 'utf8')) as { tls_roots: readonly string[] };
  const settings = measuredSettings(configuration(process.env, () => undefined, new Date()));
  console.log(JSON.stringify({ ...settings, tls_roots }, undefined, 2));
});
