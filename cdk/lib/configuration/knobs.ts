/** The variables of a deployment: one row each, with its parser and the sentence that an invalid value gets. */

import * as path from 'node:path';

import { MACHINE_TYPES } from './machine-types';

/** A value that the operator gives as the variable `CDK_NAME` or as the context value `name`, which comes first. */
export interface Knob<Value> {
  /** Undefined for what only `cdk -c` can set, because it must not stay in an environment. */
  readonly variable?: string;
  readonly context: string;
  readonly parse: Parse<Value>;
  /** The second half of the sentence. */
  readonly remedy: string;
}

/** Gets an empty text for what is not set. */
type Parse<Value> = (text: string) => Value | Invalid;

/** `items` are the invalid elements of a list; empty if the whole text is invalid. */
class Invalid {
  constructor(readonly items: readonly string[] = []) {}
}

export type Values<Table> = { [Name in keyof Table]: Table[Name] extends Knob<infer Value> ? Value : never };

/** Reads all values that are valid, and a sentence for each that is not. */
export function readKnobs<Table extends Readonly<Record<string, Knob<unknown>>>>(
  table: Table,
  environment: Readonly<Record<string, string | undefined>>,
  context: (name: string) => unknown,
): { readonly values: Partial<Values<Table>>; readonly problems: readonly string[] } {
  const problems: string[] = [];
  const values = Object.entries(table).flatMap(([name, knob]) => {
    const given = context(knob.context) ?? (knob.variable === undefined ? undefined : environment[knob.variable]);
    const text = given === undefined ? '' : String(given);
    const value = knob.parse(text);
    if (!(value instanceof Invalid)) {
      return [[name, value] as const];
    }
    const subject = knob.variable ?? `the context value ${knob.context}`;
    const found = text === '' ? ['is not set'] : [`is \`${text}\``];
    const named = value.items.map((item) => `names \`${item}\``);
    (named.length > 0 ? named : found).forEach((what) => problems.push(`${subject} ${what}: ${knob.remedy}`));
    return [];
  });
  return { values: Object.fromEntries(values) as Partial<Values<Table>>, problems };
}

function knob<Value>(variable: string, parse: Parse<Value>, remedy: string): Knob<Value> {
  return { variable, context: variable.replace(/^CDK_/, '').toLowerCase().replaceAll('_', '-'), parse, remedy };
}

function contextOnly(context: string): Knob<boolean> {
  return { context, parse: flag, remedy: `give \`-c ${context}=true\`, or leave it out` };
}

const matching =
  (right: RegExp): Parse<string> =>
  (text) =>
    right.test(text) ? text : new Invalid();

const optional =
  <Value>(parse: Parse<Value>): Parse<Value | undefined> =>
  (text) =>
    text === '' ? undefined : parse(text);

/** The first one if nothing is set. */
const choice =
  <const Choice extends string>(...choices: readonly [Choice, ...Choice[]]): Parse<Choice> =>
  (text) =>
    text === '' ? choices[0] : (choices.find((one) => one === text) ?? new Invalid());

const flag: Parse<boolean> = (text) => (['', 'true', 'false'].includes(text) ? text === 'true' : new Invalid());

const count: Parse<number | undefined> = optional((text) => (/^[1-9]\d?$/.test(text) ? Number(text) : new Invalid()));

const file: Parse<string | undefined> = optional((text) => (text.startsWith('s3://') ? text : path.resolve(text)));

/** Elements that are separated by commas. Each occurs once. */
const list =
  (right: RegExp | ((item: string) => boolean)): Parse<readonly string[]> =>
  (text) => {
    const items = text
      .split(',')
      .map((item) => item.trim())
      .filter((item) => item !== '');
    const isRight = right instanceof RegExp ? (item: string) => right.test(item) : right;
    const wrong = items.filter((item, index) => !isRight(item) || items.indexOf(item) !== index);
    return wrong.length === 0 ? items : new Invalid(wrong);
  };

/** `name=value` pairs; a name occurs once. */
const pairs =
  (right: RegExp): Parse<Readonly<Record<string, string>>> =>
  (text) => {
    const items = list(right)(text);
    if (items instanceof Invalid) {
      return items;
    }
    const entries = items.map((item) => [item.slice(0, item.indexOf('=')), item.slice(item.indexOf('=') + 1)] as const);
    const twice = entries.filter(([name], index) => entries.findIndex(([other]) => other === name) !== index);
    return twice.length === 0 ? Object.fromEntries(entries) : new Invalid(twice.map((entry) => entry.join('=')));
  };

/** `service=VALUE` of both services. */
const perService = (right: string): Parse<PerService | undefined> =>
  optional((text) => {
    const given = pairs(new RegExp(`^(signer|key-generator)=${right}$`))(text);
    if (given instanceof Invalid) {
      return given;
    }
    const { signer, 'key-generator': generator } = given;
    return signer === undefined || generator === undefined ? new Invalid() : { signer, 'key-generator': generator };
  });

type PerService = Readonly<Record<'signer' | 'key-generator', string>>;

