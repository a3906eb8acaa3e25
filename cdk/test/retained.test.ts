import assert from 'node:assert/strict';
import { test } from 'node:test';

import { App } from 'aws-cdk-lib';
import { Match, Template } from 'aws-cdk-lib/assertions';

import { objects } from '../functions/journal/index';
import { baseStack } from '../lib/base';
import { names } from '../lib/configuration';
import { keyStack } from '../lib/key';
import { deployment } from './fixture';
import { matchesSnapshot } from './snapshot';

const { configuration, releases } = deployment();
const app = new App();
const base = baseStack(app, configuration);
const key = keyStack(app, configuration, releases);

test('the table survives', () => {
  const template = Template.fromStack(base);
  template.hasResource('AWS::DynamoDB::Table', {
    DeletionPolicy: 'Retain',
    UpdateReplacePolicy: 'Retain',
    Properties: {
      TableName: 'dev-cloister-keys',
      BillingMode: 'PAY_PER_REQUEST',
      DeletionProtectionEnabled: true,
      PointInTimeRecoverySpecification: { PointInTimeRecoveryEnabled: true },
      KeySchema: [{ AttributeName: 'key_id', KeyType: 'HASH' }],
    },
  });
  template.hasResource('AWS::S3::Bucket', { DeletionPolicy: 'Retain', Properties: { ObjectLockEnabled: true } });
  assert.ok(base.terminationProtection && key.terminationProtection);
});

test('the roles have the names that the images measure, and act on tagged keys only', () => {
  const template = Template.fromStack(base);
  for (const role of ['signer', 'key-generator', 'retirement', 'administrator']) {
    template.hasResource('AWS::IAM::Role', {
      DeletionPolicy: 'Retain',
      Properties: { RoleName: `dev-cloister-${role}` },
    });
  }
  const statements = Object.values(template.findResources('AWS::IAM::Policy')).flatMap(
    (policy) =>
      (policy as { Properties: { PolicyDocument: { Statement: { Action: string | string[]; Condition?: object }[] } } })
        .Properties.PolicyDocument.Statement,
  );
  const onKeys = statements.filter(({ Action }) => [Action].flat().some((action) => action.startsWith('kms:')));
  assert.equal(onKeys.length, 5);
  for (const { Condition } of onKeys) {
    assert.match(JSON.stringify(Condition), /"aws:(Resource|Request)Tag\/cloister":"dev-cloister"/);
  }
  assert.deepEqual(
    statements.flatMap(({ Action }) => Action).filter((action) => action.endsWith('*')),
    [],
  );
});

test('the signer can write nothing', () => {
  Template.fromStack(base).hasResourceProperties('AWS::IAM::Policy', {
    Roles: [{ Ref: Match.stringLikeRegexp('^Signer') }],
    PolicyDocument: {
      Statement: [
        Match.objectLike({ Action: ['kms:DescribeKey', 'kms:GetKeyPolicy', 'kms:ListGrants', 'kms:Decrypt'] }),
        Match.objectLike({ Action: 'dynamodb:GetItem' }),
      ],
    },
  });
});

test('the key is retained, tagged, rotated, and has neither alias nor grant', () => {
  const template = Template.fromStack(key);
  template.hasResource('AWS::KMS::Key', {
    DeletionPolicy: 'Retain',
    UpdateReplacePolicy: 'Retain',
    Properties: {
      EnableKeyRotation: true,
      Tags: [{ Key: 'cloister', Value: 'dev-cloister' }],
      BypassPolicyLockoutSafetyCheck: true,
    },
  });
  template.resourceCountIs('AWS::KMS::Alias', 0);
  template.hasResourceProperties('AWS::SSM::Parameter', { Name: '/dev-app/ethereum/key_id' });
});

test('the key stack is deployed as the administrator role', () => {
  const artifact = app.synth().getStackArtifact(key.artifactId);
  const { administratorRole } = names(configuration);
  assert.deepEqual(
    [artifact.assumeRoleArn, artifact.cloudFormationExecutionRoleArn],
    [administratorRole, administratorRole],
  );
});

test('with keys, everything except KMS and locked objects loses its protection', () => {
  const unprotected = deployment({}, { 'with-keys': 'true' });
  const another = baseStack(new App(), unprotected.configuration);
  Template.fromStack(another).hasResource('AWS::DynamoDB::Table', {
    DeletionPolicy: 'Delete',
    Properties: { DeletionProtectionEnabled: false },
  });
  Template.fromStack(another).hasResource('AWS::S3::Bucket', { DeletionPolicy: 'Retain' });
  assert.equal(another.terminationProtection, false);
  Template.fromStack(keyStack(new App(), unprotected.configuration, unprotected.releases)).hasResource(
    'AWS::KMS::Key',
    { DeletionPolicy: 'Retain' },
  );
});

test('a change of the table is one object of the journal', () => {
  const change = (sequence: string, image: object) => ({
    eventName: 'MODIFY',
    dynamodb: {
      Keys: { key_id: { S: 'a-key' } },
      SequenceNumber: sequence,
      ApproximateCreationDateTime: 1_700_000_000,
      ...image,
    },
  });
  const [first, second] = objects([
    change('999', { NewImage: { version: { N: '1' } } }),
    change('1000', { OldImage: {} }),
  ]);
  assert.ok(first && second && first.Key < second.Key, 'names are in the order of the changes');
  assert.deepEqual(JSON.parse(first.Body), {
    change: 'MODIFY',
    at: '2023-11-14T22:13:20.000Z',
    after: { version: { N: '1' } },
  });
});

test('snapshots', () => {
  matchesSnapshot('base', base);
  matchesSnapshot('key', key);
});
