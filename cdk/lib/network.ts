/** The network that pods, front door and load balancer share. */

import { Duration, Fn, RemovalPolicy, type Stack } from 'aws-cdk-lib';
import * as ec2 from 'aws-cdk-lib/aws-ec2';
import * as elb from 'aws-cdk-lib/aws-elasticloadbalancingv2';
import * as iam from 'aws-cdk-lib/aws-iam';
import * as logs from 'aws-cdk-lib/aws-logs';
import * as route53 from 'aws-cdk-lib/aws-route53';
import { LoadBalancerTarget } from 'aws-cdk-lib/aws-route53-targets';

import { type Configuration, names, zoneCount } from './configuration';
import { range } from './configuration/cidr';
import { acknowledge } from './findings';
import { HEALTH_PORT, HTTPS_PORT } from './kubernetes/pods';
import { SERVICES, type Service } from './release';
import type { SetUp } from './set-up';

/** The load balancer's port for each service. One load balancer for both, because each one is charged. */
const LISTENERS: Readonly<Record<Service, number>> = { signer: 8443, 'key-generator': 8444 };

/** The subnets of machines, pods and functions. */
export const MACHINES: ec2.SubnetSelection = { subnetGroupName: 'machines' };
/** The subnets that contain the load balancer alone, so that its addresses can be admitted by their range. */
const LOAD_BALANCER: ec2.SubnetSelection = { subnetGroupName: 'load-balancer' };
const ENDPOINTS: ec2.SubnetSelection = { subnetGroupName: 'endpoints' };

export interface Network {
  readonly vpc: ec2.IVpc;
  /** Ranges of the load balancer's subnets. */
  readonly loadBalancerCidrs: readonly string[];
  /** Ranges that contain the interface endpoints of KMS and Secrets Manager. */
  readonly endpointCidrs: readonly string[];
}

/** A new network, or the existing one that the configuration describes. What follows is the same for both. */
export function network(stack: Stack, configuration: Configuration, setUp: SetUp): Network {
  return configuration.network.kind === 'own'
    ? newNetwork(stack, configuration, configuration.network.cidr, setUp)
    : existingNetwork(stack, configuration, configuration.network);
}

/** Its owner gives it what a new network has: a way to public registries, and endpoints of KMS and Secrets Manager. */
export function existingNetwork(
  stack: Stack,
  { zones = [] }: Configuration,
  { vpcId, cidr, subnets, loadBalancerSubnets, loadBalancerCidrs }: Configuration['network'] & { kind: 'existing' },
): Network {
  const vpc = ec2.Vpc.fromVpcAttributes(stack, 'Vpc', {
    vpcId,
    vpcCidrBlock: cidr,
    availabilityZones: [...zones],
    privateSubnetIds: [...subnets],
    privateSubnetNames: ['machines'],
    isolatedSubnetIds: [...loadBalancerSubnets],
    isolatedSubnetNames: ['load-balancer'],
  });
  vpc.node.children.forEach((subnet) =>
    acknowledge(subnet, ['Annotation::@aws-cdk/aws-ec2:noSubnetRouteTableId'], 'Nothing here changes its routes.'),
  );
  return { vpc, loadBalancerCidrs, endpointCidrs: [cidr] };
}

function newNetwork(stack: Stack, configuration: Configuration, cidr: string, setUp: SetUp): Network {
  const log = new logs.LogGroup(stack, 'FlowLog', {
    retention: logs.RetentionDays.ONE_MONTH,
    removalPolicy: RemovalPolicy.DESTROY,
  });
  const zones = zonesOf(configuration);
  // Otherwise the library looks the account's zones up, for which synthesis would need credentials.
  Object.defineProperty(stack, 'availabilityZones', { value: zones });
  const vpc = new ec2.Vpc(stack, 'Vpc', {
    vpcName: names(configuration).of('vpc'),
    ipAddresses: ec2.IpAddresses.cidr(cidr),
    maxAzs: zones.length,
    // Only for images and charts of public registries, and for what changes the cluster.
    natGateways: 1,
    subnetConfiguration: [
      // An eighth of the network in each zone.
      { name: 'machines', subnetType: ec2.SubnetType.PRIVATE_WITH_EGRESS, cidrMask: range(cidr).length + 3 },
      { name: 'public', subnetType: ec2.SubnetType.PUBLIC, cidrMask: 28, mapPublicIpOnLaunch: false },
      { name: 'load-balancer', subnetType: ec2.SubnetType.PRIVATE_ISOLATED, cidrMask: 26 },
      { name: 'endpoints', subnetType: ec2.SubnetType.PRIVATE_ISOLATED, cidrMask: 26 },
    ],
    // setUp does this, with a log group of its own.
    restrictDefaultSecurityGroup: false,
    flowLogs: {
      rejected: {
        destination: ec2.FlowLogDestination.toCloudWatchLogs(log),
        trafficType: ec2.FlowLogTrafficType.REJECT,
      },
    },
  });
  setUp.closeDefaultGroup(vpc);
  placeByZoneId(vpc, zones);
  endpoints(vpc, configuration);
  const cidrs = (of: ec2.SubnetSelection) => vpc.selectSubnets(of).subnets.map(({ ipv4CidrBlock }) => ipv4CidrBlock);
  return { vpc, loadBalancerCidrs: cidrs(LOAD_BALANCER), endpointCidrs: cidrs(ENDPOINTS) };
}

