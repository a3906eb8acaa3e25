import assert from 'node:assert/strict';
import { test } from 'node:test';

import type { Environment } from '../lib/configuration';
import { range } from '../lib/configuration/cidr';
import { ofType, type Resources, stacks } from './stacks';

const EXISTING: Environment = {
  CDK_VPC_ID: 'vpc-0123456789abcdef0',
  CDK_VPC_CIDR: '10.20.0.0/16',
  CDK_ZONES: 'eu-central-1a,eu-central-1b',
  CDK_VPC_SUBNETS: 'subnet-00000000000000001,subnet-00000000000000002',
  CDK_VPC_LOAD_BALANCER_SUBNETS: 'subnet-0000000000000000a,subnet-0000000000000000b',
  CDK_VPC_LOAD_BALANCER_CIDRS: '10.20.9.0/28,10.20.9.16/28',
};

type Plain = ReturnType<typeof JSON.parse>;

interface Case {
  readonly name: string;
  readonly size: string;
  readonly own: boolean;
  readonly architecture: string;
  /** Cluster and application. */
  readonly resources: Resources;
}

const CASES: readonly Case[] = ['default', 'small'].flatMap((size) =>
  [true, false].flatMap((own) =>
    ['amd64', 'arm64'].map((architecture) => {
      const all = stacks('eks', {
        CDK_SIZE: size,
        CDK_TARGET_ARCHITECTURE: `linux/${architecture}`,
        ...(own ? {} : EXISTING),
      });
      const [cluster, application] = ['cluster', 'application'].map((of) => all.get(`dev-cloister-${of}`));
      return {
        name: `${size}, ${own ? 'own' : 'existing'} network, ${architecture}`,
        size,
        own,
        architecture,
        resources: { ...cluster, ...application },
      };
    }),
  ),
);

