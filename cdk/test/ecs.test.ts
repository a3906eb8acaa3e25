import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { createPrivateKey, X509Certificate } from 'node:crypto';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { test } from 'node:test';
import { gunzipSync } from 'node:zlib';

import { App } from 'aws-cdk-lib';
import { Match, Template } from 'aws-cdk-lib/assertions';
import { AwsSolutionsChecks } from 'cdk-nag';

import { ecsStack } from '../lib/ecs';
import { host } from '../lib/network';
import { SERVICES } from '../lib/release';
import { withContainers } from './containers';
import { configured, deployment, ENVIRONMENT, temporary } from './fixture';

function synthesised(environment: Readonly<Record<string, string>> = {}) {
  const zip = path.join(temporary(), 'front-door.zip');
  fs.writeFileSync(zip, 'a zip');
  const { configuration, releases } = withContainers(
    deployment({ CDK_FRONT_DOOR: zip, CDK_CALLERS: 'arn:aws:iam::111122223333:role/backend', ...environment }),
  );
  const app = new App();
  return { app, template: Template.fromStack(ecsStack(app, configuration, releases)) };
}

const { app, template } = synthesised();

test('a task has the device, two small directories in memory, and no privileges', () => {
  for (const [service, role] of [
    ['signer', 'dev-cloister-signer'],
    ['key-generator', 'dev-cloister-key-generator'],
  ]) {
    template.hasResourceProperties('AWS::ECS::TaskDefinition', {
      Family: `dev-cloister-${service}`,
      NetworkMode: 'awsvpc',
      TaskRoleArn: `arn:aws:iam::123456789012:role/${role}`,
      ContainerDefinitions: [
        Match.objectLike({
          User: '10001:10002',
          Privileged: false,
          ReadonlyRootFilesystem: true,
          DockerSecurityOptions: ['no-new-privileges'],
          LinuxParameters: {
            InitProcessEnabled: true,
            Capabilities: { Drop: ['ALL'] },
            Devices: [{ HostPath: '/dev/nitro_enclaves', Permissions: ['read', 'write'] }],
            Tmpfs: [
              { ContainerPath: '/run/nitro_enclaves', Size: 1 },
              { ContainerPath: '/var/log/nitro_enclaves', Size: 64 },
            ],
          },
          MountPoints: [{ ContainerPath: '/tls', ReadOnly: true, SourceVolume: 'tls' }],
          StopTimeout: 90,
        }),
      ],
    });
  }
  const tasks = JSON.stringify(template.findResources('AWS::ECS::TaskDefinition'));
  for (const forbidden of ['docker.sock', 'sudo', '"Privileged":true']) {
    assert.ok(!tasks.includes(forbidden), forbidden);
  }
});

test('the pods have the same variables as on Kubernetes', () => {
  const tasks = Object.values(template.findResources('AWS::ECS::TaskDefinition'));
  for (const { Properties } of tasks) {
    const values = Object.fromEntries(
      Properties.ContainerDefinitions[0].Environment.map(({ Name, Value }: { Name: string; Value: unknown }) => [
        Name,
        Value,
      ]),
    );
    assert.equal(values['CLOISTER_ENCLAVE_MEMORY_MIB'], '256');
    assert.equal(values['CLOISTER_TLS_CERT'], '/tls/tls.crt');
    assert.equal('CLOISTER_TABLE_ARN' in values, Properties.Family.endsWith('signer'));
  }
});

test('an update starts a third task on another machine before it ends one, and rolls back by itself', () => {
  template.resourceCountIs('AWS::ECS::Service', 2);
  template.allResourcesProperties('AWS::ECS::Service', {
    DesiredCount: 2,
    DeploymentConfiguration: Match.objectLike({
      MinimumHealthyPercent: 100,
      MaximumPercent: 150,
      DeploymentCircuitBreaker: { Enable: true, Rollback: true },
    }),
    PlacementConstraints: [{ Type: 'distinctInstance' }],
    LoadBalancers: [Match.objectLike({ ContainerName: 'pod', ContainerPort: 8443 })],
  });
});

