/** The variables of a deployment: one row each, with its parser and the sentence that an invalid value gets. */

import { isCidr } from './cidr';
import { MACHINE_TYPES } from './machine-types';
import { choice, count, file, flag, Invalid, list, matching, optional, pairs, type Parse, perService } from './parse';

/** A value that the operator gives as the variable `CDK_NAME` or as the context value `name`, which comes first. */
export interface Knob<Value> {
  /** Undefined for what only `cdk -c` can set, because it must not stay in an environment. */
  readonly variable?: string;
  readonly context: string;
  /** Of the page docs/configuration.md: unit and default, if it has any. */
  readonly meaning: string;
  readonly parse: Parse<Value>;
  /** The second half of the sentence. */
  readonly remedy: string;
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

function knob<Value>(variable: string, meaning: string, parse: Parse<Value>, remedy: string): Knob<Value> {
  const context = variable.replace(/^CDK_/, '').toLowerCase().replaceAll('_', '-');
  return { variable, context, meaning, parse, remedy };
}

function contextOnly(context: string, meaning: string): Knob<boolean> {
  return { context, meaning, parse: flag, remedy: `give \`-c ${context}=true\`, or leave it out` };
}

const podImages = perService('[a-z0-9.-]+(:\\d+)?(/[a-z0-9._-]+)+@sha256:[0-9a-f]{64}');
const ROLES_OR_USERS = /^arn:aws[a-z-]*:iam::\d{12}:(role|user)\/[^*]+$/;
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
    'begins every name; names are unique in an account, also across regions. Only with `dev…` and `test…` are debug images deployed, and objects of the journal locked for a day instead of a year [none: production]',
    (text) => matching(/^([a-z][a-z0-9-]{0,13}-)?$/)(text === '' || text.endsWith('-') ? text : `${text}-`),
    'set it to nothing, or to at most 14 lower-case letters, digits and hyphens that begin with a letter, such as `dev`',
  ),
  account: knob(
    'CDK_DEPLOY_ACCOUNT',
    'the AWS account; required',
    matching(/^\d{12}$/),
    'set it to the twelve digits of the AWS account to deploy to',
  ),
  region: knob(
    'CDK_DEPLOY_REGION',
    'the AWS region; required',
    matching(/^[a-z]{2}(-[a-z]+)+-\d$/),
    'set it to the AWS region to deploy to, such as `eu-central-1`',
  ),
  target: knob(
    'CDK_TARGET_ARCHITECTURE',
    '`linux/amd64` or `linux/arm64`, of enclaves, machines and function; required',
    matching(/^linux\/(amd64|arm64)$/),
    'set it to `linux/amd64` or `linux/arm64`, the architecture that the enclave images were built for',
  ),
  images: knob(
    'CDK_IMAGES',
    'the output directory of `cargo xtask image` [`target/images/deployment`]',
    file,
    'name the output directory of `cargo xtask image`',
  ),
  frontDoor: knob(
    'CDK_FRONT_DOOR',
    'the zip of `cargo xtask lambda`, or `s3://BUCKET/KEY` of one that is signed with the profile of `CDK_CODE_SIGNING` [`target/lambda/front-door-ARCHITECTURE.zip`]',
    file,
    'name the output of `cargo xtask lambda`, or `s3://BUCKET/KEY`',
  ),
  frontDoorKeyVersion: knob(
    'CDK_FRONT_DOOR_KEY_VERSION',
    'the id of a new version of the front door’s key, for the deployment that gives it to the front door [the current version]',
    optional(matching(/^[A-Za-z0-9-]{32,64}$/)),
    'set it to the id of a version of the front door’s key, as `aws secretsmanager put-secret-value` prints it, or to nothing for the current one',
  ),
  variant: knob(
    'CDK_VARIANT',
    'the pods’ platform: `eks`, `ecs`, or `identities` for a cluster of your own ([existing-platforms.md](existing-platforms.md)) [`eks`]',
    choice('eks', 'ecs', 'identities'),
    'set it to `eks`, `ecs` or `identities`, or to nothing for `eks`',
  ),
  cluster: knob(
    'CDK_CLUSTER',
    'the name of your own cluster; only with `identities`',
    optional(matching(/^[0-9A-Za-z][0-9A-Za-z_-]{0,99}$/)),
    'set it to the name of the EKS cluster on which the pods run',
  ),
  podUrls: knob(
    'CDK_POD_URLS',
    'addresses of the services on your own cluster, for a front door before them; only with `identities`',
    perService('https://[a-z0-9-]+(\\.[a-z0-9-]+)+(:\\d+)?'),
    'give the addresses of both services, `signer=https://HOST:PORT,key-generator=https://HOST:PORT`',
  ),
  podCertificateAuthority: knob(
    'CDK_POD_CA',
    'the file with the certificate of the CA that signs the pods’ certificates; only with `CDK_POD_URLS`',
    file,
    'name the file with the certificate of the pods’ CA',
  ),
  targetGroups: knob(
    'CDK_TARGET_GROUPS',
    'ARNs of the target groups of both services on your own cluster',
    perService('arn:aws[a-z-]*:elasticloadbalancing:[a-z0-9-]+:\\d{12}:targetgroup/[\\w-]+/[0-9a-f]+'),
    'give the ARNs of the load balancer’s target groups of both services, `signer=ARN,key-generator=ARN`',
  ),
  callers: knob(
    'CDK_CALLERS',
    'ARNs of the roles and users that may assume `cloister-invoke` [every principal of the account whose own policies allow it]',
    list(ROLES_OR_USERS),
    'give the ARNs of roles or users of IAM, separated by commas; a whole account would let everybody in it sign',
  ),
  nextImages: knob(
    'CDK_NEXT_IMAGES',
    'the images of the next release, which the key admits as well [none]',
    file,
    'name the directory with the images of the next release',
  ),
  nextUntil: knob(
    'CDK_NEXT_UNTIL',
    'the last day on which both releases are deployed, at most 14 days ahead; required with `CDK_NEXT_IMAGES`',
    optional((text) => text),
    'set it to a day',
  ),
  nextPodImages: knob('CDK_NEXT_POD_IMAGES', 'as `CDK_POD_IMAGES`, of the next release', podImages, POD_IMAGES),
  traffic: knob(
    'CDK_TRAFFIC',
    'the release that has the traffic while two are admitted: `present` or `next` [`next`]',
    optional(choice('present', 'next')),
    'set it to `present` or `next`, the release that has the traffic while two are admitted, or to nothing for `next`',
  ),
  size: knob(
    'CDK_SIZE',
    '`small` has two zones, two machines, a pod of each service, and endpoints of KMS, Secrets Manager, DynamoDB and S3 alone; the rest goes through NAT [`default`]',
    choice('default', 'small'),
    'set it to `default` or `small`, or to nothing for `default`',
  ),
  signers: knob('CDK_SIGNERS', 'pods of the signer, each on a machine of its own [2, small: 1]', count, COUNT),
  keyGenerators: knob(
    'CDK_KEY_GENERATORS',
    'pods of the key generator, each on a machine of its own [2, small: 1]',
    count,
    COUNT,
  ),
  machines: knob(
    'CDK_MACHINES',
    'machines with room for three enclaves each; two releases have to fit [3, small: 2]',
    count,
    COUNT,
  ),
  machineType: knob(
    'CDK_MACHINE_TYPE',
    'the instance type of the machines [`m6i.2xlarge`, arm64: `m7g.2xlarge`]',
    optional((text) => (MACHINE_TYPES.has(text) ? text : new Invalid())),
    `set it to a type that can start enclaves and has eight processors or more: ${[...MACHINE_TYPES.keys()].join(', ')}`,
  ),
  zones: knob(
    'CDK_ZONES',
    'two or three availability zones, by name or by id [the region’s first ones; ids in regions with a zone in which EKS runs no control plane]',
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
    'an existing network, which brings its own endpoints and routes; its subnets and ranges are given in the order of `CDK_ZONES` [a network of its own]',
    optional(matching(/^vpc-[0-9a-f]{8,17}$/)),
    'set it to the id of an existing network, such as `vpc-0123456789abcdef0`, or to nothing for a network of its own',
  ),
  vpcCidr: knob(
    'CDK_VPC_CIDR',
    'the address range of the network; one of its own has /16 to /20 [`10.0.0.0/16`]',
    optional((text) => (isCidr(text) ? text : new Invalid())),
    'set it to the first address of the network and the length of its mask, such as `10.0.0.0/16`',
  ),
  vpcSubnets: knob(
    'CDK_VPC_SUBNETS',
    'private subnets of the existing network for machines and pods',
    list(SUBNET),
    'give the ids of private subnets, one for each zone, separated by commas',
  ),
  loadBalancerSubnets: knob(
    'CDK_VPC_LOAD_BALANCER_SUBNETS',
    'subnets of the existing network for the load balancer alone',
    list(SUBNET),
    'give the ids of the load balancer’s subnets, one for each zone, separated by commas',
  ),
  loadBalancerCidrs: knob(
    'CDK_VPC_LOAD_BALANCER_CIDRS',
    'address ranges of these subnets, from which pods accept requests',
    list(isCidr),
    'give the address ranges of the load balancer’s subnets in their order, such as `10.0.0.0/26`, separated by commas',
  ),
  alarmsTo: knob(
    'CDK_ALARMS_TO',
    'subscribers of the alarms: e-mail addresses, ARNs of SQS queues and Lambda functions; required in production [none]',
    list(
      /^([^\s@,:]+@[^\s@,:]+\.[^\s@,:]+|arn:aws[a-z-]*:sqs:[a-z0-9-]+:\d{12}:[\w-]+|arn:aws[a-z-]*:lambda:[a-z0-9-]+:\d{12}:function:[\w-]+(:[\w-]+)?)$/,
    ),
    'give e-mail addresses and ARNs of SQS queues or Lambda functions, separated by commas; SNS delivers to no FIFO queue and to no other topic',
  ),
  tags: knob(
    'CDK_RESOURCE_TAGS',
    'tags of all resources except the CMK and its parameters [none]',
    pairs(TAG),
    'give `name=value` pairs, separated by commas: names of letters, digits and `+ - . _ : /` that every service accepts, each once and not beginning with `aws:`',
  ),
  parameterPrefix: knob(
    'CDK_PARAMETER_PREFIX',
    'the path of the SSM parameters for callers [`/PREFIXapp/ethereum`]',
    optional((text) => (text.length <= 200 ? matching(PARAMETER_PREFIX)(text) : new Invalid())),
    'set it to a path of letters, digits and `. - _` such as `/devapp/ethereum`, without a slash at its end, and not beginning with `/aws` or `/ssm`',
  ),
  operators: knob(
    'CDK_OPERATORS',
    'ARNs of the roles and users that may look at the cluster’s objects and stop the pods [none]',
    list(ROLES_OR_USERS),
    'give the ARNs of roles or users of IAM, separated by commas',
  ),
  trail: knob(
    'CDK_TRAIL',
    'the ARN of a CloudTrail trail with the management events of KMS; the alarms on the key need one [`create`]',
    (text) =>
      text === '' ? 'create' : matching(/^(create|arn:aws[a-z-]*:cloudtrail:[a-z0-9-]+:\d{12}:trail\/[\w.-]+)$/)(text),
    'set it to the ARN of a trail that exists, or to `create` or nothing for one of its own',
  ),
  podImages: knob(
    'CDK_POD_IMAGES',
    'the pods’ images by digest, as `cargo xtask push` prints them [built with Docker from `CDK_IMAGES`]',
    podImages,
    POD_IMAGES,
  ),
  codeSigning: knob(
    'CDK_CODE_SIGNING',
    '`true`: a signing profile for the front door’s code [`false`]',
    flag,
    'set it to `true`, or to `false` or nothing',
  ),
  apiLogs: knob(
    'CDK_API_LOGS',
    '`existing`: the region’s API Gateway keeps the role for logs that the account has set [`create`]',
    choice('create', 'existing'),
    'set it to `existing` if the region’s API Gateway already has a role for logs, or to `create` or nothing',
  ),
  renew: knob(
    'CDK_RENEW',
    'any new value applies all objects of the cluster again, and reads again what is fixed otherwise: versions of machines and add-ons, addresses of DynamoDB, the pods’ CA; on ECS it also replaces the machines [none]',
    optional(matching(/^[\w.-]{1,40}$/)),
    'give another value than the last time, such as a date, and keep it until the next time',
  ),
  withKeys: contextOnly(
    'with-keys',
    'removes the protection of table, roles and stacks against `cdk destroy` [`false`]',
  ),
  destroy: contextOnly('destroy', 'stacks without content, so that `cdk destroy` needs no images [`false`]'),
  keyForm: {
    context: 'key-form',
    meaning: 'the form of the key policy [`open`]',
    parse: choice('open'),
    remedy:
      'only `open` is deployed: a locked key could never admit another image, and keys cannot be handed over to a next image yet; leave key-form out (`cloister kms render` shows the locked form)',
  } as Knob<'open'>,
};
