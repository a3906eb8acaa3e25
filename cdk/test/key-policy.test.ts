import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { test } from 'node:test';

import { ConfigurationError } from '../lib/configuration';
import { openPolicy } from '../lib/key';
import { type Deployment, type Form, type Measurements, renderKeyPolicy } from '../lib/key-policy';
import { readReleases, type Release } from '../lib/release';
import { configured, deployment, writeImages } from './fixture';

interface RenderCase {
  readonly deployment: Deployment;
  readonly measurements: Measurements;
  readonly form: Form;
  readonly policy: unknown;
}

const cases = path.join(__dirname, '../../tests/vectors/key-policy/render');
const read = (file: string) => JSON.parse(fs.readFileSync(path.join(cases, file), 'utf8')) as RenderCase;

for (const file of fs.readdirSync(cases)) {
  test(`renders ${file} as crates/key-policy does`, () => {
    const { deployment: of, measurements, form, policy } = read(file);
    // Compared as text: an enclave compares parsed JSON, but order matters to a reader of a difference.
    assert.equal(JSON.stringify(renderKeyPolicy(of, measurements, form)), JSON.stringify(policy));
  });
}

test('values that IAM interprets, or one image in two slots, are refused', () => {
  const { deployment: of, measurements } = read('open.json');
  for (const [change, images] of [
    [{ account: '*' }, {}],
    [{ partition: 'aws*' }, {}],
    [{ signer_role: 'arn:aws:iam::999988887777:role/x' }, {}],
    [{ signer_role: `${of.signer_role}*` }, {}],
    [{ retirement_role: `arn:aws:iam::${of.account}:role/` }, {}],
    [{}, { signer: '0'.repeat(96) }],
    [{}, { signer: measurements.signer.toUpperCase() + 'A' }],
    [{}, { signer: measurements.generator }],
    [{}, { previous_generator: measurements.signer }],
    [{}, { previous_generator: measurements.generator }],
  ] as const) {
    assert.throws(
      () => renderKeyPolicy({ ...of, ...change }, { ...measurements, ...images }, 'open'),
      ConfigurationError,
    );
  }
});

test('two slots may hold the same signer, and nothing else', () => {
  const { deployment: of, measurements } = read('open.json');
  const other = 'ab'.repeat(48);
  const next = { signer: measurements.signer, generator: other };
  assert.ok(renderKeyPolicy(of, { ...measurements, next }, 'open'));
  assert.throws(
    () => renderKeyPolicy(of, { ...measurements, next }, 'locked'),
    /the locked form admits one release only/,
  );
  for (const wrong of [
    { signer: other, generator: other },
    { signer: other, generator: measurements.generator },
    { signer: other, generator: measurements.signer },
    { signer: measurements.generator, generator: other },
  ]) {
    assert.throws(() => renderKeyPolicy(of, { ...measurements, next: wrong }, 'open'), ConfigurationError);
  }
});

test('the policy that is deployed is open and admits the images, and the next release’s', () => {
  const { release } = deployment().releases;
  const next = readReleases(configured({ CDK_IMAGES: writeImages(configured(), { version: 'two' }) })).release;
  assert.ok(openPolicy(release).Statement.some(({ Sid }) => Sid === 'Administrator'));
  assert.deepEqual(images(openPolicy(release)), pcr0s(release));
  assert.deepEqual(images(openPolicy(release, next)), new Set([...pcr0s(release), ...pcr0s(next)]));
});

function pcr0s({ images: of }: Release): Set<string> {
  return new Set([of.signer.pcr0, of['key-generator'].pcr0]);
}

function images(policy: unknown): Set<string> {
  return new Set(JSON.stringify(policy).match(/\b[0-9a-f]{96}\b/g));
}
