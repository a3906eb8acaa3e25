/** User data that prepares an instance for enclaves before its kubelet or ECS agent starts. */

import { gzipSync } from 'node:zlib';

import { type Architecture, type Configuration, ConfigurationError } from './configuration';
import { MACHINE_TYPES } from './configuration/machine-types';
import { enclaveSize, PAGE_MIB, type Reservation, reservation } from './kubernetes/enclave';
import { NITRO_GROUP } from './kubernetes/pods';
import { SECCOMP_PROFILE, seccompProfile } from './kubernetes/seccomp';
import { type Releases, SERVICES, type Service } from './release';

/**
 * Room for one enclave of each service and a surge, sized by the larger image of two releases, because both run during
 * an update.
 */
export function reserved(
  { machines: { type } }: Pick<Configuration, 'machines'>,
  { release, next }: Releases,
): Reservation {
  const size = (service: Service) => Math.max(release.images[service].size, next?.images[service].size ?? 0);
  const wanted = reservation(SERVICES.map((service) => enclaveSize(size(service))));
  const { cpus = 0, memoryMib = 0 } = MACHINE_TYPES.get(type) ?? {};
  if (wanted.cpus > cpus - PARENT.cpus || wanted.memoryMib > memoryMib - PARENT.memoryMib) {
    throw new ConfigurationError(
      `CDK_MACHINE_TYPE is \`${type}\`, with ${cpus} processors and ${memoryMib} MiB: ${wanted.enclaves} enclaves take ${wanted.cpus} processors and ${wanted.memoryMib} MiB, ` +
        `and the machine keeps ${PARENT.cpus} processors and ${PARENT.memoryMib} MiB, so set it to a larger type`,
    );
  }
  return wanted;
}

/** Kept by the machine: the core of processor 0, which no enclave can have, and memory for the kubelet and all pods. */
const PARENT = { cpus: 2, memoryMib: 6144 } as const;

/** The machines' part of the kubelet's configuration, which nodeadm merges with that of EKS. */
export const NODE_CONFIG = [
  'apiVersion: node.eks.aws/v1alpha1',
  'kind: NodeConfig',
  'spec:',
  '  kubelet:',
  '    config:',
  // Without it, a container that asks for no profile may open AF_VSOCK to the enclaves of its machine.
  '      seccompDefault: true',
].join('\n');

/**
 * The beginning of a script. If a later line fails, the machine ends instead of joining without enclaves, its group
 * replaces it, and the console output of the instance names the failure.
 */
export function closed(): readonly string[] {
  return [
    `trap 'status=$?; if [ "$status" -ne 0 ]; then echo "cloister: the machine is not ready for enclaves (status $status)" >&2; shutdown -h now; fi' EXIT`,
    'set -euo pipefail',
  ];
}

/** Shell commands for Amazon Linux 2023. `before` is the service that counts the reserved resources. */
export function reserve(reservation: Reservation, before: string): readonly string[] {
  return [
    // With a fixed id, which pods name as their group. The package does not create a group that exists, and has the
    // udev rule for the device.
    `getent group ne || groupadd --gid ${NITRO_GROUP} ne`,
    // The allocator calls `file`, which a minimal system may not have.
    'dnf install --assumeyes --setopt=install_weak_deps=False aws-nitro-enclaves-cli file',
    ...file('/etc/nitro_enclaves/allocator.yaml', '0644', [
      '---',
      `memory_mib: ${reservation.memoryMib}`,
      `cpu_count: ${reservation.cpus}`,
    ]),
    ...file('/usr/local/sbin/cloister-huge-pages', '0755', hugePages(reservation.pages)),
    'install -d /etc/systemd/system/nitro-enclaves-allocator.service.d',
    ...file('/etc/systemd/system/nitro-enclaves-allocator.service.d/cloister.conf', '0644', [
      '[Unit]',
      `Before=${before}`,
      '[Service]',
      'ExecStartPost=/usr/local/sbin/cloister-huge-pages',
    ]),
    'systemctl daemon-reload',
    'systemctl enable --now nitro-enclaves-allocator.service',
  ];
}

/**
 * Docker is a dependency of the Nitro CLI, for `build-enclave`, which is not used here. Kubernetes does not need it
 * either.
 */
export const WITHOUT_DOCKER = 'systemctl mask docker.service docker.socket';

/** Writes the seccomp profile into the kubelet's directory. Compressed, because user data is limited to 16 KiB. */
export function installSeccompProfile(architecture: Architecture): readonly string[] {
  const profile = gzipSync(JSON.stringify(seccompProfile(architecture)), { level: 9 }).toString('base64');
  const directory = '/var/lib/kubelet/seccomp';
  return [
    `install -d -m 0755 ${directory}`,
    `base64 --decode <<< ${profile} | gunzip > ${directory}/${SECCOMP_PROFILE}`,
  ];
}

/** Replaces the allocator's choice, the largest pages that fit: Kubernetes counts each page size separately. */
function hugePages(pages: number): readonly string[] {
  return [
    '#!/bin/bash',
    'set -euo pipefail',
    // The NUMA node of the enclaves' processors, chosen by the allocator. The status of grep is not whether it lists files.
    'node=$({ grep --files-without-match --line-regexp 0 /sys/devices/system/node/node*/hugepages/hugepages-*/nr_hugepages || true; } | head -n 1 | cut -d / -f 6)',
    'if [ -z "$node" ]; then echo "the allocator of enclaves has reserved no huge pages" >&2; exit 1; fi',
    'sizes=/sys/devices/system/node/$node/hugepages',
    'for size in "$sizes"/hugepages-*; do echo 0 > "$size/nr_hugepages"; done',
    `echo ${pages} > "$sizes/hugepages-${PAGE_MIB * 1024}kB/nr_hugepages"`,
    `reserved=$(< "$sizes/hugepages-${PAGE_MIB * 1024}kB/nr_hugepages")`,
    `if [ "$reserved" -lt ${pages} ]; then echo "only $reserved of ${pages} huge pages of ${PAGE_MIB} MiB could be reserved" >&2; exit 1; fi`,
  ];
}

function file(path: string, mode: string, lines: readonly string[]): readonly string[] {
  return [`install -m ${mode} /dev/stdin ${path} <<'END'`, ...lines, 'END'];
}