for (const { name, size, own, architecture, resources } of CASES) {
  const properties = (type: string): Plain[] => ofType(resources, type).map(([, { Properties }]) => Properties);

  test(`${name}: no address that pods admit or call belongs to anything but the load balancer or endpoints`, () => {
    const subnets = subnetsOf(resources);
    // Whoever has an interface in a subnet: everything that names one, except the subnet's own parts.
    const users = [...subnets.keys()].map((subnet) => ({
      subnet,
      types: new Set(
        Object.values(resources)
          .filter(({ Type }) => !/RouteTable|::Route$|::VPC$|::Subnet$/.test(Type))
          .filter(({ Properties }) => JSON.stringify(Properties).includes(subnet))
          .map(({ Type }) => Type),
      ),
    }));
    const inside = (cidrs: readonly string[]) =>
      users.filter(({ subnet }) => cidrs.some((cidr) => overlap(cidr, subnets.get(subnet) ?? '')));
    const policies = networkPolicies(resources);
    const ingress = blocks(policies.flatMap(({ spec }) => spec.ingress ?? []));
    assert.equal(new Set(ingress).size, size === 'small' || !own ? 2 : 3);
    const admitted = inside(ingress);
    assert.equal(admitted.length, new Set(ingress).size);
    for (const { subnet, types } of admitted) {
      assert.deepEqual([...types], ['AWS::ElasticLoadBalancingV2::LoadBalancer'], subnet);
    }
    const egress = blocks(policies.flatMap(({ spec }) => spec.egress ?? []));
    if (own) {
      const called = inside(egress);
      assert.equal(called.length, size === 'small' ? 2 : 3);
      for (const { subnet, types } of called) {
        assert.deepEqual([...types], ['AWS::EC2::VPCEndpoint'], subnet);
      }
    }
    // No rule reaches the internet or a machine's credentials.
    for (const cidr of egress) {
      assert.ok(!overlap(cidr, '169.254.169.254/32') && range(cidr).length >= 16, cidr);
    }
  });

  test(`${name}: pods reach DynamoDB at the addresses that AWS publishes`, () => {
    const manifests = properties('Custom::AWSCDK-EKS-KubernetesResource').filter(({ Manifest }) =>
      JSON.stringify(Manifest).includes('Addresses'),
    );
    assert.equal(manifests.length, 1);
    const [before, addresses, behind] = manifests[0].Manifest['Fn::Join'][1];
    assert.deepEqual(addresses, { 'Fn::GetAtt': ['Published', 'Addresses'] });
    const [policy] = JSON.parse(`${before}[{"ipBlock":{"cidr":"52.94.0.0/22"}}]${behind}`);
    assert.deepEqual(policy.spec.egress, [
      { to: [{ ipBlock: { cidr: '52.94.0.0/22' } }], ports: [{ protocol: 'TCP', port: 443 }] },
    ]);
    assert.equal(properties('Custom::Published')[0].PrefixList, 'com.amazonaws.eu-central-1.dynamodb');
    // Others are noticed within a day.
    const [check] = properties('AWS::Events::Rule').filter(({ Targets }) =>
      JSON.stringify(Targets).includes('AddressesDigest'),
    );
    assert.equal(check.ScheduleExpression, 'rate(1 day)');
    const [function_] = ofType(resources, 'AWS::Lambda::Function').filter(([id]) =>
      JSON.stringify(check.Targets[0].Arn).includes(`"${id}"`),
    );
    const watched = properties('AWS::CloudWatch::Alarm').filter(
      ({ MetricName, Dimensions = [] }) =>
        MetricName === 'Errors' && Dimensions[0]?.Value === function_?.[1].Properties['FunctionName'],
    );
    assert.equal(watched.length, 1);
  });

  test(`${name}: the load balancer is internal, admits the front door alone, and calls pods`, () => {
    const [balancer] = properties('AWS::ElasticLoadBalancingV2::LoadBalancer');
    assert.deepEqual([balancer.Type, balancer.Scheme], ['network', 'internal']);
    assert.deepEqual(
      properties('AWS::ElasticLoadBalancingV2::Listener')
        .map(({ Port, Protocol }) => [Port, Protocol])
        .sort(),
      [
        [8443, 'TCP'],
        [8444, 'TCP'],
      ],
    );
    for (const target of properties('AWS::ElasticLoadBalancingV2::TargetGroup')) {
      assert.deepEqual(
        [target.TargetType, target.Port, target.HealthCheckPort, target.HealthCheckPath],
        ['ip', 8443, '8080', '/readyz'],
      );
    }
    const ingress = properties('AWS::EC2::SecurityGroupIngress');
    const intoBalancer = ingress.filter(({ GroupId }) => JSON.stringify(GroupId).includes('LoadBalancerGroup'));
    assert.deepEqual(intoBalancer.map(({ FromPort }) => FromPort).sort(), [8443, 8444]);
    assert.ok(
      intoBalancer.every(({ SourceSecurityGroupId }) =>
        JSON.stringify(SourceSecurityGroupId).includes('FrontDoorGroup'),
      ),
    );
    const intoPods = ingress.filter(({ GroupId }) => JSON.stringify(GroupId).includes('ClusterSecurityGroupId'));
    assert.deepEqual(intoPods.map(({ FromPort }) => FromPort).sort(), [8080, 8443]);
    assert.ok(
      intoPods.every(({ SourceSecurityGroupId }) =>
        JSON.stringify(SourceSecurityGroupId).includes('LoadBalancerGroup'),
      ),
    );
    const inline = properties('AWS::EC2::SecurityGroup').flatMap(
      ({ SecurityGroupIngress = [] }) => SecurityGroupIngress,
    );
    assert.ok([...inline, ...ingress].every(({ CidrIp }) => CidrIp !== '0.0.0.0/0'));
  });

  test(`${name}: machines of the configured number and type are in their subnets`, () => {
    const [group] = properties('AWS::EKS::Nodegroup');
    const count = size === 'small' ? 2 : 3;
    assert.deepEqual(group.ScalingConfig, { MinSize: count, DesiredSize: count, MaxSize: 2 * count });
    assert.deepEqual(group.InstanceTypes, [architecture === 'arm64' ? 'm7g.2xlarge' : 'm6i.2xlarge']);
    assert.equal(group.Subnets.length, own && size === 'default' ? 3 : 2);
    const [cluster] = properties('AWS::EKS::Cluster');
    assert.deepEqual(cluster.ResourcesVpcConfig.SubnetIds, group.Subnets);
    const replicas = size === 'small' ? 1 : 2;
    const deployments = properties('Custom::AWSCDK-EKS-KubernetesResource')
      .map(({ Manifest }) => JSON.stringify(Manifest).replaceAll('\\', ''))
      .filter((manifest) => manifest.includes('"kind":"Deployment"'));
    assert.equal(deployments.length, 2);
    for (const deployment of deployments) {
      assert.ok(deployment.includes(`"replicas":${replicas},`), deployment);
    }
  });

  test(`${name}: endpoints are those of the size, and admit the machines’ subnets alone`, () => {
    const endpoints = properties('AWS::EC2::VPCEndpoint').map(({ ServiceName, VpcEndpointType }) => [
      /\.([a-z0-9.-]+)("\]\]\})?"?$/.exec(JSON.stringify(ServiceName).replace('com.amazonaws.eu-central-1', ''))?.[1],
      VpcEndpointType,
    ]);
    const always = [
      ['dynamodb', 'Gateway'],
      ['kms', 'Interface'],
      ['s3', 'Gateway'],
      ['secretsmanager', 'Interface'],
    ];
    const default_ = ['ecr.api', 'ecr.dkr', 'eks-auth', 'logs'].map((service) => [service, 'Interface']);
    assert.deepEqual(endpoints.sort(), !own ? [] : size === 'small' ? always : [...always, ...default_].sort());
    if (!own) {
      return;
    }
    for (const service of ['kms', 'secretsmanager', 'dynamodb']) {
      const [found] = properties('AWS::EC2::VPCEndpoint').filter(({ ServiceName }) =>
        JSON.stringify(ServiceName).includes(`.${service}"`),
      );
      assert.deepEqual(found.PolicyDocument.Statement[0].Condition, {
        StringEquals: { 'aws:PrincipalAccount': '123456789012' },
      });
    }
    const [group] = properties('AWS::EC2::SecurityGroup').filter(
      ({ GroupDescription }) => GroupDescription === 'Endpoints of AWS services',
    );
    assert.deepEqual(
      group.SecurityGroupIngress.map(({ CidrIp, FromPort }: Plain) => [CidrIp, FromPort]),
      ofType(resources, 'AWS::EC2::Subnet')
        .filter(([id]) => id.includes('machines'))
        .map(([, { Properties }]) => [Properties['CidrBlock'], 443]),
    );
  });

  test(`${name}: the default security group of a new network is closed, and nobody else’s`, () => {
    const closed = properties('Custom::ClosedSecurityGroup').map(({ GroupId }) => JSON.stringify(GroupId));
    const vpcs = ofType(resources, 'AWS::EC2::VPC').map(([id]) => id);
    assert.deepEqual(
      closed,
      vpcs.map((id) => JSON.stringify({ 'Fn::GetAtt': [id, 'DefaultSecurityGroup'] })),
    );
    assert.equal(vpcs.length, own ? 1 : 0);
  });

  test(`${name}: pods of a release start after the rules that know it`, () => {
    const rules = ofType(resources, 'AWS::Events::Rule')
      .filter(([, { Properties }]) => JSON.stringify(Properties).includes('attestationDocumentEnclaveImageDigest'))
      .map(([id]) => id);
    assert.ok(rules.length > 0);
    const deployments = ofType(resources, 'Custom::AWSCDK-EKS-KubernetesResource').filter(([, { Properties }]) =>
      JSON.stringify(Properties).replaceAll('\\', '').includes('"kind":"Deployment"'),
    );
    assert.equal(deployments.length, 2);
    for (const [id] of deployments) {
      const before = transitively(resources, id);
      assert.deepEqual(
        rules.filter((rule) => !before.has(rule)),
        [],
      );
    }
  });
}

test('zones are chosen by name or by id, and those without a control plane of EKS are not chosen', () => {
  const zones = (environment: Environment) => {
    const cluster = stacks('eks', environment).get('dev-cloister-cluster') ?? {};
    const found = ofType(cluster, 'AWS::EC2::Subnet').map(([, { Properties }]) => [
      Properties['AvailabilityZone'],
      Properties['AvailabilityZoneId'],
    ]);
    return [...new Set(found.map((zone) => JSON.stringify(zone)))].map((zone) => JSON.parse(zone));
  };
  assert.deepEqual(zones({ CDK_ZONES: 'eu-central-1b,eu-central-1c' }), [
    ['eu-central-1b', null],
    ['eu-central-1c', null],
  ]);
  assert.deepEqual(zones({ CDK_ZONES: 'euc1-az3,euc1-az1,euc1-az2' }), [
    [null, 'euc1-az3'],
    [null, 'euc1-az1'],
    [null, 'euc1-az2'],
  ]);
  assert.deepEqual(
    zones({}),
    [0, 1, 2].map((zone) => [{ 'Fn::Select': [zone, { 'Fn::GetAZs': 'eu-central-1' }] }, null]),
  );
  for (const region of ['us-east-1', 'us-west-1', 'ca-central-1']) {
    for (const [name, id] of zones({ CDK_DEPLOY_REGION: region })) {
      assert.equal(name, null);
      assert.ok(!['use1-az3', 'usw1-az2', 'cac1-az3'].includes(id), id);
    }
  }
});

test('subnets of a new network do not overlap and fill its range, whatever its size', () => {
  for (const cidr of ['10.0.0.0/16', '172.16.64.0/18', '192.168.16.0/20']) {
    const cluster = stacks('eks', { CDK_VPC_CIDR: cidr }).get('dev-cloister-cluster') ?? {};
    const subnets = ofType(cluster, 'AWS::EC2::Subnet').map(([, { Properties }]) => String(Properties['CidrBlock']));
    assert.equal(subnets.length, 12);
    subnets.forEach((one, index) => {
      assert.ok(overlap(one, cidr), one);
      assert.deepEqual(
        subnets.slice(index + 1).filter((other) => overlap(one, other)),
        [],
      );
    });
  }
});

test('machines and pods of ECS have the same networks', () => {
  for (const environment of [{}, EXISTING]) {
    const resources = stacks('ecs', environment).get('dev-cloister-ecs') ?? {};
    const subnets = [...subnetsOf(resources).keys()];
    const named = (type: string, kind: RegExp) =>
      ofType(resources, type).map(([, { Properties }]) => {
        const used = subnets.filter((subnet) => JSON.stringify(Properties).includes(subnet));
        assert.ok(used.length > 0 && used.every((subnet) => kind.test(subnet)), `${type}: ${used}`);
      }).length;
    assert.equal(named('AWS::ElasticLoadBalancingV2::LoadBalancer', /loadbalancer|subnet-0+[ab]$/), 1);
    assert.equal(named('AWS::AutoScaling::AutoScalingGroup', /machines|subnet-0+[12]$/), 1);
    assert.equal(named('AWS::ECS::Service', /machines|subnet-0+[12]$/), 2);
  }
});

/** Every subnet's identifier in the templates, and its range. */
function subnetsOf(resources: Resources): ReadonlyMap<string, string> {
  const own = ofType(resources, 'AWS::EC2::Subnet').map(
    ([id, { Properties }]) => [`"${id}"`, String(Properties['CidrBlock'])] as const,
  );
  if (own.length > 0) {
    return new Map(own);
  }
  const list = (name: string) => (EXISTING[name] ?? '').split(',');
  const cidrs = list('CDK_VPC_LOAD_BALANCER_CIDRS');
  return new Map([
    ...list('CDK_VPC_SUBNETS').map((id, index) => [id, `10.20.${16 * (index + 1)}.0/20`] as const),
    ...list('CDK_VPC_LOAD_BALANCER_SUBNETS').map((id, index) => [id, cidrs[index] ?? ''] as const),
  ]);
}

function networkPolicies(resources: Resources): Plain[] {
  return ofType(resources, 'Custom::AWSCDK-EKS-KubernetesResource')
    .map(([, { Properties }]) => Properties['Manifest'])
    .filter((manifest) => typeof manifest === 'string')
    .flatMap((manifest) => JSON.parse(manifest))
    .filter(({ kind }) => kind === 'NetworkPolicy');
}

function blocks(rules: Plain[]): string[] {
  return rules.flatMap(({ from, to }) => from ?? to).flatMap(({ ipBlock }: Plain) => ipBlock?.cidr ?? []);
}

function overlap(one: string, other: string): boolean {
  const [a, b] = [range(one), range(other)];
  const mask = (a.mask & b.mask) >>> 0;
  return (a.first & mask) >>> 0 === (b.first & mask) >>> 0;
}

/** What a resource depends on, directly or not, by its template. */
function transitively(resources: Resources, of: string, found = new Set<string>()): ReadonlySet<string> {
  const text = JSON.stringify(resources[of]);
  for (const id of Object.keys(resources)) {
    if (!found.has(id) && id !== of && text.includes(`"${id}"`)) {
      found.add(id);
      transitively(resources, id, found);
    }
  }
  return found;
}
