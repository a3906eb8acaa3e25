/**
 * The retained base stack: the roles that the images measure, the table of sealed rows, and its journal.
 *
 * Every resource has a fixed name, by which other stacks find it; there are no exports.
 */

import { type App, Duration, RemovalPolicy, Stack, Validations } from 'aws-cdk-lib';
import * as apigateway from 'aws-cdk-lib/aws-apigateway';
import * as dynamodb from 'aws-cdk-lib/aws-dynamodb';
import * as iam from 'aws-cdk-lib/aws-iam';
import * as lambda from 'aws-cdk-lib/aws-lambda';
import { DynamoEventSource } from 'aws-cdk-lib/aws-lambda-event-sources';
import * as s3 from 'aws-cdk-lib/aws-s3';
import * as signer from 'aws-cdk-lib/aws-signer';
import * as ssm from 'aws-cdk-lib/aws-ssm';

import { type Configuration, names } from './configuration';
import { smallFunction } from './small-function';
import { trail } from './trail';

export function baseStack(app: App, configuration: Configuration): Stack {
  const name = names(configuration);
  const stack = new Stack(app, name.of('base'), {
    description: 'Cloister: roles, the table of sealed rows and its journal. Retained.',
    env: configuration,
    terminationProtection: !configuration.withKeys,
  });
  const table = keyTable(stack, configuration);
  journal(stack, table, configuration);
  podRoles(stack, table, configuration);
  peopleRoles(stack, configuration);
  apiLogs(stack, configuration);
  codeSigning(stack, configuration);
  trail(stack, configuration);
  new ssm.StringParameter(stack, 'TableParameter', {
    parameterName: name.parameter('secrets_table'),
    stringValue: name.table,
  });
  return stack;
}

/**
 * The tag of this deployment's CMKs. It is set when a key is created, and the key policy lets no principal change it.
 */
export function keyTag({ prefix }: Pick<Configuration, 'prefix'>) {
  return { key: 'cloister', value: `${prefix}cloister` };
}

function keyTable(stack: Stack, configuration: Configuration): dynamodb.Table {
  return new dynamodb.Table(stack, 'Table', {
    tableName: names(configuration).table,
    partitionKey: { name: 'key_id', type: dynamodb.AttributeType.STRING },
    billingMode: dynamodb.BillingMode.PAY_PER_REQUEST,
    pointInTimeRecoverySpecification: { pointInTimeRecoveryEnabled: true },
    deletionProtection: !configuration.withKeys,
    stream: dynamodb.StreamViewType.NEW_AND_OLD_IMAGES,
    removalPolicy: removal(configuration),
  });
}

/**
 * The journal: every change of the table, protected from principals that may write to the table.
 *
 * A small function, not a pipe into Firehose: an object with a retention needs a checksum at upload, which AWS
 * documents for its SDKs and not for Firehose; and one object per change can be read without a tool.
 */
