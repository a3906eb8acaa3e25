/** The pods of a release on the cluster, and of the next one while traffic moves between them. */

import { createHash } from 'node:crypto';

import { CfnResource, Duration, type Stack } from 'aws-cdk-lib';
import * as eks from 'aws-cdk-lib/aws-eks-v2';
import type { IDependable } from 'constructs';

import { apply, type Cluster } from './cluster';
import { type Configuration, names } from './configuration';
import { podImage } from './containers';
import { enclaveSize } from './kubernetes/enclave';
import { NAMESPACE } from './kubernetes/namespace';
import { traffic } from './kubernetes/traffic';
import { deployment, surroundings, type Workload, workloadName } from './kubernetes/workload';
import { type Release, type Releases, SERVICES, type Service, withTraffic } from './release';
import { handover } from './set-up';

export interface WorkloadOptions {
  readonly cmkArn: string;
  readonly frontDoorSecretArn: string;
  /** Rules that know the pods’ images, deployed before these use the key. */
  readonly after: readonly IDependable[];
}

/**
 * Applies the pods of both releases, and binds those with the traffic to the load balancer. Once they are available,
 * CloudFormation removes what the template no longer has: the binding of the other release, and later that release. If
 * they do not become available, the deployment fails, CloudFormation removes them, and the other release keeps its
 * traffic throughout.
 */
export function workloads(
  stack: Stack,
  cluster: Cluster,
  configuration: Configuration,
  releases: Releases,
  options: WorkloadOptions,
): void {
  for (const service of SERVICES) {
    const chosen = withTraffic(configuration, releases);
    for (const release of revisions(releases, service)) {
      const { imageUri } = podImage(stack, configuration, release, service);
      const workload = workloadOf(configuration, release, service, imageUri, options);
      const bound = release.images[service].pcr0 === chosen.images[service].pcr0;
      const applied = applyPods(stack, cluster, configuration, workload, bound, options.after);
      if (bound) {
        awaitPods(stack, cluster, workload, applied);
      }
    }
  }
}

function applyPods(
  stack: Stack,
  cluster: Cluster,
  configuration: Configuration,
  of: Workload,
  bound: boolean,
  after: readonly IDependable[],
): eks.KubernetesManifest {
  const name = workloadName(of);
  const service = apply(cluster.eks, name, surroundings(of), after, stack);
  return apply(
    cluster.eks,
    `${name}-pods`,
    [deployment(of)],
    [service, ...(bound ? [bind(stack, cluster, configuration, of, service)] : [])],
    stack,
  );
}

function bind(
  stack: Stack,
  cluster: Cluster,
  configuration: Configuration,
  of: Workload,
  service: IDependable,
): IDependable {
  const name = workloadName(of);
  const { targetGroupArn } = cluster.targetGroups[of.service];
  const binding = apply(cluster.eks, `${name}-traffic`, [traffic(of, targetGroupArn)], [service], stack);
  handover(stack, `${name}-handover`, configuration, targetGroupArn).node.addDependency(binding);
  return binding;
}

/**
 * Waits until all replicas of this revision are available and no others are left. Each expression selects a Deployment
 * whose status is of its present revision, because CloudFormation asks as soon as the revision is applied.
 */
function awaitPods(stack: Stack, cluster: Cluster, of: Workload, applied: IDependable): void {
  const revision = createHash('sha256')
    .update(JSON.stringify(stack.resolve(deployment(of))))
    .digest('hex');
  for (const [id, reason] of [
    ['rolled-out', 'NewReplicaSetAvailable'],
    ['available', 'MinimumReplicasAvailable'],
  ] as const) {
    const observed = new eks.KubernetesObjectValue(stack, `${workloadName(of)}-${id}`, {
      cluster: cluster.eks,
      objectType: 'deployment',
      // A list, because only elements of a list can be compared.
      objectName: `--field-selector=metadata.name=${workloadName(of)}`,
      objectNamespace: NAMESPACE,
      jsonPath: `.items[?(@.status.observedGeneration==@.metadata.generation)].status.conditions[?(@.reason=="${reason}")].status`,
      timeout: Duration.minutes(14),
    });
    observed.node.addDependency(applied);
    const resource = observed.node.findChild('Resource').node.defaultChild;
    if (resource instanceof CfnResource) {
      // CloudFormation asks again only when a property changes.
      resource.addPropertyOverride('Revision', revision);
    }
  }
}

/** The releases that run. Only one if both have the same image, which is then updated in place. */
export function revisions({ release, next }: Releases, service: Service): readonly Release[] {
  return next === undefined
    ? [release]
    : next.images[service].pcr0 === release.images[service].pcr0
      ? [next]
      : [next, release];
}

/** The pods of a service of a release. */
export function workloadOf(
  configuration: Configuration,
  release: Release,
  service: Service,
  image: string,
  { cmkArn, frontDoorSecretArn }: Pick<WorkloadOptions, 'cmkArn' | 'frontDoorSecretArn'>,
): Workload {
  const { pcr0, size } = release.images[service];
  return {
    namespace: NAMESPACE,
    service,
    architecture: configuration.architecture,
    image,
    pcr0,
    replicas: configuration.replicas[service],
    region: configuration.region,
    partition: configuration.partition,
    cmkArn,
    frontDoorSecretArn,
    tableArn: names(configuration).tableArn,
    enclave: enclaveSize(size),
    deployment: `${configuration.prefix}${service}`,
  };
}
