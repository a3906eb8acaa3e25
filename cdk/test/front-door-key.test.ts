import assert from 'node:assert/strict';
import { test } from 'node:test';

import { ofType, stacks, templates } from './stacks';

const VARIANTS = ['eks', 'ecs'] as const;
// Plain data, so that tests can look at any member.
type Plain = ReturnType<typeof JSON.parse>;

for (const variant of VARIANTS) {
  const all = templates(variant);
  const resources = Object.assign({}, ...[...all.values()].map(({ Resources }) => Resources));

  test(`${variant}: a secret's value stands nowhere but in the encrypted environment of a function`, () => {
    const places = [...all.values()].flatMap((template) => paths(template, isSecretValue));
    assert.ok(places.length > 0);
    for (const [section, id = '', ...rest] of places) {
      assert.equal(section, 'Resources');
      assert.equal(resources[id].Type, 'AWS::Lambda::Function');
      assert.deepEqual(rest.slice(0, 3), ['Properties', 'Environment', 'Variables']);
      const [key = ''] = resources[id].Properties.KmsKeyArn['Fn::GetAtt'];
      assert.equal(resources[key].Type, 'AWS::KMS::Key');
      assert.equal(resources[key].Properties.EnableKeyRotation, true);
      assert.equal(resources[key].DeletionPolicy, 'Delete');
    }
    assert.equal(places.filter((place) => place.includes('CLOISTER_POD_KEY')).length, 1);
  });

  test(`${variant}: pods and front door have the same secret, and the pods its ARN alone`, () => {
    const [door] = paths(resources, (value) => value === 'CLOISTER_POD_KEY', { keys: true });
    const reference = JSON.stringify(door && at(resources, door));
    const [, parameter = ''] = /\{"Ref":"(SsmParameterValue[^"]*key\w*secret[^"]*)"\}/i.exec(reference) ?? [];
    assert.notEqual(parameter, '', reference);
    const [published] = ofType(resources, 'AWS::SSM::Parameter').filter(([, { Properties }]) =>
      String(Properties['Name']).endsWith('/front_door/key_secret'),
    );
    assert.deepEqual((published?.[1].Properties as Plain).Value, { Ref: secret(resources)[0] });
    const text = JSON.stringify(
      variant === 'eks'
        ? ofType(resources, 'Custom::AWSCDK-EKS-KubernetesResource')
        : ofType(resources, 'AWS::ECS::TaskDefinition'),
    );
    // The environment of a container: in a manifest as escaped JSON around the reference.
    const given = [...text.matchAll(/CLOISTER_FRONT_DOOR_SECRET(.{0,120})/g)].map(([, after = '']) => after);
    assert.equal(given.length, 2);
    given.forEach((after) => assert.ok(after.includes(parameter), after));
  });

  test(`${variant}: the pods' roles read this secret, and no other principal of the base stack any`, () => {
    const readers = ofType(resources, 'AWS::IAM::Policy').flatMap(([, { Properties }]) =>
      (Properties as Plain).PolicyDocument.Statement.filter(({ Action }: Plain) =>
        [Action].flat().some((action: string) => action.startsWith('secretsmanager:')),
      )
        .filter(({ Resource }: Plain) => JSON.stringify(Resource).includes(secret(resources)[0]))
        .map((statement: Plain) => ({ ...statement, role: (Properties as Plain).Roles[0].Ref.replace(/.{8}$/, '') })),
    );
    const reads = { Action: 'secretsmanager:GetSecretValue', Effect: 'Allow', Resource: { Ref: secret(resources)[0] } };
    assert.deepEqual(
      readers,
      ['Signer', 'KeyGenerator'].map((role) => ({ ...reads, role })),
    );
  });
}

test('the key is 64 hex digits', () => {
  const [, { Properties }] = secret(Object.assign({}, ...stacks('eks').values()));
  const { PasswordLength, ExcludeUppercase, ExcludePunctuation, ExcludeCharacters, IncludeSpace } = (
    Properties as Plain
  ).GenerateSecretString;
  assert.deepEqual([PasswordLength, ExcludeUppercase, ExcludePunctuation, IncludeSpace], [64, true, true, undefined]);
  const alphabet = [...'0123456789abcdefghijklmnopqrstuvwxyz'].filter((letter) => !ExcludeCharacters.includes(letter));
  assert.equal(alphabet.join(''), '0123456789abcdef');
});

test('another version of the key changes the front door, and nothing else', () => {
  const version = '01234567-89ab-cdef-0123-456789abcdef';
  const [before, after] = [templates('eks'), templates('eks', { CDK_FRONT_DOOR_KEY_VERSION: version })];
  const changed = [...after].flatMap(([name, { Resources }]) =>
    Object.entries(Resources).flatMap(([id, resource]) => {
      const previous = before.get(name)?.Resources[id];
      return previous === undefined || paths(resource, (value) => String(value).includes(version)).length > 0
        ? [id]
        : [];
    }),
  );
  assert.equal(changed.length, 1);
  assert.match(changed[0] ?? '', /^FrontDoor/);
});

function secret(resources: Plain): readonly [string, Plain] {
  const [found, ...others] = ofType(resources, 'AWS::SecretsManager::Secret');
  assert.ok(found !== undefined && others.length === 0);
  return found;
}

function isSecretValue(value: unknown): boolean {
  return typeof value === 'string' && value.includes('resolve:secretsmanager');
}

/** The paths to all values, or keys, with a property. */
function paths(
  value: unknown,
  has: (value: unknown) => boolean,
  options: { readonly keys?: boolean } = {},
  path: readonly string[] = [],
): readonly (readonly string[])[] {
  if (typeof value !== 'object' || value === null) {
    return options.keys !== true && has(value) ? [path] : [];
  }
  return Object.entries(value).flatMap(([key, member]) => [
    ...(options.keys === true && has(key) ? [[...path, key]] : []),
    ...paths(member, has, options, [...path, key]),
  ]);
}

function at(value: Plain, path: readonly string[]): Plain {
  return path.reduce((member, key) => member[key], value);
}
