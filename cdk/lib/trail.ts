/** The trail by which EventBridge receives the calls of KMS. */

import { Duration, RemovalPolicy, type Stack, Validations } from 'aws-cdk-lib';
import * as cloudtrail from 'aws-cdk-lib/aws-cloudtrail';
import * as s3 from 'aws-cdk-lib/aws-s3';

import { type Configuration, names } from './configuration';

/** Creates the trail, unless the configuration names one that exists. The canary checks either. */
export function trail(stack: Stack, configuration: Configuration): void {
  if (configuration.trail !== 'create') {
    return;
  }
  const bucket = new s3.Bucket(stack, 'TrailBucket', {
    encryption: s3.BucketEncryption.S3_MANAGED,
    blockPublicAccess: s3.BlockPublicAccess.BLOCK_ALL,
    enforceSSL: true,
    minimumTLSVersion: 1.2,
    lifecycleRules: [{ expiration: Duration.days(365) }],
    removalPolicy: RemovalPolicy.RETAIN_ON_UPDATE_OR_DELETE,
  });
  new cloudtrail.Trail(stack, 'Trail', {
    trailName: names(configuration).of('trail'),
    bucket,
    managementEvents: cloudtrail.ReadWriteType.ALL,
    // The rules see the events of their own region only.
    isMultiRegionTrail: false,
    includeGlobalServiceEvents: false,
    enableFileValidation: true,
  });
  Validations.of(bucket).acknowledge({
    id: 'AwsSolutions-S1',
    reason: 'CloudTrail writes every file once and signs their digests; reads of the bucket are data events of S3.',
  });
}

/** The ARN of the trail that the deployment relies on. */
export function trailArn(configuration: Configuration): string {
  const { partition, region, account, trail: given } = configuration;
  return given === 'create'
    ? `arn:${partition}:cloudtrail:${region}:${account}:trail/${names(configuration).of('trail')}`
    : given;
}
