import assert from 'node:assert/strict';
import { test } from 'node:test';
import { gunzipSync } from 'node:zlib';

import { App, Stack } from 'aws-cdk-lib';
import { Match, Template } from 'aws-cdk-lib/assertions';

import { clusterStack } from '../lib/cluster';
import type { Configuration } from '../lib/configuration';
import { seccompProfile } from '../lib/kubernetes/seccomp';
import { INSTANCE_TYPES } from '../lib/nodes';
import { readReleases, type Releases, SERVICES } from '../lib/release';
import { workloads } from '../lib/workloads';
import { withContainers } from './containers';
import { configured, deployment, writeImages } from './fixture';

function cluster({ configuration, releases }: { configuration: Configuration; releases: Releases } = deployment()) {
  return clusterStack(new App(), configuration, releases);
}

const [amd64, arm64] = (['amd64', 'arm64'] as const).map((architecture) =>
  Template.fromStack(cluster(deployment({ CDK_TARGET_ARCHITECTURE: `linux/${architecture}` })).stack),
) as [Template, Template];
const templates = { amd64, arm64 };

/** The machines' user data, with the shell script decoded. */
function userData(template: Template): string {
  const [launch] = Object.values(template.findResources('AWS::EC2::LaunchTemplate'));
  return JSON.stringify(launch?.['Properties'].LaunchTemplateData.UserData['Fn::Base64'])
    .replaceAll('\\n', '\n')
    .replaceAll('\\"', '"');
}

test('machines can start enclaves of the configured architecture, and pods cannot get their credentials', () => {
  for (const [architecture, ami] of [
    ['amd64', 'AL2023_x86_64_STANDARD'],
    ['arm64', 'AL2023_ARM_64_STANDARD'],
  ] as const) {
    const template = templates[architecture];
    template.hasResourceProperties('AWS::EKS::Nodegroup', {
      AmiType: ami,
      InstanceTypes: [INSTANCE_TYPES[architecture].name],
      Labels: { 'aws-nitro-enclaves-k8s-dp': 'enabled' },
      ScalingConfig: { MinSize: 3, DesiredSize: 3 },
      RemoteAccess: Match.absent(),
    });
    template.hasResourceProperties('AWS::EC2::LaunchTemplate', {
      LaunchTemplateData: {
        EnclaveOptions: { Enabled: true },
        MetadataOptions: { HttpTokens: 'required', HttpPutResponseHopLimit: 1 },
        KeyName: Match.absent(),
        BlockDeviceMappings: [Match.objectLike({ Ebs: Match.objectLike({ Encrypted: true }) })],
      },
    });
  }
});

test('lines reach CloudWatch unchanged, in an existing log group', () => {
  const addons = Object.values(
    amd64.findResources('AWS::EKS::Addon', { Properties: { AddonName: 'amazon-cloudwatch-observability' } }),
  );
  assert.equal(addons.length, 1);
  const files = JSON.parse(addons[0]?.['Properties'].ConfigurationValues).containerLogs.fluentBit.config.extraFiles;
  const lines: string = files['application-log.conf'];
  // Otherwise the embedded metric format is a string within a record, from which CloudWatch makes no metrics.
  assert.match(lines, /^ +log_key +log$/m);
  assert.match(lines, /^ +log_format +json\/emf$/m);
  // Fluent Bit expands these variables, not the shell that runs synthesis.
  for (const variable of ['READ_FROM_HEAD', 'AWS_REGION', 'CLUSTER_NAME', 'HOST_NAME']) {
    assert.ok(lines.includes(`\${${variable}}`), variable);
  }
  const [cluster] = Object.values(amd64.findResources('AWS::EKS::Cluster'));
  amd64.hasResourceProperties('AWS::Logs::LogGroup', {
    LogGroupName: `/aws/containerinsights/${cluster?.['Properties'].Name}/application`,
  });
});

test('a machine reserves its enclaves’ resources before its kubelet starts, and keeps a core', () => {
  const script = userData(amd64);
  assert.match(script, /memory_mib: 768\ncpu_count: 6\n/);
  assert.match(script, /Before=kubelet.service/);
  assert.match(script, /echo 384 > "\$sizes\/hugepages-2048kB\/nr_hugepages"/);
  assert.match(script, /groupadd --gid 10002 ne\n/);
  assert.match(script, /systemctl enable --now nitro-enclaves-allocator.service/);
  for (const { cpus, memoryMib } of Object.values(INSTANCE_TYPES)) {
    assert.ok(cpus - 6 >= 2 && memoryMib > 4 * 768);
  }
});

