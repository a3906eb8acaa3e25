/**
 * The pods on ECS instead of Kubernetes: the same container images and enclaves on machines of an auto-scaling group,
 * behind the same load balancer and front door. One stack, in place of cluster and application.
 */

import * as fs from 'node:fs';
import * as path from 'node:path';
import { gzipSync } from 'node:zlib';

import { type App, Duration, RemovalPolicy, Size, Stack } from 'aws-cdk-lib';
import * as autoscaling from 'aws-cdk-lib/aws-autoscaling';
import * as ec2 from 'aws-cdk-lib/aws-ec2';
import * as ecs from 'aws-cdk-lib/aws-ecs';
import * as iam from 'aws-cdk-lib/aws-iam';
import * as logs from 'aws-cdk-lib/aws-logs';
import * as secretsmanager from 'aws-cdk-lib/aws-secretsmanager';
import type { IDependable } from 'constructs';

import { beforePods } from './application';
import { type Configuration, names } from './configuration';
import { podImage } from './containers';
import { acknowledge, managed } from './findings';
import { frontDoorKeyArn, frontDoorKeyReference } from './front-door-key';
import { cmk } from './key';
import { enclaveSize } from './kubernetes/enclave';
import {
  DRAIN_SECONDS,
  environment,
  HEALTH_PORT,
  HTTPS_PORT,
  NITRO_GROUP,
  PATHS,
  TERMINATE_SECONDS,
  USER,
} from './kubernetes/pods';
import { type Entrance, entrance, network } from './network';
import { closed, reserve, reserved } from './nodes';
import { type Releases, SERVICES, type Service, withTraffic } from './release';
import { SetUp } from './set-up';

export function ecsStack(app: App, configuration: Configuration, releases: Releases): Stack {
  const name = names(configuration);
  const stack = new Stack(app, name.of('ecs'), {
    description: 'Cloister on ECS: machines, pods, front door and alarms',
    env: configuration,
  });
  const net = network(stack, configuration, new SetUp(stack, configuration));
  const { vpc } = net;
  const pods = new ec2.SecurityGroup(stack, 'PodGroup', {
    vpc,
    description: 'The pods: admit the load balancer only',
  });
  const way = entrance(stack, net, pods, configuration);
  // Certificate and key of the pods, and the certificates of their CAs (bin/pod-tls.ts).
  const tls = secretsmanager.Secret.fromSecretNameV2(stack, 'Tls', name.of('pod-tls'));
  const cluster = new ecs.Cluster(stack, 'Cluster', {
    clusterName: name.of('pods'),
    vpc,
    containerInsightsV2: ecs.ContainerInsights.ENABLED,
  });
  const log = new logs.LogGroup(stack, 'PodLog', {
    logGroupName: `/${name.of('pods')}`,
    retention: logs.RetentionDays.THREE_MONTHS,
    removalPolicy: RemovalPolicy.DESTROY,
  });
  const cmkArn = cmk(stack, configuration).arn;
  const frontDoorSecretArn = frontDoorKeyArn(stack, configuration);
  const before = {
    urls: way.urls,
    podCertificateAuthority: tls.secretValueFromJson('ca').unsafeUnwrap(),
    targetMetrics: way.targetMetrics,
    key: frontDoorKeyReference(stack, configuration),
    network: { vpc, securityGroup: way.frontDoorSecurityGroup },
  };
  const { keyRules, frontDoor } = beforePods(stack, configuration, releases, before, log);
  // A machine reads the pods' certificate when it starts, and the front door its CA when it is deployed: that comes first.
  const capacity = machines(stack, cluster, vpc, tls, configuration, releases, frontDoor);
  for (const service of SERVICES) {
    const task = taskDefinition(stack, service, configuration, releases, { cmkArn, frontDoorSecretArn, log });
    run(stack, service, configuration.replicas[service], task, cluster, capacity, pods, way).node.addDependency(
      // A rule that does not know an image yet would report its first use of the key.
      ...keyRules,
      // With the association of the capacity provider, which a service needs for as long as it exists.
      cluster,
    );
  }
  return stack;
}

