/** The probe of the key: everything but attestation lets it through. */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { ofType, stacks } from './stacks';

interface Statement {
  readonly Effect: string;
  readonly Action: string | readonly string[];
  readonly Condition?: Readonly<Record<string, Readonly<Record<string, unknown>>>>;
}

const all = [...stacks('eks').values()];

function statements(type: string, member: string, of: (properties: Readonly<Record<string, unknown>>) => boolean) {
  const found = all.flatMap((resources) => ofType(resources, type).map(([, { Properties }]) => Properties)).filter(of);
  assert.ok(found.length > 0, type);
  return found.flatMap((properties) => (properties[member] as { Statement: readonly Statement[] }).Statement);
}

/** Operators with the keys that they look at. */
function conditions({ Condition = {} }: Statement): readonly string[] {
  return Object.entries(Condition).flatMap(([operator, keys]) => Object.keys(keys).map((key) => `${operator} ${key}`));
}

test('the role of the key generator may make data keys with the deployed key, with or without an enclave', () => {
  const role = all.flatMap((resources) => ofType(resources, 'AWS::IAM::Role'));
  const [[id] = ['']] = role.filter(([, { Properties }]) => Properties['RoleName'] === 'dev-cloister-key-generator');
  const policy = statements('AWS::IAM::Policy', 'PolicyDocument', ({ Roles }) =>
    (Roles as readonly { Ref?: string }[]).some(({ Ref }) => Ref === id),
  );
  const making = policy.filter(({ Action }) => [Action].flat().includes('kms:GenerateDataKey'));
  assert.deepEqual(
    making.map((statement) => [statement.Effect, conditions(statement)]),
    [['Allow', ['StringEquals aws:ResourceTag/cloister']]],
  );
  assert.ok(policy.every(({ Effect }) => Effect === 'Allow'));
});

test('the endpoint of KMS admits every call of the account', () => {
  const policy = statements('AWS::EC2::VPCEndpoint', 'PolicyDocument', ({ ServiceName }) =>
    JSON.stringify(ServiceName).includes('.kms'),
  );
  assert.deepEqual(
    policy.map((statement) => [statement.Effect, statement.Action, conditions(statement)]),
    [['Allow', '*', ['StringEquals aws:PrincipalAccount']]],
  );
});
