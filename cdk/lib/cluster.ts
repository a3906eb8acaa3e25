/**
 * The cluster stack: a network, a Kubernetes cluster of machines that can start enclaves, and the entrance from the
 * front door.
 */

import { type App, CfnResource, Fn, RemovalPolicy, Stack } from 'aws-cdk-lib';
import * as ec2 from 'aws-cdk-lib/aws-ec2';
import * as eks from 'aws-cdk-lib/aws-eks-v2';
import * as iam from 'aws-cdk-lib/aws-iam';
import * as logs from 'aws-cdk-lib/aws-logs';
import { KubectlV36Layer } from '@aws-cdk/lambda-layer-kubectl-v36';
import type { IDependable } from 'constructs';

import { ADD_ONS, addOns, networkAddOns } from './add-ons';
import { type Configuration, names } from './configuration';
import { acknowledge, managed } from './findings';
import { AUTHORITY_SECRET, certificateObjects } from './kubernetes/certificates';
import { devicePlugin } from './kubernetes/device-plugin';
import type { Manifest } from './kubernetes/manifest';
import { dynamodbPolicy, NAMESPACE, namespaceObjects } from './kubernetes/namespace';
import { operatorObjects, OPERATORS } from './kubernetes/operators';
import { NITRO_NODE } from './kubernetes/workload';
import { type Entrance, entrance, host, MACHINES, network } from './network';
import { closed, installSeccompProfile, NODE_CONFIG, reserve, reserved, WITHOUT_DOCKER } from './nodes';
import { type Releases, SERVICES } from './release';
import { PUBLISHED, SetUp } from './set-up';

/**
 * One version for control plane, machines and kubectl. The next one: read EKS's release notes, change it and the layer,
 * and deploy; add-ons and the machines' image follow.
 */
const KUBERNETES = eks.KubernetesVersion.V1_36;

export interface Cluster extends Entrance {
  readonly stack: Stack;
  readonly vpc: ec2.IVpc;
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
  const setUp = new SetUp(stack, configuration);
  const { vpc, ...ranges } = network(stack, configuration, setUp);
  const cluster = kubernetes(stack, vpc, configuration, setUp);
  const way = entrance(stack, { vpc, ...ranges }, cluster.clusterSecurityGroup, configuration);
  const versions = setUp.published(KUBERNETES.version, ADD_ONS);
  const nodes = nodeGroup(stack, cluster, configuration, releases, versions.amiRelease);
  nodes.node.addDependency(...networkAddOns(stack, cluster, versions));
  const ready = addOns(stack, cluster, versions, nodes, { vpc, ...ranges }, way);
  const objects = apply(
    cluster,
    'Namespace',
    [
      ...namespaceObjects({ loadBalancer: ranges.loadBalancerCidrs, endpoints: ranges.endpointCidrs }),
      ...operatorObjects(),
    ],
    ready,
  );
  applyText(cluster, 'Dynamodb', dynamodbPolicy, versions.dynamodbPeers, objects);
  apply(cluster, 'DevicePlugin', [devicePlugin(reserved(configuration, releases))], ready);
  podIdentities(stack, cluster.clusterName, configuration);
  operators(stack, cluster, configuration);
  const podCertificateAuthority = certificates(cluster, configuration, [...ready, objects]);
  renew(stack, configuration);
  return {
    stack,
    vpc,
    eks: cluster,
    ...way,
    podCertificateAuthority,
  };
}

function kubernetes(stack: Stack, vpc: ec2.IVpc, configuration: Configuration, setUp: SetUp): eks.Cluster {
  const clusterName = names(configuration).of('cluster');
  // Otherwise EKS and its agents create these groups, and leave them behind.
  const insights = ['application', 'dataplane', 'host', 'performance'].map(
    (of) =>
      new logs.LogGroup(stack, `Log-${of}`, {
        logGroupName: `/aws/containerinsights/${clusterName}/${of}`,
        retention: RETENTION,
        removalPolicy: RemovalPolicy.DESTROY,
      }),
  );
  const cluster = new eks.Cluster(stack, 'Cluster', {
    clusterName,
    version: KUBERNETES,
    vpc,
    vpcSubnets: [MACHINES],
    endpointAccess: eks.EndpointAccess.PRIVATE,
    // The administrator is the function that applies objects (ClusterAdminRoleAccess), and nobody else.
    bootstrapClusterCreatorAdminPermissions: false,
    defaultCapacityType: eks.DefaultCapacityType.NODEGROUP,
    defaultCapacity: 0,
    bootstrapSelfManagedAddons: false,
    clusterLogging: Object.values(eks.ClusterLoggingTypes),
    kubectlProviderOptions: {
      kubectlLayer: new KubectlV36Layer(stack, 'Kubectl'),
      privateSubnets: vpc.selectSubnets(MACHINES).subnets,
    },
  });
  // Objects in the cluster are removed before its network.
  cluster.node.addDependency(vpc, ...insights, setUp.logGroup('Log', `/aws/eks/${clusterName}/cluster`, RETENTION));
  acknowledgeCluster(cluster);
  return cluster;
}

