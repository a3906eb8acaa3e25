/**
 * The cluster stack: a network, a Kubernetes cluster of machines that can start enclaves, and the entrance from the
 * front door.
 */

import { type App, Duration, RemovalPolicy, Stack } from 'aws-cdk-lib';
import * as ec2 from 'aws-cdk-lib/aws-ec2';
import * as eks from 'aws-cdk-lib/aws-eks-v2';
import * as iam from 'aws-cdk-lib/aws-iam';
import * as logs from 'aws-cdk-lib/aws-logs';
import { KubectlV36Layer } from '@aws-cdk/lambda-layer-kubectl-v36';
import type { IDependable } from 'constructs';

import { type Configuration, names } from './configuration';
import { acknowledge, managed } from './findings';
import { AUTHORITY_SECRET, certificateObjects } from './kubernetes/certificates';
import { devicePlugin } from './kubernetes/device-plugin';
import type { Manifest } from './kubernetes/manifest';
import { NAMESPACE, namespaceObjects } from './kubernetes/namespace';
import { NITRO_NODE } from './kubernetes/workload';
import { type Entrance, entrance, host, NETWORK, network } from './network';
import { installSeccompProfile, instanceType, reserve, reserved, WITHOUT_DOCKER } from './nodes';
import { type Releases, SERVICES } from './release';

export interface Cluster extends Entrance {
  readonly stack: Stack;
  readonly vpc: ec2.Vpc;
  readonly eks: eks.Cluster;
  /**
   * The certificate of the private CA of the pods, base64 of PEM as Kubernetes stores it; known when the stack is
   * deployed.
   */
  readonly podCertificateAuthority: string;
}

export function clusterStack(app: App, configuration: Configuration, releases: Releases): Cluster {
  const stack = new Stack(app, names(configuration).of('cluster'), {
    description: 'Cloister: the network and the Kubernetes cluster',
    env: configuration,
  });
  const vpc = network(stack, configuration);
  const cluster = kubernetes(stack, vpc, configuration);
  const nodes = nodeGroup(stack, cluster, configuration, releases);
  const ready = addons(stack, cluster, nodes);
  const objects = apply(cluster, 'Namespace', namespaceObjects(NETWORK), ready);
  apply(cluster, 'DevicePlugin', [devicePlugin(reserved(releases))], ready);
  podIdentities(stack, cluster, configuration);
  return {
    stack,
    vpc,
    eks: cluster,
    ...entrance(stack, vpc, cluster.clusterSecurityGroup, configuration),
    podCertificateAuthority: certificates(cluster, configuration, [...ready, objects]),
  };
}

function kubernetes(stack: Stack, vpc: ec2.Vpc, configuration: Configuration): eks.Cluster {
  const clusterName = names(configuration).of('cluster');
  // Otherwise EKS and its agents create these groups, and leave them behind.
  const groups = [
    `/aws/eks/${clusterName}/cluster`,
    ...['application', 'dataplane', 'host', 'performance'].map((of) => `/aws/containerinsights/${clusterName}/${of}`),
  ];
  const made = groups.map(
    (logGroupName, index) =>
      new logs.LogGroup(stack, `Log${index}`, {
        logGroupName,
        retention: logs.RetentionDays.THREE_MONTHS,
        removalPolicy: RemovalPolicy.DESTROY,
      }),
  );
  const privateSubnets = { subnetType: ec2.SubnetType.PRIVATE_WITH_EGRESS };
  const cluster = new eks.Cluster(stack, 'Cluster', {
    clusterName,
    version: eks.KubernetesVersion.V1_36,
    vpc,
    vpcSubnets: [privateSubnets],
    endpointAccess: eks.EndpointAccess.PRIVATE,
    defaultCapacityType: eks.DefaultCapacityType.NODEGROUP,
    defaultCapacity: 0,
    bootstrapSelfManagedAddons: false,
    clusterLogging: Object.values(eks.ClusterLoggingTypes),
    kubectlProviderOptions: {
      kubectlLayer: new KubectlV36Layer(stack, 'Kubectl'),
      privateSubnets: vpc.selectSubnets(privateSubnets).subnets,
    },
    albController: {
      version: eks.AlbControllerVersion.V3_2_2,
      // It only binds pods to target groups of this stack: resources that it creates itself stay behind when the
      // cluster is destroyed.
      additionalHelmChartValues: { enableServiceMutatorWebhook: false },
    },
  });
  // Objects in the cluster are removed before its network.
  cluster.node.addDependency(vpc, ...made);
  acknowledgeCluster(cluster);
  return cluster;
}