/**
 * Machines like those of the cluster: enclaves reserved before the agent starts, access by Session Manager only, no
 * credentials for tasks.
 *
 * Their number is that of the configuration, and nothing protects them from termination: ECS never lifts such a
 * protection when a stack is destroyed. A changed launch template, also one with a newer AMI, replaces them one by one,
 * each after the new one has said that it is ready; ECS moves the tasks of a machine that is to go.
 */
function machines(
  stack: Stack,
  cluster: ecs.Cluster,
  vpc: ec2.IVpc,
  tls: secretsmanager.ISecret,
  configuration: Configuration,
  releases: Releases,
  after: IDependable,
): ecs.AsgCapacityProvider {
  const { architecture, machines, region, renew } = configuration;
  const role = new iam.Role(stack, 'MachineRole', {
    assumedBy: new iam.ServicePrincipal('ec2.amazonaws.com'),
    managedPolicies: [iam.ManagedPolicy.fromAwsManagedPolicyName(SESSION_MANAGER)],
  });
  // The capacity provider adds the agent's permissions.
  const agent = ['AwsSolutions-IAM5[Action::ecs:Submit*]', 'AwsSolutions-IAM5[Resource::*]'];
  acknowledge(
    role,
    [managed(SESSION_MANAGER), ...agent],
    'The policies that AWS maintains for Session Manager, and aws-cdk-lib for the agent of ECS.',
  );
  tls.grantRead(role);
  role.addToPolicy(new iam.PolicyStatement({ actions: ['cloudformation:SignalResource'], resources: [stack.stackId] }));
  const userData = ec2.UserData.forLinux();
  const template = new ec2.LaunchTemplate(stack, 'Machine', {
    instanceType: new ec2.InstanceType(machines.type),
    machineImage: ecs.EcsOptimizedImage.amazonLinux2023(
      architecture === 'arm64' ? ecs.AmiHardwareType.ARM : ecs.AmiHardwareType.STANDARD,
    ),
    nitroEnclaveEnabled: true,
    requireImdsv2: true,
    httpPutResponseHopLimit: 1,
    securityGroup: new ec2.SecurityGroup(stack, 'MachineGroup', {
      vpc,
      description: 'The machines: no inbound connections',
    }),
    role,
    blockDevices: [
      {
        deviceName: '/dev/xvda',
        volume: ec2.BlockDeviceVolume.ebs(40, { encrypted: true, volumeType: ec2.EbsDeviceVolumeType.GP3 }),
      },
    ],
    userData,
  });
  const group = new autoscaling.AutoScalingGroup(stack, 'Machines', {
    vpc,
    vpcSubnets: { subnetType: ec2.SubnetType.PRIVATE_WITH_EGRESS },
    launchTemplate: template,
    minCapacity: machines.count,
    // One more while machines are replaced.
    maxCapacity: machines.count + 1,
    signals: autoscaling.Signals.waitForMinCapacity({ timeout: READY }),
    updatePolicy: autoscaling.UpdatePolicy.rollingUpdate({
      minInstancesInService: machines.count,
      maxBatchSize: 1,
      waitOnResourceSignals: true,
      pauseTime: READY,
    }),
  });
  group.node.addDependency(after);
  userData.addCommands(
    // Another value replaces the machines, and with them the certificates.
    ...(renew === undefined ? [] : [`# renewed: ${renew}`]),
    ...joinCluster(cluster),
    ...reserve(reserved(configuration, releases), 'ecs.service'),
    ...allowVsock(),
    ...installCertificates(tls, configuration),
    ...ready(stack, group, region),
  );
  const capacity = new ecs.AsgCapacityProvider(stack, 'Capacity', {
    autoScalingGroup: group,
    enableManagedScaling: false,
    enableManagedTerminationProtection: false,
    enableManagedDraining: true,
  });
  cluster.addAsgCapacityProvider(capacity);
  acknowledge(group, ['AwsSolutions-AS3'], 'Tasks that fail are an alarm of their own.');
  return capacity;
}

