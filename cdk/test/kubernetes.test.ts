import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { test } from 'node:test';

import { certificateObjects } from '../lib/kubernetes/certificates';
import { DEVICE_PLUGIN, devicePlugin } from '../lib/kubernetes/device-plugin';
import { enclaveSize, reservation } from '../lib/kubernetes/enclave';
import type { Manifest } from '../lib/kubernetes/manifest';
import { dynamodbPolicy, NAMESPACE, namespaceObjects } from '../lib/kubernetes/namespace';
import { operatorObjects, OPERATORS } from '../lib/kubernetes/operators';
import {
  DRAIN_SECONDS,
  GRACE_SECONDS,
  HEALTH_PORT,
  HTTPS_PORT,
  LEAVE_SECONDS,
  NITRO_GROUP,
  PATHS,
  TERMINATE_SECONDS,
} from '../lib/kubernetes/pods';
import { SECCOMP_PROFILE, seccompProfile } from '../lib/kubernetes/seccomp';
import { traffic } from '../lib/kubernetes/traffic';
import { autoscaler, deployment, surroundings, type Workload, workloadName } from '../lib/kubernetes/workload';
import { SERVICES, type Service } from '../lib/release';

const PCR0 = 'ab12'.repeat(24);

export function workloadOf(service: Service, changes: Partial<Workload> = {}): Workload {
  return {
    namespace: NAMESPACE,
    service,
    architecture: 'amd64',
    image: `123456789012.dkr.ecr.eu-central-1.amazonaws.com/cloister@sha256:${'0'.repeat(64)}`,
    pcr0: PCR0,
    replicas: 2,
    region: 'eu-central-1',
    partition: 'aws',
    cmkArn: 'arn:aws:kms:eu-central-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab',
    frontDoorSecretArn: 'arn:aws:secretsmanager:eu-central-1:123456789012:secret:FrontDoorKey-0123456789ab-AbCdEf',
    tableArn: 'arn:aws:dynamodb:eu-central-1:123456789012:table/cloister-keys',
    enclave: enclaveSize(7_100_000),
    deployment: `dev-${service}`,
    ...changes,
  };
}

const workload = (of: Workload) => [deployment(of), ...surroundings(of)];

// Plain data, so that tests can look at any member.
type Plain = ReturnType<typeof JSON.parse>;
const plain = (manifest: Manifest | undefined): Plain => JSON.parse(JSON.stringify(manifest));
const ofKind = (manifests: readonly Manifest[], kind: string): Plain =>
  plain(manifests.find((manifest) => manifest.kind === kind));
