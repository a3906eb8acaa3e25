/** The pods of a release on the cluster, and of the next one while traffic moves to it. */

import { Duration, type Stack } from 'aws-cdk-lib';
import * as eks from 'aws-cdk-lib/aws-eks-v2';

import { apply, type Cluster } from './cluster';
import { type Configuration, names } from './configuration';
import { podImage } from './containers';
import { enclaveSize } from './kubernetes/enclave';
import { NAMESPACE } from './kubernetes/namespace';
import { traffic } from './kubernetes/traffic';
import { type Workload, workload, workloadName } from './kubernetes/workload';
import { type Release, type Releases, SERVICES, type Service } from './release';

export interface WorkloadOptions {
  readonly cmkArn: string;
  readonly replicas?: number;
}

/**
 * Applies the pods of both releases, waits until those of the newer are available, and binds the load balancer to them. When they do not become
 * available the deployment fails, CloudFormation takes them away again, and traffic has stayed where it was.
 */
export function workloads(stack: Stack, cluster: Cluster, configuration: Configuration, releases: Releases, options: WorkloadOptions): void {
  for (const service of SERVICES) {
    const [current, ...older] = revisions(releases, service).map((release) => describe(stack, configuration, release, service, options));
    if (current === undefined) {
      continue;
    }
    older.forEach((of) => apply(cluster.eks, workloadName(of), workload(of), [], stack));
    const applied = apply(cluster.eks, workloadName(current), workload(current), [], stack);
    const available = new eks.KubernetesObjectValue(stack, `${workloadName(current)}-available`, {
      cluster: cluster.eks,
      objectType: 'deployment',
      objectName: workloadName(current),
      objectNamespace: NAMESPACE,
      // Present once all replicas are.
      jsonPath: '.status.conditions[?(@.reason=="MinimumReplicasAvailable")].status',
      timeout: Duration.minutes(14),
    });
    available.node.addDependency(applied);
    apply(cluster.eks, `traffic-${service}`, [traffic(current, cluster.targetGroups[service].targetGroupArn)], [available], stack);
  }
}

/** The newest first; one alone where both have the same image, which is then updated in place. */
function revisions({ release, next }: Releases, service: Service): readonly Release[] {
  return next === undefined ? [release] : next.images[service].pcr0 === release.images[service].pcr0 ? [next] : [next, release];
}

function describe(stack: Stack, configuration: Configuration, release: Release, service: Service, { cmkArn, replicas = 2 }: WorkloadOptions): Workload {
  const { pcr0, size } = release.images[service];
  return {
    namespace: NAMESPACE,
    service,
    architecture: configuration.architecture,
    image: podImage(stack, configuration, release, service).imageUri,
    pcr0,
    replicas,
    region: configuration.region,
    urlSuffix: configuration.partition === 'aws-cn' ? 'amazonaws.com.cn' : 'amazonaws.com',
    cmkArn,
    tableArn: names(configuration).tableArn,
    enclave: enclaveSize(size),
  };
}