test('machines are like those of the cluster: enclaves, reserved before the agent starts, no inbound access', () => {
  template.hasResourceProperties('AWS::EC2::LaunchTemplate', {
    LaunchTemplateData: Match.objectLike({
      EnclaveOptions: { Enabled: true },
      InstanceType: 'm6i.2xlarge',
      KeyName: Match.absent(),
      MetadataOptions: { HttpTokens: 'required', HttpPutResponseHopLimit: 1 },
    }),
  });
  const script = JSON.stringify(Object.values(template.findResources('AWS::EC2::LaunchTemplate'))[0]).replaceAll(
    '\\n',
    '\n',
  );
  assert.match(script, /Before=ecs.service/);
  assert.match(script, /ECS_AWSVPC_BLOCK_IMDS=true/);
  assert.ok(script.length < 16_000, String(script.length));
  const [, packed = ''] = /base64 --decode <<< (\S+) \| gunzip > \/etc\/docker\/cloister.json/.exec(script) ?? [];
  assert.equal(JSON.parse(gunzipSync(Buffer.from(packed, 'base64')).toString()).defaultAction, 'SCMP_ACT_ERRNO');
  const arm64 = synthesised({ CDK_TARGET_ARCHITECTURE: 'linux/arm64' }).template;
  arm64.hasResourceProperties('AWS::EC2::LaunchTemplate', {
    LaunchTemplateData: Match.objectLike({ InstanceType: 'm7g.2xlarge' }),
  });
});

test('nothing protects machines from termination or changes their number, which would hang a destroy', () => {
  template.allResourcesProperties('AWS::ECS::CapacityProvider', {
    AutoScalingGroupProvider: {
      AutoScalingGroupArn: Match.anyValue(),
      ManagedDraining: 'ENABLED',
      ManagedScaling: Match.absent(),
      ManagedTerminationProtection: 'DISABLED',
    },
  });
  template.allResourcesProperties('AWS::AutoScaling::AutoScalingGroup', {
    NewInstancesProtectedFromScaleIn: Match.absent(),
  });
});

test('a changed launch template replaces machines one by one, each after the new one has signalled', () => {
  const { template: sized } = synthesised({ CDK_MACHINES: '5', CDK_MACHINE_TYPE: 'm6i.4xlarge', CDK_SIGNERS: '3' });
  sized.hasResource('AWS::AutoScaling::AutoScalingGroup', {
    Properties: { MinSize: '5', MaxSize: '6', LaunchTemplate: { Version: { 'Fn::GetAtt': Match.anyValue() } } },
    CreationPolicy: { ResourceSignal: { Count: 5, Timeout: 'PT15M' } },
    UpdatePolicy: {
      AutoScalingRollingUpdate: Match.objectLike({
        MinInstancesInService: 5,
        MaxBatchSize: 1,
        WaitOnResourceSignals: true,
        PauseTime: 'PT15M',
      }),
    },
  });
  sized.hasResourceProperties('AWS::EC2::LaunchTemplate', {
    LaunchTemplateData: Match.objectLike({ InstanceType: 'm6i.4xlarge' }),
  });
  sized.hasResourceProperties('AWS::ECS::Service', {
    ServiceName: 'signer',
    DesiredCount: 3,
    DeploymentConfiguration: Match.objectLike({ MaximumPercent: 134 }),
  });
  const [id = ''] = Object.keys(sized.findResources('AWS::AutoScaling::AutoScalingGroup'));
  const script = userData(sized);
  assert.ok(script.includes(`--stack-name dev-cloister-ecs --logical-resource-id ${id} `));
  sized.hasResourceProperties('AWS::IAM::Policy', {
    PolicyDocument: {
      Statement: Match.arrayWith([
        { Action: 'cloudformation:SignalResource', Effect: 'Allow', Resource: { Ref: 'AWS::StackId' } },
      ]),
    },
  });
});

