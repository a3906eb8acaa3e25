/** Which release gets the traffic. */

import type { Manifest } from './manifest';
import { HTTPS_PORT } from './pods';
import { serviceLabels, type Workload, workloadName } from './workload';

/**
 * Binds the pods of a workload to the load balancer's target group. One for each service, whatever the release: applying it with another workload
 * is the switch. The AWS Load Balancer Controller registers the new pods and then removes the old ones.
 */
export function traffic(of: Pick<Workload, 'service' | 'pcr0' | 'namespace'>, targetGroupArn: string): Manifest {
  return {
    apiVersion: 'elbv2.k8s.aws/v1beta1',
    kind: 'TargetGroupBinding',
    metadata: { name: of.service, namespace: of.namespace, labels: serviceLabels(of.service) },
    spec: { serviceRef: { name: workloadName(of), port: HTTPS_PORT }, targetGroupARN: targetGroupArn, targetType: 'ip' },
  };
}