/** Machines that can start enclaves, with huge pages reserved before their kubelet counts resources. */
function nodeGroup(
  stack: Stack,
  cluster: eks.Cluster,
  configuration: Configuration,
  releases: Releases,
): eks.Nodegroup {
  const userData = new ec2.MultipartUserData();
  const script = ec2.UserData.forLinux();
  script.addCommands(
    ...reserve(reserved(releases), 'kubelet.service'),
    WITHOUT_DOCKER,
    ...installSeccompProfile(configuration.architecture),
  );
  userData.addUserDataPart(script, ec2.MultipartBody.SHELL_SCRIPT);
  const template = new ec2.LaunchTemplate(stack, 'Machine', {
    nitroEnclaveEnabled: true,
    // No key pair and no open port: operators use Session Manager. One hop: no pod reads the machine's credentials.
    requireImdsv2: true,
    httpPutResponseHopLimit: 1,
    blockDevices: [
      {
        deviceName: '/dev/xvda',
        volume: ec2.BlockDeviceVolume.ebs(40, { encrypted: true, volumeType: ec2.EbsDeviceVolumeType.GP3 }),
      },
    ],
    userData,
  });
  const policies = [
    'AmazonEKSWorkerNodeMinimalPolicy',
    'AmazonEC2ContainerRegistryPullOnly',
    'AmazonEKS_CNI_Policy',
    'AmazonSSMManagedInstanceCore',
  ];
  const role = new iam.Role(stack, 'MachineRole', {
    assumedBy: new iam.ServicePrincipal('ec2.amazonaws.com'),
    managedPolicies: policies.map((policy) => iam.ManagedPolicy.fromAwsManagedPolicyName(policy)),
  });
  acknowledge(
    role,
    policies.map(managed),
    'The policies that AWS maintains for nodes: joining, pulling images, addresses of pods, Session Manager.',
  );
  const nodes = cluster.addNodegroupCapacity('Machines', {
    nodegroupName: names(configuration).of('machines'),
    nodeRole: role,
    amiType:
      configuration.architecture === 'arm64'
        ? eks.NodegroupAmiType.AL2023_ARM_64_STANDARD
        : eks.NodegroupAmiType.AL2023_X86_64_STANDARD,
    instanceTypes: [instanceType(configuration.architecture)],
    minSize: 3,
    desiredSize: 3,
    maxSize: 6,
    maxUnavailable: 1,
    labels: { [NITRO_NODE]: 'enabled' },
    launchTemplateSpec: { id: template.launchTemplateId ?? '', version: template.latestVersionNumber },
    enableNodeAutoRepair: true,
  });
  // A machine joins only if there is a network plugin.
  const network = ['vpc-cni', 'kube-proxy'].map(
    (addonName) =>
      new eks.Addon(stack, addonName, {
        cluster,
        addonName,
        ...(addonName === 'vpc-cni' ? { configurationValues: { enableNetworkPolicy: 'true' } } : {}),
      }),
  );
  nodes.node.addDependency(...network);
  return nodes;
}

/** Add-ons of the cluster, each pinned or managed by EKS. Returns the constructs that objects have to wait for. */
function addons(stack: Stack, cluster: eks.Cluster, nodes: eks.Nodegroup): readonly IDependable[] {
  const addon = (addonName: string) => {
    const made = new eks.Addon(stack, addonName, { cluster, addonName });
    made.node.addDependency(nodes);
    return made;
  };
  const identity = addon('eks-pod-identity-agent');
  const dns = addon('coredns');
  shipLogs(stack, cluster).node.addDependency(nodes, identity);
  cluster.albController?.node.addDependency(nodes, dns);
  const certManager = cluster.addHelmChart('CertManager', {
    repository: 'https://charts.jetstack.io',
    chart: 'cert-manager',
    version: 'v1.21.2',
    release: 'cert-manager',
    namespace: 'cert-manager',
    createNamespace: true,
    wait: true,
    timeout: Duration.minutes(10),
    values: { crds: { enabled: true } },
  });
  certManager.node.addDependency(nodes, dns);
  return [nodes, dns, certManager, ...(cluster.albController === undefined ? [] : [cluster.albController])];
}

/**
 * Container logs and metrics to CloudWatch: the observability add-on, which is Fluent Bit and the CloudWatch agent.
 *
 * By itself it puts a line inside of a record of its own. Lines go as they were written instead, in a stream named by
 * pod and container: CloudWatch makes metrics of lines in its embedded metric format only where these are whole events.
 */
function shipLogs(stack: Stack, cluster: eks.Cluster): eks.CfnAddon {
  const role = new iam.Role(stack, 'ObservabilityRole', {
    assumedBy: new iam.SessionTagsPrincipal(new iam.ServicePrincipal('pods.eks.amazonaws.com')),
    managedPolicies: [iam.ManagedPolicy.fromAwsManagedPolicyName('CloudWatchAgentServerPolicy')],
  });
  acknowledge(
    role,
    [managed('CloudWatchAgentServerPolicy')],
    'The policy that AWS maintains for its CloudWatch agent.',
  );
  return new eks.CfnAddon(stack, 'Observability', {
    addonName: 'amazon-cloudwatch-observability',
    clusterName: cluster.clusterName,
    podIdentityAssociations: [{ serviceAccount: 'cloudwatch-agent', roleArn: role.roleArn }],
    resolveConflicts: 'OVERWRITE',
    configurationValues: JSON.stringify({
      containerLogs: { fluentBit: { config: { extraFiles: { 'application-log.conf': LINES_AS_WRITTEN } } } },
    }),
  });
}

