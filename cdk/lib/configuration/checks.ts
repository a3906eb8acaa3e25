/** Values that are valid by themselves and not together. */

import { range } from './cidr';
import type { KNOBS, Values } from './knobs';
import { DEFAULT_MACHINE_TYPE, MACHINE_TYPES } from './machine-types';

export type Given = Values<typeof KNOBS>;

/** All contradictions, a sentence each. A check whose values are not all valid is left out. */
export function contradictions(given: Partial<Given>, now: Date): readonly string[] {
  return [...CHECKS, nextRelease(now)].flatMap(({ needs, problems }) =>
    needs.every((name) => name in given) ? problems(given as Given) : [],
  );
}

interface Check {
  readonly needs: readonly (keyof Given)[];
  readonly problems: (given: Given) => readonly string[];
}

function check<Name extends keyof Given>(
  needs: readonly Name[],
  problems: (given: Pick<Given, Name>) => readonly (string | false)[],
): Check {
  return { needs, problems: (given) => problems(given).filter((problem) => problem !== false) };
}

/** What follows from the values that are not given. */
export function sizes({ size, machines, signers, keyGenerators }: Pick<Given, SizeKnob>) {
  const small = size === 'small';
  return {
    machines: machines ?? (small ? 2 : 3),
    signers: signers ?? (small ? 1 : 2),
    keyGenerators: keyGenerators ?? (small ? 1 : 2),
  };
}

type SizeKnob = 'size' | 'machines' | 'signers' | 'keyGenerators';

export function isProduction(prefix: string): boolean {
  return !/^(dev|test)/.test(prefix);
}

/** On each machine: one of each service, and one for a surge (kubernetes/enclave.ts). */
export const ENCLAVES_PER_MACHINE = 3;

/**
 * Zones in which EKS runs no control plane. The name of such a zone differs by account.
 * https://docs.aws.amazon.com/eks/latest/userguide/network-reqs.html
 */
const WITHOUT_CONTROL_PLANES = ['use1-az3', 'usw1-az2', 'cac1-az3'];

/** The zones of regions that have such a zone, or fewer than three. */
export const ZONES_OF_REGIONS: Readonly<Record<string, readonly string[]>> = {
  'us-east-1': ['use1-az1', 'use1-az2', 'use1-az4'],
  'us-west-1': ['usw1-az1', 'usw1-az3'],
  'ca-central-1': ['cac1-az1', 'cac1-az2', 'cac1-az4'],
};

