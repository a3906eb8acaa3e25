/** Properties of every stack in every configuration. */

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { test } from 'node:test';

import { App, CfnResource, TagManager } from 'aws-cdk-lib';
import type { CloudAssembly } from 'aws-cdk-lib/cx-api';

import { cloister } from '../lib/cloister';
import type { Environment } from '../lib/configuration';
import { withContainers } from './containers';
import { deployment, ENVIRONMENT, temporary } from './fixture';
import type { Resources } from './stacks';

const TAGS = { 'cost-centre': '42', owner: 'a=b' };

for (const variant of ['eks', 'ecs'] as const) {
  for (const architecture of ['amd64', 'arm64']) {
    for (const size of ['default', 'small']) {
      const what = `${variant}, ${architecture}, ${size}`;
      const environment = {
        CDK_VARIANT: variant,
        CDK_TARGET_ARCHITECTURE: `linux/${architecture}`,
        CDK_SIZE: size,
        CDK_RESOURCE_TAGS: Object.entries(TAGS)
          .map((pair) => pair.join('='))
          .join(),
        CDK_CODE_SIGNING: 'true',
      };
      const { app, assembly } = synthesized(environment);
      test(`${what}: nothing that is kept blocks its own second creation`, () => kept(assembly));
      test(`${what}: no stack has an export that another one uses`, () => noExports(assembly));
      test(`${what}: every stack except the key's has the tags`, () => tagged(app, assembly));
      test(`${what}: EKS Pod Identity assumes no role for another account`, () => forThisAccount(assembly));
    }
  }
}

function kept(assembly: CloudAssembly): void {
  // Their names are measured into the images, or are the deployment's own; with a plain `Retain`, a creation that is
  // rolled back would leave them behind, and every later one would fail on them.
  const named = ['TableName', 'RoleName'];
  const measured = ['keys', 'signer', 'key-generator', 'retirement', 'administrator'].map((of) => `dev-cloister-${of}`);
  let count = 0;
  for (const [stack, resources] of templates(assembly)) {
    for (const [id, { Type, DeletionPolicy = 'Delete', Properties = {} }] of Object.entries(resources)) {
      if (DeletionPolicy === 'Delete') {
        continue;
      }
      count += 1;
      // Only the retirement role may end a key: a roll-back that tries to would fail itself.
      assert.equal(DeletionPolicy, Type === 'AWS::KMS::Key' ? 'Retain' : 'RetainExceptOnCreate', `${stack} ${id}`);
      for (const [name, value] of Object.entries(Properties)) {
        if (/Name$/.test(name) && typeof value === 'string') {
          assert.ok(named.includes(name) && measured.includes(value), `${stack} ${id} is kept and named ${value}`);
        }
      }
    }
  }
  assert.ok(count >= 9);
}

function forThisAccount(assembly: CloudAssembly): void {
  let count = 0;
  for (const [stack, resources] of templates(assembly)) {
    for (const [id, { Type, Properties }] of Object.entries(resources)) {
      const { Statement: statements } = (Type === 'AWS::IAM::Role'
        ? Properties['AssumeRolePolicyDocument']
        : { Statement: [] }) as unknown as { Statement: readonly { Principal: unknown; Condition?: unknown }[] };
      for (const { Principal, Condition } of statements) {
        if (JSON.stringify(Principal).includes('pods.eks.')) {
          assert.deepEqual(Condition, { StringEquals: { 'aws:SourceAccount': '123456789012' } }, `${stack} ${id}`);
          count += 1;
        }
      }
    }
  }
  // Those of the two services, and on Kubernetes those of two add-ons.
  assert.ok(count >= ('dev-cloister-cluster' in Object.fromEntries(templates(assembly)) ? 4 : 2), String(count));
}

function noExports(assembly: CloudAssembly): void {
  for (const { stackName, template } of assembly.stacks) {
    assert.doesNotMatch(JSON.stringify(template), /Fn::ImportValue|"Export"/, stackName);
    // https://github.com/aws-cloudformation/cfn-lint/pull/4495 has what CloudFormation accepts around it.
    const around = functionsAround('Fn::GetStackOutput', template);
    assert.deepEqual(
      around.filter((name) => !['', 'Fn::Join', 'Fn::Select', 'Fn::If'].includes(name)),
      [],
      stackName,
    );
  }
}

/** The innermost functions around a function in a template; empty where there is none. */
function functionsAround(name: string, value: unknown, around = ''): readonly string[] {
  if (typeof value !== 'object' || value === null) {
    return [];
  }
  return Object.entries(value).flatMap(([key, member]) => [
    ...(key === name ? [around] : []),
    ...functionsAround(name, member, key.startsWith('Fn::') ? key : around),
  ]);
}

function tagged(app: App, assembly: CloudAssembly): void {
  let count = 0;
  const all = templates(assembly);
  for (const resource of app.node.findAll().filter((node) => CfnResource.isCfnResource(node))) {
    const written = all.get(resource.stack.stackName)?.[resource.stack.resolve(resource.logicalId) as string];
    const text = JSON.stringify(written?.Properties ?? {}).replaceAll('"PropagateAtLaunch":true,', '');
    const ofKey = resource.stack.stackName === 'dev-cloister-key';
    if (ofKey || (written !== undefined && TagManager.of(resource) !== undefined)) {
      for (const [name, value] of Object.entries(TAGS)) {
        const has = text.includes(`"Key":"${name}","Value":"${value}"`) || text.includes(`"${name}":"${value}"`);
        assert.equal(has, !ofKey, `${resource.node.path} ${name}`);
      }
      count += 1;
    }
  }
  assert.ok(count > 50, String(count));
}

