/**
 * `npm run settings -- FILE`: writes the measured settings of the deployment that the environment describes, for `cargo
 * xtask image --settings FILE`. Without FILE it prints them.
 */

import * as fs from 'node:fs';
import * as path from 'node:path';

import { configuration, orExplain } from '../lib/configuration';
import { measuredSettings } from '../lib/settings';

const example = path.join(__dirname, '../../enclaves/image/example-settings.json');
orExplain(() => {
  const { tls_roots } = JSON.parse(fs.readFileSync(example, 'utf8')) as { tls_roots: readonly string[] };
  const settings = measuredSettings(configuration(process.env, () => undefined, new Date()));
  const text = `${JSON.stringify({ ...settings, tls_roots }, undefined, 2)}\n`;
  const [file] = process.argv.slice(2);
  if (file === undefined) {
    process.stdout.write(text);
  } else {
    fs.mkdirSync(path.dirname(file), { recursive: true });
    fs.writeFileSync(file, text);
  }
});