const CHECKS: readonly Check[] = [
  check(['variant', 'size', 'machines', 'signers', 'keyGenerators'], (given) => {
    if (given.variant === 'identities') {
      return [];
    }
    const { machines, ...replicas } = sizes(given);
    const places = machines * ENCLAVES_PER_MACHINE;
    const enclaves = 2 * (replicas.signers + replicas.keyGenerators);
    const apart = (variable: string, pods: number) =>
      pods > machines &&
      `${variable} asks for ${pods} pods on ${machines} machines, and pods of a service run on different machines: set it to at most ${machines}, or CDK_MACHINES to ${pods} or more`;
    return [
      apart('CDK_SIGNERS', replicas.signers),
      apart('CDK_KEY_GENERATORS', replicas.keyGenerators),
      enclaves > places &&
        `${replicas.signers} signers and ${replicas.keyGenerators} key generators need room for ${enclaves} enclaves while two releases run, and ${machines} machines have room for ${places}: ` +
          `set CDK_MACHINES to ${Math.ceil(enclaves / ENCLAVES_PER_MACHINE)} or more, or CDK_SIGNERS and CDK_KEY_GENERATORS to less`,
    ];
  }),
  check(['variant', 'size', 'machines', 'signers', 'keyGenerators'], (given) => {
    const { machines, ...replicas } = sizes(given);
    const most = Math.max(replicas.signers, replicas.keyGenerators);
    return [
      given.variant === 'ecs' &&
        most === machines &&
        `${machines} machines have ${most} tasks of a service on ECS, whose updates start one more on another machine: set CDK_MACHINES to ${most + 1} or more`,
    ];
  }),
  check(['machineType', 'target'], ({ machineType, target }) => {
    const architecture = machineType === undefined ? undefined : MACHINE_TYPES.get(machineType)?.architecture;
    return [
      architecture !== undefined &&
        target !== `linux/${architecture}` &&
        `CDK_MACHINE_TYPE is \`${machineType}\`, a machine for ${architecture}, and CDK_TARGET_ARCHITECTURE is \`${target}\`: ` +
          `set CDK_MACHINE_TYPE to a type of that architecture, such as \`${DEFAULT_MACHINE_TYPE[target === 'linux/arm64' ? 'arm64' : 'amd64']}\``,
    ];
  }),
  check(['zones', 'region'], ({ zones = [], region }) =>
    zones
      .filter((zone) => !zone.includes('-az') && zone.slice(0, -1) !== region)
      .map((zone) => `CDK_ZONES names \`${zone}\`, which is not in ${region}: name zones of CDK_DEPLOY_REGION`),
  ),
  check(['zones', 'variant'], ({ zones = [], variant }) =>
    zones
      .filter((zone) => variant === 'eks' && WITHOUT_CONTROL_PLANES.includes(zone))
      .map((zone) => `CDK_ZONES names \`${zone}\`, where EKS runs no control plane: name another zone of the region`),
  ),
  check(['vpcId', 'vpcCidr'], ({ vpcId, vpcCidr }) => [
    vpcId !== undefined &&
      vpcCidr === undefined &&
      'CDK_VPC_ID is set without CDK_VPC_CIDR: set it to the address range of that network',
    vpcId === undefined &&
      vpcCidr !== undefined &&
      !isPrivateNetwork(vpcCidr) &&
      `CDK_VPC_CIDR is \`${vpcCidr}\`: a network of its own needs a range between /16 and /20 inside of 10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16`,
  ]),
  check(
    ['vpcId', 'zones', 'vpcSubnets', 'loadBalancerSubnets', 'loadBalancerCidrs'],
    ({ vpcId, zones = [], ...lists }) => {
      const ofNetwork = [
        ['CDK_VPC_SUBNETS', lists.vpcSubnets],
        ['CDK_VPC_LOAD_BALANCER_SUBNETS', lists.loadBalancerSubnets],
        ['CDK_VPC_LOAD_BALANCER_CIDRS', lists.loadBalancerCidrs],
      ] as const;
      if (vpcId === undefined) {
        return ofNetwork.map(
          ([variable, list]) =>
            list.length > 0 && `${variable} is set without CDK_VPC_ID: set the id of the network as well, or neither`,
        );
      }
      if (zones.length === 0 || zones.some((zone) => zone.includes('-az'))) {
        return [
          'CDK_VPC_ID needs CDK_ZONES: give the names of the subnets’ zones in their order, such as `eu-central-1a`',
        ];
      }
      return ofNetwork.map(
        ([variable, list]) =>
          list.length !== zones.length &&
          `${variable} has ${list.length} elements and CDK_ZONES has ${zones.length}: give one for each zone, in the order of the zones`,
      );
    },
  ),
  check(['variant', 'operators'], ({ variant, operators }) => [
    variant !== 'eks' &&
      operators.length > 0 &&
      `CDK_OPERATORS is set with CDK_VARIANT \`${variant}\`, which makes no Kubernetes cluster: leave CDK_OPERATORS unset`,
  ]),
  check(['prefix', 'alarmsTo', 'destroy'], ({ prefix, alarmsTo, destroy }) => [
    isProduction(prefix) &&
      alarmsTo.length === 0 &&
      !destroy &&
      'CDK_ALARMS_TO is not set: a production deployment needs somebody who receives its alarms; give e-mail addresses or ARNs of SQS queues or Lambda functions, separated by commas',
  ]),
  check(
    ['variant', 'cluster', 'podUrls', 'podCertificateAuthority', 'targetGroups', 'vpcId'],
    ({ variant, cluster, vpcId, ...pods }) => {
      const ofCluster = {
        CDK_CLUSTER: cluster,
        CDK_POD_URLS: pods.podUrls,
        CDK_POD_CA: pods.podCertificateAuthority,
        CDK_TARGET_GROUPS: pods.targetGroups,
      };
      if (variant !== 'identities') {
        return Object.entries(ofCluster).map(
          ([variable, value]) =>
            value !== undefined &&
            `${variable} is set with CDK_VARIANT \`${variant}\`, which has machines of its own: set CDK_VARIANT to \`identities\`, or leave ${variable} unset`,
        );
      }
      return [
        cluster === undefined &&
          'CDK_VARIANT is `identities` without CDK_CLUSTER: set it to the name of the EKS cluster on which the pods run',
        pods.podUrls === undefined &&
          pods.podCertificateAuthority !== undefined &&
          'CDK_POD_CA is set without CDK_POD_URLS: set the addresses of the pods as well, or neither',
        pods.podUrls !== undefined &&
          vpcId === undefined &&
          'CDK_POD_URLS needs CDK_VPC_ID: set it to the network from which the front door calls the pods',
      ];
    },
  ),
  // This tag selects the keys that the deployment's roles may administer.
  check(['tags'], ({ tags }) => [
    'cloister' in tags && 'CDK_RESOURCE_TAGS sets `cloister`, the tag of the CMK alone: choose another name',
  ]),
  check(['frontDoor', 'codeSigning'], ({ frontDoor, codeSigning }) => [
    frontDoor?.startsWith('s3://') === true &&
      !codeSigning &&
      `CDK_FRONT_DOOR is \`${frontDoor}\`: code of a bucket has to be signed, so set CDK_CODE_SIGNING to \`true\`, or name a file`,
  ]),
  check(
    ['nextImages', 'nextPodImages', 'podImages', 'traffic'],
    ({ nextImages, nextPodImages, podImages, traffic }) => [
      nextImages === undefined &&
        traffic === 'next' &&
        'CDK_TRAFFIC is `next`, and there is no next release: set CDK_NEXT_IMAGES and CDK_NEXT_UNTIL, or leave CDK_TRAFFIC unset',
      nextImages === undefined &&
        nextPodImages !== undefined &&
        'CDK_NEXT_POD_IMAGES is set without CDK_NEXT_IMAGES: name the directory with the images of the next release, or set neither',
      nextImages !== undefined &&
        (nextPodImages === undefined) !== (podImages === undefined) &&
        'CDK_POD_IMAGES and CDK_NEXT_POD_IMAGES are the containers of two releases: set both or neither',
    ],
  ),
];

