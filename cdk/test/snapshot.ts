/** Reviewed templates; `npm run snapshots` rewrites them. */

import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import * as path from 'node:path';

import type { Stack } from 'aws-cdk-lib';
import { Template } from 'aws-cdk-lib/assertions';

export function matchesSnapshot(name: string, stack: Stack): void {
  const file = path.join(__dirname, 'snapshots', `${name}.json`);
  const template = `${JSON.stringify(normalised(Template.fromStack(stack).toJSON()), undefined, 2)}\n`;
  if (process.env['UPDATE_SNAPSHOTS'] !== undefined) {
    fs.mkdirSync(path.dirname(file), { recursive: true });
    fs.writeFileSync(file, template);
  }
  assert.equal(
    template,
    fs.existsSync(file) ? fs.readFileSync(file, 'utf8') : '',
    `${file} differs: look at the difference, then \`npm run snapshots\``,
  );
}

/** Removes what changes with every build or library version: hashes of assets, also at the end of logical ids. */
function normalised(template: unknown): unknown {
  return JSON.parse(
    JSON.stringify(template).replaceAll(/(?<![0-9a-f])([0-9a-f]{64}|[0-9a-f]{32})(?![0-9a-f])/g, 'HASH'),
  );
}
