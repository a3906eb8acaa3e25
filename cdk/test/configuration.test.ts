import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { test } from 'node:test';

import { ConfigurationError, names, zoneCount } from '../lib/configuration';
import { ENCLAVES_PER_MACHINE } from '../lib/configuration/checks';
import { KNOBS } from '../lib/configuration/knobs';
import { configurationPage } from '../lib/configuration/page';
import { DEFAULT_MACHINE_TYPE, MACHINE_TYPES } from '../lib/configuration/machine-types';
import { enclaveSize, reservation } from '../lib/kubernetes/enclave';
import { SERVICES } from '../lib/release';
import { configured } from './fixture';

test('a configuration is read from the environment', () => {
  const read = configured();
  assert.deepEqual(
    [read.prefix, read.partition, read.account, read.region, read.architecture, read.production],
    ['dev-', 'aws', '123456789012', 'eu-central-1', 'amd64', false],
  );
  assert.equal(configured({ CDK_PREFIX: '', CDK_ALARMS_TO: 'ops@example.org' }).production, true);
  assert.equal(configured({ CDK_PREFIX: 'prod-', CDK_ALARMS_TO: 'ops@example.org' }).production, true);
  assert.equal(configured({ CDK_TARGET_ARCHITECTURE: 'linux/arm64' }).architecture, 'arm64');
  assert.equal(configured({ CDK_DEPLOY_REGION: 'us-gov-west-1' }).partition, 'aws-us-gov');
  assert.equal(configured({ CDK_DEPLOY_REGION: 'cn-north-1' }).partition, 'aws-cn');
  assert.equal(configured({ CDK_IMAGES: '/elsewhere' }, { images: '/here' }).images, '/here');
  assert.equal(configured({ CDK_PREFIX: 'dev' }).prefix, 'dev-');
});

test('what is not given has a default', () => {
  const { traffic, size, replicas, machines, zones, network, ...rest } = configured();
  assert.deepEqual(
    { traffic, size, replicas, machines, zones, network },
    {
      traffic: 'present',
      size: 'default',
      replicas: { signer: 2, 'key-generator': 2 },
      machines: { count: 3, type: 'm6i.2xlarge' },
      zones: undefined,
      network: { kind: 'own', cidr: '10.0.0.0/16' },
    },
  );
  assert.deepEqual(
    [rest.alarmsTo, rest.tags, rest.operators, rest.trail, rest.podImages, rest.codeSigning, rest.apiLogs],
    [[], {}, [], 'create', undefined, false, 'create'],
  );
  assert.deepEqual([rest.parameterPrefix, rest.withKeys, rest.destroy], ['/dev-app/ethereum', false, false]);
  assert.equal(zoneCount(configured()), 3);

  const small = configured({ CDK_SIZE: 'small', CDK_TARGET_ARCHITECTURE: 'linux/arm64' });
  assert.deepEqual(
    [small.machines, small.replicas, zoneCount(small)],
    [{ count: 2, type: 'm7g.2xlarge' }, { signer: 1, 'key-generator': 1 }, 2],
  );
});

