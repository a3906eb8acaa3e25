/** Which release gets the traffic. */

import type { Manifest } from './manifest';
import { HTTPS_PORT } from './pods';
import { metadata, type Workload, workloadName } from './workload';

/**
 * Binds the pods of a workload to its service's target group, through the AWS Load Balancer Controller. Made before the pods, it keeps them from
 * being available until the load balancer finds them healthy. Each release has its own, for one target group: the new one is made before the old
 * one goes, which is the switch. https://kubernetes-sigs.github.io/aws-load-balancer-controller/latest/guide/use_cases/multi_cluster
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
