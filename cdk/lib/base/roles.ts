/** The roles of pods and people, which the images measure: their names are fixed, and unique in an account. */

import { type Stack, Validations } from 'aws-cdk-lib';
import type * as dynamodb from 'aws-cdk-lib/aws-dynamodb';
import * as iam from 'aws-cdk-lib/aws-iam';
import type * as secretsmanager from 'aws-cdk-lib/aws-secretsmanager';

import { type Configuration, names } from '../configuration';
import { readsFrontDoorKey } from '../front-door-key';
import { removal } from './removal';

/**
 * The tag of this deployment's CMKs. It is set when a key is created, and the key policy lets no principal change it.
 */
export function keyTag({ prefix }: Pick<Configuration, 'prefix'>) {
  return { key: 'cloister', value: `${prefix}cloister` };
}

/**
 * The roles of the two services' pods. The key policy decides, with the image, which use of a key is allowed; these
 * roles are the upper limit.
 */
export function podRoles(
  stack: Stack,
  table: dynamodb.Table,
  frontDoorKey: secretsmanager.ISecret,
  configuration: Configuration,
): void {
  const adopt = ['kms:DescribeKey', 'kms:GetKeyPolicy', 'kms:ListGrants'];
  const services = [
    { id: 'Signer', what: 'signer', kms: ['kms:Decrypt'], table: ['dynamodb:GetItem'] },
    {
      id: 'KeyGenerator',
      what: 'key-generator',
      kms: ['kms:Decrypt', 'kms:GenerateDataKey'],
      // The last two are for handing rows over to another key: reading all of them, and replacing a row's envelope.
      table: ['dynamodb:GetItem', 'dynamodb:PutItem', 'dynamodb:Scan', 'dynamodb:UpdateItem'],
    },
  ];
  for (const service of services) {
    const role = retainedRole(stack, service.id, service.what, configuration, podPrincipal(configuration));
    role.addToPolicy(onOwnKeys([...adopt, ...service.kms], configuration));
    role.addToPolicy(new iam.PolicyStatement({ actions: service.table, resources: [table.tableArn] }));
    role.addToPolicy(readsFrontDoorKey(frontDoorKey));
  }
}

/** Trusts EKS Pod Identity and tasks of ECS. */
function podPrincipal({ account }: Configuration): iam.IPrincipal {
  return new iam.CompositePrincipal(podIdentity(account), forAccount('ecs-tasks.amazonaws.com', account));
}

/** EKS Pod Identity, for the clusters of an account. */
export function podIdentity(account: string): iam.IPrincipal {
  return forAccount('pods.eks.amazonaws.com', account).withSessionTags();
}

/** A service that acts for an account, and not for others that name its role. */
function forAccount(service: string, account: string): iam.PrincipalBase {
  return new iam.ServicePrincipal(service, { conditions: { StringEquals: { 'aws:SourceAccount': account } } });
}

/** The roles of people. The account's own policies decide who may assume them. */
export function peopleRoles(stack: Stack, configuration: Configuration): void {
  const name = names(configuration);
  const people = new iam.AccountPrincipal(configuration.account);

  const retirement = retainedRole(stack, 'Retirement', 'retirement', configuration, people);
  retirement.addToPolicy(
    onOwnKeys(['kms:ScheduleKeyDeletion', 'kms:CancelKeyDeletion', 'kms:EnableKey', 'kms:DescribeKey'], configuration),
  );

  const administrator = retainedRole(
    stack,
    'Administrator',
    'administrator',
    configuration,
    new iam.CompositePrincipal(people, keyStackDeployment(configuration)),
  );
  const made = { StringEquals: { [`aws:RequestTag/${keyTag(configuration).key}`]: keyTag(configuration).value } };
  const inRegion = `${configuration.region}:${configuration.account}`;
  const keyStack = `arn:${configuration.partition}:cloudformation:${inRegion}:stack/${name.of('key')}/*`;
  const parameters = ['key_id', 'cmk'].map(
    (what) => `arn:${configuration.partition}:ssm:${inRegion}:parameter${name.parameter(what)}`,
  );
  administrator.addToPolicy(onOwnKeys(['kms:PutKeyPolicy'], configuration));
  // Creating a key is one call with its tag. CloudFormation calls these directly afterwards, when the tag may not count
  // yet: https://docs.aws.amazon.com/kms/latest/developerguide/tag-authorization.html
  administrator.addToPolicy(
    new iam.PolicyStatement({
      actions: [
        'kms:DescribeKey',
        'kms:EnableKeyRotation',
        'kms:GetKeyPolicy',
        'kms:GetKeyRotationStatus',
        'kms:ListResourceTags',
      ],
      resources: ['*'],
    }),
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
      resources: parameters,
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
 * CloudFormation deploys the key stack as the administrator role, because only this role may replace an open key's
 * policy. A role can be passed within its account only; the condition holds where CloudFormation names its account,
 * which AWS does not document for the roles of stacks.
 */
function keyStackDeployment({ account }: Configuration): iam.IPrincipal {
  return new iam.ServicePrincipal('cloudformation.amazonaws.com', {
    conditions: { StringEqualsIfExists: { 'aws:SourceAccount': account } },
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