test('every value can be given', () => {
  const digest = `sha256:${'0a'.repeat(32)}`;
  const images = (version: string) =>
    SERVICES.map((service) => `${service}=123456789012.dkr.ecr.eu-central-1.amazonaws.com/${version}@${digest}`).join();
  const read = configured({
    CDK_NEXT_IMAGES: '/next',
    CDK_NEXT_UNTIL: '2026-12-10',
    CDK_POD_IMAGES: images('one'),
    CDK_NEXT_POD_IMAGES: images('two'),
    CDK_TRAFFIC: 'present',
    CDK_SIGNERS: '3',
    CDK_KEY_GENERATORS: '1',
    CDK_MACHINES: '4',
    CDK_MACHINE_TYPE: 'c6i.4xlarge',
    CDK_ZONES: 'eu-central-1a, eu-central-1b',
    CDK_VPC_ID: 'vpc-0123456789abcdef0',
    CDK_VPC_CIDR: '100.64.0.0/22',
    CDK_VPC_SUBNETS: 'subnet-0123456789abcdef0,subnet-0123456789abcdef1',
    CDK_VPC_LOAD_BALANCER_SUBNETS: 'subnet-0123456789abcdef2,subnet-0123456789abcdef3',
    CDK_VPC_LOAD_BALANCER_CIDRS: '100.64.0.0/26,100.64.0.64/26',
    CDK_ALARMS_TO: 'ops@example.org,arn:aws:sqs:eu-central-1:123456789012:alarms',
    CDK_RESOURCE_TAGS: 'cost-centre=42,owner=a=b',
    CDK_PARAMETER_PREFIX: '/devapp/ethereum',
    CDK_OPERATORS: 'arn:aws:iam::123456789012:role/team/operator',
    CDK_TRAIL: 'arn:aws:cloudtrail:eu-central-1:123456789012:trail/all',
    CDK_CODE_SIGNING: 'true',
    CDK_FRONT_DOOR: 's3://bucket/front-door.zip',
    CDK_API_LOGS: 'existing',
  });
  assert.deepEqual(read.podImages?.signer, `123456789012.dkr.ecr.eu-central-1.amazonaws.com/one@${digest}`);
  assert.match(read.next?.podImages?.['key-generator'] ?? '', /\/two@/);
  assert.deepEqual([read.traffic, read.frontDoor], ['present', 's3://bucket/front-door.zip']);
  assert.deepEqual(read.replicas, { signer: 3, 'key-generator': 1 });
  assert.deepEqual(read.machines, { count: 4, type: 'c6i.4xlarge' });
  assert.deepEqual(read.zones, ['eu-central-1a', 'eu-central-1b']);
  assert.deepEqual(read.network, {
    kind: 'existing',
    vpcId: 'vpc-0123456789abcdef0',
    cidr: '100.64.0.0/22',
    subnets: ['subnet-0123456789abcdef0', 'subnet-0123456789abcdef1'],
    loadBalancerSubnets: ['subnet-0123456789abcdef2', 'subnet-0123456789abcdef3'],
    loadBalancerCidrs: ['100.64.0.0/26', '100.64.0.64/26'],
  });
  assert.deepEqual(read.tags, { 'cost-centre': '42', owner: 'a=b' });
  assert.equal(names(read).parameter('rest_url'), '/devapp/ethereum/rest_url');
  assert.deepEqual(read.alarmsTo, ['ops@example.org', 'arn:aws:sqs:eu-central-1:123456789012:alarms']);
  assert.deepEqual([read.codeSigning, read.apiLogs], [true, 'existing']);
});

test('regions with a zone without control planes have zones by id', () => {
  for (const [region, zones] of Object.entries({
    'us-east-1': ['use1-az1', 'use1-az2', 'use1-az4'],
    'us-west-1': ['usw1-az1', 'usw1-az3'],
    'ca-central-1': ['cac1-az1', 'cac1-az2', 'cac1-az4'],
  })) {
    assert.deepEqual(configured({ CDK_DEPLOY_REGION: region }).zones, zones);
    assert.equal(zoneCount(configured({ CDK_DEPLOY_REGION: region, CDK_SIZE: 'small' })), 2);
  }
});

test('a machine has room for its enclaves and a core of its own', () => {
  const { enclaves, cpus, memoryMib } = reservation(SERVICES.map(() => enclaveSize(7_100_000)));
  assert.equal(enclaves, ENCLAVES_PER_MACHINE);
  for (const [name, type] of MACHINE_TYPES) {
    assert.ok(type.cpus - cpus >= 2 && type.memoryMib - memoryMib >= 4096, name);
  }
  for (const [architecture, name] of Object.entries(DEFAULT_MACHINE_TYPE)) {
    assert.equal(MACHINE_TYPES.get(name)?.architecture, architecture);
  }
});

