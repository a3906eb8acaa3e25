import assert from 'node:assert/strict';
import { test } from 'node:test';

import { ConfigurationError, names } from '../lib/configuration';
import { configured } from './fixture';

test('a configuration is read from the environment', () => {
  const read = configured();
  assert.deepEqual(
    [read.prefix, read.partition, read.account, read.region, read.architecture, read.production],
    ['dev-', 'aws', '123456789012', 'eu-central-1', 'amd64', false],
  );
  assert.equal(configured({ CDK_PREFIX: '' }).production, true);
  assert.equal(configured({ CDK_PREFIX: 'prod-' }).production, true);
  assert.equal(configured({ CDK_TARGET_ARCHITECTURE: 'linux/arm64' }).architecture, 'arm64');
  assert.equal(configured({ CDK_DEPLOY_REGION: 'us-gov-west-1' }).partition, 'aws-us-gov');
  assert.equal(configured({ CDK_DEPLOY_REGION: 'cn-north-1' }).partition, 'aws-cn');
  assert.equal(configured({ CDK_IMAGES: '/elsewhere' }, { images: '/here' }).images, '/here');
});

test('names are fixed and begin with the prefix', () => {
  const name = names(configured());
  assert.equal(name.signerRole, 'arn:aws:iam::123456789012:role/dev-cloister-signer');
  assert.equal(name.tableArn, 'arn:aws:dynamodb:eu-central-1:123456789012:table/dev-cloister-keys');
  assert.equal(name.parameter('rest_url'), '/dev-app/ethereum/rest_url');
});

for (const [what, environment, context, sentence] of [
  [
    'a missing region',
    { CDK_DEPLOY_REGION: undefined },
    {},
    'CDK_DEPLOY_REGION is not set: set it to the AWS region to deploy to, such as `eu-central-1`',
  ],
  [
    'a region that is none',
    { CDK_DEPLOY_REGION: 'Frankfurt' },
    {},
    'CDK_DEPLOY_REGION is `Frankfurt`: set it to the AWS region to deploy to, such as `eu-central-1`',
  ],
  [
    'a missing account',
    { CDK_DEPLOY_ACCOUNT: '' },
    {},
    'CDK_DEPLOY_ACCOUNT is not set: set it to the twelve digits of the AWS account to deploy to',
  ],
  [
    'a short account',
    { CDK_DEPLOY_ACCOUNT: '1234' },
    {},
    'CDK_DEPLOY_ACCOUNT is `1234`: set it to the twelve digits of the AWS account to deploy to',
  ],
  [
    'another architecture',
    { CDK_TARGET_ARCHITECTURE: 'linux/riscv64' },
    {},
    'CDK_TARGET_ARCHITECTURE is `linux/riscv64`: set it to `linux/amd64` or `linux/arm64`, the architecture that the enclave images were built for',
  ],
  [
    'a prefix without its hyphen',
    { CDK_PREFIX: 'dev' },
    {},
    /^CDK_PREFIX is `dev`: set it to nothing, or .* end with a hyphen, such as `dev-`$/,
  ],
  ['a prefix in upper case', { CDK_PREFIX: 'Dev-' }, {}, /^CDK_PREFIX is `Dev-`: /],
  ['a long prefix', { CDK_PREFIX: `${'a'.repeat(15)}-` }, {}, /at most 15/],
  ['a next release without a day', { CDK_NEXT_IMAGES: 'x' }, {}, /^CDK_NEXT_IMAGES needs CDK_NEXT_UNTIL, the last day/],
  [
    'a day that is none',
    { CDK_NEXT_IMAGES: 'x', CDK_NEXT_UNTIL: '2027-13-01' },
    {},
    /^CDK_NEXT_IMAGES needs CDK_NEXT_UNTIL/,
  ],
  ['a day alone', { CDK_NEXT_UNTIL: '2027-01-31' }, {}, /^CDK_NEXT_UNTIL is set without CDK_NEXT_IMAGES/],
  [
    'a day that is over',
    { CDK_NEXT_IMAGES: 'x', CDK_NEXT_UNTIL: '2026-11-30' },
    {},
    /^both releases were admitted until 2026-11-30, which is over: set CDK_IMAGES to the release that stays/,
  ],
  [
    'a day too far ahead',
    { CDK_NEXT_IMAGES: 'x', CDK_NEXT_UNTIL: '2026-12-17' },
    {},
    /^CDK_NEXT_UNTIL is 2026-12-17: set a day at most 14 days ahead/,
  ],
  [
    'another variant',
    { CDK_VARIANT: 'nomad' },
    {},
    'CDK_VARIANT is `nomad`: set it to `eks` or `ecs`, or to nothing for `eks`',
  ],
  [
    'a whole account as caller',
    { CDK_CALLERS: 'arn:aws:iam::111122223333:root' },
    {},
    /^CDK_CALLERS names `arn:aws:iam::111122223333:root`: give the ARNs of roles or users/,
  ],
  [
    'the locked form',
    {},
    { 'key-form': 'locked' },
    /^the context value key-form asks for another form than `open`: a locked key could never admit another image/,
  ],
  ['half an answer', {}, { 'with-keys': 'maybe' }, /^the context value with-keys is `maybe`: give/],
] as const) {
  test(`${what} stops with a sentence`, () => {
    assert.throws(
      () => configured(environment, context),
      (error) =>
        error instanceof ConfigurationError &&
        (typeof sentence === 'string' ? error.message === sentence : sentence.test(error.message)),
    );
  });
}

test('all invalid values are reported together', () => {
  assert.throws(
    () => configured({ CDK_DEPLOY_REGION: '', CDK_DEPLOY_ACCOUNT: '' }),
    /CDK_DEPLOY_ACCOUNT is not set.*\nCDK_DEPLOY_REGION is not set/,
  );
});
