/** A deployment on a cluster that exists. */

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { test } from 'node:test';

import type { Environment } from '../lib/configuration';
import { KNOBS } from '../lib/configuration/knobs';
import type { Manifest } from '../lib/kubernetes/manifest';
import { SERVICES } from '../lib/release';
import { configured, ENVIRONMENT, temporary, writeImages } from './fixture';
import { ofType, stacks } from './stacks';

const CLUSTER: Environment = { CDK_VARIANT: 'identities', CDK_CLUSTER: 'platform' };
const NETWORK: Environment = {
  CDK_VPC_ID: 'vpc-0123456789abcdef0',
  CDK_VPC_CIDR: '10.20.0.0/16',
  CDK_ZONES: 'eu-central-1a,eu-central-1b',
  CDK_VPC_SUBNETS: 'subnet-0123456789abcdef0,subnet-0123456789abcdef1',
  CDK_VPC_LOAD_BALANCER_SUBNETS: 'subnet-0123456789abcdef2,subnet-0123456789abcdef3',
  CDK_VPC_LOAD_BALANCER_CIDRS: '10.20.0.0/26,10.20.0.64/26',
};
const URLS = 'signer=https://signer.example.com:8443,key-generator=https://generator.example.com';

function authority(text = '-----BEGIN CERTIFICATE-----\n'): string {
  const file = path.join(temporary(), 'ca.pem');
  fs.writeFileSync(file, text);
  return file;
}

test('base, key and the identities of the pods, and nothing of machines or networks', () => {
  const all = stacks('identities', { CDK_CLUSTER: 'platform' });
  assert.deepEqual([...all.keys()].sort(), ['dev-cloister-base', 'dev-cloister-identities', 'dev-cloister-key']);
  const resources = all.get('dev-cloister-identities') ?? {};
  const identities = ofType(resources, 'AWS::EKS::PodIdentityAssociation');
  const types = new Set(Object.values(resources).map(({ Type }) => Type));
  assert.deepEqual(
    [...types].filter((type) => /^AWS::(EC2|EKS|ECS|AutoScaling|ElasticLoadBalancing)/.test(type)),
    ['AWS::EKS::PodIdentityAssociation'],
  );
  assert.deepEqual(
    identities.map(([, { Properties }]) => Properties),
    SERVICES.map((service) => ({
      ClusterName: 'platform',
      Namespace: 'cloister',
      ServiceAccount: service,
      RoleArn: `arn:aws:iam::123456789012:role/dev-cloister-${service}`,
    })),
  );
});

test('the key is watched once, with a front door and without', () => {
  for (const [environment, watching] of [
    [{}, 'dev-cloister-identities'],
    [{ ...NETWORK, CDK_POD_URLS: URLS, CDK_POD_CA: authority() }, 'dev-cloister-application'],
  ] as const) {
    const all = stacks('identities', { CDK_CLUSTER: 'platform', ...environment });
    const watched = [...all].filter(([, resources]) =>
      ofType(resources, 'AWS::CloudWatch::Alarm').some(
        ([, { Properties }]) => Properties['AlarmName'] === 'dev-cloister-key-used-outside',
      ),
    );
    assert.deepEqual(
      watched.map(([name]) => name),
      [watching],
    );
  }
});

test('a front door calls the pods in the cluster’s network, at their own addresses and no other ports', () => {
  const all = stacks('identities', {
    ...NETWORK,
    CDK_CLUSTER: 'platform',
    CDK_POD_URLS: URLS,
    CDK_POD_CA: authority(),
  });
  const application = all.get('dev-cloister-application') ?? {};
  const [[, door] = []] = ofType(application, 'AWS::Lambda::Function').filter(([id]) => id.startsWith('FrontDoor'));
  const { Environment: environment, VpcConfig: vpc } = door?.Properties as {
    Environment: { Variables: Record<string, unknown> };
    VpcConfig: { SubnetIds: unknown };
  };
  assert.equal(environment.Variables['CLOISTER_SIGNER_URL'], 'https://signer.example.com:8443');
  assert.equal(environment.Variables['CLOISTER_KEY_GENERATOR_URL'], 'https://generator.example.com');
  assert.deepEqual(vpc.SubnetIds, ['subnet-0123456789abcdef0', 'subnet-0123456789abcdef1']);
  const [[, group] = []] = ofType(application, 'AWS::EC2::SecurityGroup').filter(([id]) =>
    id.startsWith('FrontDoorGroup'),
  );
  const egress = group?.Properties['SecurityGroupEgress'] as readonly { FromPort: number; ToPort: number }[];
  assert.deepEqual(
    egress.map(({ FromPort, ToPort }) => [FromPort, ToPort]),
    [
      [8443, 8443],
      [443, 443],
    ],
  );
});

