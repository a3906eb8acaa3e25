/**
 * The configuration of a deployment, read once from the environment. Invalid values are reported together, each with
 * its remedy.
 */

import * as path from 'node:path';

import { contradictions, type Given, isProduction, sizes, ZONES_OF_REGIONS } from './configuration/checks';
import { KNOBS, readKnobs } from './configuration/knobs';
import { DEFAULT_MACHINE_TYPE } from './configuration/machine-types';
import type { Service } from './release';

export type Architecture = 'amd64' | 'arm64';

export interface Configuration {
  /** Begins every name. Empty, or ends with a hyphen. */
  readonly prefix: string;
  readonly partition: string;
  readonly account: string;
  readonly region: string;
  readonly architecture: Architecture;
  /** Debug images are refused. */
  readonly production: boolean;
  /** The output directory of `cargo xtask image`. */
  readonly images: string;
  /** The output of `cargo xtask lambda`, or `s3://BUCKET/KEY` of a zip that AWS Signer has signed. */
  readonly frontDoor: string;
  /** The version of the front door's key that the front door uses; the current one if absent. */
  readonly frontDoorKeyVersion?: string;
  /** The pods' platform: Kubernetes, ECS on machines of an auto-scaling group, or a cluster that exists. */
  readonly variant: 'eks' | 'ecs' | 'identities';
  /** The name of the cluster that exists. */
  readonly cluster?: string;
  /** Pods that others deploy on it. */
  readonly pods?: {
    readonly urls: Readonly<Record<Service, string>>;
    /** A file with PEM, which exists once they run; then a front door can call them. */
    readonly certificateAuthority?: string;
  };
  /** ARNs of target groups of a load balancer of that cluster. */
  readonly targetGroups?: Readonly<Record<Service, string>>;
  /** ARNs of the principals that may assume the role for calling the API; if empty, the account's policies decide. */
  readonly callers: readonly string[];
  /** The images of the next release: the key admits both, and deployments fail after the given day. */
  readonly next?: {
    readonly images: string;
    readonly until: string;
    readonly podImages?: Readonly<Record<Service, string>>;
  };
  /** The release that has the traffic; `next` only while there is one. */
  readonly traffic: 'present' | 'next';
  /** `small` has two zones, two machines and the endpoints that keys and rows need; the rest goes through NAT. */
  readonly size: 'default' | 'small';
  /** Pods of each service. */
  readonly replicas: Readonly<Record<Service, number>>;
  readonly machines: { readonly count: number; readonly type: string };
  /** Two or three zones, all by name or all by id. If absent, the region's first ones, known at deployment. */
  readonly zones?: readonly string[];
  readonly network: Network;
  /** Subscribers of the alarms: e-mail addresses, and ARNs of SQS queues and Lambda functions. */
  readonly alarmsTo: readonly string[];
  /** Of every stack except the key's: the key policy lets no principal change a key's tags. */
  readonly tags: Readonly<Record<string, string>>;
  /** The path of the SSM parameters, without a slash at its end. */
  readonly parameterPrefix: string;
  /** ARNs of the roles and users that are the cluster's operators. */
  readonly operators: readonly string[];
  /** `create`, or the ARN of a trail that exists. */
  readonly trail: string;
  /** The pods' containers by digest. If absent, they are built from their directories in `images`. */
  readonly podImages?: Readonly<Record<Service, string>>;
  /** The base stack has a signing profile, and code from S3 has to be signed with it. */
  readonly codeSigning: boolean;
  /** `existing` if the region's API Gateway already has a role for logs. */
  readonly apiLogs: 'create' | 'existing';
  /** Removes the protection of table and key against `cdk destroy`. */
  readonly withKeys: boolean;
  /** Only the names and dependencies of stacks, which is all that `cdk destroy` needs. */
  readonly destroy: boolean;
  /** Another value than before: objects are applied again, and what was read of AWS and of the cluster is read again. */
  readonly renew?: string;
}

/** A network of its own, or one that exists, by its attributes. Subnets are in the order of `zones`. */
export type Network =
  | { readonly kind: 'own'; readonly cidr: string }
  | {
      readonly kind: 'existing';
      readonly vpcId: string;
      readonly cidr: string;
      /** Private. */
      readonly subnets: readonly string[];
      readonly loadBalancerSubnets: readonly string[];
      readonly loadBalancerCidrs: readonly string[];
    };

/** The number of zones. */
export function zoneCount({ zones, size }: Pick<Configuration, 'zones' | 'size'>): number {
  return zones?.length ?? (size === 'small' ? 2 : 3);
}

/** An error that the operator has to correct. Only its message is shown. */
export class ConfigurationError extends Error {}