/**
 * The agent's configuration, before anything that can fail: without it, an agent makes its machine one of the cluster
 * `default`. A machine on which a command fails ends, and the group starts another one.
 */
function joinCluster({ clusterName }: ecs.ICluster): readonly string[] {
  return [
    ...closed(),
    'install -d /etc/ecs',
    `printf '%s\\n' ECS_CLUSTER=${clusterName} ECS_AWSVPC_BLOCK_IMDS=true > /etc/ecs/ecs.config`,
  ];
}

/** Tells CloudFormation that the machine is ready. Nobody waits for one that replaces a broken one at another time. */
function ready(stack: Stack, group: autoscaling.AutoScalingGroup, region: string): readonly string[] {
  const id = stack.getLogicalId(group.node.defaultChild as autoscaling.CfnAutoScalingGroup);
  return [
    `aws cloudformation signal-resource --region ${region} --stack-name ${stack.stackName} --logical-resource-id ${id} --unique-id "$(< /var/lib/cloud/data/instance-id)" --status SUCCESS || true`,
  ];
}

/**
 * The seccomp profile of a machine. ECS has no setting for a task's profile, and Docker's default excludes AF_VSOCK
 * since 20.10.22. The machine gets the default of the previous release, in moby's own form with its conditions: Docker
 * applies them, and the agent has capabilities.
 */
function allowVsock(): readonly string[] {
  const profile = gzipSync(
    JSON.stringify(JSON.parse(fs.readFileSync(path.join(__dirname, 'kubernetes/seccomp/default.json'), 'utf8'))),
    { level: 9 },
  );
  return [
    'install -d -m 0755 /etc/docker',
    `base64 --decode <<< ${profile.toString('base64')} | gunzip > /etc/docker/cloister.json`,
    `echo '{"seccomp-profile": "/etc/docker/cloister.json"}' > /etc/docker/daemon.json`,
    'systemctl restart docker.service',
  ];
}

/** Stores certificate and key where the pods' group may read them. */
function installCertificates(tls: secretsmanager.ISecret, { region }: Configuration): readonly string[] {
  return [
    'dnf install --assumeyes --setopt=install_weak_deps=False awscli-2 jq',
    `install -d -m 0750 -g ${NITRO_GROUP} ${HOST_TLS}`,
    `secret=$(aws secretsmanager get-secret-value --region ${region} --secret-id ${tls.secretName} --query SecretString --output text)`,
    ...['tls.crt', 'tls.key'].map(
      (file) =>
        `jq --raw-output '."${file}"' <<< "$secret" | install -m 0640 -g ${NITRO_GROUP} /dev/stdin ${HOST_TLS}/${file}`,
    ),
    'unset secret',
  ];
}

interface Given {
  readonly cmkArn: string;
  readonly frontDoorSecretArn: string;
  readonly log: logs.ILogGroup;
}

