import assert from 'node:assert/strict';
import { test } from 'node:test';
import { gunzipSync } from 'node:zlib';

import { App, Stack } from 'aws-cdk-lib';
import { Match, Template } from 'aws-cdk-lib/assertions';

import { ADD_ONS } from '../lib/add-ons';
import { clusterStack } from '../lib/cluster';
import type { Configuration, Environment } from '../lib/configuration';
import { DEFAULT_MACHINE_TYPE } from '../lib/configuration/machine-types';
import { seccompProfile } from '../lib/kubernetes/seccomp';
import { readReleases, type Release, type Releases, type Service, SERVICES } from '../lib/release';
import { workloads } from '../lib/workloads';
import { withContainers } from './containers';
import { configured, deployment, writeImages } from './fixture';
import { ofType, stacks } from './stacks';

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
      InstanceTypes: [DEFAULT_MACHINE_TYPE[architecture]],
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
  // Both are in the log of the data plane.
  assert.match(lines, /^ +Exclude_Path +\/var\/log\/containers\/aws-node\*, \/var\/log\/containers\/kube-proxy\*$/m);
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
  amd64.hasResource('AWS::Logs::LogGroup', {
    Properties: { LogGroupName: '/aws/containerinsights/dev-cloister-cluster/application', RetentionInDays: 90 },
    DeletionPolicy: 'Delete',
  });
});

test('a cluster that was destroyed can be deployed again, though EKS makes its log group anew', () => {
  const name = '/aws/eks/dev-cloister-cluster/cluster';
  const groups = Object.values(amd64.findResources('AWS::Logs::LogGroup'));
  assert.ok(groups.every(({ Properties }) => Properties.LogGroupName !== name));
  amd64.hasResourceProperties('Custom::LogGroup', { Name: name, RetentionInDays: 90 });
  const [cluster] = Object.values(amd64.findResources('AWS::EKS::Cluster'));
  const [log] = Object.keys(amd64.findResources('Custom::LogGroup'));
  assert.ok(cluster?.['DependsOn'].includes(log));
});

test('machines can be replaced beside the present ones, because their group has no name', () => {
  amd64.hasResourceProperties('AWS::EKS::Nodegroup', { NodegroupName: Match.absent() });
});

test('machines and add-ons have versions, which change only if it is asked for', () => {
  const ofFunction = (attribute: string) => ({ 'Fn::GetAtt': ['Published', attribute] });
  amd64.hasResourceProperties('AWS::EKS::Nodegroup', { ReleaseVersion: ofFunction('AmiRelease') });
  const addons = Object.values(amd64.findResources('AWS::EKS::Addon')).map(({ Properties }) => Properties);
  assert.deepEqual(addons.map(({ AddonName }) => AddonName).sort(), [...ADD_ONS].sort());
  for (const { AddonName, AddonVersion } of addons) {
    assert.deepEqual(AddonVersion, ofFunction(AddonName.replaceAll('-', '')));
  }
  const published = (template: Template) =>
    Object.values(template.findResources('Custom::Published'))[0]?.['Properties'];
  assert.deepEqual(published(amd64).AddOns, ADD_ONS);
  assert.equal(published(amd64).Version, '1.36');
  assert.match(published(amd64).Ami, /\/1\.36\/amazon-linux-2023\/x86_64\/standard\/recommended\/release_version$/);
  assert.match(published(arm64).Ami, /\/1\.36\/amazon-linux-2023\/arm64\/standard\/recommended\/release_version$/);
});

test('with another CDK_RENEW, every object is applied again, and all that was read is read again', () => {
  const types = [
    'Custom::Published',
    'Custom::AWSCDK-EKS-KubernetesObjectValue',
    'Custom::AWSCDK-EKS-KubernetesResource',
  ];
  const all = (environment: Environment) => {
    const of = stacks('eks', environment);
    return ['cluster', 'application'].flatMap((stack) =>
      Object.entries(of.get(`dev-cloister-${stack}`) ?? {}).filter(([, { Type }]) => types.includes(Type)),
    );
  };
  const [before, after] = [all({}), new Map(all({ CDK_RENEW: '2027-01-31' }))];
  assert.deepEqual([...new Set(before.map(([, { Type }]) => Type))].sort(), [...types].sort());
  for (const [id, { Properties }] of before) {
    assert.deepEqual(after.get(id)?.Properties, { ...Properties, Renew: '2027-01-31' }, id);
  }
});

