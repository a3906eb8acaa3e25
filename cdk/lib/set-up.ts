/**
 * Custom resources for what CloudFormation has none for: a log group that may exist, a default security group without
 * rules, versions and addresses that AWS publishes, a wait between two bindings of a target group.
 */

import { CustomResource, Duration, type Stack } from 'aws-cdk-lib';
import type * as ec2 from 'aws-cdk-lib/aws-ec2';
import * as events from 'aws-cdk-lib/aws-events';
import * as targets from 'aws-cdk-lib/aws-events-targets';
import * as iam from 'aws-cdk-lib/aws-iam';
import type * as lambda from 'aws-cdk-lib/aws-lambda';
import type * as logs from 'aws-cdk-lib/aws-logs';
import type { IDependable } from 'constructs';

import { attribute } from '../functions/set-up/resources';
import { type Architecture, type Configuration, names } from './configuration';
import { acknowledge } from './findings';
import { smallFunction } from './small-function';

/** The function's name, without the prefix. */
export const SET_UP = 'set-up';
/** The type of resource that has what AWS publishes. */
export const PUBLISHED = 'Custom::Published';

export class SetUp {
  private readonly role: iam.Role;
  private readonly handler: lambda.Function;

  constructor(
    private readonly stack: Stack,
    private readonly configuration: Configuration,
  ) {
    const { handler, role } = smallFunction(
      stack,
      configuration,
      SET_UP,
      'Cloister: what CloudFormation has no resource for',
      {},
      { timeout: Duration.minutes(10) },
    );
    this.role = role;
    this.handler = handler;
    this.allow(
      [
        'ec2:DescribePrefixLists',
        'ec2:DescribeSecurityGroups',
        'eks:DescribeAddonVersions',
        'elasticloadbalancing:DescribeTargetHealth',
      ],
      ['*'],
    );
    acknowledge(role, ['AwsSolutions-IAM5[Resource::*]'], 'Actions that describe, which know no resource.');
  }

  /** EKS creates its log group again after its cluster is deleted, so the next cluster may find it. */
  logGroup(id: string, name: string, retention: logs.RetentionDays): IDependable {
    const arn = this.arn('logs', this.configuration.account, `log-group:${name}`);
    this.allow(['logs:CreateLogGroup', 'logs:DeleteLogGroup', 'logs:PutRetentionPolicy'], [arn, `${arn}:*`]);
    acknowledge(this.role, [`AwsSolutions-IAM5[Resource::${arn}:*]`], 'The streams of this log group.');
    return this.resource(id, 'Custom::LogGroup', { Name: name, RetentionInDays: retention });
  }

  /** The group that interfaces get if nobody chooses one: it admits its own members, and reaches everything. */
  closeDefaultGroup(vpc: ec2.Vpc): void {
    const group = vpc.vpcDefaultSecurityGroup;
    this.allow(
      ['ec2:RevokeSecurityGroupIngress', 'ec2:RevokeSecurityGroupEgress'],
      [this.arn('ec2', this.configuration.account, `security-group/${group}`)],
    );
    this.resource('ClosedDefaultGroup', 'Custom::ClosedSecurityGroup', { GroupId: group });
  }

  /**
   * The versions that AWS recommends for nodes and add-ons, and the addresses of DynamoDB. They are read when the
   * cluster is created, with another version of Kubernetes, and with another value of CDK_RENEW, so that a deployment
   * replaces machines only if it is asked to.
   */
  published<AddOn extends string>(version: string, addOns: readonly AddOn[]): Published<AddOn> {
    const { region, architecture } = this.configuration;
    const amis = '/aws/service/eks/optimized-ami';
    const prefixList = `com.amazonaws.${region}.dynamodb`;
    this.allow(['ssm:GetParameter'], [this.arn('ssm', '', `parameter${amis}/*`)]);
    acknowledge(
      this.role,
      [`AwsSolutions-IAM5[Resource::${this.arn('ssm', '', `parameter${amis}/*`)}]`],
      'Public parameters of AWS.',
    );
    const read = this.resource('Published', PUBLISHED, {
      Version: version,
      Ami: `${amis}/${version}/amazon-linux-2023/${AMI_ARCHITECTURE[architecture]}/standard/recommended/release_version`,
      AddOns: addOns,
      PrefixList: prefixList,
    });
    // Fails if they are others than those that pods may call, which is an alarm.
    new events.Rule(this.stack, 'AddressesDaily', {
      schedule: events.Schedule.rate(Duration.days(1)),
      targets: [
        new targets.LambdaFunction(this.handler, {
          retryAttempts: 0,
          event: events.RuleTargetInput.fromObject({
            PrefixList: prefixList,
            AddressesDigest: read.getAttString('AddressesDigest'),
          }),
        }),
      ],
    });
    return {
      amiRelease: read.getAttString('AmiRelease'),
      dynamodbPeers: read.getAttString('Addresses'),
      addOn: (name) => read.getAttString(attribute(name)),
    };
  }

  private allow(actions: readonly string[], resources: readonly string[]): void {
    this.role.addToPolicy(new iam.PolicyStatement({ actions: [...actions], resources: [...resources] }));
  }

  private arn(service: string, account: string, resource: string): string {
    const { partition, region } = this.configuration;
    return `arn:${partition}:${service}:${region}:${account}:${resource}`;
  }

  private resource(id: string, type: string, properties: Readonly<Record<string, unknown>>): CustomResource {
    return custom(this.stack, id, this.handler.functionArn, type, properties);
  }
}

export interface Published<AddOn extends string> {
  /** Of the node group's AMI. */
  readonly amiRelease: string;
  /** Peers of a network policy, as JSON. */
  readonly dynamodbPeers: string;
  readonly addOn: (name: AddOn) => string;
}

const AMI_ARCHITECTURE: Readonly<Record<Architecture, string>> = { amd64: 'x86_64', arm64: 'arm64' };

/**
 * A resource that depends on a binding of the target group and is deleted before it: by then the targets of the binding
 * that takes its place have been checked. In any stack of the deployment that comes after the one with the function.
 */
export function handover(
  stack: Stack,
  id: string,
  configuration: Configuration,
  targetGroupArn: string,
): CustomResource {
  const { partition, region, account } = configuration;
  const token = `arn:${partition}:lambda:${region}:${account}:function:${names(configuration).of(SET_UP)}`;
  return custom(stack, id, token, 'Custom::Handover', { TargetGroupArn: targetGroupArn });
}

function custom(
  stack: Stack,
  id: string,
  serviceToken: string,
  type: string,
  properties: Readonly<Record<string, unknown>>,
): CustomResource {
  return new CustomResource(stack, id, {
    serviceToken,
    resourceType: type,
    // CloudFormation waits for an hour otherwise, if the function cannot answer.
    serviceTimeout: Duration.minutes(10),
    properties: { ...properties },
  });
}