test('a machine knows its cluster before anything can fail, and signals after everything else', () => {
  const script = userData(template);
  const order = [
    'ECS_CLUSTER=',
    'dnf install',
    'nitro-enclaves-allocator.service',
    'docker.service',
    '/etc/cloister/tls',
  ];
  const positions = [...order, 'signal-resource'].map((text) => script.indexOf(text));
  assert.deepEqual(
    positions,
    [...positions].sort((a, b) => a - b),
  );
  assert.ok(!positions.includes(-1));
  assert.equal(spawnSync('bash', ['-n'], { input: script }).status, 0);
});

test('a machine on which a command fails is shut down, and no other', () => {
  const directory = temporary();
  fs.writeFileSync(path.join(directory, 'shutdown'), '#!/bin/sh\necho "shutdown $*"\n', { mode: 0o755 });
  const [start = ''] = /^[^]*?set -euo pipefail\n/.exec(userData(template)) ?? [];
  const run = (command: string) =>
    spawnSync('bash', [], {
      input: `${start}${command}\necho end\n`,
      env: { PATH: `${directory}:${process.env['PATH']}` },
      encoding: 'utf8',
    }).stdout;
  for (const failing of ['false', 'echo "$unset"', 'false | cat', 'value=$(false)', 'exit 3']) {
    assert.equal(run(failing), 'shutdown -h now\n', failing);
  }
  assert.equal(run('true'), 'end\n');
});

test('fewer tasks of a service than machines: an update starts one more elsewhere', () => {
  const many = { CDK_SIGNERS: '3', CDK_KEY_GENERATORS: '1' };
  assert.throws(() => configured({ CDK_VARIANT: 'ecs', ...many }), /on ECS.*set CDK_MACHINES to 4 or more/);
  configured({ CDK_VARIANT: 'ecs', CDK_MACHINES: '4', ...many });
  configured(many);
  const small = synthesised({ CDK_SIZE: 'small' }).template;
  small.allResourcesProperties('AWS::ECS::Service', {
    DesiredCount: 1,
    DeploymentConfiguration: Match.objectLike({ MinimumHealthyPercent: 100, MaximumPercent: 200 }),
  });
});

interface PodTls {
  readonly 'tls.crt': string;
  readonly 'tls.key': string;
  readonly ca: string;
}

function podTls(...options: readonly string[]) {
  return spawnSync(process.execPath, ['--import', 'tsx', 'bin/pod-tls.ts', ...options], {
    cwd: path.join(__dirname, '..'),
    env: { ...process.env, ...ENVIRONMENT },
    encoding: 'utf8',
  });
}

/** A new secret, as the command makes it, and the certificates of the CAs in it. */
function newSecret(present?: PodTls) {
  const file = path.join(temporary(), 'present.json');
  fs.writeFileSync(file, JSON.stringify(present ?? {}));
  const { status, stdout, stderr } = podTls(...(present === undefined ? [] : [file]));
  assert.equal(status, 0, stderr);
  const secret = JSON.parse(stdout) as PodTls;
  const authorities = Buffer.from(secret.ca, 'base64')
    .toString()
    .match(/-----BEGIN[^-]+-----[^-]+-----END[^-]+-----/g);
  return { secret, authorities: (authorities ?? []).map((pem) => new X509Certificate(pem)) };
}

test('the secret with the pods’ certificate is made by a command, for the names that the front door calls', () => {
  const { secret, authorities } = newSecret();
  const [authority] = authorities;
  const certificate = new X509Certificate(secret['tls.crt']);
  assert.ok(authority?.ca && !certificate.ca);
  assert.equal(authorities.length, 1);
  assert.ok(certificate.verify(authority.publicKey));
  assert.ok(certificate.checkPrivateKey(createPrivateKey(secret['tls.key'])));
  SERVICES.forEach((service) => assert.ok(certificate.checkHost(host(service, { prefix: 'dev-' }))));
  assert.equal(certificate.checkHost(host('signer', { prefix: '' })), undefined);
});

