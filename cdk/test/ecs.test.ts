import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { test } from 'node:test';
import { gunzipSync } from 'node:zlib';

import { App } from 'aws-cdk-lib';
import { Match, Template } from 'aws-cdk-lib/assertions';
import { AwsSolutionsChecks } from 'cdk-nag';

import { ecsStack } from '../lib/ecs';
import { withContainers } from './containers';
import { deployment, temporary } from './fixture';

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
  template.hasResourceProperties('AWS::AutoScaling::AutoScalingGroup', { MinSize: '3', MaxSize: '6' });
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

test('the front door trusts the CA of the pods’ secret', () => {
  const [, door] =
    Object.entries(template.findResources('AWS::Lambda::Function')).find(([, { Properties }]) =>
      JSON.stringify(Properties).includes('CLOISTER_POD_CA'),
    ) ?? [];
  assert.match(
    JSON.stringify(door?.['Properties'].Environment.Variables.CLOISTER_POD_CA),
    /resolve:secretsmanager:.*dev-cloister-pod-tls:SecretString:ca:/,
  );
});

test('every finding of cdk-nag is fixed or acknowledged with its reason', () => {
  const { violations } = new AwsSolutionsChecks(app).validateScope(app);
  assert.deepEqual(
    violations.flatMap(({ ruleName, violatingResources }) =>
      violatingResources.map((resource) => `${ruleName} ${resource.constructPath ?? ''}`),
    ),
    [],
  );
});