test('an update applies every object: each has the label by which kubectl selects them', () => {
  const all = stacks('eks');
  const applied = ['cluster', 'application'].flatMap((stack) =>
    ofType(all.get(`dev-cloister-${stack}`) ?? {}, 'Custom::AWSCDK-EKS-KubernetesResource'),
  );
  assert.ok(applied.length > 8);
  for (const [id, { Properties }] of applied) {
    const text = JSON.stringify(Properties['Manifest']).replaceAll('\\', '');
    const objects = text.split('"apiVersion"').length - 1;
    const label = Properties['PruneLabel'];
    assert.ok(label === undefined || text.split(`"${label}":""`).length - 1 >= objects, id);
  }
});

test('a container that asks for no seccomp profile gets the runtime’s default', () => {
  for (const template of [amd64, arm64]) {
    const [, config = ''] = /application\/node\.eks\.aws\n\n([^]*?)\n--/.exec(userData(template)) ?? [];
    assert.match(config, /^kind: NodeConfig$/m);
    assert.match(config, /^spec:\n  kubelet:\n    config:\n      seccompDefault: true$/m);
  }
});

test('the function that applies objects is the cluster’s administrator, and nobody else is', () => {
  amd64.hasResourceProperties('AWS::EKS::Cluster', {
    AccessConfig: { AuthenticationMode: 'API', BootstrapClusterCreatorAdminPermissions: false },
  });
  const entries = (template: Template) =>
    Object.values(template.findResources('AWS::EKS::AccessEntry')).map(({ Properties }) => Properties);
  const [administrator, ...others] = entries(amd64);
  assert.deepEqual(others, []);
  assert.match(JSON.stringify(administrator.PrincipalArn), /KubectlProviderHandlerServiceRole/);
  assert.match(JSON.stringify(administrator.AccessPolicies), /AmazonEKSClusterAdminPolicy/);

  const arns = ['arn:aws:iam::123456789012:role/operations', 'arn:aws:iam::123456789012:user/ada'];
  const withOperators = entries(Template.fromStack(cluster(deployment({ CDK_OPERATORS: arns.join(',') })).stack));
  assert.deepEqual(
    withOperators.flatMap(({ PrincipalArn, KubernetesGroups, AccessPolicies }) =>
      KubernetesGroups === undefined ? [] : [[PrincipalArn, KubernetesGroups, AccessPolicies]],
    ),
    arns.map((arn) => [arn, ['cloister-operators'], undefined]),
  );
});

test('the controller of load balancers may change the targets of the deployment, and nothing else', () => {
  const statements = Object.values(amd64.findResources('AWS::IAM::Policy'))
    .filter(({ Properties }) => JSON.stringify(Properties.Roles).includes('LoadBalancerControllerRole'))
    .flatMap(({ Properties }) => Properties.PolicyDocument.Statement);
  const changes = statements.filter(({ Action }) =>
    [Action].flat().some((action: string) => !/:Describe/.test(action)),
  );
  assert.deepEqual(
    changes.flatMap(({ Action }) => Action),
    ['elasticloadbalancing:DeregisterTargets', 'elasticloadbalancing:RegisterTargets'],
  );
  const groups = Object.keys(amd64.findResources('AWS::ElasticLoadBalancingV2::TargetGroup'));
  assert.deepEqual(
    changes.flatMap(({ Resource }) => Resource.map(({ Ref }: { Ref: string }) => Ref)).sort(),
    groups.sort(),
  );
  amd64.resourceCountIs('AWS::IAM::OIDCProvider', 0);
  amd64.resourceCountIs('Custom::AWSCDKOpenIdConnectProvider', 0);
  // No image of a fixed region.
  assert.ok(!JSON.stringify(amd64.findResources('Custom::AWSCDK-EKS-HelmChart')).includes('dkr.ecr'));
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
  const { template, id, ids, urls } = applied(deployment());
  assert.deepEqual(urls, {
    signer: 'https://signer.dev-cloister.internal:8443',
    'key-generator': 'https://key-generator.dev-cloister.internal:8444',
  });
  const depends = (of: string) => template.toJSON()['Resources'][of].DependsOn as string[];
  for (const service of SERVICES) {
    assert.ok(depends(id('TargetGroupBinding', service)).includes(id('Service', service)));
    assert.ok(depends(id('Deployment', service)).includes(id('TargetGroupBinding', service)));
    assert.equal(ids('available', service).length, 2);
    for (const awaited of ids('available', service)) {
      assert.ok(depends(awaited).includes(id('Deployment', service)));
    }
  }
});

