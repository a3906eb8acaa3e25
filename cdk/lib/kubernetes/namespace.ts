/** Objects that do not depend on a release: namespace, service accounts, network policies. */

import { SERVICES, type Service } from '../release';
import { type Json, type Labels, type Manifest, PART_OF } from './manifest';
import { HEALTH_PORT, HTTPS_PORT } from './pods';
import { serviceLabels } from './workload';

export const NAMESPACE = 'cloister';

/** Addresses that pods meet: all other traffic is refused. */
export interface Peers {
  /** Ranges that contain the load balancer and nothing else. */
  readonly loadBalancer: readonly string[];
  /** Ranges of the endpoints of KMS and Secrets Manager. */
  readonly endpoints: readonly string[];
}

export function namespaceObjects(peers: Peers): readonly Manifest[] {
  return [
    namespace(),
    denyAll(),
    ...SERVICES.flatMap((service) => [serviceAccount(service), networkPolicy(service, peers)]),
  ];
}

/**
 * The pods' way to DynamoDB, an object of its own because its addresses are known when the cluster is deployed.
 * DynamoDB has no private name in a network: its public addresses are routed to the gateway endpoint.
 */
export function dynamodbPolicy(peers: Json): Manifest {
  return policy('dynamodb', PART_OF, {
    podSelector: { matchExpressions: [{ key: NAME, operator: 'In', values: [...SERVICES] }] },
    policyTypes: ['Egress'],
    egress: [{ to: peers, ports: [tcp(443)] }],
  });
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
  return policy('deny-all', PART_OF, { podSelector: {}, policyTypes: ['Ingress', 'Egress'] });
}

function networkPolicy(service: Service, { loadBalancer, endpoints }: Peers): Manifest {
  return policy(service, serviceLabels(service), {
    podSelector: { matchLabels: { [NAME]: service } },
    policyTypes: ['Ingress', 'Egress'],
    // The load balancer, whose security group admits the front door alone. The network plugin always admits the pod's
    // own machine, and with it the kubelet's probes.
    ingress: [{ from: blocks(loadBalancer), ports: [tcp(HTTPS_PORT), tcp(HEALTH_PORT)] }],
    egress: [
      {
        to: [
          {
            namespaceSelector: { matchLabels: { 'kubernetes.io/metadata.name': 'kube-system' } },
            podSelector: { matchLabels: { 'k8s-app': 'kube-dns' } },
          },
        ],
        ports: [{ protocol: 'UDP', port: 53 }, tcp(53)],
      },
      // The EKS Pod Identity agent: https://docs.aws.amazon.com/eks/latest/userguide/pod-id-agent-setup.html
      { to: blocks(['169.254.170.23/32']), ports: [tcp(80)] },
      { to: blocks(endpoints), ports: [tcp(443)] },
    ],
  });
}

function policy(name: string, labels: Labels, spec: Json): Manifest {
  return {
    apiVersion: 'networking.k8s.io/v1',
    kind: 'NetworkPolicy',
    metadata: { name, namespace: NAMESPACE, labels },
    spec,
  };
}

function blocks(cidrs: readonly string[]): Json {
  return cidrs.map((cidr) => ({ ipBlock: { cidr } }));
}

function tcp(port: number): Json {
  return { protocol: 'TCP', port };
}

const NAME = 'app.kubernetes.io/name';
