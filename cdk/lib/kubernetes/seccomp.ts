/**
 * The pods' seccomp profile: the runtimes' default without capabilities, with AF_VSOCK. Its origin: seccomp/README.md.
 */

import type { Architecture } from '../configuration';
import moby from './seccomp/default.json';

/** Below the kubelet's directory of profiles, /var/lib/kubelet/seccomp. */
export const SECCOMP_PROFILE = 'cloister.json';

/** A profile in the form of https://github.com/opencontainers/runtime-spec/blob/main/config-linux.md#seccomp */
export interface SeccompProfile {
  readonly defaultAction: string;
  readonly defaultErrnoRet: number;
  readonly architectures: readonly string[];
  readonly syscalls: readonly Rule[];
}

interface Rule {
  readonly names: readonly string[];
  readonly action: string;
  readonly errnoRet?: number;
  readonly args?: readonly Argument[];
}

interface Argument {
  readonly index: number;
  readonly value: number;
  readonly valueTwo?: number;
  readonly op: string;
}

interface MobyRule extends Omit<Rule, 'args'> {
  readonly args: readonly Argument[] | null;
  readonly includes: Conditions;
  readonly excludes: Conditions;
}

interface Conditions {
  readonly arches?: readonly string[];
  readonly caps?: readonly string[];
  readonly minKernel?: string;
}

export function seccompProfile(architecture: Architecture): SeccompProfile {
  const rules = (moby.syscalls as readonly MobyRule[])
    .filter((rule) => applies(rule, architecture))
    .map(plain)
    .filter(({ names }) => names.length > 0);
  return {
    defaultAction: moby.defaultAction,
    defaultErrnoRet: EPERM,
    architectures: [architecture === 'arm64' ? 'SCMP_ARCH_AARCH64' : 'SCMP_ARCH_X86_64'],
    syscalls: [...rules, ...FAMILIES.map(socket)],
  };
}

/** Resolves the profile's conditions for a container without capabilities on a recent kernel. */
function applies({ includes, excludes }: MobyRule, architecture: Architecture): boolean {
  const wanted =
    includes.caps === undefined && (includes.arches === undefined || includes.arches.includes(architecture));
  return wanted && excludes.arches?.includes(architecture) !== true;
}

function plain({ names, action, errnoRet, args }: MobyRule): Rule {
  return {
    names: names.filter((name) => !REPLACED.test(name)),
    action,
    ...(errnoRet === undefined ? {} : { errnoRet }),
    ...(args === null || args.length === 0 ? {} : { args }),
  };
}

function socket(family: number): Rule {
  return { names: ['socket'], action: 'SCMP_ACT_ALLOW', args: [{ index: 0, value: family, op: 'SCMP_CMP_EQ' }] };
}

/** `socketcall` belongs to 32-bit programs, and would allow every family. */
const REPLACED = /^(socket|socketcall|io_uring_.*|ptrace)$/;
/** AF_UNIX, AF_INET, AF_INET6, AF_NETLINK, AF_VSOCK: linux/socket.h. */
const FAMILIES = [1, 2, 10, 16, 40];
const EPERM = 1;