function taskDefinition(
  stack: Stack,
  service: Service,
  configuration: Configuration,
  releases: Releases,
  { cmkArn, frontDoorSecretArn, log }: Given,
): ecs.Ec2TaskDefinition {
  const serving = withTraffic(configuration, releases);
  const { signerRole, generatorRole, tableArn } = names(configuration);
  const task = new ecs.Ec2TaskDefinition(stack, `Task-${service}`, {
    family: names(configuration).of(service),
    networkMode: ecs.NetworkMode.AWS_VPC,
    taskRole: iam.Role.fromRoleArn(stack, `Role-${service}`, service === 'signer' ? signerRole : generatorRole, {
      mutable: false,
    }),
    volumes: [{ name: 'tls', host: { sourcePath: HOST_TLS } }],
  });
  const linux = new ecs.LinuxParameters(stack, `Linux-${service}`, { initProcessEnabled: true });
  linux.addDevices({
    hostPath: '/dev/nitro_enclaves',
    permissions: [ecs.DevicePermission.READ, ecs.DevicePermission.WRITE],
  });
  linux.dropCapabilities(ecs.Capability.ALL);
  for (const [containerPath, mib] of [
    [PATHS.sockets, 1],
    [PATHS.logs, 64],
  ] as const) {
    linux.addTmpfs({ containerPath, size: mib });
  }
  const container = task.addContainer('pod', {
    image: podImage(stack, configuration, serving, service).container,
    // Docker sets one group for a container: that of the device.
    user: `${USER}:${NITRO_GROUP}`,
    cpu: 256,
    memoryReservationMiB: 128,
    memoryLimitMiB: 256,
    readonlyRootFilesystem: true,
    privileged: false,
    dockerSecurityOptions: ['no-new-privileges'],
    linuxParameters: linux,
    stopTimeout: Duration.seconds(DRAIN_SECONDS + TERMINATE_SECONDS + 15),
    environment: {
      ...environment({
        service,
        region: configuration.region,
        partition: configuration.partition,
        cmkArn,
        frontDoorSecretArn,
        tableArn,
        enclave: enclaveSize(serving.images[service].size),
        deployment: `${configuration.prefix}${service}`,
      }),
      // A task has no variable for the machine it runs on.
      CLOISTER_METRICS_NODE: 'ecs',
      CLOISTER_METRICS_POD: service,
    },
    logging: ecs.LogDrivers.awsLogs({
      logGroup: log,
      streamPrefix: service,
      mode: ecs.AwsLogDriverMode.NON_BLOCKING,
      maxBufferSize: Size.mebibytes(4),
    }),
    portMappings: [{ containerPort: HTTPS_PORT }, { containerPort: HEALTH_PORT }],
  });
  container.addMountPoints({ sourceVolume: 'tls', containerPath: PATHS.tls, readOnly: true });
  acknowledge(
    task,
    ['AwsSolutions-ECS2'],
    'The variables are names and sizes. What is secret lies in files and in the enclave.',
  );
  acknowledge(task, ['AwsSolutions-IAM5[Resource::*]'], 'ecr:GetAuthorizationToken, which knows no resource.');
  return task;
}

/**
 * Tasks on different machines. An update starts one more before it ends one, and rolls back if that does not become
 * healthy.
 */
function run(
  stack: Stack,
  service: Service,
  replicas: number,
  taskDefinition: ecs.Ec2TaskDefinition,
  cluster: ecs.Cluster,
  capacity: ecs.AsgCapacityProvider,
  pods: ec2.ISecurityGroup,
  { targetGroups }: Entrance,
): ecs.Ec2Service {
  const running = new ecs.Ec2Service(stack, `Service-${service}`, {
    serviceName: service,
    cluster,
    taskDefinition,
    desiredCount: replicas,
    minHealthyPercent: 100,
    maxHealthyPercent: 100 + Math.ceil(100 / replicas),
    circuitBreaker: { rollback: true },
    healthCheckGracePeriod: Duration.minutes(5),
    capacityProviderStrategies: [{ capacityProvider: capacity.capacityProviderName, weight: 1 }],
    placementConstraints: [ecs.PlacementConstraint.distinctInstances()],
    placementStrategies: [ecs.PlacementStrategy.spreadAcross('attribute:ecs.availability-zone')],
    securityGroups: [pods],
    vpcSubnets: { subnetType: ec2.SubnetType.PRIVATE_WITH_EGRESS },
  });
  targetGroups[service].addTarget(running.loadBalancerTarget({ containerName: 'pod', containerPort: HTTPS_PORT }));
  return running;
}

const SESSION_MANAGER = 'AmazonSSMManagedInstanceCore';
/** The time for packages, enclaves and certificates of a new machine. */
const READY = Duration.minutes(15);
/** A directory of the machine, mounted read-only into the containers. */
const HOST_TLS = '/etc/cloister/tls';
