/** What the pods are, as `pods/` has it: ports, deadlines, variables. A test compares the numbers with the sources. */

import { CONTRACT } from '../contract';
import type { Service } from '../release';
import type { EnclaveSize } from './enclave';

/** HTTPS, and plain HTTP with `/healthz`, `/readyz`, `/version` and `/attestation/NONCE`. */
export const HTTPS_PORT = CONTRACT.ports.podHttps;
export const HEALTH_PORT = CONTRACT.ports.podHealth;

/** A body that is still arriving, and then the whole request: `DRAIN_DEADLINE` of pods/src/run.rs. */
export const DRAIN_SECONDS = 15;
/** `nitro-cli` ends the enclave, and is asked whether it did: twice `QUICK_DEADLINE` of pods/src/nitro_cli.rs. */
export const TERMINATE_SECONDS = 60;
/**
 * From leaving the load balancer to SIGTERM. A Network Load Balancer takes up to two minutes until it sends no new connections; until then the
 * pod answers as ever.
 */
export const LEAVE_SECONDS = 120;
export const GRACE_SECONDS = LEAVE_SECONDS + DRAIN_SECONDS + TERMINATE_SECONDS + 15;

/** The pods' user and group, and the group of /dev/nitro_enclaves on the nodes (nodes.ts makes it). */
export const USER = 10001;
export const NITRO_GROUP = 10002;

/** Where things are in the container images (cdk/containers). */
export const PATHS = {
  image: '/enclave/image.eif',
  measurements: '/enclave/measurements.json',
  /** The TLS roots of the measured settings. */
  awsRoots: '/enclave/aws-roots.pem',
  tls: '/tls',
  /** Sockets of nitro-cli's processes; `SOCKETS_DIR_PATH` of aws-nitro-enclaves-cli, src/common/mod.rs. */
  sockets: '/run/nitro_enclaves',
  /** `LOGS_DIR_PATH` of aws-nitro-enclaves-cli, src/common/logger.rs. */
  logs: '/var/log/nitro_enclaves',
} as const;

export interface Surroundings {
  readonly service: Service;
  readonly region: string;
  readonly partition: string;
  readonly cmkArn: string;
  readonly tableArn: string;
  readonly enclave: EnclaveSize;
  /** The dimension `Deployment` of the enclave's metrics, the same for every release. */
  readonly deployment: string;
}

/** The variables of a pod that keeps its enclave: pods/README.md. Where it runs, the other dimensions of its metrics, is added to them. */
export function environment({
  service,
  region,
  partition,
  cmkArn,
  tableArn,
  enclave,
  deployment,
}: Surroundings): Readonly<Record<string, string>> {
  // The signer's enclave writes nothing: its pod reads the rows.
  const services = service === 'signer' ? ['kms'] : ['kms', 'dynamodb'];
  const suffix = partition === 'aws-cn' ? 'amazonaws.com.cn' : 'amazonaws.com';
  return {
    AWS_REGION: region,
    CLOISTER_LISTEN: `0.0.0.0:${HTTPS_PORT}`,
    CLOISTER_HEALTH_LISTEN: `0.0.0.0:${HEALTH_PORT}`,
    CLOISTER_TLS_CERT: `${PATHS.tls}/tls.crt`,
    CLOISTER_TLS_KEY: `${PATHS.tls}/tls.key`,
    CLOISTER_CMK_ARN: cmkArn,
    ...(service === 'signer' ? { CLOISTER_TABLE_ARN: tableArn } : {}),
    CLOISTER_EGRESS: services.map((name) => `${name}.${region}.${suffix}:443`).join(','),
    CLOISTER_AWS_CA_FILE: PATHS.awsRoots,
    CLOISTER_ENCLAVE_IMAGE: PATHS.image,
    CLOISTER_ENCLAVE_MEASUREMENTS: PATHS.measurements,
    CLOISTER_ENCLAVE_CPUS: String(enclave.cpus),
    CLOISTER_ENCLAVE_MEMORY_MIB: String(enclave.memoryMib),
    CLOISTER_METRICS_DEPLOYMENT: deployment,
    CLOISTER_LOG: 'info',
  };
}