function journal(stack: Stack, table: dynamodb.Table, configuration: Configuration): void {
  const name = names(configuration);
  const bucket = new s3.Bucket(stack, 'Journal', {
    bucketName: `${name.of('journal')}-${configuration.account}-${configuration.region}`,
    objectLockEnabled: true,
    objectLockDefaultRetention: configuration.production
      ? s3.ObjectLockRetention.compliance(Duration.days(365))
      : s3.ObjectLockRetention.governance(Duration.days(1)),
    encryption: s3.BucketEncryption.S3_MANAGED,
    blockPublicAccess: s3.BlockPublicAccess.BLOCK_ALL,
    enforceSSL: true,
    minimumTLSVersion: 1.2,
    removalPolicy: RemovalPolicy.RETAIN,
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

/**
 * The roles of the two services' pods. The key policy decides, with the image, which use of a key is allowed; these
 * roles are the upper limit.
 */
function podRoles(stack: Stack, table: dynamodb.Table, configuration: Configuration): void {
  const adopt = ['kms:DescribeKey', 'kms:GetKeyPolicy', 'kms:ListGrants'];
  const services = [
    { id: 'Signer', what: 'signer', kms: ['kms:Decrypt'], table: ['dynamodb:GetItem'] },
    {
      id: 'KeyGenerator',
      what: 'key-generator',
      kms: ['kms:Decrypt', 'kms:GenerateDataKey'],
      table: ['dynamodb:GetItem', 'dynamodb:PutItem'],
    },
  ];
  for (const service of services) {
    const role = retainedRole(stack, service.id, service.what, configuration, podPrincipal(configuration));
    role.addToPolicy(onOwnKeys([...adopt, ...service.kms], configuration));
    role.addToPolicy(new iam.PolicyStatement({ actions: service.table, resources: [table.tableArn] }));
  }
}

/** Trusts EKS Pod Identity and tasks of ECS. */
function podPrincipal({ account }: Configuration): iam.IPrincipal {
  const ours = { StringEquals: { 'aws:SourceAccount': account } };
  return new iam.CompositePrincipal(
    new iam.ServicePrincipal('pods.eks.amazonaws.com', { conditions: ours }).withSessionTags(),
    new iam.ServicePrincipal('ecs-tasks.amazonaws.com', { conditions: ours }),
  );
}

/** The roles of people. The account's own policies decide who may assume them. */
function peopleRoles(stack: Stack, configuration: Configuration): void {
  const name = names(configuration);
  const people = new iam.AccountPrincipal(configuration.account);

  const retirement = retainedRole(stack, 'Retirement', 'retirement', configuration, people);
  retirement.addToPolicy(
    onOwnKeys(['kms:ScheduleKeyDeletion', 'kms:CancelKeyDeletion', 'kms:EnableKey', 'kms:DescribeKey'], configuration),
  );

  // CloudFormation deploys the key stack as this role, because only this role may replace an open key's policy.
  const administrator = retainedRole(
    stack,
    'Administrator',
    'administrator',
    configuration,
    new iam.CompositePrincipal(people, new iam.ServicePrincipal('cloudformation.amazonaws.com')),
  );
  const made = { StringEquals: { [`aws:RequestTag/${keyTag(configuration).key}`]: keyTag(configuration).value } };
  const keyStack = `arn:${configuration.partition}:cloudformation:${configuration.region}:${configuration.account}:stack/${name.of('key')}/*`;
  const parameter = `arn:${configuration.partition}:ssm:${configuration.region}:${configuration.account}:parameter${name.parameter('key_id')}`;
  administrator.addToPolicy(
    onOwnKeys(
      [
        'kms:PutKeyPolicy',
        'kms:DescribeKey',
        'kms:GetKeyPolicy',
        'kms:GetKeyRotationStatus',
        'kms:EnableKeyRotation',
        'kms:ListResourceTags',
      ],
      configuration,
    ),
  );
  administrator.addToPolicy(
    new iam.PolicyStatement({ actions: ['kms:CreateKey', 'kms:TagResource'], resources: ['*'], conditions: made }),
  );
  administrator.addToPolicy(
    new iam.PolicyStatement({
      actions: [
        'ssm:PutParameter',
        'ssm:DeleteParameter',
        'ssm:GetParameters',
        'ssm:AddTagsToResource',
        'ssm:ListTagsForResource',
      ],
      resources: [parameter],
    }),
  );
  administrator.addToPolicy(
    new iam.PolicyStatement({
      actions: [
        'cloudformation:CreateChangeSet',
        'cloudformation:DeleteChangeSet',
        'cloudformation:DeleteStack',
        'cloudformation:DescribeChangeSet',
        'cloudformation:DescribeEvents',
        'cloudformation:DescribeStackEvents',
        'cloudformation:DescribeStacks',
        'cloudformation:ExecuteChangeSet',
        'cloudformation:GetTemplate',
        'cloudformation:UpdateTerminationProtection',
      ],
      resources: [keyStack],
    }),
  );
  administrator.addToPolicy(
    new iam.PolicyStatement({ actions: ['iam:PassRole'], resources: [name.administratorRole] }),
  );
  Validations.of(administrator).acknowledge({
    id: `AwsSolutions-IAM5[Resource::${keyStack}]`,
    reason: 'One stack: CloudFormation appends an id to its name.',
  });
}

/**
 * The role with which API Gateway writes logs. It is set once per account and region; every deployment sets the same
 * permissions.
 */
function apiLogs(stack: Stack, configuration: Configuration): void {
  const policy = 'service-role/AmazonAPIGatewayPushToCloudWatchLogs';
  const role = new iam.Role(stack, 'ApiLogs', {
    roleName: names(configuration).of('api-logs'),
    assumedBy: new iam.ServicePrincipal('apigateway.amazonaws.com'),
    managedPolicies: [iam.ManagedPolicy.fromAwsManagedPolicyName(policy)],
  });
  role.applyRemovalPolicy(RemovalPolicy.RETAIN);
  new apigateway.CfnAccount(stack, 'ApiAccount', { cloudWatchRoleArn: role.roleArn }).applyRemovalPolicy(
    RemovalPolicy.RETAIN,
  );
  Validations.of(role).acknowledge({
    id: `AwsSolutions-IAM4[Policy::arn:<AWS::Partition>:iam::aws:policy/${policy}]`,
    reason: 'The policy that API Gateway requires, for the logs of all APIs of the account.',
  });
}

/** The signing profile. A principal that may use it decides which code the front door runs. */
function codeSigning(stack: Stack, configuration: Configuration): void {
  const profile = new signer.SigningProfile(stack, 'SigningProfile', {
    platform: signer.Platform.AWS_LAMBDA_SHA384_ECDSA,
    signingProfileName: names(configuration).signingProfile,
  });
  profile.applyRemovalPolicy(removal(configuration));
  new ssm.StringParameter(stack, 'SigningProfileParameter', {
    parameterName: names(configuration).parameter('front_door/signing_profile_version'),
    stringValue: profile.signingProfileVersion,
  });
}

function retainedRole(
  stack: Stack,
  id: string,
  what: string,
  configuration: Configuration,
  assumedBy: iam.IPrincipal,
): iam.Role {
  const role = new iam.Role(stack, id, { roleName: names(configuration).of(what), assumedBy });
  role.applyRemovalPolicy(removal(configuration));
  Validations.of(role).acknowledge({
    id: 'AwsSolutions-IAM5[Resource::*]',
    reason: 'KMS keys are selected by tag: the ARN of a key is unknown before its creation.',
  });
  return role;
}

function onOwnKeys(actions: readonly string[], configuration: Configuration): iam.PolicyStatement {
  const { key, value } = keyTag(configuration);
  return new iam.PolicyStatement({
    actions: [...actions],
    resources: ['*'],
    conditions: { StringEquals: { [`aws:ResourceTag/${key}`]: value } },
  });
}

function removal({ withKeys }: Configuration): RemovalPolicy {
  return withKeys ? RemovalPolicy.DESTROY : RemovalPolicy.RETAIN;
}