/** https://docs.fluentbit.io/manual/data-pipeline/outputs/cloudwatch; the variables are set by the add-on. */
const LINES_AS_WRITTEN = `[INPUT]
    Name                tail
    Tag                 application.*
    Path                /var/log/containers/*.log
    multiline.parser    docker, cri
    DB                  /var/fluent-bit/state/flb_container.db
    Mem_Buf_Limit       50MB
    Skip_Long_Lines     On
    Refresh_Interval    10
    Rotate_Wait         30
    storage.type        filesystem
    Read_from_Head      \${READ_FROM_HEAD}

[OUTPUT]
    Name                cloudwatch_logs
    Match               application.*
    region              \${AWS_REGION}
    log_group_name      /aws/containerinsights/\${CLUSTER_NAME}/application
    log_stream_prefix   \${HOST_NAME}-
    log_key             log
    log_format          json/emf
    auto_create_group   false
`;

/** Associates the pods' service accounts with the roles that the images measure. */
function podIdentities(stack: Stack, cluster: eks.Cluster, configuration: Configuration): void {
  const { signerRole, generatorRole } = names(configuration);
  for (const service of SERVICES) {
    new eks.CfnPodIdentityAssociation(stack, `Identity-${service}`, {
      clusterName: cluster.clusterName,
      namespace: NAMESPACE,
      serviceAccount: service,
      roleArn: service === 'signer' ? signerRole : generatorRole,
    });
  }
}

function certificates(cluster: eks.Cluster, configuration: Configuration, after: readonly IDependable[]): string {
  const objects = apply(
    cluster,
    'Certificates',
    certificateObjects((service) => host(service, configuration)),
    after,
  );
  const authority = new eks.KubernetesObjectValue(cluster.stack, 'CertificateAuthority', {
    cluster,
    objectType: 'secret',
    objectName: AUTHORITY_SECRET,
    objectNamespace: NAMESPACE,
    // Only the certificate.
    jsonPath: '.data.tls\\.crt',
  });
  authority.node.addDependency(objects);
  return authority.value;
}

/** Findings of cdk-nag in constructs of aws-cdk-lib. */
function acknowledgeCluster(cluster: eks.Cluster): void {
  acknowledge(cluster, [managed('AmazonEKSClusterPolicy')], 'The policy that AWS maintains for the control plane.');
  const function_ = [
    'service-role/AWSLambdaBasicExecutionRole',
    'service-role/AWSLambdaVPCAccessExecutionRole',
    'AmazonEC2ContainerRegistryReadOnly',
  ];
  const publicRegistry =
    'AwsSolutions-IAM4[Policy::{"Fn::If":["ClusterKubectlProviderHandlerHasEcrPublic69E09706",{"Fn::Join":["",["arn:",{"Ref":"AWS::Partition"},' +
    '":iam::aws:policy/AmazonElasticContainerRegistryPublicReadOnly"]]},{"Ref":"AWS::NoValue"}]}]';
  const own = ['AwsSolutions-L1', 'AwsSolutions-IAM5[Resource::<ClusterKubectlProviderHandler2E05C68A.Arn>:*]'];
  acknowledge(
    cluster,
    [...function_.map(managed), publicRegistry, ...own],
    'The kubectl function is made by aws-cdk-lib: its runtime, its policies, and the framework that calls its versions.',
  );
  if (cluster.albController !== undefined) {
    const resources = [
      'loadbalancer/net/*/*',
      'loadbalancer/app/*/*',
      'listener/net/*/*/*',
      'listener/app/*/*/*',
      'listener-rule/net/*/*/*',
      'listener-rule/app/*/*/*',
      'targetgroup/*/*',
    ];
    const arns = [
      'ec2:*:*:security-group/*',
      ...resources.map((resource) => `elasticloadbalancing:*:*:${resource}`),
    ].map((arn) => `arn:<AWS::Partition>:${arn}`);
    acknowledge(
      cluster.albController,
      ['*', ...arns].map((resource) => `AwsSolutions-IAM5[Resource::${resource}]`),
      'The policy that the AWS Load Balancer Controller publishes for its release; what it may change is bound to tags of its own cluster.',
    );
  }
}

/** Applies objects after their dependencies, and removes them before these. */
export function apply(
  cluster: eks.Cluster,
  id: string,
  manifests: readonly Manifest[],
  after: readonly IDependable[],
  scope: Stack = cluster.stack,
): eks.KubernetesManifest {
  const applied = new eks.KubernetesManifest(scope, id, { cluster, manifest: [...manifests], overwrite: true });
  applied.node.addDependency(...after);
  return applied;
}
