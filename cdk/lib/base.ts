/**
 * The retained base stack: the roles that the images measure, the table of sealed rows, its journal, and what a release
 * needs before its application.
 *
 * Other stacks find its resources by fixed names or by SSM parameters; there are no exports.
 */

import { type App, RemovalPolicy, Stack, Validations } from 'aws-cdk-lib';
import * as apigateway from 'aws-cdk-lib/aws-apigateway';
import * as dynamodb from 'aws-cdk-lib/aws-dynamodb';
import * as ecr from 'aws-cdk-lib/aws-ecr';
import * as iam from 'aws-cdk-lib/aws-iam';
import * as signer from 'aws-cdk-lib/aws-signer';
import * as ssm from 'aws-cdk-lib/aws-ssm';

import { journal } from './base/journal';
import { KEPT, removal } from './base/removal';
import { peopleRoles, podRoles } from './base/roles';
import { type Configuration, names } from './configuration';
import { frontDoorKey } from './front-door-key';
import { trail } from './trail';

export { keyTag, podIdentity } from './base/roles';

export function baseStack(app: App, configuration: Configuration): Stack {
  const name = names(configuration);
  const stack = new Stack(app, name.of('base'), {
    description: 'Cloister: roles, the table of sealed rows and its journal. Retained.',
    env: configuration,
    terminationProtection: !configuration.withKeys,
  });
  const table = keyTable(stack, configuration);
  journal(stack, table, configuration);
  podRoles(stack, table, frontDoorKey(stack, configuration), configuration);
  peopleRoles(stack, configuration);
  podRepository(stack, configuration);
  if (configuration.apiLogs === 'create') {
    apiLogs(stack);
  }
  if (configuration.codeSigning) {
    codeSigning(stack, configuration);
  }
  trail(stack, configuration);
  return stack;
}

function keyTable(stack: Stack, configuration: Configuration): dynamodb.Table {
  const table = new dynamodb.Table(stack, 'Table', {
    tableName: names(configuration).table,
    partitionKey: { name: 'key_id', type: dynamodb.AttributeType.STRING },
    billingMode: dynamodb.BillingMode.PAY_PER_REQUEST,
    pointInTimeRecoverySpecification: { pointInTimeRecoveryEnabled: true },
    deletionProtection: !configuration.withKeys,
    stream: dynamodb.StreamViewType.NEW_AND_OLD_IMAGES,
    removalPolicy: removal(configuration),
  });
  parameter(stack, configuration, 'TableParameter', 'secrets_table', names(configuration).table);
  return table;
}

/** The registry of the pods' images, so that images can be pushed, scanned and approved before the application. */
function podRepository(stack: Stack, configuration: Configuration): void {
  const repository = new ecr.Repository(stack, 'Pods', {
    repositoryName: names(configuration).of('pods'),
    imageTagMutability: ecr.TagMutability.IMMUTABLE,
    imageScanOnPush: true,
    emptyOnDelete: true,
    removalPolicy: RemovalPolicy.DESTROY,
  });
  parameter(stack, configuration, 'PodsParameter', 'pods_repository', repository.repositoryUri);
}

/**
 * The role with which API Gateway writes the logs of all APIs of the account and region. Other APIs may depend on it
 * meanwhile, so it stays; its name is generated, so it blocks nothing.
 */
function apiLogs(stack: Stack): void {
  const policy = 'service-role/AmazonAPIGatewayPushToCloudWatchLogs';
  const role = new iam.Role(stack, 'ApiLogs', {
    assumedBy: new iam.ServicePrincipal('apigateway.amazonaws.com'),
    managedPolicies: [iam.ManagedPolicy.fromAwsManagedPolicyName(policy)],
  });
  role.applyRemovalPolicy(KEPT);
  new apigateway.CfnAccount(stack, 'ApiAccount', { cloudWatchRoleArn: role.roleArn }).applyRemovalPolicy(KEPT);
  Validations.of(role).acknowledge({
    id: `AwsSolutions-IAM4[Policy::arn:<AWS::Partition>:iam::aws:policy/${policy}]`,
    reason: 'The policy that API Gateway requires, for the logs of all APIs of the account.',
  });
}

/**
 * The signing profile, under a generated name: a cancelled profile keeps its name. A principal that may use it decides
 * which code the front door runs.
 */
function codeSigning(stack: Stack, configuration: Configuration): void {
  const profile = new signer.CfnSigningProfile(stack, 'SigningProfile', {
    platformId: signer.Platform.AWS_LAMBDA_SHA384_ECDSA.platformId,
  });
  profile.applyRemovalPolicy(removal(configuration));
  parameter(stack, configuration, 'SigningProfileParameter', 'front_door/signing_profile', profile.attrProfileName);
  parameter(
    stack,
    configuration,
    'SigningProfileVersionParameter',
    'front_door/signing_profile_version_arn',
    profile.attrProfileVersionArn,
  );
}

function parameter(stack: Stack, configuration: Configuration, id: string, what: string, value: string): void {
  new ssm.StringParameter(stack, id, { parameterName: names(configuration).parameter(what), stringValue: value });
}
