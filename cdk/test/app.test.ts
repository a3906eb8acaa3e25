/** The programs in `bin`, run as processes. */

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import * as path from 'node:path';
import { test } from 'node:test';

import { ENVIRONMENT } from './fixture';

test('a configuration error is printed as one sentence', () => {
  const { status, stdout, stderr } = run('cloister', { ...ENVIRONMENT, CDK_DEPLOY_REGION: '', CDK_IMAGES: '/nowhere' });
  assert.deepEqual(
    [status, stdout, stderr],
    [1, '', 'CDK_DEPLOY_REGION is not set: set it to the AWS region to deploy to, such as `eu-central-1`\n'],
  );
});

test('the settings for images are printed', () => {
  const { status, stdout } = run('settings', ENVIRONMENT);
  assert.equal(status, 0);
  const settings = JSON.parse(stdout) as Record<string, unknown>;
  assert.equal(settings['signer_role'], 'arn:aws:iam::123456789012:role/dev-cloister-signer');
  assert.equal((settings['tls_roots'] as unknown[]).length, 5);
});

function run(program: string, environment: NodeJS.ProcessEnv) {
  const directory = path.join(__dirname, '..');
  return spawnSync(process.execPath, ['--import', 'tsx', `bin/${program}.ts`], {
    cwd: directory,
    env: environment,
    encoding: 'utf8',
  });
}
