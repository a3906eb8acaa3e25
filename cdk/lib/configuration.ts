/**
 * The configuration of a deployment, read once from the environment. Invalid values are reported together, each with
 * its remedy.
 */

import * as path from 'node:path';

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
  /** The pods' platform: Kubernetes, or ECS on machines of an auto-scaling group. */
  readonly variant: 'eks' | 'ecs';
  /** ARNs of the principals that may assume the role for calling the API. */
  readonly callers: readonly string[];
  /** The images of the next release: the key admits both, and deployments fail after the given day. */
  readonly next?: { readonly images: string; readonly until: string };
  /** Removes the protection of table and key against `cdk destroy`. */
  readonly withKeys: boolean;
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
  const problems: string[] = [];
  const checked = (name: string, right: RegExp, problem: string): string => {
    const value = environment[name] ?? '';
    if (!right.test(value)) {
      problems.push(`${name} ${value === '' ? 'is not set' : `is \`${value}\``}: ${problem}`);
    }
    return value;
  };
  const given = (variable: string, name: string): string | undefined => {
    const value = context(name) ?? environment[variable];
    return value === undefined || value === '' ? undefined : String(value);
  };

  const prefix = checked(
    'CDK_PREFIX',
    /^([a-z][a-z0-9-]{0,13}-)?$/,
    'set it to nothing, or to at most 15 lower-case letters, digits and hyphens that begin with a letter and end with a hyphen, such as `dev-`',
  );
  const account = checked(
    'CDK_DEPLOY_ACCOUNT',
    /^\d{12}$/,
    'set it to the twelve digits of the AWS account to deploy to',
  );
  const region = checked(
    'CDK_DEPLOY_REGION',
    /^[a-z]{2}(-[a-z]+)+-\d$/,
    'set it to the AWS region to deploy to, such as `eu-central-1`',
  );
  const target = checked(
    'CDK_TARGET_ARCHITECTURE',
    /^linux\/(amd64|arm64)$/,
    'set it to `linux/amd64` or `linux/arm64`, the architecture that the enclave images were built for',
  );

  const images = path.resolve(given('CDK_IMAGES', 'images') ?? path.join(__dirname, '../../target/images/deployment'));
  const architecture: Architecture = target === 'linux/arm64' ? 'arm64' : 'amd64';
  const zip = path.join(__dirname, `../../target/lambda/front-door-${architecture}.zip`);
  const next = nextRelease(
    given('CDK_NEXT_IMAGES', 'next-images'),
    given('CDK_NEXT_UNTIL', 'next-until'),
    now,
    problems,
  );
  const variant = given('CDK_VARIANT', 'variant') ?? 'eks';
  if (variant !== 'eks' && variant !== 'ecs') {
    problems.push(`CDK_VARIANT is \`${variant}\`: set it to \`eks\` or \`ecs\`, or to nothing for \`eks\``);
  }
  const callers = (given('CDK_CALLERS', 'callers') ?? '').split(',').filter((caller) => caller !== '');
  for (const caller of callers.filter(
    (arn) => !/^arn:aws[a-z-]*:(iam|sts)::\d{12}:(role|user|assumed-role)\/[^*]+$/.test(arn),
  )) {
    problems.push(
      `CDK_CALLERS names \`${caller}\`: give the ARNs of roles or users, separated by commas; a whole account would let everybody in it sign`,
    );
  }
  const withKeys = String(context('with-keys') ?? 'false');
  if (!['true', 'false'].includes(withKeys)) {
    problems.push(`the context value with-keys is \`${withKeys}\`: give \`-c with-keys=true\`, or leave it out`);
  }
  if (String(context('key-form') ?? 'open') !== 'open') {
    problems.push(
      'the context value key-form asks for another form than `open`: a locked key could never admit another image, so it is not deployed ' +
        'before keys can be handed over to a next image; leave key-form out (`cloister kms render` shows the locked form)',
    );
  }

  if (problems.length > 0) {
    throw new ConfigurationError(problems.join('\n'));
  }
  return {
    prefix,
    partition: partitionOf(region),
    account,
    region,
    architecture,
    production: !/^(dev|test)/.test(prefix),
    images,
    frontDoor: frontDoorZip(given('CDK_FRONT_DOOR', 'front-door') ?? zip),
    variant: variant === 'ecs' ? 'ecs' : 'eks',
    callers,
    ...(next === undefined ? {} : { next }),
    withKeys: withKeys === 'true',
  };
}

/**
 * The names of a deployment's resources. They follow from the configuration alone, so that the measured settings can
 * contain them before anything is deployed.
 */
export function names(of: Pick<Configuration, 'prefix' | 'partition' | 'account' | 'region'>) {
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
    parameter: (what: string) => `/${of.prefix}app/ethereum/${what}`,
    /** AWS Signer takes no hyphens. */
    signingProfile: name('front-door').replaceAll('-', '_'),
    /** The name of any other resource: a stack, a function, a log group. */
    of: name,
  } as const;
}

function frontDoorZip(zip: string): string {
  return zip.startsWith('s3://') ? zip : path.resolve(zip);
}

function partitionOf(region: string): string {
  return region.startsWith('cn-') ? 'aws-cn' : region.startsWith('us-gov-') ? 'aws-us-gov' : 'aws';
}

/** Two releases are admitted for a bounded time: synthesis after that day fails until one of them is left out. */
function nextRelease(
  images: string | undefined,
  until: string | undefined,
  now: Date,
  problems: string[],
): Configuration['next'] {
  if (images === undefined && until === undefined) {
    return undefined;
  }
  const end = new Date(`${until}T23:59:59Z`);
  const days = (end.getTime() - now.getTime()) / 86_400_000;
  if (images === undefined) {
    problems.push(
      'CDK_NEXT_UNTIL is set without CDK_NEXT_IMAGES: name the directory with the images of the next release, or set neither',
    );
  } else if (until === undefined || !/^\d{4}-\d{2}-\d{2}$/.test(until) || Number.isNaN(days)) {
    problems.push(
      'CDK_NEXT_IMAGES needs CDK_NEXT_UNTIL, the last day on which the key admits both releases, such as `2027-01-31`',
    );
  } else if (days < 0) {
    problems.push(
      `both releases were admitted until ${until}, which is over: set CDK_IMAGES to the release that stays, and unset CDK_NEXT_IMAGES and CDK_NEXT_UNTIL`,
    );
  } else if (days > MOST_DAYS_OF_TWO_RELEASES + 1) {
    problems.push(
      `CDK_NEXT_UNTIL is ${until}: set a day at most ${MOST_DAYS_OF_TWO_RELEASES} days ahead, so that no key admits two releases for long`,
    );
  } else {
    return { images: path.resolve(images), until };
  }
  return undefined;
}

const MOST_DAYS_OF_TWO_RELEASES = 14;
