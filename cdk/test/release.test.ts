import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { test } from 'node:test';

import { ConfigurationError } from '../lib/configuration';
import { CONTRACT } from '../lib/contract';
import { openPolicy } from '../lib/key';
import { readReleases, SERVICES, withTraffic } from '../lib/release';
import { configured, DEBUG, writeImages } from './fixture';

interface Measurements {
  architecture: string;
  settings: Record<string, unknown>;
  images: Record<'signer' | 'key-generator', { file: string; size: number; sha256: string; pcr0: string }>;
}

test('the services are those of the programs', () => {
  assert.deepEqual([...SERVICES], CONTRACT.services);
});

test('a release is read from its directory', () => {
  const images = writeImages(configured());
  const { release } = readReleases(configured({ CDK_IMAGES: images }));
  assert.equal(release.images.signer.file, path.join(images, 'signer.eif'));
  assert.notEqual(release.images.signer.pcr0, release.images['key-generator'].pcr0);
});

test('a next release is checked like the present one', () => {
  const [images, next] = [writeImages(configured()), writeImages(configured(), { version: 'two' })];
  const environment = { CDK_IMAGES: images, CDK_NEXT_IMAGES: next, CDK_NEXT_UNTIL: '2026-12-15' };
  assert.equal(readReleases(configured(environment)).next?.directory, next);
  fs.rmSync(path.join(next, 'signer.eif'));
  refused(() => readReleases(configured(environment)), /signer\.eif does not exist/);
});

test('a debug image may be deployed with a prefix for experiments', () => {
  const images = writeImages(configured(), { commandLine: DEBUG });
  assert.ok(readReleases(configured({ CDK_IMAGES: images })));
});

const edit = (change: (measurements: Measurements) => void) => (directory: string) => {
  const file = path.join(directory, 'measurements.json');
  const measurements = JSON.parse(fs.readFileSync(file, 'utf8')) as Measurements;
  change(measurements);
  fs.writeFileSync(file, JSON.stringify(measurements));
};

for (const [what, spoil, sentence] of [
  [
    'no measurements',
    (directory: string) => fs.rmSync(path.join(directory, 'measurements.json')),
    /measurements\.json does not exist: build images with `cargo xtask image/,
  ],
  [
    'measurements that are no JSON',
    (directory: string) => fs.writeFileSync(path.join(directory, 'measurements.json'), '{'),
    /is not JSON: build the images again/,
  ],
  [
    'measurements without a member',
    edit((m) => delete m.settings['table_arn']),
    /settings\.table_arn is not a string; build the images again/,
  ],
  [
    'a missing image',
    (directory: string) => fs.rmSync(path.join(directory, 'signer.eif')),
    /signer\.eif does not exist, and .*measurements\.json describes it: copy it there/,
  ],
  [
    'an image that was exchanged',
    (directory: string) => fs.writeFileSync(path.join(directory, 'signer.eif'), 'another'),
    /signer\.eif is not the file that .*measurements\.json describes \(its size or SHA-256 differs\): take both from the same build/,
  ],
  ['another SHA-256', edit((m) => (m.images.signer.sha256 = 'ab'.repeat(32))), /its size or SHA-256 differs/],
  [
    'the PCR0 of a debug enclave',
    edit((m) => (m.images.signer.pcr0 = '0'.repeat(96))),
    /gives signer the PCR0 of a debug enclave \(all zeros\), which no key may admit/,
  ],
  [
    'images of another architecture',
    edit((m) => (m.architecture = 'arm64')),
    /are for arm64, and CDK_TARGET_ARCHITECTURE says linux\/amd64: set it to linux\/arm64, or build/,
  ],
  [
    'images of another account',
    edit((m) => (m.settings['account'] = '999988887777')),
    /measure the settings of another deployment \(account is 999988887777 and not 123456789012\): correct CDK_PREFIX/,
  ],
  [
    'images of another region',
    edit((m) => (m.settings['region'] = 'eu-west-1')),
    /\(region is eu-west-1 and not eu-central-1\)/,
  ],
  [
    'images of another role',
    edit((m) => (m.settings['signer_role'] = 'arn:aws:iam::123456789012:role/x')),
    /\(signer_role is arn:aws:iam::123456789012:role\/x and not/,
  ],
  [
    'images of another table',
    edit((m) => (m.settings['table_arn'] = 'x')),
    /\(table_arn is x and not arn:aws:dynamodb:/,
  ],
  [
    'images that want a locked key',
    edit((m) => (m.settings['accept_open_policy'] = false)),
    /accept a locked key only .*: build images from settings with `"accept_open_policy": true`/,
  ],
] as const) {
  test(`${what}: refused with a sentence`, () => {
    const images = writeImages(configured());
    spoil(images);
    refused(() => readReleases(configured({ CDK_IMAGES: images })), sentence);
  });
}

test('a debug image in production: refused with a sentence', () => {
  const environment = { CDK_PREFIX: 'prod-', CDK_ALARMS_TO: 'ops@example.org' };
  const images = writeImages(configured(environment), { commandLine: DEBUG });
  refused(
    () => readReleases(configured({ ...environment, CDK_IMAGES: images })),
    /signer\.eif is a debug image .* and the prefix `prod-` is one of production: build images without `--profile debug`/,
  );
});

/** A deployment as an operator configures it, by the versions of its images. */
interface Step {
  readonly present: string;
  readonly next?: string;
  readonly traffic?: string;
}

const STEPS = {
  present: { present: 'one' },
  both: { present: 'one', next: 'two' },
  next: { present: 'two' },
  back: { present: 'one', next: 'two', traffic: 'present' },
} as const satisfies Readonly<Record<string, Step>>;

for (const [what, steps] of [
  ['going on to the next release', ['present', 'both', 'next']],
  ['going back from it', ['both', 'back', 'present']],
  ['changing one’s mind', ['back', 'both', 'next']],
] as const) {
  test(`${what}: at every moment the key admits the images that have the traffic`, () => {
    assert.deepEqual(denied(steps.map((name) => STEPS[name])), []);
  });
}

test('leaving out the release that has the traffic would deny the key to it', () => {
  assert.deepEqual(denied([STEPS.both, STEPS.present]), ['two']);
});

/**
 * The versions whose images have traffic and may not use the key, at some moment of these deployments. The key is
 * deployed before the application, so the traffic of one step meets the policy of the next.
 */
function denied(steps: readonly Step[]): readonly string[] {
  const directories = new Map(['one', 'two'].map((version) => [version, writeImages(configured(), { version })]));
  const deployed = steps.map(({ present, next, traffic }) => {
    const configuration = configured({
      CDK_IMAGES: directories.get(present),
      ...(next && { CDK_NEXT_IMAGES: directories.get(next), CDK_NEXT_UNTIL: '2026-12-10' }),
      CDK_TRAFFIC: traffic,
    });
    const releases = readReleases(configuration);
    const serving = withTraffic(configuration, releases);
    return { serving, policy: JSON.stringify(openPolicy(releases.release, releases.next)) };
  });
  return deployed.flatMap(({ serving, policy }, step) =>
    [policy, deployed[step + 1]?.policy ?? policy].flatMap((meanwhile) =>
      SERVICES.every((service) => meanwhile.includes(serving.images[service].pcr0))
        ? []
        : [...directories].filter(([, directory]) => directory === serving.directory).map(([version]) => version),
    ),
  );
}

function refused(read: () => unknown, sentence: RegExp): void {
  assert.throws(
    read,
    (error) => error instanceof ConfigurationError && sentence.test(error.message) && !error.message.includes('\n'),
  );
}