for (const [what, environment, sentence] of [
  ['no cluster', { CDK_CLUSTER: '' }, /set it to the name of the EKS cluster/],
  ['a cluster without its variant', { CDK_VARIANT: 'eks' }, /CDK_CLUSTER is set with CDK_VARIANT `eks`/],
  ['a CA without addresses', { CDK_POD_CA: 'ca.pem' }, /CDK_POD_CA is set without CDK_POD_URLS/],
  ['addresses without a network', { CDK_POD_URLS: URLS }, /CDK_POD_URLS needs CDK_VPC_ID/],
  ['an address without TLS', { CDK_POD_URLS: URLS.replace('https', 'http') }, /CDK_POD_URLS names/],
  ['the address of one service', { CDK_POD_URLS: URLS.split(',')[0] }, /give the addresses of both services/],
  ['a target group of one service', { CDK_TARGET_GROUPS: 'signer=arn' }, /give the ARNs of the load balancer/],
  ['operators of that cluster', { CDK_OPERATORS: 'arn:aws:iam::123456789012:role/ops' }, /CDK_OPERATORS is set with/],
] as const) {
  test(`${what}: refused with a sentence`, () => {
    assert.throws(() => configured({ ...CLUSTER, ...environment }), sentence);
  });
}

test('a file that is no certificate: refused with a sentence', () => {
  const given = { ...NETWORK, CDK_CLUSTER: 'platform', CDK_POD_URLS: URLS, CDK_POD_CA: authority('nothing') };
  assert.throws(() => stacks('identities', given), /has no certificate in PEM/);
});

const DIGESTS = { signer: 'a'.repeat(64), 'key-generator': 'b'.repeat(64) } as const;
const POD_IMAGES = SERVICES.map((service) => `${service}=registry.example.com/pods@sha256:${DIGESTS[service]}`).join();
const IMAGES = writeImages(configured());
const TARGET_GROUPS = SERVICES.map(
  (service) =>
    `${service}=arn:aws:elasticloadbalancing:eu-central-1:123456789012:targetgroup/${service}/0123456789abcdef`,
).join();

/** Runs `npm run manifests`. */
function written(environment: Environment = {}, parameters = path.join(__dirname, 'parameters.json')) {
  const directory = temporary();
  const { status, stderr } = spawnSync(
    process.execPath,
    ['--import', 'tsx', 'bin/manifests.ts', directory, parameters],
    {
      cwd: path.join(__dirname, '..'),
      env: {
        ...process.env,
        ...ENVIRONMENT,
        ...CLUSTER,
        ...NETWORK,
        CDK_IMAGES: IMAGES,
        CDK_POD_IMAGES: POD_IMAGES,
        ...environment,
      },
      encoding: 'utf8',
    },
  );
  const text = (file: string) => fs.readFileSync(path.join(directory, file), 'utf8');
  const objects = (file: string) =>
    text(file)
      .split(/^---$/m)
      .filter((document) => document.trim() !== '')
      .map((document) => JSON.parse(document) as Manifest);
  return { status, stderr, text, objects };
}

