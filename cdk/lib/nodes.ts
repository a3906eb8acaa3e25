/** User data that prepares an instance for enclaves before its kubelet or ECS agent starts. */

import { gzipSync } from 'node:zlib';

import { aws_ec2 as ec2 } from 'aws-cdk-lib';

import type { Architecture } from './configuration';
import { enclaveSize, PAGE_MIB, type Reservation, reservation } from './kubernetes/enclave';
import { NITRO_GROUP } from './kubernetes/pods';
import { SECCOMP_PROFILE, seccompProfile } from './kubernetes/seccomp';
import { type Releases, SERVICES, type Service } from './release';

/**
 * Eight processors: six for three enclaves, one core for the parent. Both types have a single NUMA node, which huge
 * pages and processors therefore share.
 * https://docs.aws.amazon.com/enclaves/latest/user/nitro-enclave.html#nitro-enclave-reqs
 */
export const INSTANCE_TYPES: Readonly<
  Record<Architecture, { readonly name: string; readonly cpus: number; readonly memoryMib: number }>
> = {
  amd64: { name: 'm6i.2xlarge', cpus: 8, memoryMib: 32768 },
  arm64: { name: 'm7g.2xlarge', cpus: 8, memoryMib: 32768 },
};

export function instanceType(architecture: Architecture): ec2.InstanceType {
  return new ec2.InstanceType(INSTANCE_TYPES[architecture].name);
}

/**
 * Room for one enclave of each service and a surge, sized by the larger image of two releases, because both run during
 * an update.
 */
export function reserved({ release, next }: Releases): Reservation {
  const size = (service: Service) => Math.max(release.images[service].size, next?.images[service].size ?? 0);
  return reservation(SERVICES.map((service) => enclaveSize(size(service))));
}

/**
 * Shell commands for Amazon Linux 2023; the first failure ends them. `before` is the service that counts the reserved
 * resources.
 */
export function reserve(reservation: Reservation, before: string): readonly string[] {
  return [
    'set -euo pipefail',
    // With a fixed id, which pods name as their group. The package does not create a group that exists, and has the
    // udev rule for the device.
    `getent group ne || groupadd --gid ${NITRO_GROUP} ne`,
    'dnf install --assumeyes --setopt=install_weak_deps=False aws-nitro-enclaves-cli',
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
    // The NUMA node of the enclaves' processors, chosen by the allocator.
    'node=$(grep --files-without-match --line-regexp 0 /sys/devices/system/node/node*/hugepages/hugepages-*/nr_hugepages | head -n 1 | cut -d / -f 6)',
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
