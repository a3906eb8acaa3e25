/** The pods of a release on the cluster, and of the next one while traffic moves to it. */

import { Duration, type Stack } from 'aws-cdk-lib';
import * as eks from 'aws-cdk-lib/aws-eks-v2';

import { apply, type Cluster } from './cluster';
import { type Configuration, names } from './configuration';
import { podImage } from './containers';
import { enclaveSize } from './kubernetes/enclave';
import type { Manifest } from './kubernetes/manifest';
import { NAMESPACE } from './kubernetes/namespace';
import { traffic } from './kubernetes/traffic';
import { deployment, surroundings, type Workload, workloadName } from './kubernetes/workload';
import { type Release, type Releases, SERVICES, type Service } from './release';

export interface WorkloadOptions {
  readonly cmkArn: string;
  readonly replicas?: number;
}

/**
 * Applies the pods of both releases, and binds those of the newer one to the load balancer. Once they are available,
 * CloudFormation removes what the template no longer has: the binding of the older release, and later the release
 * itself. If they do not become available, the deployment fails, CloudFormation removes them, and the older release
 * keeps its traffic throughout.
 */
export function workloads(
  stack: Stack,
  cluster: Cluster,
  configuration: Configuration,
  releases: Releases,
  options: WorkloadOptions,
): void {
  for (const service of SERVICES) {
    const [current, ...older] = revisions(releases, service).map((release) =>
      describe(stack, configuration, release, service, options),
    );
    older.forEach((of) => applyPods(stack, cluster, of));
    if (current !== undefined) {
      waitFor(
        stack,
        cluster,
        current,
        applyPods(stack, cluster, current, traffic(current, cluster.targetGroups[service].targetGroupArn)),
      );
    }
  }
}

function applyPods(stack: Stack, cluster: Cluster, of: Workload, binding?: Manifest): eks.KubernetesManifest {
  const name = workloadName(of);
  const service = apply(cluster.eks, name, surroundings(of), [], stack);
  const bound = binding && apply(cluster.eks, `${name}-traffic`, [binding], [service], stack);
  return apply(
    cluster.eks,
    `${name}-pods`,
    [deployment(of)],
    [service, ...(bound === undefined ? [] : [bound])],
    stack,
  );
}

function waitFor(stack: Stack, cluster: Cluster, of: Workload, applied: eks.KubernetesManifest): void {
  const available = new eks.KubernetesObjectValue(stack, `${workloadName(of)}-available`, {
    cluster: cluster.eks,
    objectType: 'deployment',
    objectName: workloadName(of),
    objectNamespace: NAMESPACE,
    // Present once all replicas are available.
    jsonPath: '.status.conditions[?(@.reason=="MinimumReplicasAvailable")].status',
    timeout: Duration.minutes(14),
  });
  available.node.addDependency(applied);
}

/** The newest first. Only one if both have the same image, which is then updated in place. */
function revisions({ release, next }: Releases, service: Service): readonly Release[] {
  return next === undefined
    ? [release]
    : next.images[service].pcr0 === release.images[service].pcr0
      ? [next]
      : [next, release];
}

function describe(
  stack: Stack,
  configuration: Configuration,
  release: Release,
  service: Service,
  { cmkArn, replicas = 2 }: WorkloadOptions,
): Workload {
  const { pcr0, size } = release.images[service];
  return {
    namespace: NAMESPACE,
    service,
    architecture: configuration.architecture,
    image: podImage(stack, configuration, release, service).imageUri,
    pcr0,
    replicas,
    region: configuration.region,
    partition: configuration.partition,
    cmkArn,
    tableArn: names(configuration).tableArn,
    enclave: enclaveSize(size),
    deployment: `${configuration.prefix}${service}`,
  };
}
