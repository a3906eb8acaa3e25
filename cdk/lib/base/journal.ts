/** The journal of the table. */

import { Duration, type Stack, Validations } from 'aws-cdk-lib';
import type * as dynamodb from 'aws-cdk-lib/aws-dynamodb';
import * as iam from 'aws-cdk-lib/aws-iam';
import * as lambda from 'aws-cdk-lib/aws-lambda';
import { DynamoEventSource } from 'aws-cdk-lib/aws-lambda-event-sources';
import * as s3 from 'aws-cdk-lib/aws-s3';
import * as ssm from 'aws-cdk-lib/aws-ssm';

import { type Configuration, names } from '../configuration';
import { smallFunction } from '../small-function';
import { KEPT } from './removal';

/**
 * Every change of the table, protected from principals that may write to the table.
 *
 * A small function, not a pipe into Firehose: an object with a retention needs a checksum at upload, which AWS
 * documents for its SDKs and not for Firehose; and one object per change can be read without a tool.
 */
export function journal(stack: Stack, table: dynamodb.Table, configuration: Configuration): void {
  // Without a name of its own: a bucket with locked objects outlives its deployment, and the next one has another.
  const bucket = new s3.Bucket(stack, 'Journal', {
    objectLockEnabled: true,
    objectLockDefaultRetention: configuration.production
      ? s3.ObjectLockRetention.compliance(Duration.days(365))
      : s3.ObjectLockRetention.governance(Duration.days(1)),
    encryption: s3.BucketEncryption.S3_MANAGED,
    blockPublicAccess: s3.BlockPublicAccess.BLOCK_ALL,
    enforceSSL: true,
    minimumTLSVersion: 1.2,
    removalPolicy: KEPT,
  });
  new ssm.StringParameter(stack, 'JournalParameter', {
    parameterName: names(configuration).parameter('journal_bucket'),
    stringValue: bucket.bucketName,
  });
  Validations.of(bucket).acknowledge({
    id: 'AwsSolutions-S1',
    reason:
      'One function writes every object once, and it cannot be changed; CloudTrail data events record reads, where an account enables them.',
  });
  const environment = { JOURNAL: bucket.bucketName };
  const { handler, role } = smallFunction(
    stack,
    configuration,
    'journal',
    'Copies every change of the table of sealed rows into the journal',
    environment,
  );
  role.addToPolicy(new iam.PolicyStatement({ actions: ['s3:PutObject'], resources: [bucket.arnForObjects('*')] }));
  // Unlimited: a failed write is repeated for the 24 hours that the stream keeps a change; the alarm `journal-behind`
  // fires long before.
  handler.addEventSource(
    new DynamoEventSource(table, { startingPosition: lambda.StartingPosition.TRIM_HORIZON, batchSize: 100 }),
  );
  Validations.of(role).acknowledge(
    {
      id: `AwsSolutions-IAM5[Resource::<${stack.getLogicalId(bucket.node.defaultChild as s3.CfnBucket)}.Arn>/*]`,
      reason: 'The objects of one bucket, which are named after the changes.',
    },
    {
      id: 'AwsSolutions-IAM5[Resource::*]',
      reason: 'dynamodb:ListStreams has no resource level; CDK grants it to every reader of a stream.',
    },
  );
}