const source = (file: string) => fs.readFileSync(path.join(__dirname, '../..', file), 'utf8');
/** All sources of the pods. */
const pods = () =>
  fs
    .readdirSync(path.join(__dirname, '../../pods/src'), { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.rs'))
    .map((file) => source(`pods/src/${file}`))
    .join('\n');

test('an enclave gets whole pages, at least 64 MiB and four times its image', () => {
  assert.deepEqual(enclaveSize(7_100_000), { cpus: 2, memoryMib: 256 });
  assert.deepEqual(enclaveSize(1, { memoryMib: 64 }), { cpus: 2, memoryMib: 64 });
  assert.deepEqual(enclaveSize(100 * 2 ** 20 + 1), { cpus: 2, memoryMib: 402 });
  assert.throws(() => enclaveSize(20 * 2 ** 20, { memoryMib: 64 }), /64 MiB is too small .* at least 80 MiB/);
  assert.throws(() => enclaveSize(1, { cpus: 3 }), /3 CPUs .* even number/);
});

test('a node has room for one enclave of each service and the larger one again', () => {
  const sizes = [enclaveSize(1, { memoryMib: 128 }), enclaveSize(1, { memoryMib: 300, cpus: 4 })];
  assert.deepEqual(reservation(sizes), { enclaves: 3, cpus: 10, memoryMib: 728, pages: 364 });
  assert.throws(() => reservation(Array(4).fill(enclaveSize(1))), /5 enclaves are more than the 4/);
});

test('pods get only variables that the program reads', () => {
  const known = new Set([...pods().matchAll(/env = "([A-Z_]+)"/g)].map(([, name]) => name));
  for (const service of SERVICES) {
    const { env } = ofKind(workload(workloadOf(service)), 'Deployment').spec.template.spec.containers[0];
    const values = Object.fromEntries(env.map(({ name, value }: Plain) => [name, value]));
    assert.deepEqual(
      Object.keys(values).filter((name) => !known.has(name)),
      [],
    );
    assert.equal(values['CLOISTER_TABLE_ARN'] !== undefined, service === 'signer');
    assert.equal(values['CLOISTER_ENCLAVE_MEMORY_MIB'], '256');
    assert.equal(values['CLOISTER_ENCLAVE_CPUS'], '2');
    assert.equal(values['CLOISTER_METRICS_DEPLOYMENT'], `dev-${service}`);
  }
  const egress = (service: Service) =>
    ofKind(workload(workloadOf(service)), 'Deployment').spec.template.spec.containers[0].env.find(
      ({ name }: Plain) => name === 'CLOISTER_EGRESS',
    ).value;
  assert.equal(egress('signer'), 'kms.eu-central-1.amazonaws.com:443');
  assert.equal(egress('key-generator'), 'kms.eu-central-1.amazonaws.com:443,dynamodb.eu-central-1.amazonaws.com:443');
});

test('ports, deadlines and directories are those of the sources', () => {
  const limits = source('crates/protocol/src/limits.rs');
  const seconds = (name: string, text: string) =>
    Number(new RegExp(`const ${name}: Duration = Duration::from_secs\\((\\d+)\\)`).exec(text)?.[1]);
  assert.equal(seconds('BODY_DEADLINE', limits) + seconds('REQUEST_DEADLINE', limits), DRAIN_SECONDS);
  assert.equal(2 * seconds('QUICK_DEADLINE', pods()), TERMINATE_SECONDS);
  assert.match(pods(), /DRAIN_DEADLINE: Duration = BODY_DEADLINE.saturating_add\(REQUEST_DEADLINE\)/);
  assert.match(source('pods/README.md'), new RegExp(`${PATHS.sockets}\` and \`${PATHS.logs}`));
});

test('a pod leaves the load balancer, drains and ends its enclave before it is killed', () => {
  const { spec } = ofKind(workload(workloadOf('signer')), 'Deployment').spec.template;
  assert.equal(spec.containers[0].lifecycle.preStop.sleep.seconds, LEAVE_SECONDS);
  assert.equal(spec.terminationGracePeriodSeconds, GRACE_SECONDS);
  assert.ok(GRACE_SECONDS > LEAVE_SECONDS + DRAIN_SECONDS + TERMINATE_SECONDS);
});

test('an enclave that cannot serve makes its pod unready and never restarts it', () => {
  const [{ readinessProbe, livenessProbe, startupProbe, ports }] = ofKind(workload(workloadOf('signer')), 'Deployment')
    .spec.template.spec.containers;
  assert.equal(readinessProbe.httpGet.path, '/readyz');
  assert.equal(livenessProbe.httpGet.path, '/healthz');
  assert.equal(startupProbe.httpGet.path, '/healthz');
  assert.deepEqual(
    ports.map(({ containerPort }: Plain) => containerPort),
    [HTTPS_PORT, HEALTH_PORT],
  );
});

test('a pod has no privileges except the group of the device', () => {
  for (const service of SERVICES) {
    const { spec } = ofKind(workload(workloadOf(service)), 'Deployment').spec.template;
    assert.equal(spec.securityContext.runAsNonRoot, true);
    assert.notEqual(spec.securityContext.runAsUser, 0);
    assert.deepEqual(spec.securityContext.supplementalGroups, [NITRO_GROUP]);
    assert.deepEqual(spec.securityContext.seccompProfile, { type: 'Localhost', localhostProfile: SECCOMP_PROFILE });
    assert.equal(spec.automountServiceAccountToken, false);
    assert.equal(spec.serviceAccountName, service);
    const [container] = spec.containers;
    assert.deepEqual(container.securityContext, {
      allowPrivilegeEscalation: false,
      privileged: false,
      readOnlyRootFilesystem: true,
      capabilities: { drop: ['ALL'] },
    });
    const writable = spec.volumes
      .filter(({ emptyDir }: Plain) => emptyDir !== undefined)
      .map(({ name }: Plain) => name);
    const mounted = container.volumeMounts
      .filter(({ name }: Plain) => writable.includes(name))
      .map(({ mountPath }: Plain) => mountPath);
    assert.deepEqual(mounted, ['/run/nitro_enclaves', '/var/log/nitro_enclaves']);
    assert.ok(!JSON.stringify(spec).includes('hostPath'));
  }
});

test('a pod requests its enclave, processors and huge pages', () => {
  const { resources } = ofKind(workload(workloadOf('signer')), 'Deployment').spec.template.spec.containers[0];
  for (const amounts of [resources.requests, resources.limits]) {
    assert.equal(amounts['aws.ec2.nitro/nitro_enclaves'], '1');
    assert.equal(amounts['aws.ec2.nitro/nitro_enclaves_cpus'], '2');
    assert.equal(amounts['hugepages-2Mi'], '256Mi');
  }
  const { nodeSelector } = ofKind(workload(workloadOf('signer', { architecture: 'arm64' })), 'Deployment').spec.template
    .spec;
  assert.equal(nodeSelector['kubernetes.io/arch'], 'arm64');
});

test('the two pods of a revision are on two machines in two zones; a surge may share one', () => {
  const { affinity, topologySpreadConstraints } = ofKind(workload(workloadOf('signer')), 'Deployment').spec.template
    .spec;
  const [term] = affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution;
  assert.equal(term.topologyKey, 'kubernetes.io/hostname');
  assert.deepEqual(term.matchLabelKeys, ['pod-template-hash']);
  assert.equal(topologySpreadConstraints[0].whenUnsatisfiable, 'DoNotSchedule');
  assert.equal(topologySpreadConstraints[0].topologyKey, 'topology.kubernetes.io/zone');
});

test('equal measurements are updated in place, others get another Deployment and Service', () => {
  const names = (changes: Partial<Workload>) =>
    workload(workloadOf('signer', changes)).map(({ metadata }) => metadata.name);
  assert.deepEqual(names({}), Array(3).fill('signer-ab12ab12ab12'));
  assert.deepEqual(names({ image: 'another' }), names({}));
  assert.notDeepEqual(names({ pcr0: 'cd'.repeat(48) }), names({}));
  const selected = (changes: Partial<Workload>) =>
    ofKind(workload(workloadOf('signer', changes)), 'Service').spec.selector;
  assert.notDeepEqual(selected({ pcr0: 'cd'.repeat(48) }), selected({}));
  const { strategy } = ofKind(workload(workloadOf('signer')), 'Deployment').spec;
  assert.deepEqual(strategy.rollingUpdate, { maxSurge: 1, maxUnavailable: 0 });
});

test('an annotation has the whole PCR0', () => {
  const deployment = ofKind(workload(workloadOf('signer')), 'Deployment');
  assert.equal(deployment.metadata.annotations['cloister/pcr0'], PCR0);
  assert.equal(deployment.spec.template.metadata.annotations['cloister/pcr0'], PCR0);
});

test('each release has its own binding, so that the new one exists before the old one is removed', () => {
  const to = (pcr0: string) =>
    plain(
      traffic(
        workloadOf('signer', { pcr0 }),
        'arn:aws:elasticloadbalancing:eu-central-1:123456789012:targetgroup/signer/1',
      ),
    );
  for (const pcr0 of [PCR0, 'cd'.repeat(48)]) {
    assert.equal(to(pcr0).metadata.name, workloadName(workloadOf('signer', { pcr0 })));
    assert.deepEqual(to(pcr0).spec.serviceRef, { name: to(pcr0).metadata.name, port: HTTPS_PORT });
    assert.equal(to(pcr0).spec.multiClusterTargetGroup, true);
  }
});

test('the namespace is restricted, and pods meet the load balancer, endpoints, DNS and the credentials’ agent alone', () => {
  const peers = { loadBalancer: ['10.0.1.0/26', '10.0.2.0/26'], endpoints: ['10.0.3.0/26'] };
  const objects = [...namespaceObjects(peers), dynamodbPolicy([{ ipBlock: { cidr: '52.94.0.0/22' } }])];
  const namespace = ofKind(objects, 'Namespace');
  assert.equal(namespace.metadata.labels['pod-security.kubernetes.io/enforce'], 'restricted');
  const policies = objects.filter(({ kind }) => kind === 'NetworkPolicy').map(plain);
  assert.deepEqual(policies.find(({ metadata }) => metadata.name === 'deny-all').spec, {
    podSelector: {},
    policyTypes: ['Ingress', 'Egress'],
  });
  const blocks = (rules: Plain): string[] =>
    rules.flatMap(({ from, to }: Plain) => from ?? to).flatMap(({ ipBlock }: Plain) => ipBlock?.cidr ?? []);
  const selected = ({ spec }: Plain, name: string) =>
    spec.podSelector.matchLabels?.['app.kubernetes.io/name'] === name ||
    spec.podSelector.matchExpressions?.some(({ values }: Plain) => values.includes(name)) === true;
  for (const service of SERVICES) {
    const of = policies.filter((policy) => selected(policy, service));
    const ingress = of.flatMap(({ spec }) => spec.ingress ?? []);
    const egress = of.flatMap(({ spec }) => spec.egress ?? []);
    assert.deepEqual(blocks(ingress), peers.loadBalancer);
    assert.deepEqual(
      ingress.flatMap(({ ports }: Plain) => ports.map(({ port }: Plain) => port)),
      [HTTPS_PORT, HEALTH_PORT],
    );
    assert.deepEqual(blocks(egress), ['169.254.170.23/32', ...peers.endpoints, '52.94.0.0/22']);
    const others = egress.flatMap(({ to }: Plain) => to).filter(({ ipBlock }: Plain) => ipBlock === undefined);
    assert.deepEqual(
      others.map(({ podSelector }: Plain) => podSelector.matchLabels),
      [{ 'k8s-app': 'kube-dns' }],
    );
    assert.ok(
      [...ingress, ...egress].every(({ from, to, ports }: Plain) => (from ?? to).length > 0 && ports.length > 0),
    );
  }
});

/** The permissions of a command of kubectl, as `verb resource`. */
const RIGHTS: Readonly<Record<string, readonly string[]>> = {
  'delete targetgroupbindings': ['list', 'get', 'watch', 'delete'].map((verb) => `${verb} targetgroupbindings`),
  'delete pods': ['list', 'get', 'watch', 'delete'].map((verb) => `${verb} pods`),
  'scale deployment': ['list deployments', 'get deployments', 'patch deployments/scale'],
};

test('operators can do what the page on emergencies tells them, and become neither a pod nor an administrator', () => {
  const [role, binding] = operatorObjects().map(plain);
  assert.deepEqual([role.kind, role.metadata.namespace, binding.roleRef.name], ['Role', NAMESPACE, role.metadata.name]);
  assert.deepEqual(binding.subjects, [{ apiGroup: 'rbac.authorization.k8s.io', kind: 'Group', name: OPERATORS }]);
  const allowed = new Set(
    role.rules.flatMap(({ resources, verbs }: Plain) =>
      resources.flatMap((resource: string) => verbs.map((verb: string) => `${verb} ${resource}`)),
    ),
  );
  const page = source('docs/operate.md');
  const emergency = page.slice(page.indexOf('## Emergency stop'), page.indexOf('## Backup and restore drill'));
  const commands = [...emergency.matchAll(/kubectl -n cloister (\w+ \w+)/g)].map(([, command = '']) => command);
  assert.ok(commands.length >= 3, emergency);
  for (const command of commands) {
    const rights = RIGHTS[command] ?? assert.fail(`the rights that \`kubectl ${command}\` needs are unknown`);
    assert.deepEqual(
      rights.filter((right) => !allowed.has(right)),
      [],
      command,
    );
  }
  assert.ok(allowed.has('get pods/log'));
  const changes = [...allowed].filter((right) => !/^(get|list|watch) /.test(String(right)));
  assert.deepEqual(changes.sort(), [
    'delete pods',
    'delete targetgroupbindings',
    'deletecollection pods',
    'deletecollection targetgroupbindings',
    'patch deployments/scale',
    'update deployments/scale',
  ]);
  assert.deepEqual(
    [...allowed].filter((right) => /secrets|\*|exec|portforward|token/.test(String(right))),
    [],
  );
});

test('each service has a certificate of the private CA for its own name', () => {
  const objects = certificateObjects((service) => `${service}.cloister.internal`).map(plain);
  const certificate = (name: string) =>
    objects.find(({ kind, metadata }) => kind === 'Certificate' && metadata.name === name).spec;
  for (const service of SERVICES) {
    assert.deepEqual(certificate(service).dnsNames, [`${service}.cloister.internal`]);
    assert.equal(certificate(service).issuerRef.name, 'certificate-authority');
    assert.equal(certificate(service).isCA, undefined);
    const { volumes } = ofKind(workload(workloadOf(service)), 'Deployment').spec.template.spec;
    assert.equal(volumes.find(({ name }: Plain) => name === 'tls').secret.secretName, certificate(service).secretName);
  }
  assert.equal(certificate('certificate-authority').isCA, true);
  assert.equal(certificate('certificate-authority').privateKey.rotationPolicy, 'Never');
});

test('the device plugin is pinned and offers what a node has room for', () => {
  const { nodeSelector, containers } = plain(devicePlugin(reservation([enclaveSize(1), enclaveSize(1)]))).spec.template
    .spec;
  assert.match(DEVICE_PLUGIN, /:\d+\.\d+\.\d+$/);
  assert.deepEqual(containers[0].env, [
    { name: 'MAX_ENCLAVES_PER_NODE', value: '3' },
    { name: 'ENCLAVE_CPU_ADVERTISEMENT', value: 'true' },
  ]);
  const pod = ofKind(workload(workloadOf('signer')), 'Deployment').spec.template.spec;
  assert.equal(pod.nodeSelector['aws-nitro-enclaves-k8s-dp'], nodeSelector['aws-nitro-enclaves-k8s-dp']);
});

test('the seccomp profile is the default of runtimes and AF_VSOCK, in the form that kubelets read', () => {
  for (const architecture of ['amd64', 'arm64'] as const) {
    const { defaultAction, syscalls, architectures } = seccompProfile(architecture);
    assert.equal(defaultAction, 'SCMP_ACT_ERRNO');
    assert.equal(architectures.length, 1);
    const allowed = (name: string) =>
      syscalls.filter(({ names, action }) => names.includes(name) && action === 'SCMP_ACT_ALLOW');
    assert.deepEqual(
      allowed('socket').map(({ args }) => args?.[0]?.value),
      [1, 2, 10, 16, 40],
    );
    // System calls that moby's conditions refuse to containers without capabilities.
    for (const name of [
      'bpf',
      'mount',
      'unshare',
      'setns',
      'perf_event_open',
      'init_module',
      'reboot',
      'io_uring_setup',
      'ptrace',
      'socketcall',
    ]) {
      assert.deepEqual(allowed(name), [], name);
    }
    assert.equal(allowed('clone').length, 1);
    assert.equal(allowed('clone')[0]?.args?.[0]?.op, 'SCMP_CMP_MASKED_EQ');
    for (const name of ['ioctl', 'mmap', 'epoll_pwait', 'execve', 'wait4', 'futex', 'accept4', 'setsid']) {
      assert.equal(allowed(name).length, 1, name);
    }
    assert.equal(allowed('arch_prctl').length, architecture === 'amd64' ? 1 : 0);
    const members = new Set(syscalls.flatMap((rule) => Object.keys(rule)));
    assert.deepEqual([...members].sort(), ['action', 'args', 'errnoRet', 'names']);
  }
});

test('an autoscaler scales between two pods and the given maximum', () => {
  const { spec } = plain(autoscaler(workloadOf('signer'), 4));
  assert.deepEqual([spec.minReplicas, spec.maxReplicas, spec.scaleTargetRef.name], [2, 4, 'signer-ab12ab12ab12']);
});
