/** The programs in `bin`, run as processes. */

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { test } from 'node:test';

import { ENVIRONMENT, temporary } from './fixture';

test('a configuration error is printed as one sentence', () => {
  const { status, stdout, stderr } = run('cloister', { ...ENVIRONMENT, CDK_DEPLOY_REGION: '', CDK_IMAGES: '/nowhere' });
  assert.deepEqual(
    [status, stdout, stderr],
    [1, '', 'CDK_DEPLOY_REGION is not set: set it to the AWS region to deploy to, such as `eu-central-1`\n'],
  );
});

test('the settings for images are written into a directory that does not exist yet', () => {
  const file = path.join(temporary(), 'target', 'settings.json');
  const { status, stdout } = run('settings', ENVIRONMENT, file);
  assert.deepEqual([status, stdout], [0, '']);
  assert.equal(fs.readFileSync(file, 'utf8'), run('settings', ENVIRONMENT).stdout);
});

test('the settings for images are printed', () => {
  const { status, stdout } = run('settings', ENVIRONMENT);
  assert.equal(status, 0);
  const settings = JSON.parse(stdout) as Record<string, unknown>;
  assert.equal(settings['signer_role'], 'arn:aws:iam::123456789012:role/dev-cloister-signer');
  assert.equal((settings['tls_roots'] as unknown[]).length, 5);
});

test('an account is bootstrapped before there is a configuration, an image or a credential', () => {
  // `--app ''` keeps CDK from running the app: it goes on to the first thing that needs credentials.
  const bootstrap = (...options: readonly string[]) =>
    spawnSync(
      process.execPath,
      ['node_modules/aws-cdk/bin/cdk', 'bootstrap', 'aws://123456789012/eu-central-1', '--no-notices', ...options],
      {
        cwd: path.join(__dirname, '..'),
        env: {
          PATH: process.env['PATH'],
          HOME: temporary(),
          AWS_EC2_METADATA_DISABLED: 'true',
          CDK_DISABLE_CLI_TELEMETRY: 'true',
        },
        encoding: 'utf8',
      },
    );
  const app = bootstrap();
  assert.match(app.stderr, /CDK_DEPLOY_ACCOUNT is not set/);
  const documented = bootstrap('--app', '');
  assert.doesNotMatch(documented.stderr, /CDK_DEPLOY_ACCOUNT/);
  assert.match(documented.stdout + documented.stderr, /Bootstrapping environment aws:\/\/123456789012\/eu-central-1/);
});

test('every feature flag of the library is chosen', () => {
  const directory = path.join(__dirname, '..');
  const read = (file: string) => JSON.parse(fs.readFileSync(path.join(directory, file), 'utf8')) as unknown;
  const { context } = read('cdk.json') as { readonly context: Record<string, unknown> };
  const recommended = read('node_modules/aws-cdk-lib/recommended-feature-flags.json') as Record<string, unknown>;
  assert.deepEqual(context, {
    ...recommended,
    // No more is sent about a deployment than the versions of its constructs.
    '@aws-cdk/core:enableAdditionalMetadataCollection': false,
  });
});

function run(program: string, environment: NodeJS.ProcessEnv, ...options: readonly string[]) {
  const directory = path.join(__dirname, '..');
  return spawnSync(process.execPath, ['--import', 'tsx', `bin/${program}.ts`, ...options], {
    cwd: directory,
    env: environment,
    encoding: 'utf8',
  });
}
