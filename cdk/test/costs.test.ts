import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { test } from 'node:test';

import { App } from 'aws-cdk-lib';

import { cloister } from '../lib/cloister';
import { type Cost, costs, type Template, total } from '../lib/costs';
import { PRICES } from '../lib/costs/prices';
import { withContainers } from './containers';
import { deployment, temporary } from './fixture';

const PAGE = path.join(__dirname, '../../docs/costs.md');

test('every resource of every kind of deployment has a price', () => {
  for (const environment of CONFIGURATIONS) {
    assert.ok(total(costs(templates(environment), 'eu-central-1')) > 100, JSON.stringify(environment));
  }
});

test('a resource without a price is named', () => {
  const unknown = { Resources: { Dear: { Type: 'AWS::EMR::Cluster' } } };
  assert.throws(() => costs([unknown], 'eu-central-1'), /AWS::EMR::Cluster/);
});

test('a machine, its disk and the zones of an endpoint are counted', () => {
  const template = {
    Resources: {
      Machines: {
        Type: 'AWS::EKS::Nodegroup',
        Properties: {
          ScalingConfig: { DesiredSize: 2 },
          InstanceTypes: ['m6i.2xlarge'],
          LaunchTemplate: { Id: { Ref: 'Template' } },
        },
      },
      Template: {
        Type: 'AWS::EC2::LaunchTemplate',
        Properties: { LaunchTemplateData: { BlockDeviceMappings: [{ Ebs: { VolumeSize: 50 } }] } },
      },
      Gateway: { Type: 'AWS::EC2::VPCEndpoint', Properties: { VpcEndpointType: 'Gateway' } },
      Endpoint: {
        Type: 'AWS::EC2::VPCEndpoint',
        Properties: { VpcEndpointType: 'Interface', SubnetIds: ['a', 'b', 'c'] },
      },
    },
  };
  const counted = costs([template], 'us-east-1').map(({ item, count, dollars }) => [item, count, Math.round(dollars)]);
  assert.deepEqual(counted, [
    ['machines, m6i.2xlarge', 2, 561],
    ['interface endpoints × zones', 3, 22],
    ['disks of the machines, GiB', 100, 8],
  ]);
});

test('the page has the costs of today’s templates', () => {
  const page = document();
  if (process.env['UPDATE_SNAPSHOTS'] !== undefined) {
    fs.writeFileSync(PAGE, page);
  }
  assert.equal(page, fs.existsSync(PAGE) ? fs.readFileSync(PAGE, 'utf8') : '', 'run `npm run snapshots`');
});

type Environment = Readonly<Record<string, string>>;

const SIZES = ['default', 'small'] as const;
const ARCHITECTURES = ['linux/amd64', 'linux/arm64'] as const;
const REGIONS = Object.keys(PRICES);

const CONFIGURATIONS: readonly Environment[] = [
  ...SIZES.flatMap((size) => ARCHITECTURES.map((architecture) => configured('eks', size, architecture))),
  ...SIZES.map((size) => configured('ecs', size, 'linux/amd64')),
];

function configured(variant: string, size: string, architecture: string): Environment {
  return { CDK_VARIANT: variant, CDK_SIZE: size, CDK_TARGET_ARCHITECTURE: architecture };
}

const ZIP = path.join(temporary(), 'front-door.zip');
fs.writeFileSync(ZIP, 'a function');

/** The templates of a deployment's stacks; `only` selects stacks by the end of their names. */
function templates(environment: Environment, only = /./): readonly Template[] {
  const key = JSON.stringify({ ...CONFIGURATIONS[0], ...environment });
  const stacks = synthesized.get(key) ?? synthesize(environment);
  synthesized.set(key, stacks);
  return stacks.filter(({ stackName }) => only.test(stackName)).map(({ template }) => template as Template);
}

function synthesize(environment: Environment) {
  const { configuration, releases } = withContainers(deployment({ ...environment, CDK_FRONT_DOOR: ZIP }));
  const app = new App();
  cloister(app, configuration, releases);
  return app.synth().stacks;
}

const synthesized = new Map<string, ReturnType<typeof synthesize>>();

function document(): string {
  const dollars = (all: readonly Cost[]) => total(all).toFixed(0);
  const inRegions = (templates: readonly Template[]) => REGIONS.map((region) => costs(templates, region));
  const cells = (values: readonly (string | number)[]) => `| ${values.join(' | ')} |`;
  const head = (...columns: readonly string[]) => [
    cells([...columns, ...REGIONS]),
    `|${[...columns, ...REGIONS].map(() => '---').join('|')}|`,
  ];

  const usual = templates({});
  const [first = [], ...others] = inRegions(usual);
  const items = first.map(({ item, count, dollars }) =>
    cells([
      item,
      count,
      ...[dollars, ...others.map((other) => other.find((cost) => cost.item === item)?.dollars ?? 0)].map((cost) =>
        cost.toFixed(0),
      ),
    ]),
  );
  const sums = CONFIGURATIONS.map((environment) =>
    cells([
      environment['CDK_VARIANT'] ?? '',
      environment['CDK_SIZE'] ?? '',
      (environment['CDK_TARGET_ARCHITECTURE'] ?? '').replace('linux/', ''),
      ...inRegions(templates(environment)).map(dollars),
    ]),
  );
  const retained = inRegions(templates({}, /-(base|key)$/)).map(dollars);

  return `${[
    '# Costs',
    '',
    'The monthly costs of a deployment without any request, in US dollars.',
    'They are computed from the synthesized templates: `npm run snapshots` in `cdk` writes this page, and `npm run costs` prints them for the configuration in the environment.',
    'The prices are AWS’s list prices as written down in [`prices.ts`](../cdk/lib/costs/prices.ts), for 730 hours; they were not compared with a bill.',
    '',
    '## By configuration',
    '',
    ...head('`CDK_VARIANT`', '`CDK_SIZE`', 'processors'),
    ...sums,
    cells(['after `cdk destroy` of the application', '', '', ...retained]),
    '',
    '## By item: Kubernetes, default size, amd64',
    '',
    ...head('Item', 'Number'),
    ...items,
    '',
    '## What depends on use',
    '',
    '- Requests: about 5 dollars for a million signatures (API Gateway 3.50, DynamoDB 0.28, Lambda 0.24, logs 1). KMS is called for an enclave’s boot and for each data key that an enclave has not opened in the last 15 minutes.',
    '- Logs and metrics: CloudWatch charges ingested bytes, and Container Insights by metric; an idle cluster has about 50 dollars of them.',
    '- The trail: the first copy of management events in a region is free; a second trail is charged by event.',
    '- Traffic: bytes through NAT gateway, endpoints and load balancer, and between zones.',
    '- The journal and point-in-time recovery: bytes of the table.',
  ].join('\n')}\n`;
}
