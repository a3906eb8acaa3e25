/** A service of a release: Deployment, Service and disruption budget. */

import type { Architecture } from '../configuration';
import type { Service } from '../release';
import { type EnclaveSize, HUGE_PAGES } from './enclave';
import { type Json, type Labels, type Manifest, PART_OF } from './manifest';
import {
  environment,
  GRACE_SECONDS,
  HEALTH_PORT,
  HTTPS_PORT,
  LEAVE_SECONDS,
  NITRO_GROUP,
  PATHS,
  type Surroundings,
  USER,
} from './pods';
import { SECCOMP_PROFILE } from './seccomp';

export interface Workload extends Surroundings {
  readonly namespace: string;
  readonly architecture: Architecture;
  /** The container image, by digest or another immutable name. */
  readonly image: string;
  readonly pcr0: string;
  readonly replicas: number;
}

/**
 * Name of a workload: the service, and the first digits of the release's PCR0. An update with equal measurements is a
 * rolling update of one Deployment; other measurements create a second Deployment and Service, to which traffic moves
 * once they are available (traffic.ts).
 */
export function workloadName({ service, pcr0 }: Pick<Workload, 'service' | 'pcr0'>): string {
  return `${service}-${release(pcr0)}`;
}

function release(pcr0: string): string {
  return pcr0.slice(0, 12).toLowerCase();
}

/** The Service and the disruption budget of the pods. */
export function surroundings(of: Workload): readonly Manifest[] {
  return [clusterService(of), disruptionBudget(of)];
}

export function serviceLabels(service: Service): Labels {
  return { ...PART_OF, 'app.kubernetes.io/name': service };
}

function selector({ service, pcr0 }: Workload): Labels {
  return { 'app.kubernetes.io/name': service, 'cloister/release': release(pcr0) };
}

function labels(of: Workload): Labels {
  return { ...PART_OF, ...selector(of) };
}

/** Labels of every object of a workload. */
export function metadata(of: Workload) {
  return { name: workloadName(of), namespace: of.namespace, labels: labels(of) };
}

export function deployment(of: Workload): Manifest {
  return {
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    // A PCR0 is too long for a label.
    metadata: { ...metadata(of), annotations: { 'cloister/pcr0': of.pcr0 } },
    spec: {
      replicas: of.replicas,
      revisionHistoryLimit: 2,
      // An enclave boots in seconds, but another one that is starting may occupy port 9000 of the machine.
      progressDeadlineSeconds: 600,
      minReadySeconds: 10,
      strategy: { type: 'RollingUpdate', rollingUpdate: { maxSurge: 1, maxUnavailable: 0 } },
      selector: { matchLabels: selector(of) },
      template: { metadata: { labels: labels(of), annotations: { 'cloister/pcr0': of.pcr0 } }, spec: podSpec(of) },
    },
  };
}

function podSpec(of: Workload): { readonly [member: string]: Json } {
  return {
    serviceAccountName: of.service,
    // EKS Pod Identity projects its own token.
    automountServiceAccountToken: false,
    enableServiceLinks: false,
    // The pause container reaps the processes that nitro-cli leaves behind.
    shareProcessNamespace: true,
    terminationGracePeriodSeconds: GRACE_SECONDS,
    nodeSelector: { 'kubernetes.io/arch': of.architecture, 'kubernetes.io/os': 'linux', [NITRO_NODE]: 'enabled' },
    affinity: { podAntiAffinity: { requiredDuringSchedulingIgnoredDuringExecution: [apart(of)] } },
    topologySpreadConstraints: [
      {
        ...apart(of),
        maxSkew: 1,
        topologyKey: 'topology.kubernetes.io/zone',
        whenUnsatisfiable: 'DoNotSchedule',
        nodeTaintsPolicy: 'Honor',
      },
    ],
    securityContext: {
      runAsNonRoot: true,
      runAsUser: USER,
      runAsGroup: USER,
      fsGroup: USER,
      fsGroupChangePolicy: 'OnRootMismatch',
      supplementalGroups: [NITRO_GROUP],
      seccompProfile: { type: 'Localhost', localhostProfile: SECCOMP_PROFILE },
    },
    containers: [container(of)],
    volumes: [
      { name: 'tls', secret: { secretName: tlsSecret(of.service), defaultMode: 0o440 } },
      { name: 'nitro-cli-sockets', emptyDir: { medium: 'Memory', sizeLimit: '1Mi' } },
      { name: 'nitro-cli-logs', emptyDir: { sizeLimit: '64Mi' } },
    ],
  };
}

