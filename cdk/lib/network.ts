/** The network that pods, front door and load balancer share. */

import { Duration, Fn, RemovalPolicy, type Stack } from 'aws-cdk-lib';
import * as ec2 from 'aws-cdk-lib/aws-ec2';
import * as elb from 'aws-cdk-lib/aws-elasticloadbalancingv2';
import * as iam from 'aws-cdk-lib/aws-iam';
import * as logs from 'aws-cdk-lib/aws-logs';
import * as route53 from 'aws-cdk-lib/aws-route53';
import { LoadBalancerTarget } from 'aws-cdk-lib/aws-route53-targets';

import { type Configuration, names } from './configuration';
import { acknowledge } from './findings';
import { HEALTH_PORT, HTTPS_PORT } from './kubernetes/pods';
import { SERVICES, type Service } from './release';

/** All addresses of the network. */
export const NETWORK = '10.0.0.0/16';

/** Three zones with one machine each: two pods of a service run in two zones, even if one is lost. */
const ZONES = 3;

/** The load balancer's port for each service. One load balancer for both, because each one is charged. */
const LISTENERS: Readonly<Record<Service, number>> = { signer: 8443, 'key-generator': 8444 };

export function network(stack: Stack, configuration: Configuration): ec2.Vpc {
  const log = new logs.LogGroup(stack, 'FlowLog', {
    retention: logs.RetentionDays.ONE_MONTH,
    removalPolicy: RemovalPolicy.DESTROY,
  });
  // Resolved when the stack is deployed: otherwise synthesis needs credentials.
  Object.defineProperty(stack, 'availabilityZones', {
    value: Array.from({ length: ZONES }, (_, zone) => Fn.select(zone, Fn.getAzs(configuration.region))),
  });
  const vpc = new ec2.Vpc(stack, 'Vpc', {
    vpcName: names(configuration).of('vpc'),
    ipAddresses: ec2.IpAddresses.cidr(NETWORK),
    maxAzs: ZONES,
    // Only for images and charts of public registries: the services that enclaves and pods call have endpoints here.
    natGateways: 1,
    subnetConfiguration: [
      { name: 'public', subnetType: ec2.SubnetType.PUBLIC, cidrMask: 24, mapPublicIpOnLaunch: false },
      { name: 'private', subnetType: ec2.SubnetType.PRIVATE_WITH_EGRESS, cidrMask: 20 },
    ],
    restrictDefaultSecurityGroup: false,
    flowLogs: {
      rejected: {
        destination: ec2.FlowLogDestination.toCloudWatchLogs(log),
        trafficType: ec2.FlowLogTrafficType.REJECT,
      },
    },
  });
  endpoints(vpc, configuration);
  return vpc;
}

function endpoints(vpc: ec2.Vpc, { account }: Configuration): void {
  const ownAccount = () =>
    new iam.PolicyStatement({
      principals: [new iam.AnyPrincipal()],
      actions: ['*'],
      resources: ['*'],
      conditions: { StringEquals: { 'aws:PrincipalAccount': account } },
    });
  vpc.addGatewayEndpoint('S3', { service: ec2.GatewayVpcEndpointAwsService.S3 });
  // Admits credentials of this account only: a session of another account cannot carry data out.
  vpc.addGatewayEndpoint('Dynamodb', { service: ec2.GatewayVpcEndpointAwsService.DYNAMODB }).addToPolicy(ownAccount());
  const group = new ec2.SecurityGroup(vpc, 'Endpoints', {
    vpc,
    description: 'Endpoints of AWS services',
    allowAllOutbound: false,
  });
  group.addIngressRule(ec2.Peer.ipv4(NETWORK), ec2.Port.tcp(443), 'From the network');
  const endpoint = (id: string, service: ec2.InterfaceVpcEndpointAwsService) =>
    vpc.addInterfaceEndpoint(id, { service, securityGroups: [group], open: false });
  endpoint('Kms', ec2.InterfaceVpcEndpointAwsService.KMS).addToPolicy(ownAccount());
  const services = {
    Sts: ec2.InterfaceVpcEndpointAwsService.STS,
    Logs: ec2.InterfaceVpcEndpointAwsService.CLOUDWATCH_LOGS,
    EcrApi: ec2.InterfaceVpcEndpointAwsService.ECR,
    EcrDkr: ec2.InterfaceVpcEndpointAwsService.ECR_DOCKER,
    Ec2: ec2.InterfaceVpcEndpointAwsService.EC2,
    LoadBalancing: ec2.InterfaceVpcEndpointAwsService.ELASTIC_LOAD_BALANCING,
    EksAuth: ec2.InterfaceVpcEndpointAwsService.EKS_AUTH,
    Ssm: ec2.InterfaceVpcEndpointAwsService.SSM,
    SsmMessages: ec2.InterfaceVpcEndpointAwsService.SSM_MESSAGES,
  };
  Object.entries(services).forEach(([id, service]) => endpoint(id, service));
}

/** The entrance between front door and pods: TCP is passed through, TLS ends in the pods. */
export interface Entrance {
  /** The front door's security group, the only one that the load balancer admits. */
  readonly frontDoorSecurityGroup: ec2.SecurityGroup;
  readonly targetGroups: Readonly<Record<Service, elb.NetworkTargetGroup>>;
  readonly urls: Readonly<Record<Service, string>>;
}

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
  vpc: ec2.IVpc,
  pods: ec2.ISecurityGroup,
  configuration: Configuration,
): Entrance {
  const group = (id: string, description: string) =>
    new ec2.SecurityGroup(stack, id, { vpc, description, allowAllOutbound: false });
  const frontDoor = group('FrontDoorGroup', 'The front door: calls the load balancer and nothing else');
  const balancing = group('LoadBalancerGroup', 'The load balancer: admits the front door alone');
  const balancer = new elb.NetworkLoadBalancer(stack, 'LoadBalancer', {
    vpc,
    vpcSubnets: { subnetType: ec2.SubnetType.PRIVATE_WITH_EGRESS },
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
    urls: perService((service) => `https://${host(service, configuration)}:${LISTENERS[service]}`),
  };
}

export function perService<Value>(value: (service: Service) => Value): Record<Service, Value> {
  return Object.fromEntries(SERVICES.map((service) => [service, value(service)])) as Record<Service, Value>;
}