/** The configured zones, or the region's first ones, which are resolved when the stack is deployed. */
function zonesOf({ zones, region, size }: Configuration): readonly string[] {
  return zones ?? Array.from({ length: zoneCount({ size }) }, (_, zone) => Fn.select(zone, Fn.getAzs(region)));
}

/** Subnets have a property for ids of zones, which the library does not set. */
function placeByZoneId(vpc: ec2.Vpc, zones: readonly string[]): void {
  if (!zones.every((zone) => /-az\d+$/.test(zone))) {
    return;
  }
  for (const subnet of [...vpc.publicSubnets, ...vpc.privateSubnets, ...vpc.isolatedSubnets]) {
    const resource = subnet.node.defaultChild;
    if (resource instanceof ec2.CfnSubnet) {
      resource.availabilityZoneId = subnet.availabilityZone;
      resource.addPropertyDeletionOverride('AvailabilityZone');
    }
  }
}

/**
 * There is one NAT gateway, in one zone. What enclaves and pods call to sign has an endpoint, and in the default size
 * also what starting a pod on a machine needs: its credentials, its image, its log. What changes the cluster (EC2, load
 * balancing) and what people use (Session Manager, STS) can wait for the gateway's zone, and goes through it.
 */
function endpoints(vpc: ec2.Vpc, { account, size }: Configuration): void {
  // Admits credentials of this account only: a session of another account cannot carry data out.
  const ownAccount = () =>
    new iam.PolicyStatement({
      principals: [new iam.AnyPrincipal()],
      actions: ['*'],
      resources: ['*'],
      conditions: { StringEquals: { 'aws:PrincipalAccount': account } },
    });
  // Of the machines alone: the route tables of the other subnets lead nowhere.
  const subnets = [MACHINES];
  vpc.addGatewayEndpoint('S3', { service: ec2.GatewayVpcEndpointAwsService.S3, subnets });
  vpc
    .addGatewayEndpoint('Dynamodb', { service: ec2.GatewayVpcEndpointAwsService.DYNAMODB, subnets })
    .addToPolicy(ownAccount());
  const group = new ec2.SecurityGroup(vpc, 'Endpoints', {
    vpc,
    description: 'Endpoints of AWS services',
    allowAllOutbound: false,
  });
  for (const { ipv4CidrBlock } of vpc.selectSubnets(MACHINES).subnets) {
    group.addIngressRule(ec2.Peer.ipv4(ipv4CidrBlock), ec2.Port.tcp(443), 'Machines and pods');
  }
  const endpoint = (id: string, service: ec2.InterfaceVpcEndpointAwsService) =>
    vpc.addInterfaceEndpoint(id, { service, subnets: ENDPOINTS, securityGroups: [group], open: false });
  endpoint('Kms', ec2.InterfaceVpcEndpointAwsService.KMS).addToPolicy(ownAccount());
  endpoint('SecretsManager', ec2.InterfaceVpcEndpointAwsService.SECRETS_MANAGER).addToPolicy(ownAccount());
  const services = {
    EksAuth: ec2.InterfaceVpcEndpointAwsService.EKS_AUTH,
    EcrApi: ec2.InterfaceVpcEndpointAwsService.ECR,
    EcrDkr: ec2.InterfaceVpcEndpointAwsService.ECR_DOCKER,
    Logs: ec2.InterfaceVpcEndpointAwsService.CLOUDWATCH_LOGS,
  };
  if (size === 'default') {
    Object.entries(services).forEach(([id, service]) => endpoint(id, service));
  }
}

