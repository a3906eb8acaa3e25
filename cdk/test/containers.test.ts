import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { test } from 'node:test';

import { App, Stack } from 'aws-cdk-lib';
import { AssetManifestArtifact } from 'aws-cdk-lib/cx-api';

import { cloister } from '../lib/cloister';
import { podImage, writeContext } from '../lib/containers';
import { PATHS, USER } from '../lib/kubernetes/pods';
import { program, withContainers } from './containers';
import { configured, deployment, temporary, writeImages } from './fixture';

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

for (const variant of ['eks', 'ecs'] as const) {
  test(`images that were pushed before are deployed by their digests in ${variant}, and none is built`, () => {
    const [present, next] = [pushed('1', '2'), pushed('3', '4')];
    const zip = path.join(temporary(), 'front-door.zip');
    fs.writeFileSync(zip, 'a zip');
    const { configuration, releases } = deployment({
      CDK_VARIANT: variant,
      CDK_FRONT_DOOR: zip,
      CDK_POD_IMAGES: variable(present),
      CDK_NEXT_POD_IMAGES: variable(next),
      CDK_NEXT_IMAGES: writeImages(configured(), { version: 'two' }),
      CDK_NEXT_UNTIL: '2026-12-05',
    });
    const app = new App({ outdir: temporary() });
    cloister(app, configuration, releases);
    const assembly = app.synth();
    const assets = assembly.artifacts.filter((artifact) => AssetManifestArtifact.isAssetManifestArtifact(artifact));
    assert.ok(assets.length > 0);
    assert.deepEqual(
      assets.flatMap(({ contents }) => Object.keys(contents.dockerImages ?? {})),
      [],
    );
    const templates = JSON.stringify(assembly.stacks.map(({ template }) => template as unknown))
      .replaceAll('",{"Ref":"AWS::URLSuffix"},"', 'amazonaws.com')
      .replaceAll(`",{"Ref":"AWS::AccountId"},"`, configuration.account);
    const used = templates.match(/[a-z0-9./-]+@sha256:[0-9a-f]{64}/g) ?? [];
    // Kubernetes runs both releases at a time; ECS replaces the tasks of the present one.
    const expected = [...(variant === 'eks' ? Object.values(present) : []), ...Object.values(next)];
    assert.deepEqual([...new Set(used)].sort(), expected.sort());
    const pulled = JSON.stringify(assembly.stacks.map(({ template }) => template as unknown));
    assert.equal(variant === 'ecs', pulled.includes(`repository/${REPOSITORY}`));
  });
}

test('an image that was pushed is compared with the release where its directory is at hand', () => {
  const { configuration, releases } = withContainers(deployment({ CDK_POD_IMAGES: variable(pushed('1', '2')) }));
  const image = () => podImage(new Stack(new App(), 'test'), configuration, releases.release, 'signer').imageUri;
  assert.equal(image(), pushed('1', '2').signer);
  fs.writeFileSync(path.join(releases.release.directory, 'containers/signer/root/enclave/image.eif'), 'another');
  assert.throws(image, /does not hold the container image of this release's signer/);
});

const REPOSITORY = 'dev-cloister-pods';

function pushed(signer: string, generator: string) {
  const uri = (digit: string) =>
    `123456789012.dkr.ecr.eu-central-1.amazonaws.com/${REPOSITORY}@sha256:${digit.repeat(64)}`;
  return { signer: uri(signer), 'key-generator': uri(generator) };
}

function variable(images: Readonly<Record<string, string>>): string {
  return Object.entries(images)
    .map((image) => image.join('='))
    .join(',');
}