for (const [variant, more] of [
  ['eks', {}],
  ['ecs', {}],
  ['identities', { CDK_CLUSTER: 'platform' }],
] as const) {
  test(`${variant}: what is destroyed needs no artefact, and has the names and order of what was deployed`, () => {
    const { status, stderr, output } = synthesizedToDestroy({ CDK_VARIANT: variant, ...more });
    assert.deepEqual([status, stderr], [0, '']);
    const { assembly } = synthesized({ CDK_VARIANT: variant, ...more });
    const emptied = JSON.parse(fs.readFileSync(path.join(output, 'manifest.json'), 'utf8')) as Manifest;
    assert.deepEqual(described(emptied), described(assembly.manifest as Manifest));

    for (const [file, { Resources: resources, Rules: rules }] of templatesIn(output)) {
      assert.deepEqual(Object.keys(resources), ['Nothing'], file);
      assert.ok(rules && 'Destroyed' in rules, 'it could be deployed by mistake');
    }
  });
}

test('with the keys, the base is deployed without its protection, and needs no artefact', () => {
  const { status, stderr, output } = synthesizedToDestroy({}, { 'with-keys': 'true' });
  assert.deepEqual([status, stderr], [0, '']);
  const { Resources: base, Rules: rules } = templatesIn(output).get('dev-cloister-base.template.json') ?? assert.fail();
  assert.ok(rules === undefined || !('Destroyed' in rules));
  const whole = templates(synthesized({}).assembly).get('dev-cloister-base') ?? assert.fail();
  // Whatever the environment says on this day: the account may have these, and the deployment may not.
  const mayNotExist = /^(ApiLogs|ApiAccount|Trail)/;
  const made = Object.keys(whole).filter((id) => mayNotExist.test(id));
  assert.ok(made.length >= 4, String(made));
  assert.deepEqual(
    Object.keys(base),
    Object.keys(whole).filter((id) => !mayNotExist.test(id)),
  );
  const types = Object.values(base).map(({ Type: type }) => type);
  for (const type of ['AWS::ApiGateway::Account', 'AWS::CloudTrail::Trail']) {
    assert.ok(!types.includes(type), type);
  }
  const table = Object.values(base).find(({ Type: type }) => type === 'AWS::DynamoDB::Table');
  assert.equal((table?.Properties as { DeletionProtectionEnabled?: boolean }).DeletionProtectionEnabled, false);
});

/** Synthesizes for `cdk destroy` in a process, with none of the artefacts that a deployment needs. */
function synthesizedToDestroy(environment: Environment, context: Readonly<Record<string, string>> = {}) {
  const directory = temporary();
  const output = path.join(directory, 'cdk.out');
  const { status, stderr } = spawnSync(process.execPath, ['--import', 'tsx', 'bin/cloister.ts'], {
    cwd: path.join(__dirname, '..'),
    encoding: 'utf8',
    env: {
      ...ENVIRONMENT,
      ...environment,
      CDK_IMAGES: path.join(directory, 'no-images'),
      CDK_FRONT_DOOR: path.join(directory, 'no.zip'),
      // Also after the day on which two releases may be admitted.
      CDK_NEXT_IMAGES: path.join(directory, 'no-images'),
      CDK_NEXT_UNTIL: '2020-01-01',
      CDK_OUTDIR: output,
      CDK_CONTEXT_JSON: JSON.stringify({ destroy: 'true', ...context }),
    },
  });
  return { status, stderr, output };
}

function templatesIn(output: string): ReadonlyMap<string, { Resources: Resources; Rules?: object }> {
  const files = fs.readdirSync(output).filter((name) => name.endsWith('.template.json'));
  return new Map(
    files.map((file) => [
      file,
      JSON.parse(fs.readFileSync(path.join(output, file), 'utf8')) as { Resources: Resources; Rules?: object },
    ]),
  );
}

interface Manifest {
  readonly artifacts?: Readonly<
    Record<
      string,
      {
        readonly type: string;
        readonly environment?: string;
        readonly dependencies?: readonly string[];
        readonly properties?: { readonly stackName?: string; readonly assumeRoleArn?: string };
      }
    >
  >;
}

/** What `cdk destroy` reads of a stack. */
function described({ artifacts = {} }: Manifest): unknown {
  return Object.entries(artifacts)
    .filter(([, { type }]) => type === 'aws:cloudformation:stack')
    .map(([id, { environment, dependencies = [], properties }]) => ({
      id,
      environment,
      after: dependencies.filter((other) => artifacts[other]?.type === 'aws:cloudformation:stack').toSorted(),
      stackName: properties?.stackName,
      role: properties?.assumeRoleArn,
    }));
}

function synthesized(environment: Environment): { readonly app: App; readonly assembly: CloudAssembly } {
  const zip = path.join(temporary(), 'front-door.zip');
  fs.writeFileSync(zip, 'a zip');
  const { configuration, releases } = withContainers(deployment({ CDK_FRONT_DOOR: zip, ...environment }));
  const app = new App();
  cloister(app, configuration, releases);
  return { app, assembly: app.synth() };
}

function templates(assembly: CloudAssembly): ReadonlyMap<string, Resources> {
  return new Map(
    assembly.stacks.map(({ stackName, template }) => [
      stackName,
      (template as { readonly Resources: Resources }).Resources,
    ]),
  );
}
