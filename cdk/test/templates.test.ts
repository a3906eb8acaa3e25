import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { test } from 'node:test';

import { configured, ENVIRONMENT, temporary, writeImages } from './fixture';
import { stacks } from './stacks';

const directory = temporary();
const images = writeImages(configured());
const { status, stderr } = spawnSync(process.execPath, ['--import', 'tsx', 'bin/templates.ts', directory], {
  cwd: path.join(__dirname, '..'),
  env: { ...process.env, ...ENVIRONMENT, CDK_IMAGES: images },
  encoding: 'utf8',
});

const read = (name: string) =>
  JSON.parse(fs.readFileSync(path.join(directory, `${name}.json`), 'utf8')) as Readonly<Record<string, unknown>>;

test('base and key are templates that any tool can send inline', () => {
  assert.equal(status, 0, stderr);
  assert.deepEqual(fs.readdirSync(directory).sort(), ['dev-cloister-base.json', 'dev-cloister-key.json']);
  for (const name of ['dev-cloister-base', 'dev-cloister-key']) {
    const template = read(name);
    // https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_CreateStack.html: TemplateBody
    assert.ok(fs.statSync(path.join(directory, `${name}.json`)).size <= 51_200, name);
    assert.deepEqual([template['Parameters'], template['Rules']], [undefined, undefined], name);
    assert.doesNotMatch(JSON.stringify(template), /cdk-hnb659fds|"S3Bucket":|Fn::ImportValue/, name);
  }
});

test('they have the resources that `cdk deploy` deploys', () => {
  const deployed = stacks('eks');
  for (const name of ['dev-cloister-base', 'dev-cloister-key']) {
    assert.deepEqual(Object.keys(read(name)['Resources'] as object), Object.keys(deployed.get(name) ?? {}));
  }
});
