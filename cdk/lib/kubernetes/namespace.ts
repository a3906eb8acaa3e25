/** Objects that do not depend on a release: namespace, service accounts, network policies. */

import { SERVICES, type Service } from '../release';
import { type Json, type Manifest, PART_OF } from './manifest';
import { HEALTH_PORT, HTTPS_PORT } from './pods';
import { serviceLabels } from './workload';

export const NAMESPACE = 'cloister';

/** `vpcCidr` contains the addresses of the load balancer and of the endpoints of AWS services. */
export function namespaceObjects(vpcCidr: string): readonly Manifest[] {
  return [
    namespace(),
    denyAll(),
    ...SERVICES.flatMap((service) => [serviceAccount(service), networkPolicy(service, vpcCidr)]),
  ];
}

function namespace(): Manifest {
  return {
    apiVersion: 'v1',
    kind: 'Namespace',
    metadata: {
      name: NAMESPACE,
      labels: {
        ...PART_OF,
        // https://kubernetes.io/docs/concepts/security/pod-security-standards/
        'pod-security.kubernetes.io/enforce': 'restricted',
        'pod-security.kubernetes.io/warn': 'restricted',
        // A new pod counts as available only when the load balancer finds it healthy.
        'elbv2.k8s.aws/pod-readiness-gate-inject': 'enabled',
      },
    },
  };
}

/** EKS Pod Identity associates it with the service's role. */
function serviceAccount(service: Service): Manifest {
  return {
    apiVersion: 'v1',
    kind: 'ServiceAccount',
    metadata: { name: service, namespace: NAMESPACE, labels: serviceLabels(service) },
    automountServiceAccountToken: false,
  };
}

function denyAll(): Manifest {
  return {
    apiVersion: 'networking.k8s.io/v1',
    kind: 'NetworkPolicy',
    metadata: { name: 'deny-all', namespace: NAMESPACE, labels: PART_OF },
    spec: { podSelector: {}, policyTypes: ['Ingress', 'Egress'] },
  };
}

function networkPolicy(service: Service, vpcCidr: string): Manifest {
  const tcp = (port: number): Json => ({ protocol: 'TCP', port });
  return {
    apiVersion: 'networking.k8s.io/v1',
    kind: 'NetworkPolicy',
    metadata: { name: service, namespace: NAMESPACE, labels: serviceLabels(service) },
    spec: {
      podSelector: { matchLabels: { 'app.kubernetes.io/name': service } },
      policyTypes: ['Ingress', 'Egress'],
      // The load balancer, whose security group admits the front door alone. Its addresses are those of the VPC, so the
      // rule admits every host and pod of the VPC. The kubelet always reaches its pods.
      ingress: [{ from: [{ ipBlock: { cidr: vpcCidr } }], ports: [tcp(HTTPS_PORT), tcp(HEALTH_PORT)] }],
      egress: [
        {
          to: [{ namespaceSelector: { matchLabels: { 'kubernetes.io/metadata.name': 'kube-system' } } }],
          ports: [{ protocol: 'UDP', port: 53 }, tcp(53)],
        },
        // The EKS Pod Identity agent: https://docs.aws.amazon.com/eks/latest/userguide/pod-id-agent-setup.html
        { to: [{ ipBlock: { cidr: '169.254.170.23/32' } }], ports: [tcp(80)] },
        // KMS has an endpoint in the VPC; DynamoDB is reached at public addresses through the gateway endpoint. The
        // enclave checks the identity of the peer, and the pod's allow-list the host name.
        { to: [{ ipBlock: { cidr: '0.0.0.0/0', except: ['169.254.169.254/32'] } }], ports: [tcp(443)] },
      ],
    },
  };
}