/** Runs the body of a program; a `ConfigurationError` is printed without a stack trace. */
export function orExplain(body: () => void): void {
  try {
    body();
  } catch (error) {
    if (!(error instanceof ConfigurationError)) {
      throw error;
    }
    console.error(error.message);
    process.exit(1);
  }
}

export type Environment = Readonly<Record<string, string | undefined>>;

/** Reads the configuration; `context` has the values of `cdk -c NAME=VALUE` and cdk.json. */
export function configuration(environment: Environment, context: (name: string) => unknown, now: Date): Configuration {
  const { values, problems } = readKnobs(KNOBS, environment, context);
  const all = [...problems, ...contradictions(values, now)];
  if (all.length > 0) {
    throw new ConfigurationError(all.join('\n'));
  }
  return configurationOf(values as Given);
}

function configurationOf(given: Given): Configuration {
  const { prefix, region, size, nextImages, nextUntil, nextPodImages } = given;
  const architecture: Architecture = given.target === 'linux/arm64' ? 'arm64' : 'amd64';
  const { machines, signers, keyGenerators } = sizes(given);
  const zones = given.zones ?? zonesOf(region, size);
  const next = nextImages !== undefined &&
    nextUntil !== undefined && {
      images: nextImages,
      until: nextUntil,
      ...(nextPodImages && { podImages: nextPodImages }),
    };
  return {
    prefix,
    partition: partitionOf(region),
    account: given.account,
    region,
    architecture,
    production: isProduction(prefix),
    images: given.images ?? path.join(TARGET, 'images/deployment'),
    frontDoor: given.frontDoor ?? path.join(TARGET, `lambda/front-door-${architecture}.zip`),
    ...(given.frontDoorKeyVersion && { frontDoorKeyVersion: given.frontDoorKeyVersion }),
    variant: given.variant,
    ...(given.cluster !== undefined && { cluster: given.cluster }),
    ...(given.podUrls && {
      pods: {
        urls: given.podUrls,
        ...(given.podCertificateAuthority !== undefined && { certificateAuthority: given.podCertificateAuthority }),
      },
    }),
    ...(given.targetGroups && { targetGroups: given.targetGroups }),
    callers: given.callers,
    ...(next && { next }),
    traffic: next ? (given.traffic ?? 'next') : 'present',
    size,
    replicas: { signer: signers, 'key-generator': keyGenerators },
    machines: { count: machines, type: given.machineType ?? DEFAULT_MACHINE_TYPE[architecture] },
    ...(zones && { zones }),
    network: networkOf(given),
    alarmsTo: given.alarmsTo,
    tags: given.tags,
    parameterPrefix: given.parameterPrefix ?? `/${prefix}app/ethereum`,
    operators: given.operators,
    trail: given.trail,
    ...(given.podImages && { podImages: given.podImages }),
    codeSigning: given.codeSigning,
    apiLogs: given.apiLogs,
    withKeys: given.withKeys,
    destroy: given.destroy,
    ...(given.renew === undefined ? {} : { renew: given.renew }),
  };
}

const TARGET = path.join(__dirname, '../../target');

function zonesOf(region: string, size: Configuration['size']): readonly string[] | undefined {
  return ZONES_OF_REGIONS[region]?.slice(0, zoneCount({ size }));
}

function networkOf({ vpcId, vpcCidr: cidr = '10.0.0.0/16', ...given }: Given): Network {
  return vpcId === undefined
    ? { kind: 'own', cidr }
    : {
        kind: 'existing',
        vpcId,
        cidr,
        subnets: given.vpcSubnets,
        loadBalancerSubnets: given.loadBalancerSubnets,
        loadBalancerCidrs: given.loadBalancerCidrs,
      };
}

function partitionOf(region: string): string {
  return region.startsWith('cn-') ? 'aws-cn' : region.startsWith('us-gov-') ? 'aws-us-gov' : 'aws';
}

/**
 * The names of a deployment's resources. They follow from the configuration alone, so that the measured settings can
 * contain them before anything is deployed.
 */
export function names(of: Pick<Configuration, 'prefix' | 'partition' | 'account' | 'region' | 'parameterPrefix'>) {
  const name = (what: string) => `${of.prefix}cloister-${what}`;
  const role = (what: string) => `arn:${of.partition}:iam::${of.account}:role/${name(what)}`;
  return {
    table: name('keys'),
    tableArn: `arn:${of.partition}:dynamodb:${of.region}:${of.account}:table/${name('keys')}`,
    signerRole: role('signer'),
    generatorRole: role('key-generator'),
    retirementRole: role('retirement'),
    administratorRole: role('administrator'),
    /** An SSM parameter under the name that existing callers read. */
    parameter: (what: string) => `${of.parameterPrefix}/${what}`,
    /** The name of any other resource: a stack, a function, a log group. */
    of: name,
  } as const;
}
