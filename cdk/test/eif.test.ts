import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { test } from 'node:test';

import { readEif } from '../lib/eif';
import { DEBUG, eif } from './fixture';

const vectors = path.join(__dirname, '../../tests/vectors/eif');

for (const file of fs.readdirSync(vectors).filter((name) => name.startsWith('accepted-'))) {
  test(`measures ${file} as crates/eif does`, () => {
    const { image, measurements } = JSON.parse(fs.readFileSync(path.join(vectors, file), 'utf8')) as {
      image: string;
      measurements: { pcr0: string };
    };
    const read = readEif(Buffer.from(image, 'base64'));
    assert.equal(read?.pcr0, measurements.pcr0);
    assert.equal(read?.architecture, file.includes('arm64') ? 'arm64' : 'amd64');
  });
}

test('what is no image, or ends early, is none', () => {
  const whole = eif('amd64', ['kernel', DEBUG, 'init']);
  assert.equal(readEif(whole)?.commandLine, DEBUG);
  for (let length = 0; length < whole.length; length += 1) {
    assert.equal(readEif(whole.subarray(0, length)), undefined, `${length} bytes`);
  }
  assert.equal(readEif(Buffer.from('not an image, though long enough for its first bytes')), undefined);
});
