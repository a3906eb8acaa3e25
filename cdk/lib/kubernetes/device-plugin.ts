/**
 * AWS's device plugin for Nitro Enclaves, as in its release 0.4.1:
 * https://github.com/aws/aws-nitro-enclaves-k8s-device-plugin
 */

import type { Reservation } from './enclave';
import { type Manifest, PART_OF } from './manifest';
import { NITRO_NODE } from './workload';

/** Offers `aws.ec2.nitro/nitro_enclaves` and, with CPU advertisement, `aws.ec2.nitro/nitro_enclaves_cpus`. */
export function devicePlugin({ enclaves }: Reservation): Manifest {
  const selector = { name: 'aws-nitro-enclaves-k8s-dp' };
  const mounts = { 'device-plugin': '/var/lib/kubelet/device-plugins', 'dev-dir': '/dev', 'sys-dir': '/sys' };
  return {
    apiVersion: 'apps/v1',
    kind: 'DaemonSet',
    metadata: {
      name: 'aws-nitro-enclaves-k8s-daemonset',
      namespace: 'kube-system',
      labels: { ...PART_OF, ...selector },
    },
    spec: {
      selector: { matchLabels: selector },
      updateStrategy: { type: 'RollingUpdate' },
      template: {
        metadata: { labels: selector },
        spec: {
          nodeSelector: { [NITRO_NODE]: 'enabled' },
          priorityClassName: 'system-node-critical',
          automountServiceAccountToken: false,
          containers: [
            {
              name: 'aws-nitro-enclaves-k8s-dp',
              image: DEVICE_PLUGIN,
              imagePullPolicy: 'IfNotPresent',
              env: [
                { name: 'MAX_ENCLAVES_PER_NODE', value: String(enclaves) },
                { name: 'ENCLAVE_CPU_ADVERTISEMENT', value: 'true' },
              ],
              // Its logging library writes below /tmp.
              securityContext: { allowPrivilegeEscalation: false, capabilities: { drop: ['ALL'] } },
              resources: { requests: { cpu: '10m', memory: '15Mi' }, limits: { cpu: '100m', memory: '32Mi' } },
              volumeMounts: Object.entries(mounts).map(([name, mountPath]) => ({ name, mountPath })),
            },
          ],
          volumes: Object.entries(mounts).map(([name, path]) => ({ name, hostPath: { path, type: 'Directory' } })),
        },
      },
    },
  };
}

export const DEVICE_PLUGIN = 'public.ecr.aws/aws-nitro-enclaves/aws-nitro-enclaves-k8s-device-plugin:0.4.1';