/** The entrance between front door and pods: TCP is passed through, TLS ends in the pods. */
export interface Entrance {
  /** The front door's security group, the only one that the load balancer admits. */
  readonly frontDoorSecurityGroup: ec2.SecurityGroup;
  readonly targetGroups: Readonly<Record<Service, elb.NetworkTargetGroup>>;
  /** The dimensions of the target groups' metrics. */
  readonly targetMetrics: Readonly<Record<Service, Dimensions>>;
  readonly urls: Readonly<Record<Service, string>>;
}

/** By their names in CloudWatch. */
export type Dimensions = Readonly<Record<string, string>>;

/** The host name by which the front door calls a service, and of the service's certificate. */
export function host(service: Service, { prefix }: Pick<Configuration, 'prefix'>): string {
  return `${service}.${zoneName(prefix)}`;
}

function zoneName(prefix: string): string {
  return `${prefix}cloister.internal`;
}

/** `pods` is the security group of the machines that pods run on. */
export function entrance(
  stack: Stack,
  { vpc }: Network,
  pods: ec2.ISecurityGroup,
  configuration: Configuration,
): Entrance {
  const group = (id: string, description: string) =>
    new ec2.SecurityGroup(stack, id, { vpc, description, allowAllOutbound: false });
  const frontDoor = group('FrontDoorGroup', 'The front door: calls the load balancer and nothing else');
  const balancing = group('LoadBalancerGroup', 'The load balancer: admits the front door alone');
  const balancer = new elb.NetworkLoadBalancer(stack, 'LoadBalancer', {
    vpc,
    vpcSubnets: LOAD_BALANCER,
    internetFacing: false,
    crossZoneEnabled: true,
    securityGroups: [balancing],
    enforceSecurityGroupInboundRulesOnPrivateLinkTraffic: true,
  });
  acknowledge(
    balancer,
    ['AwsSolutions-ELB2'],
    'Access logs of a Network Load Balancer cover TLS listeners only, and this one passes TCP through; requests are logged by front door and pods.',
  );
  const zone = new route53.PrivateHostedZone(stack, 'Zone', { vpc, zoneName: zoneName(configuration.prefix) });
  const targetGroups = perService((service) => {
    const listener = balancer.addListener(service, { port: LISTENERS[service], protocol: elb.Protocol.TCP });
    frontDoor.addEgressRule(balancing, ec2.Port.tcp(LISTENERS[service]), service);
    balancing.addIngressRule(frontDoor, ec2.Port.tcp(LISTENERS[service]), service);
    new route53.ARecord(stack, `Record-${service}`, {
      zone,
      recordName: service,
      target: route53.RecordTarget.fromAlias(new LoadBalancerTarget(balancer)),
    });
    const targets = new elb.NetworkTargetGroup(stack, `Targets-${service}`, {
      vpc,
      port: HTTPS_PORT,
      protocol: elb.Protocol.TCP,
      targetType: elb.TargetType.IP,
      preserveClientIp: false,
      // Longer than any request. Afterwards connections that the front door kept open are closed as well.
      deregistrationDelay: Duration.seconds(60),
      connectionTermination: true,
      healthCheck: {
        protocol: elb.Protocol.HTTP,
        port: String(HEALTH_PORT),
        path: '/readyz',
        interval: Duration.seconds(10),
        healthyThresholdCount: 2,
        unhealthyThresholdCount: 2,
      },
    });
    listener.addTargetGroups(service, targets);
    return targets;
  });
  for (const port of [HTTPS_PORT, HEALTH_PORT]) {
    balancing.addEgressRule(pods, ec2.Port.tcp(port), 'Pods');
    pods.addIngressRule(balancing, ec2.Port.tcp(port), 'Load balancer');
  }
  return {
    frontDoorSecurityGroup: frontDoor,
    targetGroups,
    targetMetrics: perService((service) => ({
      LoadBalancer: balancer.loadBalancerFullName,
      TargetGroup: targetGroups[service].targetGroupFullName,
    })),
    urls: perService((service) => `https://${host(service, configuration)}:${LISTENERS[service]}`),
  };
}

export function perService<Value>(value: (service: Service) => Value): Record<Service, Value> {
  return Object.fromEntries(SERVICES.map((service) => [service, value(service)])) as Record<Service, Value>;
}