const podImages = perService('[a-z0-9.-]+(:\\d+)?(/[a-z0-9._-]+)+@sha256:[0-9a-f]{64}');
const ROLES_OR_USERS = /^arn:aws[a-z-]*:iam::\d{12}:(role|user)\/[^*]+$/;
const CIDR = /^(\d{1,3}\.){3}\d{1,3}\/\d{1,2}$/;
const SUBNET = /^subnet-[0-9a-f]{8,17}$/;
const COUNT = 'set it to a number from 1 to 99, or to nothing';
const PARAMETER_PREFIX = /^(?!\/(aws|ssm))(\/[a-z0-9_.-]+){1,10}$/i;
const POD_IMAGES =
  'give the images of both services by digest, `signer=URI@sha256:…,key-generator=URI@sha256:…`, as `cargo xtask push` prints them';
/** https://docs.aws.amazon.com/tag-editor/latest/userguide/best-practices-and-strats.html */
const TAG = /^(?!aws:)[a-z0-9+\-._:/]{1,128}=[\p{L}\p{N} +\-=._:/@]{0,256}$/iu;

export const KNOBS = {
  prefix: knob(
    'CDK_PREFIX',
    (text) => matching(/^([a-z][a-z0-9-]{0,13}-)?$/)(text === '' || text.endsWith('-') ? text : `${text}-`),
    'set it to nothing, or to at most 14 lower-case letters, digits and hyphens that begin with a letter, such as `dev`',
  ),
  account: knob(
    'CDK_DEPLOY_ACCOUNT',
    matching(/^\d{12}$/),
    'set it to the twelve digits of the AWS account to deploy to',
  ),
  region: knob(
    'CDK_DEPLOY_REGION',
    matching(/^[a-z]{2}(-[a-z]+)+-\d$/),
    'set it to the AWS region to deploy to, such as `eu-central-1`',
  ),
  target: knob(
    'CDK_TARGET_ARCHITECTURE',
    matching(/^linux\/(amd64|arm64)$/),
    'set it to `linux/amd64` or `linux/arm64`, the architecture that the enclave images were built for',
  ),
  images: knob('CDK_IMAGES', file, 'name the output directory of `cargo xtask image`'),
  frontDoor: knob('CDK_FRONT_DOOR', file, 'name the output of `cargo xtask lambda`, or `s3://BUCKET/KEY`'),
  variant: knob(
    'CDK_VARIANT',
    choice('eks', 'ecs', 'identities'),
    'set it to `eks`, `ecs` or `identities`, or to nothing for `eks`',
  ),
  cluster: knob(
    'CDK_CLUSTER',
    optional(matching(/^[0-9A-Za-z][0-9A-Za-z_-]{0,99}$/)),
    'set it to the name of the EKS cluster on which the pods run',
  ),
  podUrls: knob(
    'CDK_POD_URLS',
    perService('https://[a-z0-9-]+(\\.[a-z0-9-]+)+(:\\d+)?'),
    'give the addresses of both services, `signer=https://HOST:PORT,key-generator=https://HOST:PORT`',
  ),
  podCertificateAuthority: knob('CDK_POD_CA', file, 'name the file with the certificate of the pods’ CA'),
  targetGroups: knob(
    'CDK_TARGET_GROUPS',
    perService('arn:aws[a-z-]*:elasticloadbalancing:[a-z0-9-]+:\\d{12}:targetgroup/[\\w-]+/[0-9a-f]+'),
    'give the ARNs of the load balancer’s target groups of both services, `signer=ARN,key-generator=ARN`',
  ),
  callers: knob(
    'CDK_CALLERS',
    list(ROLES_OR_USERS),
    'give the ARNs of roles or users of IAM, separated by commas; a whole account would let everybody in it sign',
  ),
  nextImages: knob('CDK_NEXT_IMAGES', file, 'name the directory with the images of the next release'),
  nextUntil: knob(
    'CDK_NEXT_UNTIL',
    optional((text) => text),
    'set it to a day',
  ),
  nextPodImages: knob('CDK_NEXT_POD_IMAGES', podImages, POD_IMAGES),
  traffic: knob(
    'CDK_TRAFFIC',
    optional(choice('present', 'next')),
    'set it to `present` or `next`, the release that has the traffic while two are admitted, or to nothing for `next`',
  ),
  size: knob('CDK_SIZE', choice('default', 'small'), 'set it to `default` or `small`, or to nothing for `default`'),
  signers: knob('CDK_SIGNERS', count, COUNT),
  keyGenerators: knob('CDK_KEY_GENERATORS', count, COUNT),
  machines: knob('CDK_MACHINES', count, COUNT),
  machineType: knob(
    'CDK_MACHINE_TYPE',
    optional((text) => (MACHINE_TYPES.has(text) ? text : new Invalid())),
    `set it to a type that can start enclaves and has eight processors or more: ${[...MACHINE_TYPES.keys()].join(', ')}`,
  ),
  zones: knob(
    'CDK_ZONES',
    optional((text) => {
      const zones = list(/^([a-z]{2}(-[a-z]+)+-\d[a-z]|[a-z]+\d-az\d+)$/)(text);
      if (zones instanceof Invalid) {
        return zones;
      }
      const kinds = new Set(zones.map((zone) => zone.includes('-az')));
      return kinds.size === 1 && [2, 3].includes(zones.length) ? zones : new Invalid();
    }),
    'give two or three different zones, all by name (`eu-central-1a`) or all by id (`euc1-az1`), separated by commas',
  ),
  vpcId: knob(
    'CDK_VPC_ID',
    optional(matching(/^vpc-[0-9a-f]{8,17}$/)),
    'set it to the id of an existing network, such as `vpc-0123456789abcdef0`, or to nothing for a network of its own',
  ),
  vpcCidr: knob(
    'CDK_VPC_CIDR',
    optional((text) => (isCidr(text) ? text : new Invalid())),
    'set it to the first address of the network and the length of its mask, such as `10.0.0.0/16`',
  ),
  vpcSubnets: knob(
    'CDK_VPC_SUBNETS',
    list(SUBNET),
    'give the ids of private subnets, one for each zone, separated by commas',
  ),
  loadBalancerSubnets: knob(
    'CDK_VPC_LOAD_BALANCER_SUBNETS',
    list(SUBNET),
    'give the ids of the load balancer’s subnets, one for each zone, separated by commas',
  ),
  loadBalancerCidrs: knob(
    'CDK_VPC_LOAD_BALANCER_CIDRS',
    list(isCidr),
    'give the address ranges of the load balancer’s subnets in their order, such as `10.0.0.0/26`, separated by commas',
  ),
  alarmsTo: knob(
    'CDK_ALARMS_TO',
    list(
      /^([^\s@,:]+@[^\s@,:]+\.[^\s@,:]+|arn:aws[a-z-]*:sqs:[a-z0-9-]+:\d{12}:[\w-]+|arn:aws[a-z-]*:lambda:[a-z0-9-]+:\d{12}:function:[\w-]+(:[\w-]+)?)$/,
    ),
    'give e-mail addresses and ARNs of SQS queues or Lambda functions, separated by commas; SNS delivers to no FIFO queue and to no other topic',
  ),
  tags: knob(
    'CDK_TAGS',
    pairs(TAG),
    'give `name=value` pairs, separated by commas: names of letters, digits and `+ - . _ : /` that every service accepts, each once and not beginning with `aws:`',
  ),
  parameterPrefix: knob(
    'CDK_PARAMETER_PREFIX',
    optional((text) => (text.length <= 200 ? matching(PARAMETER_PREFIX)(text) : new Invalid())),
    'set it to a path of letters, digits and `. - _` such as `/devapp/ethereum`, without a slash at its end, and not beginning with `/aws` or `/ssm`',
  ),
  operators: knob('CDK_OPERATORS', list(ROLES_OR_USERS), 'give the ARNs of roles or users of IAM, separated by commas'),
  trail: knob(
    'CDK_TRAIL',
    (text) =>
      text === '' ? 'create' : matching(/^(create|arn:aws[a-z-]*:cloudtrail:[a-z0-9-]+:\d{12}:trail\/[\w.-]+)$/)(text),
    'set it to the ARN of a trail that exists, or to `create` or nothing for one of its own',
  ),
  podImages: knob('CDK_POD_IMAGES', podImages, POD_IMAGES),
  codeSigning: knob('CDK_CODE_SIGNING', flag, 'set it to `true`, or to `false` or nothing'),
  apiLogs: knob(
    'CDK_API_LOGS',
    choice('create', 'existing'),
    'set it to `existing` if the region’s API Gateway already has a role for logs, or to `create` or nothing',
  ),
  renew: knob(
    'CDK_RENEW',
    optional(matching(/^[\w.-]{1,40}$/)),
    'give another value than the last time, such as a date, and keep it until the next time',
  ),
  withKeys: contextOnly('with-keys'),
  destroy: contextOnly('destroy'),
  keyForm: {
    context: 'key-form',
    parse: choice('open'),
    remedy:
      'only `open` is deployed: a locked key could never admit another image, and keys cannot be handed over to a next image yet; leave key-form out (`cloister kms render` shows the locked form)',
  } as Knob<'open'>,
};

/** A range whose address is its first. */
function isCidr(text: string): boolean {
  const { first, length, mask } = range(text);
  return (
    CIDR.test(text) &&
    length <= 32 &&
    text
      .split(/[./]/)
      .slice(0, 4)
      .every((byte) => Number(byte) <= 255) &&
    (first & mask) >>> 0 === first
  );
}

/** The first address of a CIDR as a number, and its mask. */
export function range(cidr: string): { readonly first: number; readonly length: number; readonly mask: number } {
  const [address = '', length = ''] = cidr.split('/');
  const first = address.split('.').reduce((number, byte) => number * 256 + Number(byte), 0);
  return { first, length: Number(length), mask: Number(length) === 0 ? 0 : (-1 << (32 - Number(length))) >>> 0 };
}
