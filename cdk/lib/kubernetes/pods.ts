/** Facts about the program `pods/`: ports, deadlines, variables, paths. A test compares them with the sources. */

import { CONTRACT } from '../contract';
import type { Service } from '../release';
import type { EnclaveSize } from './enclave';

/** HTTPS for the front door, and plain HTTP with `/healthz`, `/readyz`, `/version` and `/attestation/NONCE`. */
export const HTTPS_PORT = CONTRACT.ports.podHttps;
export const HEALTH_PORT = CONTRACT.ports.podHealth;

/** The time for a body that is still arriving and then the whole request: `DRAIN_DEADLINE` of the pods. */
export const DRAIN_SECONDS = 15;
/**
 * The time for two calls of `nitro-cli`, one to end the enclave and one to check: twice `QUICK_DEADLINE` of the pods.
 */
export const TERMINATE_SECONDS = 60;
/**
 * The time from leaving the load balancer to SIGTERM. A Network Load Balancer sends new connections for up to two
 * minutes; the pod answers them.
 */
export const LEAVE_SECONDS = 120;
export const GRACE_SECONDS = LEAVE_SECONDS + DRAIN_SECONDS + TERMINATE_SECONDS + 15;

/** Least time between two probes of the key, which jitter lengthens by up to as much: an hour on average. */
export const KEY_PROBE_SECONDS = 2400;

/** The pods' user and group, and the group of /dev/nitro_enclaves on the nodes (nodes.ts makes it). */
export const USER = 10001;
export const NITRO_GROUP = 10002;

/** Paths in the container images (cdk/containers). */
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
  /** The secret that holds the front door's key. */
  readonly frontDoorSecretArn: string;
  readonly tableArn: string;
  readonly enclave: EnclaveSize;
  /** The dimension `Deployment` of the enclave's metrics, equal for every release. */
  readonly deployment: string;
}

/**
 * The variables of a pod that manages its enclave (pods/README.md), without the metrics' dimensions that depend on the
 * platform.
 */
export function environment({
  service,
  region,
  partition,
  cmkArn,
  frontDoorSecretArn,
  tableArn,
  enclave,
  deployment,
}: Surroundings): Readonly<Record<string, string>> {
  // The signer's enclave does not call DynamoDB: its pod reads the rows.
  const services = service === 'signer' ? ['kms'] : ['kms', 'dynamodb'];
  const suffix = partition === 'aws-cn' ? 'amazonaws.com.cn' : 'amazonaws.com';
  return {
    AWS_REGION: region,
    CLOISTER_LISTEN: `0.0.0.0:${HTTPS_PORT}`,
    CLOISTER_HEALTH_LISTEN: `0.0.0.0:${HEALTH_PORT}`,
    CLOISTER_TLS_CERT: `${PATHS.tls}/tls.crt`,
    CLOISTER_TLS_KEY: `${PATHS.tls}/tls.key`,
    CLOISTER_FRONT_DOOR_SECRET: frontDoorSecretArn,
    CLOISTER_CMK_ARN: cmkArn,
    ...(service === 'signer'
      ? { CLOISTER_TABLE_ARN: tableArn }
      : { CLOISTER_KEY_PROBE_SECONDS: String(KEY_PROBE_SECONDS) }),
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