/** Two releases are admitted for a bounded time: synthesis after that day fails until one of them is left out. */
function nextRelease(now: Date): Check {
  return check(['nextImages', 'nextUntil', 'destroy'], ({ nextImages: images, nextUntil: until, destroy }) => {
    const days = (new Date(`${until}T23:59:59Z`).getTime() - now.getTime()) / 86_400_000;
    if (destroy || (images === undefined && until === undefined)) {
      return [];
    }
    return [
      images === undefined
        ? 'CDK_NEXT_UNTIL is set without CDK_NEXT_IMAGES: name the directory with the images of the next release, or set neither'
        : until === undefined || !/^\d{4}-\d{2}-\d{2}$/.test(until) || Number.isNaN(days)
          ? 'CDK_NEXT_IMAGES needs CDK_NEXT_UNTIL, the last day on which the key admits both releases, such as `2027-01-31`'
          : days < 0
            ? `both releases were admitted until ${until}, which is over: set CDK_IMAGES to the release that stays, and unset CDK_NEXT_IMAGES and CDK_NEXT_UNTIL`
            : days > MOST_DAYS_OF_TWO_RELEASES + 1 &&
              `CDK_NEXT_UNTIL is ${until}: set a day at most ${MOST_DAYS_OF_TWO_RELEASES} days ahead, so that no key admits two releases for long`,
    ];
  });
}

const MOST_DAYS_OF_TWO_RELEASES = 14;

function isPrivateNetwork(cidr: string): boolean {
  const network = range(cidr);
  const inside = ['10.0.0.0/8', '172.16.0.0/12', '192.168.0.0/16'].some((block) => {
    const { first, mask } = range(block);
    return (network.first & mask) >>> 0 === first;
  });
  return inside && network.length >= 16 && network.length <= 20;
}