test('every variable that is no text has an invalid value with a sentence', () => {
  // Files are looked for later, and the day is checked together with the images.
  const texts = ['CDK_IMAGES', 'CDK_NEXT_IMAGES', 'CDK_NEXT_UNTIL', 'CDK_FRONT_DOOR', 'CDK_POD_CA'];
  const variables = Object.values(KNOBS).flatMap(({ variable }) => (variable === undefined ? [] : [variable]));
  const checked = variables.filter((variable) => !texts.includes(variable));
  for (const variable of checked) {
    assert.throws(
      () => configured({ [variable]: '*!' }),
      (error) =>
        error instanceof ConfigurationError && new RegExp(`^${variable} (is|names) \`.*\`: .+$`).test(error.message),
      variable,
    );
  }
  assert.throws(
    () => configured(Object.fromEntries(checked.map((variable) => [variable, '*!']))),
    (error) => error instanceof ConfigurationError && error.message.split('\n').length === checked.length,
  );
});

test('a production deployment is destroyed without a receiver of its alarms', () => {
  assert.equal(configured({ CDK_PREFIX: '' }, { destroy: 'true' }).production, true);
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
  ['a prefix in upper case', { CDK_PREFIX: 'Dev-' }, {}, /^CDK_PREFIX is `Dev-`: /],
  ['a long prefix', { CDK_PREFIX: `${'a'.repeat(15)}-` }, {}, /at most 14/],
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
    'CDK_VARIANT is `nomad`: set it to `eks`, `ecs` or `identities`, or to nothing for `eks`',
  ],
  [
    'a whole account as caller',
    { CDK_CALLERS: 'arn:aws:iam::111122223333:root' },
    {},
    /^CDK_CALLERS names `arn:aws:iam::111122223333:root`: give the ARNs of roles or users of IAM/,
  ],
  [
    'the locked form',
    {},
    { 'key-form': 'locked' },
    /^the context value key-form is `locked`: only `open` is deployed: a locked key could never admit another image/,
  ],
  ['half an answer', {}, { 'with-keys': 'maybe' }, /^the context value with-keys is `maybe`: give/],
  [
    'another half',
    {},
    { destroy: 'perhaps' },
    'the context value destroy is `perhaps`: give `-c destroy=true`, or leave it out',
  ],
  ['traffic of no release', { CDK_TRAFFIC: 'next' }, {}, /^CDK_TRAFFIC is `next`, and there is no next release: set/],
  ['no signers', { CDK_SIGNERS: '0' }, {}, 'CDK_SIGNERS is `0`: set it to a number from 1 to 99, or to nothing'],
  [
    'more pods than machines',
    { CDK_SIGNERS: '3', CDK_KEY_GENERATORS: '1', CDK_SIZE: 'small', CDK_MACHINES: '2' },
    {},
    /^CDK_SIGNERS asks for 3 pods on 2 machines, and .*: set it to at most 2, or CDK_MACHINES to 3 or more\n3 signers and 1 key/,
  ],
  [
    'more enclaves than room',
    { CDK_SIGNERS: '3', CDK_KEY_GENERATORS: '3' },
    {},
    /^3 signers and 3 key generators need room for 12 enclaves while two releases run, and 3 machines have room for 9: set CDK_MACHINES to 4 or more/,
  ],
  [
    'a machine without enclaves',
    { CDK_MACHINE_TYPE: 't3.2xlarge' },
    {},
    /^CDK_MACHINE_TYPE is `t3\.2xlarge`: set it to a type that can start enclaves .*: m5\.2xlarge, .*r7g\.4xlarge$/,
  ],
  ['a machine that is too small', { CDK_MACHINE_TYPE: 'm6i.xlarge' }, {}, /^CDK_MACHINE_TYPE is `m6i\.xlarge`: set it/],
  [
    'a machine of the other architecture',
    { CDK_MACHINE_TYPE: 'm7g.2xlarge' },
    {},
    /^CDK_MACHINE_TYPE is `m7g\.2xlarge`, a machine for arm64, and CDK_TARGET_ARCHITECTURE is `linux\/amd64`: set .* `m6i\.2xlarge`$/,
  ],
  ['one zone', { CDK_ZONES: 'eu-central-1a' }, {}, /^CDK_ZONES is `eu-central-1a`: give two or three different zones/],
  ['a zone twice', { CDK_ZONES: 'euc1-az1,euc1-az1' }, {}, /^CDK_ZONES names `euc1-az1`: give two or three different/],
  ['names and ids', { CDK_ZONES: 'eu-central-1a,euc1-az2' }, {}, /^CDK_ZONES is `eu-central-1a,euc1-az2`: give two or/],
  [
    'a zone of another region',
    { CDK_ZONES: 'eu-central-1a,eu-west-1a' },
    {},
    'CDK_ZONES names `eu-west-1a`, which is not in eu-central-1: name zones of CDK_DEPLOY_REGION',
  ],
  [
    'a zone without control planes',
    { CDK_DEPLOY_REGION: 'us-east-1', CDK_ZONES: 'use1-az3,use1-az4' },
    {},
    'CDK_ZONES names `use1-az3`, where EKS runs no control plane: name another zone of the region',
  ],
  [
    'a network with host bits',
    { CDK_VPC_CIDR: '10.0.0.1/16' },
    {},
    /^CDK_VPC_CIDR is `10\.0\.0\.1\/16`: set it to the first/,
  ],
  [
    'a network that is too large',
    { CDK_VPC_CIDR: '10.0.0.0/15' },
    {},
    /^CDK_VPC_CIDR is `10\.0\.0\.0\/15`: a network of its own/,
  ],
  ['a network that is too small', { CDK_VPC_CIDR: '10.0.0.0/21' }, {}, /between \/16 and \/20/],
  [
    'a public network',
    { CDK_VPC_CIDR: '8.8.0.0/16' },
    {},
    /^CDK_VPC_CIDR is `8\.8\.0\.0\/16`: a network of its own needs/,
  ],
  ['a network beside the private block', { CDK_VPC_CIDR: '172.32.0.0/16' }, {}, /172\.16\.0\.0\/12/],
  [
    'subnets of no network',
    { CDK_VPC_SUBNETS: 'subnet-0123456789abcdef0' },
    {},
    'CDK_VPC_SUBNETS is set without CDK_VPC_ID: set the id of the network as well, or neither',
  ],
  [
    'an existing network without its range and zones',
    { CDK_VPC_ID: 'vpc-01234567' },
    {},
    /^CDK_VPC_ID is set without CDK_VPC_CIDR: .*\nCDK_VPC_ID needs CDK_ZONES: give the names/,
  ],
  [
    'an existing network with other numbers of subnets',
    {
      CDK_VPC_ID: 'vpc-01234567',
      CDK_VPC_CIDR: '10.0.0.0/16',
      CDK_ZONES: 'eu-central-1a,eu-central-1b',
      CDK_VPC_SUBNETS: 'subnet-01234567,subnet-01234568',
      CDK_VPC_LOAD_BALANCER_SUBNETS: 'subnet-01234567',
    },
    {},
    /^CDK_VPC_LOAD_BALANCER_SUBNETS has 1 elements and CDK_ZONES has 2: give one for each zone, .*\nCDK_VPC_LOAD_BALANCER_CIDRS has 0 /,
  ],
  [
    'a topic for alarms',
    { CDK_ALARMS_TO: 'arn:aws:sns:eu-central-1:123456789012:mine' },
    {},
    /^CDK_ALARMS_TO names .*to no other topic$/,
  ],
  [
    'a FIFO queue for alarms',
    { CDK_ALARMS_TO: 'ops@example.org,arn:aws:sqs:eu-central-1:123456789012:alarms.fifo' },
    {},
    /^CDK_ALARMS_TO names `arn:aws:sqs:eu-central-1:123456789012:alarms\.fifo`: .*SNS delivers to no FIFO queue/,
  ],
  [
    'a production deployment whose alarms nobody receives',
    { CDK_PREFIX: '' },
    {},
    /^CDK_ALARMS_TO is not set: a production deployment needs somebody who receives its alarms/,
  ],
  ['a tag of AWS', { CDK_RESOURCE_TAGS: 'aws:x=y' }, {}, /^CDK_RESOURCE_TAGS names `aws:x=y`: give `name=value` pairs/],
  ['a tag without value', { CDK_RESOURCE_TAGS: 'owner' }, {}, /^CDK_RESOURCE_TAGS names `owner`: give/],
  [
    'a tag twice',
    { CDK_RESOURCE_TAGS: 'owner=a,owner=b' },
    {},
    /^CDK_RESOURCE_TAGS names `owner=b`: give .* each once/,
  ],
  [
    'the tag of the key',
    { CDK_RESOURCE_TAGS: 'cloister=x' },
    {},
    'CDK_RESOURCE_TAGS sets `cloister`, the tag of the CMK alone: choose another name',
  ],
  [
    'parameters of AWS',
    { CDK_PARAMETER_PREFIX: '/aws/x' },
    {},
    /^CDK_PARAMETER_PREFIX is `\/aws\/x`: set it to a path/,
  ],
  ['parameters of SSM', { CDK_PARAMETER_PREFIX: '/SSM-x' }, {}, /^CDK_PARAMETER_PREFIX is `\/SSM-x`: set it to a path/],
  [
    'parameters without a slash',
    { CDK_PARAMETER_PREFIX: 'app' },
    {},
    /^CDK_PARAMETER_PREFIX is `app`: set it to a path/,
  ],
  ['parameters with two slashes', { CDK_PARAMETER_PREFIX: '/app/' }, {}, /^CDK_PARAMETER_PREFIX is `\/app\/`: set it/],
  [
    'a session as operator',
    { CDK_OPERATORS: 'arn:aws:sts::123456789012:assumed-role/a/b' },
    {},
    /^CDK_OPERATORS names `arn/,
  ],
  [
    'operators of no cluster',
    { CDK_OPERATORS: 'arn:aws:iam::123456789012:role/a', CDK_VARIANT: 'ecs' },
    {},
    /^CDK_OPERATORS is set with CDK_VARIANT `ecs`/,
  ],
  [
    'no trail',
    { CDK_TRAIL: 'none' },
    {},
    /^CDK_TRAIL is `none`: set it to the ARN of a trail that exists, or to `create`/,
  ],
  [
    'an image by tag',
    { CDK_POD_IMAGES: 'signer=a.example/pods:latest' },
    {},
    /^CDK_POD_IMAGES names `signer=.*`: give .* by digest/,
  ],
  [
    'the image of one service',
    { CDK_POD_IMAGES: `signer=a.example/pods@sha256:${'0'.repeat(64)}` },
    {},
    /^CDK_POD_IMAGES is `signer=.*`: give the images of both services/,
  ],
  [
    'images of one release',
    {
      CDK_POD_IMAGES: ['signer', 'key-generator']
        .map((service) => `${service}=a.example/p@sha256:${'0'.repeat(64)}`)
        .join(),
      CDK_NEXT_IMAGES: 'x',
      CDK_NEXT_UNTIL: '2026-12-10',
    },
    {},
    /^CDK_POD_IMAGES and CDK_NEXT_POD_IMAGES are the containers of two releases: set both or neither$/,
  ],
  [
    'code of a bucket without a signature',
    { CDK_FRONT_DOOR: 's3://bucket/key.zip' },
    {},
    /^CDK_FRONT_DOOR is `s3:\/\/bucket\/key\.zip`: code of a bucket has to be signed, so set CDK_CODE_SIGNING to `true`/,
  ],
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

test('the page of the configuration is written from the table', () => {
  const file = path.join(__dirname, '../../docs/configuration.md');
  const page = configurationPage();
  if (process.env['UPDATE_SNAPSHOTS'] !== undefined) {
    fs.writeFileSync(file, page);
  }
  assert.equal(fs.readFileSync(file, 'utf8'), page, 'look at the difference, then `npm run snapshots`');
});

test('no variable is an option of the CDK CLI, which reads its options from variables with the same prefix', () => {
  const registry = path.join(__dirname, '../node_modules/aws-cdk/lib/cli/cli-type-registry.json');
  const { globalOptions, commands } = JSON.parse(fs.readFileSync(registry, 'utf8')) as {
    readonly globalOptions: object;
    readonly commands: Readonly<Record<string, { readonly options?: object }>>;
  };
  const options = [globalOptions, ...Object.values(commands).map((command) => command.options ?? {})].flatMap(
    Object.keys,
  );
  assert.ok(options.includes('tags'));
  assert.deepEqual(
    Object.values(KNOBS).filter(({ variable, context }) => variable !== undefined && options.includes(context)),
    [],
  );
});
