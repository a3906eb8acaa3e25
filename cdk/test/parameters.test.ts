/** Parameters of SSM that stacks read: written by another stack of the deployment. */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { ofType, templates } from './stacks';

for (const [what, variant, environment] of [
  ['the cluster', 'eks', {}],
  ['ECS', 'ecs', {}],
  ['a signed front door', 'eks', { CDK_CODE_SIGNING: 'true', CDK_FRONT_DOOR: 's3://signed/front-door.zip' }],
] as const) {
  test(`every parameter that ${what} reads is published`, () => {
    const all = [...templates(variant, environment).values()];
    const published = new Set(
      all
        .flatMap(({ Resources }) => ofType(Resources, 'AWS::SSM::Parameter'))
        .map(([, { Properties }]) => Properties['Name']),
    );
    const read = all
      .flatMap(({ Parameters = {} }) => Object.values(Parameters))
      .filter(({ Type }) => Type.startsWith('AWS::SSM::Parameter::Value'))
      .map(({ Default = '' }) => Default)
      // Published by AWS and by the bootstrap.
      .filter((name) => !/^\/(aws|cdk-bootstrap)\//.test(name));
    assert.ok(read.length > 0);
    assert.deepEqual(
      read.filter((name) => !published.has(name)),
      [],
    );
  });
}