test('while the certificate is renewed, the CA of the present one is trusted too, and no earlier one', () => {
  const first = newSecret();
  const second = newSecret(first.secret);
  const third = newSecret(second.secret);
  const trusts = ({ authorities }: typeof first, { secret }: typeof first) =>
    authorities.some(({ publicKey }) => new X509Certificate(secret['tls.crt']).verify(publicKey));
  for (const [before, after] of [
    [first, second],
    [second, third],
  ] as const) {
    assert.ok(trusts(after, before) && trusts(after, after));
    assert.ok(!trusts(before, after), 'a new secret has a new CA');
    assert.equal(after.authorities.length, 2);
  }
  assert.ok(!trusts(third, first));
  // Lambda takes 4 KiB of variables.
  assert.ok(third.secret.ca.length < 2048, String(third.secret.ca.length));

  const key = first.secret['tls.key'];
  for (const wrong of ['', '{}', key, JSON.stringify({ ...first.secret, ca: newSecret().secret.ca })]) {
    const file = path.join(temporary(), 'wrong.json');
    fs.writeFileSync(file, wrong);
    const { status, stdout, stderr } = podTls(file);
    assert.deepEqual([status, stdout], [1, '']);
    assert.match(stderr, /^\S+wrong\.json is not the present secret: give the JSON .*\n$/);
  }
});

test('with another CDK_RENEW the front door reads its CA again, and then machines their certificate', () => {
  const [one, two] = ['2027-01-31', '2027-02-28'].map((value) => synthesised({ CDK_RENEW: value }).template);
  assert.ok(one && two);
  const variables = (of: Template) =>
    of.findResources('AWS::Lambda::Function')[frontDoor(of)]?.['Properties'].Environment;
  assert.notDeepEqual(variables(one), variables(two));
  assert.notEqual(userData(one), userData(two));
  assert.equal(userData(one).replace('2027-01-31', '2027-02-28'), userData(two));
  assert.equal(spawnSync('bash', ['-n'], { input: userData(one) }).status, 0);
  one.allResources('AWS::AutoScaling::AutoScalingGroup', { DependsOn: Match.arrayWith([frontDoor(one)]) });
});

test('a service exists only while its cluster has the capacity provider', () => {
  const [association = '', ...more] = Object.keys(
    template.findResources('AWS::ECS::ClusterCapacityProviderAssociations'),
  );
  assert.deepEqual(more, []);
  template.resourceCountIs('AWS::ECS::ClusterCapacityProviderAssociations', 1);
  template.allResources('AWS::ECS::Service', { DependsOn: Match.arrayWith([association]) });
});

/** The logical id of the function. */
function frontDoor(of: Template): string {
  const [id = ''] =
    Object.entries(of.findResources('AWS::Lambda::Function')).find(([, { Properties }]) =>
      JSON.stringify(Properties).includes('CLOISTER_POD_CA'),
    ) ?? [];
  return id;
}

test('the front door trusts the CA of the pods’ secret', () => {
  const door = template.findResources('AWS::Lambda::Function')[frontDoor(template)];
  assert.match(
    JSON.stringify(door?.['Properties'].Environment.Variables.CLOISTER_POD_CA),
    /resolve:secretsmanager:.*dev-cloister-pod-tls:SecretString:ca:/,
  );
});

/** The script of the machines, with the names of resources for references. */
function userData(of: Template): string {
  const [machine] = Object.values(of.findResources('AWS::EC2::LaunchTemplate'));
  const [, parts] = machine?.['Properties'].LaunchTemplateData.UserData['Fn::Base64']['Fn::Join'] as [
    string,
    unknown[],
  ];
  return parts.map((part) => (typeof part === 'string' ? part : 'reference')).join('');
}

test('every finding of cdk-nag is fixed or acknowledged with its reason', () => {
  const { violations } = new AwsSolutionsChecks(app).validateScope(app);
  assert.deepEqual(
    violations.flatMap(({ ruleName, violatingResources }) =>
      violatingResources.map((resource) => `${ruleName} ${resource.constructPath ?? ''}`),
    ),
    [],
  );
});
