/** Binds pods to the load balancer, and moves traffic between releases. */

import type { Manifest } from './manifest';
import { HTTPS_PORT } from './pods';
import { metadata, type Workload, workloadName } from './workload';

/**
 * Binds the pods of a workload to its service's target group, through the AWS Load Balancer Controller. It is created
 * before the pods, which therefore become available only when the load balancer finds them healthy. Each release has
 * its own binding to the same target group; traffic moves when the new one exists and the old one is removed.
 * https://kubernetes-sigs.github.io/aws-load-balancer-controller/latest/guide/use_cases/multi_cluster
 */
export function traffic(of: Workload, targetGroupArn: string): Manifest {
  return {
    apiVersion: 'elbv2.k8s.aws/v1beta1',
    kind: 'TargetGroupBinding',
    metadata: metadata(of),
    spec: {
      serviceRef: { name: workloadName(of), port: HTTPS_PORT },
      targetGroupARN: targetGroupArn,
      targetType: 'ip',
      multiClusterTargetGroup: true,
    },
  };
}