test('an update with equal measurements is awaited: CloudFormation asks again, for the status of that revision', () => {
  const releases = deployment();
  const observed = (replicas: string) => {
    const { template } = applied({
      ...releases,
      configuration: { ...configured({ CDK_SIGNERS: replicas }), images: releases.configuration.images },
    });
    return Object.entries(template.findResources('Custom::AWSCDK-EKS-KubernetesObjectValue'));
  };
  const [before, after] = [observed('2'), observed('1')];
  const of = (service: Service) => (all: typeof before) =>
    all.filter(([, { Properties }]) => Properties.ObjectName.includes(`=${service}-`));
  assert.deepEqual(of('key-generator')(before), of('key-generator')(after));
  const signers = of('signer')(before);
  assert.deepEqual(signers.map(([, { Properties }]) => /reason=="(\w+)"/.exec(Properties.JsonPath)?.[1]).sort(), [
    'MinimumReplicasAvailable',
    'NewReplicaSetAvailable',
  ]);
  signers.forEach(([id, { Properties }], index) => {
    const [again, changed] = of('signer')(after)[index] ?? assert.fail(id);
    assert.equal(again, id);
    assert.notEqual(changed['Properties'].Revision, Properties.Revision);
    assert.match(Properties.JsonPath, /^\.items\[\?\(@\.status\.observedGeneration==@\.metadata\.generation\)\]/);
  });
});

test('two releases run side by side, and one of them has the traffic', () => {
  const first = deployment();
  const images = writeImages(first.configuration, { version: 'two' });
  const two = { CDK_IMAGES: first.configuration.images, CDK_NEXT_IMAGES: images, CDK_NEXT_UNTIL: '2026-12-10' };
  const objects = (environment: Environment) => {
    const configuration = configured(environment);
    const releases = readReleases(configuration);
    const { template } = applied({ configuration, releases });
    const manifests = Object.values(template.findResources('Custom::AWSCDK-EKS-KubernetesResource')).map(
      ({ Properties }) => JSON.stringify(Properties.Manifest),
    );
    const awaited = JSON.stringify(template.findResources('Custom::AWSCDK-EKS-KubernetesObjectValue'));
    const name = (service: Service, release: Release | undefined) =>
      `${service}-${release?.images[service].pcr0.slice(0, 12)}`;
    return SERVICES.map((service) =>
      [releases.release, releases.next].map((release) => [
        ...['Deployment', 'TargetGroupBinding'].map(
          (kind) =>
            manifests.filter(
              (manifest) => manifest.includes(`${kind}\\\",`) && manifest.includes(name(service, release)),
            ).length,
        ),
        awaited.includes(name(service, release)) ? 1 : 0,
      ]),
    );
  };
  const [bound, unbound] = [
    [1, 1, 1],
    [1, 0, 0],
  ];
  assert.deepEqual(objects(two), [
    [unbound, bound],
    [unbound, bound],
  ]);
  assert.deepEqual(objects({ ...two, CDK_TRAFFIC: 'present' }), [
    [bound, unbound],
    [bound, unbound],
  ]);
});

test('a binding that is replaced stays until the targets of the other one were checked', () => {
  const { template, id } = applied(deployment());
  for (const service of SERVICES) {
    const waits = Object.values(template.findResources('Custom::Handover')).filter(({ DependsOn }) =>
      DependsOn.includes(id('TargetGroupBinding', service)),
    );
    // CloudFormation deletes a resource before what it depends on.
    assert.equal(waits.length, 1);
    assert.equal(
      waits[0]?.['Properties'].ServiceToken,
      'arn:aws:lambda:eu-central-1:123456789012:function:dev-cloister-set-up',
    );
  }
  amd64.hasResourceProperties('AWS::Lambda::Function', { FunctionName: 'dev-cloister-set-up' });
});

function applied(given: { configuration: Configuration; releases: Releases }) {
  const { configuration, releases } = withContainers(given);
  const app = new App();
  const cluster = clusterStack(app, configuration, releases);
  const stack = new Stack(app, 'application', { env: configuration });
  workloads(stack, cluster, configuration, releases, {
    cmkArn: 'arn:aws:kms:eu-central-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab',
    after: [],
    frontDoorSecretArn: 'arn:aws:secretsmanager:eu-central-1:123456789012:secret:FrontDoorKey-0123456789ab-AbCdEf',
  });
  const template = Template.fromStack(stack);
  const resources = {
    ...template.findResources('Custom::AWSCDK-EKS-KubernetesResource'),
    ...template.findResources('Custom::AWSCDK-EKS-KubernetesObjectValue'),
  };
  const ids = (kind: string, service: string) =>
    Object.entries(resources)
      .filter(([, { Type, Properties }]) =>
        kind === 'available'
          ? Type.endsWith('ObjectValue') && Properties.ObjectName.includes(`=${service}-`)
          : JSON.stringify(Properties.Manifest ?? '').includes(
              `${kind}\\\",\\\"metadata\\\":{\\\"name\\\":\\\"${service}-`,
            ),
      )
      .map(([found]) => found);
  const id = (kind: string, service: string) => ids(kind, service)[0] ?? assert.fail(`no ${kind} of ${service}`);
  return { template, id, ids, urls: cluster.urls };
}