test('a machine gets the seccomp profile, and its user data stays within the limit of EC2', () => {
  for (const architecture of ['amd64', 'arm64'] as const) {
    const script = userData(templates[architecture]);
    const [, packed = '', file] = /base64 --decode <<< (\S+) \| gunzip > ([\w./]+)/.exec(script) ?? [];
    assert.equal(file, '/var/lib/kubelet/seccomp/cloister.json');
    assert.deepEqual(JSON.parse(gunzipSync(Buffer.from(packed, 'base64')).toString()), seccompProfile(architecture));
    // EKS adds the cluster's certificate and address, within the limit of 16 KiB.
    assert.ok(script.length < 10_000, String(script.length));
  }
});

test('the cluster is reached from its network alone, logs, and keeps its own machines', () => {
  amd64.hasResourceProperties('AWS::EKS::Cluster', {
    Name: 'dev-cloister-cluster',
    Version: '1.36',
    ResourcesVpcConfig: Match.objectLike({ EndpointPublicAccess: false, EndpointPrivateAccess: true }),
    ComputeConfig: Match.objectLike({ Enabled: false }),
    Logging: { ClusterLogging: { EnabledTypes: Match.arrayWith([{ Type: 'audit' }]) } },
  });
  for (const group of [
    '/aws/eks/dev-cloister-cluster/cluster',
    '/aws/containerinsights/dev-cloister-cluster/application',
  ]) {
    amd64.hasResource('AWS::Logs::LogGroup', {
      Properties: { LogGroupName: group, RetentionInDays: 90 },
      DeletionPolicy: 'Delete',
    });
  }
});

test('services that pods and enclaves call have endpoints in the network', () => {
  const endpoints = Object.values(amd64.findResources('AWS::EC2::VPCEndpoint')).map(({ Properties }) =>
    JSON.stringify(Properties.ServiceName),
  );
  for (const service of [
    'kms',
    'sts',
    'logs',
    'ecr.api',
    'ecr.dkr',
    'ec2',
    'elasticloadbalancing',
    'eks-auth',
    'ssm',
    'ssmmessages',
    's3',
    'dynamodb',
  ]) {
    assert.ok(
      endpoints.some((name) => name.endsWith(`.${service}"`) || name.endsWith(`.${service}"]]}`)),
      `${service} in ${endpoints}`,
    );
  }
  amd64.hasResourceProperties('AWS::EC2::VPCEndpoint', {
    ServiceName: 'com.amazonaws.eu-central-1.kms',
    PolicyDocument: {
      Statement: [Match.objectLike({ Condition: { StringEquals: { 'aws:PrincipalAccount': '123456789012' } } })],
    },
  });
});

test('service accounts get the roles that the images measure, by name', () => {
  for (const service of ['signer', 'key-generator']) {
    amd64.hasResourceProperties('AWS::EKS::PodIdentityAssociation', {
      Namespace: 'cloister',
      ServiceAccount: service,
      RoleArn: `arn:aws:iam::123456789012:role/dev-cloister-${service}`,
    });
  }
});

test('the load balancer is internal, passes TCP through and admits the front door alone', () => {
  amd64.hasResourceProperties('AWS::ElasticLoadBalancingV2::LoadBalancer', { Type: 'network', Scheme: 'internal' });
  for (const Port of [8443, 8444]) {
    amd64.hasResourceProperties('AWS::ElasticLoadBalancingV2::Listener', { Port, Protocol: 'TCP' });
  }
  amd64.resourcePropertiesCountIs(
    'AWS::ElasticLoadBalancingV2::TargetGroup',
    { TargetType: 'ip', Port: 8443, HealthCheckPort: '8080', HealthCheckPath: '/readyz' },
    2,
  );
  const ingress = Object.values(amd64.findResources('AWS::EC2::SecurityGroupIngress'));
  const intoBalancer = ingress.filter(({ Properties }) =>
    JSON.stringify(Properties.GroupId).includes('LoadBalancerGroup'),
  );
  assert.deepEqual(intoBalancer.map(({ Properties }) => Properties.FromPort).sort(), [8443, 8444]);
  assert.ok(
    intoBalancer.every(({ Properties }) => JSON.stringify(Properties.SourceSecurityGroupId).includes('FrontDoorGroup')),
  );
  const groups = Object.values(amd64.findResources('AWS::EC2::SecurityGroup')).flatMap(
    ({ Properties }) => Properties.SecurityGroupIngress ?? [],
  );
  assert.ok(![...groups, ...ingress.map(({ Properties }) => Properties)].some(({ CidrIp }) => CidrIp === '0.0.0.0/0'));
});

