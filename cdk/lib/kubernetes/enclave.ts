/** Sizes of enclaves, and their number per machine. Nodes and pods have to agree on both. */

import { ConfigurationError } from '../configuration';

export interface EnclaveSize {
  readonly cpus: number;
  readonly memoryMib: number;
}

/** `CLOISTER_ENCLAVE_CPUS` and `CLOISTER_ENCLAVE_MEMORY_MIB` for an image of `imageSize` bytes. */
export function enclaveSize(imageSize: number, wanted: Partial<EnclaveSize> = {}): EnclaveSize {
  const least = leastMemoryMib(imageSize);
  const memoryMib = toPages(wanted.memoryMib ?? Math.max(DEFAULT_MEMORY_MIB, least));
  if (memoryMib < least) {
    throw new ConfigurationError(
      `an enclave of ${wanted.memoryMib} MiB is too small for its image of ${imageSize} bytes: give it at least ${least} MiB (64, and four times the image)`,
    );
  }
  const cpus = wanted.cpus ?? DEFAULT_CPUS;
  if (!Number.isInteger(cpus) || cpus < 2 || cpus % 2 !== 0) {
    throw new ConfigurationError(
      `an enclave of ${cpus} CPUs cannot be started on every machine: give it an even number, two or more (whole cores)`,
    );
  }
  return { cpus, memoryMib };
}

/**
 * The minimum of `nitro-cli` (https://docs.aws.amazon.com/enclaves/latest/user/cmd-nitro-run-enclave.html), and 64 MiB at
 * least.
 */
function leastMemoryMib(imageSize: number): number {
  return toPages(Math.max(64, Math.ceil((4 * imageSize) / 2 ** 20)));
}

function toPages(mib: number): number {
  return Math.ceil(mib / PAGE_MIB) * PAGE_MIB;
}

/** The resources that a machine reserves for enclaves before its kubelet starts. */
export interface Reservation {
  readonly enclaves: number;
  readonly cpus: number;
  readonly memoryMib: number;
  readonly pages: number;
}

/** One enclave of each service and one for a surge: a rolling update, or the same service of the next release. */
export function reservation(sizes: readonly EnclaveSize[]): Reservation {
  const sum = (of: (size: EnclaveSize) => number) =>
    sizes.map(of).reduce((a, b) => a + b, 0) + Math.max(...sizes.map(of));
  const memoryMib = sum(({ memoryMib }) => memoryMib);
  const enclaves = sizes.length + 1;
  if (enclaves > MOST_ENCLAVES) {
    throw new ConfigurationError(`${enclaves} enclaves are more than the ${MOST_ENCLAVES} that an instance can run`);
  }
  return { enclaves, cpus: sum(({ cpus }) => cpus), memoryMib, pages: memoryMib / PAGE_MIB };
}

/**
 * The size of huge pages, on both architectures. The Nitro CLI's allocator takes the largest pages that fit, 1 GiB on
 * x86-64 and 32 MiB on arm64 (4 KiB base pages). Nodes replace its choice (nodes.ts), because Kubernetes counts each
 * size separately.
 */
export const PAGE_MIB = 2;
export const HUGE_PAGES = 'hugepages-2Mi';
/** https://docs.aws.amazon.com/enclaves/latest/user/nitro-enclave.html: up to four enclaves at a time. */
export const MOST_ENCLAVES = 4;

const DEFAULT_MEMORY_MIB = 256;
/** One core with two threads on x86-64, and two cores on arm64. */
const DEFAULT_CPUS = 2;