/**
 * Pods of one revision run on different machines; the surge pod of the next revision may share a machine with one of
 * them.
 */
function apart(of: Workload) {
  return {
    labelSelector: { matchLabels: selector(of) },
    matchLabelKeys: ['pod-template-hash'],
    topologyKey: 'kubernetes.io/hostname',
  };
}

function container(of: Workload): Json {
  return {
    name: 'pod',
    image: of.image,
    imagePullPolicy: 'IfNotPresent',
    ports: [
      { name: 'https', containerPort: HTTPS_PORT },
      { name: 'health', containerPort: HEALTH_PORT },
    ],
    env: [...Object.entries(environment(of)).map(([name, value]) => ({ name, value })), ...METRICS],
    resources: resources(of.enclave),
    securityContext: {
      allowPrivilegeEscalation: false,
      privileged: false,
      readOnlyRootFilesystem: true,
      capabilities: { drop: ['ALL'] },
    },
    // Only readiness depends on the enclave: restarting the pod does not fix an enclave that cannot open keys.
    startupProbe: { httpGet: { path: '/healthz', port: 'health' }, periodSeconds: 2, failureThreshold: 30 },
    livenessProbe: {
      httpGet: { path: '/healthz', port: 'health' },
      periodSeconds: 10,
      timeoutSeconds: 3,
      failureThreshold: 3,
    },
    readinessProbe: {
      httpGet: { path: '/readyz', port: 'health' },
      periodSeconds: 5,
      timeoutSeconds: 3,
      failureThreshold: 2,
    },
    lifecycle: { preStop: { sleep: { seconds: LEAVE_SECONDS } } },
    volumeMounts: [
      { name: 'tls', mountPath: PATHS.tls, readOnly: true },
      { name: 'nitro-cli-sockets', mountPath: PATHS.sockets },
      { name: 'nitro-cli-logs', mountPath: PATHS.logs },
    ],
  };
}

/** Resources of the forwarding program alone; the enclave's memory and processors are counted separately. */
function resources({ cpus, memoryMib }: EnclaveSize): Json {
  const enclave = {
    'aws.ec2.nitro/nitro_enclaves': '1',
    'aws.ec2.nitro/nitro_enclaves_cpus': String(cpus),
    [HUGE_PAGES]: `${memoryMib}Mi`,
  };
  return { requests: { cpu: '100m', memory: '128Mi', ...enclave }, limits: { memory: '256Mi', ...enclave } };
}

function clusterService(of: Workload): Manifest {
  return {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: metadata(of),
    spec: {
      type: 'ClusterIP',
      selector: selector(of),
      ports: [{ name: 'https', protocol: 'TCP', port: HTTPS_PORT, targetPort: 'https' }],
    },
  };
}

function disruptionBudget(of: Workload): Manifest {
  return {
    apiVersion: 'policy/v1',
    kind: 'PodDisruptionBudget',
    metadata: metadata(of),
    // A pod that is not ready serves no requests, and must not block the replacement of a machine.
    spec: { maxUnavailable: 1, unhealthyPodEvictionPolicy: 'AlwaysAllow', selector: { matchLabels: selector(of) } },
  };
}

/**
 * An autoscaler by processor time. It is a template and not applied: the nodes have room for two pods of each service
 * and a surge.
 */
export function autoscaler(of: Workload, most: number): Manifest {
  return {
    apiVersion: 'autoscaling/v2',
    kind: 'HorizontalPodAutoscaler',
    metadata: metadata(of),
    spec: {
      scaleTargetRef: { apiVersion: 'apps/v1', kind: 'Deployment', name: workloadName(of) },
      minReplicas: of.replicas,
      maxReplicas: most,
      metrics: [
        { type: 'Resource', resource: { name: 'cpu', target: { type: 'Utilization', averageUtilization: 70 } } },
      ],
      behavior: { scaleDown: { stabilizationWindowSeconds: 600 } },
    },
  };
}

/** Dimensions of the enclave's metrics that depend on the pod's location. */
const METRICS: readonly Json[] = [
  { name: 'CLOISTER_METRICS_NODE', valueFrom: { fieldRef: { fieldPath: 'spec.nodeName' } } },
  { name: 'CLOISTER_METRICS_POD', valueFrom: { fieldRef: { fieldPath: 'metadata.name' } } },
];

/** The Secret into which cert-manager writes certificate and key of a service. */
export function tlsSecret(service: Service): string {
  return `${service}-tls`;
}

/** The label of nodes with enclaves, selected by the device plugin and by the pods. */
export const NITRO_NODE = 'aws-nitro-enclaves-k8s-dp';