test('the services have names in a private zone, which their certificates have', () => {
  amd64.hasResourceProperties('AWS::Route53::HostedZone', { Name: 'dev-cloister.internal.' });
  for (const service of ['signer', 'key-generator']) {
    amd64.hasResourceProperties('AWS::Route53::RecordSet', { Name: `${service}.dev-cloister.internal.`, Type: 'A' });
  }
  assert.ok(
    JSON.stringify(amd64.findResources('Custom::AWSCDK-EKS-KubernetesResource')).includes(
      'signer.dev-cloister.internal',
    ),
  );
});

test('charts are pinned', () => {
  const charts = Object.values(amd64.findResources('Custom::AWSCDK-EKS-HelmChart')).map(({ Properties }) => [
    Properties.Chart,
    Properties.Version,
  ]);
  assert.deepEqual(charts.sort(), [
    ['aws-load-balancer-controller', '3.2.2'],
    ['cert-manager', 'v1.21.2'],
  ]);
});

test('a release is bound to the load balancer before its pods exist, and awaited', () => {
  const { template, id, urls } = applied(deployment());
  assert.deepEqual(urls, {
    signer: 'https://signer.dev-cloister.internal:8443',
    'key-generator': 'https://key-generator.dev-cloister.internal:8444',
  });
  const depends = (of: string) => template.toJSON()['Resources'][of].DependsOn as string[];
  for (const service of SERVICES) {
    assert.ok(depends(id('TargetGroupBinding', service)).includes(id('Service', service)));
    assert.ok(depends(id('Deployment', service)).includes(id('TargetGroupBinding', service)));
    assert.ok(depends(id('available', service)).includes(id('Deployment', service)));
  }
});

test('the next release gets Deployments of its own, and the traffic', () => {
  const first = deployment();
  const images = writeImages(first.configuration, { version: 'two' });
  const configuration = configured({
    CDK_IMAGES: first.configuration.images,
    CDK_NEXT_IMAGES: images,
    CDK_NEXT_UNTIL: '2026-12-10',
  });
  const releases = readReleases(configuration);
  const { template } = applied({ configuration, releases });
  const manifests = Object.values(template.findResources('Custom::AWSCDK-EKS-KubernetesResource')).map(
    ({ Properties }) => JSON.stringify(Properties.Manifest),
  );
  for (const service of SERVICES) {
    const named = (kind: string, release = releases.next) =>
      manifests.filter(
        (manifest) =>
          manifest.includes(`${kind}\\\",`) &&
          manifest.includes(`${service}-${release?.images[service].pcr0.slice(0, 12)}`),
      ).length;
    assert.deepEqual([named('Deployment'), named('Deployment', releases.release)], [1, 1]);
    assert.deepEqual([named('TargetGroupBinding'), named('TargetGroupBinding', releases.release)], [1, 0]);
  }
});

function applied(given: { configuration: Configuration; releases: Releases }) {
  const { configuration, releases } = withContainers(given);
  const app = new App();
  const cluster = clusterStack(app, configuration, releases);
  const stack = new Stack(app, 'application', { env: configuration });
  workloads(stack, cluster, configuration, releases, {
    cmkArn: 'arn:aws:kms:eu-central-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab',
  });
  const template = Template.fromStack(stack);
  const resources = {
    ...template.findResources('Custom::AWSCDK-EKS-KubernetesResource'),
    ...template.findResources('Custom::AWSCDK-EKS-KubernetesObjectValue'),
  };
  const id = (kind: string, service: string) => {
    const [found] =
      Object.entries(resources).find(([, { Type, Properties }]) =>
        kind === 'available'
          ? Type.endsWith('ObjectValue') && Properties.ObjectName.startsWith(service)
          : JSON.stringify(Properties.Manifest ?? '').includes(
              `${kind}\\\",\\\"metadata\\\":{\\\"name\\\":\\\"${service}-`,
            ),
      ) ?? [];
    return found ?? assert.fail(`no ${kind} of ${service}`);
  };
  return { template, id, urls: cluster.urls };
}
