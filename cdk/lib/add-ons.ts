/** Add-ons of EKS and charts, which run in the cluster besides the pods. */

import { Duration, type Stack } from 'aws-cdk-lib';
import * as eks from 'aws-cdk-lib/aws-eks-v2';
import * as iam from 'aws-cdk-lib/aws-iam';
import type { IDependable } from 'constructs';

import { podIdentity } from './base';
import { acknowledge, managed } from './findings';
import type { Entrance, Network } from './network';
import type { Published } from './set-up';

/** A machine joins only if there is a network plugin. */
const NETWORK_ADD_ONS = ['vpc-cni', 'kube-proxy'] as const;

/** Their versions are those that EKS recommends for the version of Kubernetes (set-up.ts). */
export const ADD_ONS = [
  ...NETWORK_ADD_ONS,
  'eks-pod-identity-agent',
  'coredns',
  'amazon-cloudwatch-observability',
] as const;

/**
 * The charts' versions. `cdk deploy cloister-cluster` updates them; helm does not update their custom resource
 * definitions, so read the release notes first:
 * https://github.com/kubernetes-sigs/aws-load-balancer-controller/releases, https://cert-manager.io/docs/releases/
 */
const CHARTS = {
  'aws-load-balancer-controller': { repository: 'https://aws.github.io/eks-charts', version: '3.2.2' },
  'cert-manager': { repository: 'https://charts.jetstack.io', version: 'v1.21.2' },
} as const;

type Versions = Published<(typeof ADD_ONS)[number]>;

export function networkAddOns(stack: Stack, cluster: eks.Cluster, versions: Versions): readonly IDependable[] {
  return NETWORK_ADD_ONS.map(
    (addonName) =>
      new eks.Addon(stack, addonName, {
        cluster,
        addonName,
        addonVersion: versions.addOn(addonName),
        ...(addonName === 'vpc-cni' ? { configurationValues: { enableNetworkPolicy: 'true' } } : {}),
      }),
  );
}

/** Returns the constructs that objects have to wait for. */
export function addOns(
  stack: Stack,
  cluster: eks.Cluster,
  versions: Versions,
  nodes: IDependable,
  network: Network,
  entrance: Entrance,
): readonly IDependable[] {
  const addon = (addonName: 'eks-pod-identity-agent' | 'coredns') => {
    const made = new eks.Addon(stack, addonName, { cluster, addonName, addonVersion: versions.addOn(addonName) });
    made.node.addDependency(nodes);
    return made;
  };
  const identity = addon('eks-pod-identity-agent');
  const dns = addon('coredns');
  shipLogs(stack, cluster, versions).node.addDependency(nodes, identity);
  const charts = [loadBalancerController(stack, cluster, network, entrance), certManager(cluster)];
  charts.forEach((chart) => chart.node.addDependency(nodes, dns, identity));
  return [nodes, dns, identity, ...charts];
}

/** A chart in a namespace of its release's name, or in the given one. */
function chart(
  cluster: eks.Cluster,
  name: keyof typeof CHARTS,
  namespace: string,
  values: Readonly<Record<string, unknown>>,
): eks.HelmChart {
  return cluster.addHelmChart(name, {
    ...CHARTS[name],
    chart: name,
    release: name,
    namespace,
    createNamespace: namespace === name,
    wait: true,
    timeout: Duration.minutes(10),
    values: { ...values },
  });
}

function certManager(cluster: eks.Cluster): eks.HelmChart {
  return chart(cluster, 'cert-manager', 'cert-manager', { crds: { enabled: true } });
}

/**
 * The AWS Load Balancer Controller. It only binds pods to the target groups of this stack: resources that it creates
 * itself stay behind when the cluster is destroyed. So its role has the permissions for that alone, and not the library's
 * (AlbController), which also needs an OIDC provider and takes the image from one region.
 * https://kubernetes-sigs.github.io/aws-load-balancer-controller/latest/deploy/installation/
 */
function loadBalancerController(
  stack: Stack,
  cluster: eks.Cluster,
  { vpc }: Network,
  { targetGroups }: Entrance,
): eks.HelmChart {
  const name = 'aws-load-balancer-controller';
  const namespace = 'kube-system';
  const role = identityRole(stack, 'LoadBalancerControllerRole');
  const allow = (actions: readonly string[], resources: readonly string[]) =>
    role.addToPolicy(new iam.PolicyStatement({ actions: [...actions], resources: [...resources] }));
  allow(
    [
      'ec2:DescribeInstances',
      'ec2:DescribeSecurityGroups',
      'ec2:DescribeVpcs',
      'elasticloadbalancing:DescribeTargetGroups',
      'elasticloadbalancing:DescribeTargetHealth',
    ],
    ['*'],
  );
  acknowledge(role, ['AwsSolutions-IAM5[Resource::*]'], 'Actions that describe, which know no resource.');
  allow(
    ['elasticloadbalancing:RegisterTargets', 'elasticloadbalancing:DeregisterTargets'],
    Object.values(targetGroups).map(({ targetGroupArn }) => targetGroupArn),
  );
  const identity = new eks.CfnPodIdentityAssociation(stack, 'LoadBalancerControllerIdentity', {
    clusterName: cluster.clusterName,
    namespace,
    serviceAccount: name,
    roleArn: role.roleArn,
  });
  const controller = chart(cluster, name, namespace, {
    clusterName: cluster.clusterName,
    region: stack.region,
    vpcId: vpc.vpcId,
    serviceAccount: { name },
    enableServiceMutatorWebhook: false,
  });
  // Pods get the credentials of an association that exists when they start.
  controller.node.addDependency(identity, role);
  return controller;
}

/**
 * Container logs and metrics to CloudWatch: the observability add-on, which is Fluent Bit and the CloudWatch agent.
 *
 * By itself it puts a line inside of a record of its own. Lines go as they were written instead, in a stream named by
 * pod and container: CloudWatch makes metrics of lines in its embedded metric format only where these are whole events.
 */
function shipLogs(stack: Stack, cluster: eks.Cluster, versions: Versions): eks.CfnAddon {
  const role = identityRole(stack, 'ObservabilityRole', 'CloudWatchAgentServerPolicy');
  const addonName = 'amazon-cloudwatch-observability';
  return new eks.CfnAddon(stack, 'Observability', {
    addonName,
    addonVersion: versions.addOn(addonName),
    clusterName: cluster.clusterName,
    podIdentityAssociations: [{ serviceAccount: 'cloudwatch-agent', roleArn: role.roleArn }],
    resolveConflicts: 'OVERWRITE',
    configurationValues: JSON.stringify({
      containerLogs: { fluentBit: { config: { extraFiles: { 'application-log.conf': LINES_AS_WRITTEN } } } },
    }),
  });
}

/** A role for a service account. */
function identityRole(stack: Stack, id: string, policy?: string): iam.Role {
  const role = new iam.Role(stack, id, {
    assumedBy: podIdentity(stack.account),
    ...(policy === undefined ? {} : { managedPolicies: [iam.ManagedPolicy.fromAwsManagedPolicyName(policy)] }),
  });
  if (policy !== undefined) {
    acknowledge(role, [managed(policy)], 'The policy that AWS maintains for its agent.');
  }
  return role;
}

/**
 * https://docs.fluentbit.io/manual/data-pipeline/outputs/cloudwatch; the variables are set by the add-on. The excluded
 * containers are in its log of the data plane.
 */
const LINES_AS_WRITTEN = `[INPUT]
    Name                tail
    Tag                 application.*
    Exclude_Path        /var/log/containers/aws-node*, /var/log/containers/kube-proxy*
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