const RETENTION = logs.RetentionDays.THREE_MONTHS;

/**
 * Machines that can start enclaves, with huge pages reserved before their kubelet counts resources. A machine whose
 * script fails ends itself; if all do, the node group fails with NodeCreationFailure, and the console output of an
 * instance has the line.
 */
function nodeGroup(
  stack: Stack,
  cluster: eks.Cluster,
  configuration: Configuration,
  releases: Releases,
  releaseVersion: string,
): eks.Nodegroup {
  const userData = new ec2.MultipartUserData();
  userData.addPart(ec2.MultipartBody.fromRawBody({ contentType: 'application/node.eks.aws', body: NODE_CONFIG }));
  const script = ec2.UserData.forLinux();
  script.addCommands(
    ...closed(),
    ...reserve(reserved(configuration, releases), 'kubelet.service'),
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
  const { count, type } = configuration.machines;
  // Without a name: another machine type or architecture replaces the group, beside the present one.
  return cluster.addNodegroupCapacity('Machines', {
    nodeRole: role,
    subnets: MACHINES,
    amiType:
      configuration.architecture === 'arm64'
        ? eks.NodegroupAmiType.AL2023_ARM_64_STANDARD
        : eks.NodegroupAmiType.AL2023_X86_64_STANDARD,
    releaseVersion,
    instanceTypes: [new ec2.InstanceType(type)],
    minSize: count,
    desiredSize: count,
    // As many again while machines are replaced.
    maxSize: 2 * count,
    maxUnavailable: 1,
    labels: { [NITRO_NODE]: 'enabled' },
    launchTemplateSpec: { id: template.launchTemplateId ?? '', version: template.latestVersionNumber },
    enableNodeAutoRepair: true,
  });
}

function operators(stack: Stack, cluster: eks.Cluster, configuration: Configuration): void {
  configuration.operators.forEach((principalArn, index) => {
    new eks.CfnAccessEntry(stack, `Operator${index}`, {
      clusterName: cluster.clusterName,
      principalArn,
      kubernetesGroups: [OPERATORS],
    });
  });
}

/** Associates the pods' service accounts with the roles that the images measure. */
export function podIdentities(stack: Stack, clusterName: string, configuration: Configuration): void {
  const { signerRole, generatorRole } = names(configuration);
  for (const service of SERVICES) {
    new eks.CfnPodIdentityAssociation(stack, `Identity-${service}`, {
      clusterName,
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

/**
 * With another CDK_RENEW, objects are applied again as they should be, and what was read is read again: CloudFormation
 * calls the functions for that only when a property changes.
 */
export function renew(stack: Stack, { renew: value }: Configuration): void {
  for (const node of value === undefined ? [] : stack.node.findAll()) {
    if (node instanceof CfnResource && RENEWED.includes(node.cfnResourceType)) {
      node.addPropertyOverride('Renew', value);
    }
  }
}

const RENEWED: readonly string[] = [
  eks.KubernetesManifest.RESOURCE_TYPE,
  eks.KubernetesObjectValue.RESOURCE_TYPE,
  PUBLISHED,
];

/** Findings of cdk-nag in constructs of aws-cdk-lib. */
function acknowledgeCluster(cluster: eks.Cluster): void {
  acknowledge(
    cluster,
    ['Annotation::@aws-cdk/aws-eks:clusterMustManuallyTagSubnet'],
    'Tags for load balancers that controllers make, and none does here.',
  );
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

/** Applies an object with a member that is known when the stack is deployed, as JSON. */
function applyText(
  cluster: eks.Cluster,
  id: string,
  manifest: (member: string) => Manifest,
  text: string,
  after: IDependable,
): void {
  const [before, behind] = JSON.stringify([manifest(MEMBER)]).split(JSON.stringify(MEMBER));
  const applied = new eks.KubernetesManifest(cluster.stack, id, {
    cluster,
    manifest: [manifest(MEMBER)],
    overwrite: true,
    // The label for it would be missing in the text.
    prune: false,
  });
  applied.node.addDependency(after);
  const resource = applied.node.defaultChild;
  if (resource instanceof CfnResource) {
    resource.addPropertyOverride('Manifest', Fn.join('', [before ?? '', text, behind ?? '']));
  }
}

const MEMBER = 'known when deployed';
