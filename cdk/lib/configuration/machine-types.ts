/**
 * Instance types that can start enclaves and have room for three of them.
 * https://docs.aws.amazon.com/enclaves/latest/user/nitro-enclave.html#nitro-enclave-reqs
 *
 * Only sizes with a single NUMA node, which huge pages and processors of all enclaves share.
 */

export interface MachineType {
  readonly architecture: 'amd64' | 'arm64';
  readonly cpus: number;
  readonly memoryMib: number;
}

const FAMILIES = {
  amd64: ['m5', 'm5a', 'm6i', 'm6a', 'm7i', 'c5', 'c6i', 'c6a', 'c7i', 'r5', 'r6i', 'r6a', 'r7i'],
  arm64: ['m6g', 'm7g', 'c6g', 'c7g', 'r6g', 'r7g'],
} as const;

const CPUS = { '2xlarge': 8, '4xlarge': 16 } as const;

const MIB_PER_CPU: Readonly<Record<string, number>> = { c: 2048, m: 4096, r: 8192 };

export const MACHINE_TYPES: ReadonlyMap<string, MachineType> = new Map(
  (['amd64', 'arm64'] as const).flatMap((architecture) =>
    FAMILIES[architecture].flatMap((family) =>
      Object.entries(CPUS).map(([size, cpus]): [string, MachineType] => [
        `${family}.${size}`,
        { architecture, cpus, memoryMib: cpus * (MIB_PER_CPU[family.charAt(0)] ?? 0) },
      ]),
    ),
  ),
);

export const DEFAULT_MACHINE_TYPE = { amd64: 'm6i.2xlarge', arm64: 'm7g.2xlarge' } as const;
