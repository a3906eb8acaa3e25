import assert from 'node:assert/strict';
import { test } from 'node:test';

import { App } from 'aws-cdk-lib';
import { Template } from 'aws-cdk-lib/assertions';

import { baseStack } from '../lib/base';
import { configured } from './fixture';
import { application, ofType } from './stacks';

const GIVEN = 'arn:aws:cloudtrail:eu-central-1:123456789012:trail/of-the-account';
const base = (trail: string) => Template.fromStack(baseStack(new App(), configured({ CDK_TRAIL: trail })));

test('the trail records read and write calls, KMS included, in files that are signed', () => {
  const template = base('create');
  template.hasResourceProperties('AWS::CloudTrail::Trail', {
    TrailName: 'dev-cloister-trail',
    IsLogging: true,
    EnableLogFileValidation: true,
    EventSelectors: [{ IncludeManagementEvents: true, ReadWriteType: 'All' }],
  });
  const [trail] = Object.values(template.findResources('AWS::CloudTrail::Trail'));
  assert.ok(!JSON.stringify(trail).includes('Exclude'));
});

test('the trail’s bucket is retained, private, and takes TLS only', () => {
  const template = base('create');
  const [trail] = Object.values(template.findResources('AWS::CloudTrail::Trail'));
  const id = (trail as { Properties: { S3BucketName: { Ref: string } } }).Properties.S3BucketName.Ref;
  const bucket = template.findResources('AWS::S3::Bucket')[id] as {
    DeletionPolicy: string;
    Properties: Readonly<Record<string, unknown>>;
  };
  // A bucket whose stack fails when it is created goes with it.
  assert.equal(bucket.DeletionPolicy, 'RetainExceptOnCreate');
  assert.equal(bucket.Properties['BucketName'], undefined);
  assert.deepEqual(bucket.Properties['PublicAccessBlockConfiguration'], {
    BlockPublicAcls: true,
    BlockPublicPolicy: true,
    IgnorePublicAcls: true,
    RestrictPublicBuckets: true,
  });
  template.hasResourceProperties('AWS::S3::BucketPolicy', { Bucket: { Ref: id } });
  const policies = Object.values(template.findResources('AWS::S3::BucketPolicy')) as {
    Properties: { Bucket: { Ref: string }; PolicyDocument: { Statement: { Effect: string; Condition?: object }[] } };
  }[];
  const policy = policies.find(({ Properties }) => Properties.Bucket.Ref === id);
  assert.ok(
    policy?.Properties.PolicyDocument.Statement.some(
      ({ Effect, Condition }) =>
        Effect === 'Deny' && JSON.stringify(Condition).includes('"aws:SecureTransport":"false"'),
    ),
  );
});

test('a trail that exists is used, and none is made', () => {
  base(GIVEN).resourceCountIs('AWS::CloudTrail::Trail', 0);
});

for (const [what, trail, arn] of [
  ['its own', 'create', 'arn:aws:cloudtrail:eu-central-1:123456789012:trail/dev-cloister-trail'],
  ['a given', GIVEN, GIVEN],
] as const) {
  test(`the canary asks about ${what} trail, and may ask about no other`, () => {
    const { resources } = application({ CDK_TRAIL: trail });
    const properties = (type: string) => ofType(resources, type).map(([, { Properties }]) => Properties);
    const canary = properties('AWS::Lambda::Function').find(
      ({ FunctionName }) => FunctionName === 'dev-cloister-canary',
    );
    assert.equal((canary?.['Environment'] as { Variables: Record<string, string> }).Variables['TRAIL_ARN'], arn);
    const statements = properties('AWS::IAM::Policy')
      .flatMap(
        ({ PolicyDocument }) => (PolicyDocument as { Statement: { Action: unknown; Resource: unknown }[] }).Statement,
      )
      .filter(({ Action }) => JSON.stringify(Action).includes('cloudtrail:'));
    assert.deepEqual(
      statements.map(({ Resource }) => Resource),
      [arn],
    );
  });
}
