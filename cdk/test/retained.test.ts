import assert from 'node:assert/strict';
import { test } from 'node:test';

import { App, type Stack } from 'aws-cdk-lib';
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
    DeletionPolicy: 'RetainExceptOnCreate',
    UpdateReplacePolicy: 'Retain',
    Properties: {
      TableName: 'dev-cloister-keys',
      BillingMode: 'PAY_PER_REQUEST',
      DeletionProtectionEnabled: true,
      PointInTimeRecoverySpecification: { PointInTimeRecoveryEnabled: true },
      KeySchema: [{ AttributeName: 'key_id', KeyType: 'HASH' }],
    },
  });
  template.hasResource('AWS::S3::Bucket', {
    DeletionPolicy: 'RetainExceptOnCreate',
    Properties: { ObjectLockEnabled: true },
  });
  assert.ok(base.terminationProtection && key.terminationProtection);
});

test('the roles have the names that the images measure, and act on tagged keys only', () => {
  const template = Template.fromStack(base);
  for (const role of ['signer', 'key-generator', 'retirement', 'administrator']) {
    template.hasResource('AWS::IAM::Role', {
      DeletionPolicy: 'RetainExceptOnCreate',
      Properties: { RoleName: `dev-cloister-${role}` },
    });
  }
  const all = statements(base);
  const onKeys = all.filter(({ Action }) => [Action].flat().some((action) => action.startsWith('kms:')));
  const free = onKeys.filter(({ Condition }) => Condition === undefined);
  assert.equal(onKeys.length, 6);
  for (const { Condition } of onKeys.filter((statement) => !free.includes(statement))) {
    assert.match(JSON.stringify(Condition), /"aws:(Resource|Request)Tag\/cloister":"dev-cloister"/);
  }
  // A tag counts some minutes after it was set, and CloudFormation goes on at once: what it calls for a new key reads,
  // or starts its rotation.
  assert.deepEqual(
    free.flatMap(({ Action }) => Action).filter((action) => !/^kms:(Describe|Get|List)[A-Z]/.test(action)),
    ['kms:EnableKeyRotation'],
  );
  assert.deepEqual(
    all.flatMap(({ Action }) => Action).filter((action) => action.endsWith('*')),
    [],
  );
});

test('a key is made in one call with its tag, and its policy and end need the tag', () => {
  const all = statements(base);
  const conditions = (action: string) =>
    all.filter(({ Action }) => [Action].flat().includes(action)).map(({ Condition }) => Condition);
  const tag = (of: string) => ({ StringEquals: { [`aws:${of}Tag/cloister`]: 'dev-cloister' } });
  for (const action of ['kms:CreateKey', 'kms:TagResource']) {
    assert.deepEqual(conditions(action), [tag('Request')]);
  }
  for (const action of ['kms:PutKeyPolicy', 'kms:ScheduleKeyDeletion']) {
    assert.deepEqual(conditions(action), [tag('Resource')]);
  }
});

test('a service that assumes a role of ours does so for this account', () => {
  const roles: Readonly<Record<string, Role>> = Template.fromStack(base).findResources('AWS::IAM::Role');
  const trusted = Object.values(roles).flatMap(
    ({ Properties }) => Properties?.AssumeRolePolicyDocument.Statement ?? [],
  );
  const services = trusted.filter(({ Principal }) => Principal.Service !== undefined);
  // Lambda and API Gateway name no source when they assume a role.
  const silent = ['lambda.amazonaws.com', 'apigateway.amazonaws.com'];
  const checked = services.filter(({ Principal }) => !silent.includes(Principal.Service ?? ''));
  assert.ok(checked.length >= 5);
  for (const { Principal, Condition } of checked) {
    assert.match(JSON.stringify(Condition), /"aws:SourceAccount":"123456789012"/, Principal.Service);
  }
});

test('a release is pushed to a registry of immutable images, scanned, and gone with the stack', () => {
  Template.fromStack(base).hasResource('AWS::ECR::Repository', {
    DeletionPolicy: 'Delete',
    Properties: {
      RepositoryName: 'dev-cloister-pods',
      ImageTagMutability: 'IMMUTABLE',
      ImageScanningConfiguration: { ScanOnPush: true },
      EmptyOnDelete: true,
    },
  });
});

test('the account’s API log role and the signing profile are made on request, under generated names', () => {
  const existing = Template.fromStack(baseStack(new App(), deployment({ CDK_API_LOGS: 'existing' }).configuration));
  existing.resourceCountIs('AWS::ApiGateway::Account', 0);
  Template.fromStack(base).resourceCountIs('AWS::ApiGateway::Account', 1);
  Template.fromStack(base).resourceCountIs('AWS::Signer::SigningProfile', 0);

  const signed = Template.fromStack(baseStack(new App(), deployment({ CDK_CODE_SIGNING: 'true' }).configuration));
  signed.hasResourceProperties('AWS::Signer::SigningProfile', { ProfileName: Match.absent() });
  for (const [name, attribute] of [
    ['signing_profile', 'ProfileName'],
    ['signing_profile_version_arn', 'ProfileVersionArn'],
  ]) {
    signed.hasResourceProperties('AWS::SSM::Parameter', {
      Name: `/dev-app/ethereum/front_door/${name}`,
      Value: { 'Fn::GetAtt': ['SigningProfile', attribute] },
    });
  }
});

test('the signer can write nothing', () => {
  Template.fromStack(base).hasResourceProperties('AWS::IAM::Policy', {
    Roles: [{ Ref: Match.stringLikeRegexp('^Signer') }],
    PolicyDocument: {
      Statement: Match.exact([
        Match.objectLike({ Action: ['kms:Decrypt', 'kms:DescribeKey', 'kms:GetKeyPolicy', 'kms:ListGrants'] }),
        Match.objectLike({ Action: 'dynamodb:GetItem' }),
        Match.objectLike({ Action: 'secretsmanager:GetSecretValue' }),
      ]),
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
  const [id] = Object.keys(template.findResources('AWS::KMS::Key'));
  template.hasResourceProperties('AWS::SSM::Parameter', { Name: '/dev-app/ethereum/key_id', Value: { Ref: id } });
  template.hasResourceProperties('AWS::SSM::Parameter', {
    Name: '/dev-app/ethereum/cmk',
    Value: { 'Fn::Join': ['', ['{"form":"open","arn":"', { 'Fn::GetAtt': [id, 'Arn'] }, '"}']] },
  });
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
  Template.fromStack(another).hasResource('AWS::S3::Bucket', { DeletionPolicy: 'RetainExceptOnCreate' });
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

interface Statement {
  readonly Action: string | readonly string[];
  readonly Condition?: object;
  readonly Principal: { readonly Service?: string };
}

interface Policy {
  readonly Properties?: { readonly PolicyDocument: { readonly Statement: readonly Statement[] } };
}

interface Role {
  readonly Properties?: { readonly AssumeRolePolicyDocument: { readonly Statement: readonly Statement[] } };
}

function statements(stack: Stack): readonly Statement[] {
  const policies: Readonly<Record<string, Policy>> = Template.fromStack(stack).findResources('AWS::IAM::Policy');
  return Object.values(policies).flatMap(({ Properties }) => Properties?.PolicyDocument.Statement ?? []);
}
