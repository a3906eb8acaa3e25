/** The monthly costs of what synthesized templates create, while it is idle. */

import { EVERYWHERE, HOURS_OF_A_MONTH, PRICES, type Prices } from './costs/prices';

export interface Template {
  readonly Resources?: Readonly<Record<string, Resource>>;
}

interface Resource {
  readonly Type: string;
  readonly Properties?: Readonly<Record<string, unknown>>;
}

export interface Cost {
  readonly item: string;
  readonly count: number;
  /** US dollars a month, for all of them. */
  readonly dollars: number;
}

/** The costs by item, the largest first. The error names a resource whose price is unknown. */
export function costs(templates: readonly Template[], region: string): readonly Cost[] {
  const prices = PRICES[region];
  if (prices === undefined) {
    throw new Error(`the prices of ${region} are unknown: known are those of ${Object.keys(PRICES).join(' and ')}`);
  }
  const sums = new Map<string, Cost>();
  for (const { Resources: resources = {} } of templates) {
    for (const resource of Object.values(resources)) {
      for (const { item, count, dollars } of charges(resource, resources, prices)) {
        const sum = sums.get(item) ?? { item, count: 0, dollars: 0 };
        sums.set(item, { item, count: sum.count + count, dollars: sum.dollars + count * dollars });
      }
    }
  }
  return [...sums.values()].filter(({ count }) => count > 0).sort((one, other) => other.dollars - one.dollars);
}

export function total(all: readonly Cost[]): number {
  return all.reduce((sum, { dollars }) => sum + dollars, 0);
}

/** What a resource is charged for while it exists: a count, and the dollars a month for each. */
function charges(resource: Resource, resources: Readonly<Record<string, Resource>>, prices: Prices): readonly Cost[] {
  const { Type: type, Properties: properties = {} } = resource;
  const hourly = (item: string, price: number, count = 1) => [{ item, count, dollars: price * HOURS_OF_A_MONTH }];
  const monthly = (item: string, dollars: number) => [{ item, count: 1, dollars }];
  switch (type) {
    case 'AWS::EKS::Nodegroup': {
      const { DesiredSize: count } = properties['ScalingConfig'] as { DesiredSize: number };
      const [instance = ''] = (properties['InstanceTypes'] as string[] | undefined) ?? [];
      return machines(count, instance, launchTemplate(properties, resources), prices);
    }
    case 'AWS::AutoScaling::AutoScalingGroup': {
      const data = launchTemplate(properties, resources);
      return machines(Number(properties['MinSize']), data.InstanceType ?? '', data, prices);
    }
    case 'AWS::EKS::Cluster':
      return hourly('Kubernetes (EKS)', prices.kubernetes);
    case 'AWS::EC2::VPCEndpoint':
      return properties['VpcEndpointType'] === 'Interface'
        ? hourly('interface endpoints × zones', prices.interfaceEndpoint, (properties['SubnetIds'] as unknown[]).length)
        : [];
    case 'AWS::EC2::NatGateway':
      return hourly('NAT gateway', prices.natGateway);
    case 'AWS::EC2::EIP':
      return hourly('public IPv4 address', prices.publicAddress);
    case 'AWS::ElasticLoadBalancingV2::LoadBalancer':
      return hourly('network load balancer', prices.networkLoadBalancer);
    case 'AWS::CloudWatch::Alarm':
      return monthly('alarms', EVERYWHERE.alarm);
    case 'AWS::CloudWatch::Dashboard':
      return monthly('dashboard', EVERYWHERE.dashboard);
    case 'AWS::KMS::Key':
      return monthly('KMS keys', EVERYWHERE.key);
    case 'AWS::Route53::HostedZone':
      return monthly('private hosted zones', EVERYWHERE.hostedZone);
    case 'AWS::SecretsManager::Secret':
      return monthly('secrets', EVERYWHERE.secret);
    default:
      if (!FREE_OR_BY_USE.some((free) => free.test(type))) {
        throw new Error(`${type} has no price: add it to cdk/lib/costs.ts`);
      }
      return [];
  }
}

interface LaunchTemplateData {
  readonly InstanceType?: string;
  readonly BlockDeviceMappings?: readonly { readonly Ebs?: { readonly VolumeSize?: number } }[];
}

/** The data of the launch template that a group of machines refers to. */
function launchTemplate(
  properties: Readonly<Record<string, unknown>>,
  resources: Readonly<Record<string, Resource>>,
): LaunchTemplateData {
  const reference = JSON.stringify(properties['LaunchTemplate']);
  const found = Object.entries(resources).find(
    ([id, { Type: type }]) => type === 'AWS::EC2::LaunchTemplate' && reference.includes(`"${id}"`),
  );
  return (found?.[1].Properties?.['LaunchTemplateData'] ?? {}) as LaunchTemplateData;
}

function machines(count: number, type: string, data: LaunchTemplateData, prices: Prices): readonly Cost[] {
  const price = prices.instances[type];
  if (price === undefined) {
    throw new Error(`the price of ${type} is unknown: add it to cdk/lib/costs/prices.ts`);
  }
  const gibibytes = (data.BlockDeviceMappings ?? []).reduce((sum, { Ebs: disk }) => sum + (disk?.VolumeSize ?? 0), 0);
  return [
    { item: `machines, ${type}`, count, dollars: price * HOURS_OF_A_MONTH },
    { item: 'disks of the machines, GiB', count: count * gibibytes, dollars: prices.volume },
  ];
}

/** Types of resources that cost nothing while they are idle: free ones, and those that are charged by requests or bytes. */
const FREE_OR_BY_USE: readonly RegExp[] = [
  /^AWS::(ApiGateway|ApplicationAutoScaling|CDK|CloudFormation|CloudTrail|DynamoDB|ECR|ECS|Events|IAM|Lambda|Logs|S3|SNS|SQS|SSM|Scheduler|Signer)::/,
  /^AWS::EC2::(EIPAssociation|FlowLog|InternetGateway|LaunchTemplate|NetworkAcl\w*|PrefixList|Route|RouteTable|SecurityGroup\w*|Subnet\w*|VPC|VPCGatewayAttachment)$/,
  /^AWS::EKS::(AccessEntry|Addon|PodIdentityAssociation)$/,
  /^AWS::ElasticLoadBalancingV2::(Listener|TargetGroup)$/,
  /^AWS::AutoScaling::(LifecycleHook|ScalingPolicy)$/,
  /^AWS::Route53::RecordSet$/,
  /^AWS::SecretsManager::ResourcePolicy$/,
  /^Custom::/,
];