test('the objects are those of the configuration: digests, measurements, key, table', () => {
  const { status, stderr, objects, text } = written();
  assert.equal(status, 0, stderr);
  const { resources } = JSON.parse(text('kustomization.yaml')) as { resources: readonly string[] };
  const all = resources.flatMap(objects);
  const identifiers = all.map(({ kind, metadata }) => `${kind} ${String(metadata['namespace'])} ${metadata.name}`);
  assert.equal(new Set(identifiers).size, all.length);
  const deployments = all.filter(({ kind }) => kind === 'Deployment');
  assert.equal(deployments.length, 2);
  const measured = JSON.parse(fs.readFileSync(path.join(IMAGES, 'measurements.json'), 'utf8')) as {
    images: Record<string, { pcr0: string }>;
  };
  for (const service of SERVICES) {
    const found = deployments.map((each) => JSON.stringify(each)).find((each) => each.includes(`"${service}"`)) ?? '';
    assert.ok(found.includes(`"image":"registry.example.com/pods@sha256:${DIGESTS[service]}"`));
    assert.ok(found.includes(`"cloister/pcr0":"${measured.images[service]?.pcr0}"`));
    assert.ok(found.includes('arn:aws:kms:eu-central-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab'));
  }
  assert.ok(!all.some(({ kind }) => ['TargetGroupBinding', 'HorizontalPodAutoscaler'].includes(kind)));
  assert.ok(JSON.stringify(all).includes('"cidr":"10.20.0.64/26"'));
  assert.equal(objects('autoscalers.yaml').length, 2);
  assert.equal(spawnSync('bash', ['-n'], { input: text('machine.sh') }).status, 0);
});

test('pods are bound to given target groups, and certificates have the names of given addresses', () => {
  const { objects } = written({ CDK_TARGET_GROUPS: TARGET_GROUPS, CDK_POD_URLS: URLS });
  const extensions = objects('extensions.yaml');
  const bindings = extensions.filter(({ kind }) => kind === 'TargetGroupBinding');
  assert.deepEqual(
    bindings.map((binding) => (binding['spec'] as Record<string, unknown>)['targetGroupARN']),
    TARGET_GROUPS.split(',').map((group) => group.slice(group.indexOf('=') + 1)),
  );
  assert.ok(JSON.stringify(extensions).includes('"dnsNames":["generator.example.com"]'));
});

test('while two releases are admitted both run, and the one with the traffic is bound', () => {
  const later = {
    CDK_TARGET_GROUPS: TARGET_GROUPS,
    CDK_NEXT_IMAGES: writeImages(configured(), { version: 'two' }),
    CDK_NEXT_POD_IMAGES: POD_IMAGES,
    CDK_NEXT_UNTIL: new Date(Date.now() + 86_400_000).toISOString().slice(0, 10),
  };
  const bound = (traffic: string) => {
    const { status, stderr, objects } = written({ ...later, CDK_TRAFFIC: traffic });
    assert.equal(status, 0, stderr);
    assert.equal(objects('kubernetes.yaml').filter(({ kind }) => kind === 'Deployment').length, 4);
    return objects('extensions.yaml')
      .filter(({ kind }) => kind === 'TargetGroupBinding')
      .map(({ metadata }) => metadata.name);
  };
  const [present, next] = [bound('present'), bound('next')];
  assert.equal(new Set([...present, ...next]).size, 4);
});

test('objects without images by digest, a network or the key’s parameter are not written', () => {
  const empty = path.join(temporary(), 'parameters.json');
  fs.writeFileSync(empty, '{"Parameters": []}');
  const own = Object.fromEntries(Object.keys(NETWORK).map((name) => [name, '']));
  for (const [{ status, stderr }, sentence] of [
    [written({ CDK_POD_IMAGES: '' }), /CDK_POD_IMAGES is not set/],
    [written(own), /CDK_VPC_ID is not set/],
    [written({}, empty), /have no \/dev-app\/ethereum\/key_id: deploy dev-cloister-base and dev-cloister-key/],
    [written({}, '/nowhere'), /give a directory, and the file/],
  ] as const) {
    assert.equal(status, 1);
    assert.match(stderr, sentence);
  }
});

test('the page about existing platforms names scripts and variables that exist', () => {
  const page = fs.readFileSync(path.join(__dirname, '../../docs/existing-platforms.md'), 'utf8');
  const { scripts } = JSON.parse(fs.readFileSync(path.join(__dirname, '../package.json'), 'utf8')) as {
    scripts: Readonly<Record<string, string>>;
  };
  const variables = Object.values(KNOBS).map(({ variable }) => variable);
  const named = (pattern: RegExp) => [...page.matchAll(pattern)].map(([, name = '']) => name);
  const [inPage, run] = [named(/\b(CDK_[A-Z_]+)/g), named(/npm run ([a-z-]+)/g)];
  assert.ok(inPage.length > 0 && run.length > 0);
  assert.deepEqual(
    inPage.filter((name) => !variables.includes(name)),
    [],
  );
  assert.deepEqual(
    run.filter((name) => !(name in scripts)),
    [],
  );
});
