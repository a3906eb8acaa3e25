import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { test } from 'node:test';

import { App, Stack } from 'aws-cdk-lib';

import { podImage, writeContext } from '../lib/containers';
import { PATHS, USER } from '../lib/kubernetes/pods';
import { program, withContainers } from './containers';
import { deployment } from './fixture';

test('a context contains the pod, its enclave image, the measurements and the TLS roots', () => {
  const { release } = withContainers(deployment()).releases;
  const root = path.join(release.directory, 'containers/signer/root');
  const read = (file: string) => fs.readFileSync(path.join(root, file));
  assert.deepEqual(read(PATHS.image), fs.readFileSync(release.images.signer.file));
  assert.deepEqual(read(PATHS.measurements), fs.readFileSync(release.measurements));
  assert.ok(fs.existsSync(path.join(root, PATHS.awsRoots)));
  assert.equal(fs.statSync(path.join(root, 'usr/bin/pod')).mode & 0o777, 0o755);
});

test('the container runs as an unprivileged user and starts the pod', () => {
  const dockerfile = fs.readFileSync(path.join(__dirname, '../containers/Dockerfile'), 'utf8');
  const [, last = ''] = dockerfile.split(/^FROM scratch$/m);
  assert.match(last, new RegExp(`^USER ${USER}:${USER}$`, 'm'));
  assert.match(last, /^ENTRYPOINT \["\/usr\/bin\/pod"\]$/m);
  assert.doesNotMatch(last, /^RUN /m);
});

test('a program of another architecture, or one that needs a loader, is refused', () => {
  const { directory } = deployment().releases.release;
  assert.throws(() => writeContext(directory, 'signer', program('arm64')), /is not for amd64/);
  assert.throws(() => writeContext(directory, 'signer', program('amd64', 3)), /needs a loader/);
  assert.throws(
    () => writeContext(directory, 'signer', path.join(directory, 'measurements.json')),
    /not a 64-bit program/,
  );
});

test('missing container images, or those of another release, stop synthesis with a remedy', () => {
  const { configuration, releases } = deployment();
  const image = () => podImage(new Stack(new App(), 'test'), configuration, releases.release, 'signer');
  const sentence = new RegExp(`run \`cargo xtask containers --images ${releases.release.directory}\``);
  assert.throws(image, sentence);
  withContainers({ configuration, releases });
  fs.writeFileSync(path.join(releases.release.directory, 'containers/signer/root/enclave/image.eif'), 'another');
  assert.throws(image, sentence);
});
