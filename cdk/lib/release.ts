/** A deployment's images, as `cargo xtask image` wrote them, checked before they are used. */

import { createHash } from 'node:crypto';
import * as fs from 'node:fs';
import * as path from 'node:path';

import { type Architecture, type Configuration, ConfigurationError } from './configuration';
import { type MeasuredSettings, measuredSettings } from './settings';

export const SERVICES = ['signer', 'key-generator'] as const;
export type Service = (typeof SERVICES)[number];

export interface Image {
  /** Absolute. */
  readonly file: string;
  /** In bytes. */
  readonly size: number;
  readonly sha256: string;
  readonly pcr0: string;
}

export interface Release {
  readonly directory: string;
  /** The path of `measurements.json`, which pods compare images with. */
  readonly measurements: string;
  readonly architecture: Architecture;
  /** The kernel's, of both images. */
  readonly commandLine: string;
  readonly settings: MeasuredSettings;
  readonly images: Readonly<Record<Service, Image>>;
}

/** The deployed releases: one, or two during an update. */
export interface Releases {
  readonly release: Release;
  readonly next?: Release;
}

/** The release that has the traffic. Going back is `present` while both are admitted, then leaving the next one out. */
export function withTraffic({ traffic }: Pick<Configuration, 'traffic'>, { release, next }: Releases): Release {
  return traffic === 'next' ? (next ?? release) : release;
}

/** Reads the images of the configuration and refuses those that are not for it. */
export function readReleases(configuration: Configuration): Releases {
  const release = readRelease(configuration, configuration.images);
  return configuration.next === undefined
    ? { release }
    : { release, next: readRelease(configuration, configuration.next.images) };
}

function readRelease(configuration: Configuration, directory: string): Release {
  const measurements = path.join(directory, 'measurements.json');
  const described = readMeasurements(measurements);
  const release: Release = { directory, measurements, ...described };

  if (release.architecture !== configuration.architecture) {
    refuse(
      `the images in ${directory} are for ${release.architecture}, and CDK_TARGET_ARCHITECTURE says linux/${configuration.architecture}: ` +
        `set it to linux/${release.architecture}, or build images with \`cargo xtask image --architecture ${configuration.architecture}\``,
    );
  }
  refuseSettingsOfAnother(release, configuration);
  SERVICES.forEach((service) => refuseAnotherImage(service, release, configuration));
  return release;
}

function readMeasurements(file: string): Pick<Release, 'architecture' | 'commandLine' | 'settings' | 'images'> {
  const text = readFile(file);
  if (text === undefined) {
    refuse(
      `${file} does not exist: build images with \`cargo xtask image --settings FILE\`, or name their directory with CDK_IMAGES`,
    );
  }
  const document = parse(text, file);
  const member = membersOf(document, file);
  if (member('format') !== 1) {
    refuse(
      `${file} has another format than 1: it was written by another release; build images and deploy them from the same checkout`,
    );
  }
  const architecture = member('architecture');
  if (architecture !== 'amd64' && architecture !== 'arm64') {
    refuse(
      `${file}: architecture is neither amd64 nor arm64; build the images again with \`cargo xtask image --settings FILE\``,
    );
  }
  const inputs = membersOf(member('inputs'), `${file}: inputs`);
  const settings = membersOf(member('settings'), `${file}: settings`);
  const images = membersOf(member('images'), `${file}: images`);
  const image = (service: Service): Image => {
    const of = membersOf(images(service), `${file}: images.${service}`);
    const size = of('size');
    if (typeof size !== 'number') {
      refuse(
        `${file}: images.${service}.size is not a number; build the images again with \`cargo xtask image --settings FILE\``,
      );
    }
    return {
      file: path.join(path.dirname(file), path.basename(of.text('file'))),
      size,
      sha256: of.text('sha256'),
      pcr0: of.text('pcr0'),
    };
  };
  return {
    architecture,
    commandLine: inputs.text('command_line'),
    settings: {
      partition: settings.text('partition'),
      account: settings.text('account'),
      region: settings.text('region'),
      signer_role: settings.text('signer_role'),
      generator_role: settings.text('generator_role'),
      retirement_role: settings.text('retirement_role'),
      administrator_role: settings.text('administrator_role'),
      table_arn: settings.text('table_arn'),
      accept_open_policy: settings('accept_open_policy') === true,
    },
    images: { signer: image('signer'), 'key-generator': image('key-generator') },
  };
}

/** Compares the measured settings with the configuration. Images of another deployment would refuse every key. */
function refuseSettingsOfAnother({ directory, settings }: Release, configuration: Configuration): void {
  const expected = Object.entries(measuredSettings(configuration)) as [keyof MeasuredSettings, string | boolean][];
  const differing = expected.filter(([member, value]) => member !== 'accept_open_policy' && settings[member] !== value);
  if (differing.length > 0) {
    const list = differing.map(([member, value]) => `${member} is ${settings[member]} and not ${value}`).join(', ');
    refuse(
      `the images in ${directory} measure the settings of another deployment (${list}): ` +
        'correct CDK_PREFIX, CDK_DEPLOY_ACCOUNT and CDK_DEPLOY_REGION, or build images for this one from what `npm run settings` prints',
    );
  }
  if (!settings.accept_open_policy) {
    refuse(
      `the images in ${directory} accept a locked key only (accept_open_policy is false), and keys are deployed in their open form: ` +
        'build images from settings with `"accept_open_policy": true`, as `npm run settings` prints them',
    );
  }
}

/**
 * Compares a file with its record in `measurements.json`. The registers in that record were measured by the image tool;
 * pods measure the file again before every start.
 */
function refuseAnotherImage(service: Service, release: Release, { production, prefix }: Configuration): void {
  const { file, size, sha256, pcr0 } = release.images[service];
  const bytes = readFile(file);
  if (bytes === undefined) {
    refuse(
      `${file} does not exist, and ${release.measurements} describes it: copy it there, or build images with \`cargo xtask image --settings FILE\``,
    );
  }
  if (bytes.length !== size || createHash('sha256').update(bytes).digest('hex') !== sha256) {
    refuse(
      `${file} is not the file that ${release.measurements} describes (its size or SHA-256 differs): take both from the same build`,
    );
  }
  if (/^0*$/.test(pcr0)) {
    refuse(
      `${release.measurements} gives ${service} the PCR0 of a debug enclave (all zeros), which no key may admit: build images with \`cargo xtask image --settings FILE\``,
    );
  }
  if (production && !/(^| )console=null( |$)/.test(release.commandLine)) {
    refuse(
      `${file} is a debug image (its kernel writes to a console), and the prefix \`${prefix}\` is one of production: ` +
        'build images without `--profile debug`, or deploy this one with a prefix that begins with `dev` or `test`',
    );
  }
}

/** Reads members of a JSON object; the error names a missing or invalid one. */
function membersOf(value: unknown, of: string) {
  const again = 'build the images again with `cargo xtask image --settings FILE`';
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    refuse(`${of} is not an object; ${again}`);
  }
  const object = value as Readonly<Record<string, unknown>>;
  const text = (name: string): string => {
    const member = object[name];
    return typeof member === 'string' ? member : refuse(`${of}.${name} is not a string; ${again}`);
  };
  return Object.assign((name: string) => object[name], { text });
}

function parse(text: Buffer, file: string): unknown {
  try {
    return JSON.parse(text.toString('utf8'));
  } catch {
    return refuse(`${file} is not JSON: build the images again with \`cargo xtask image --settings FILE\``);
  }
}

function readFile(file: string): Buffer | undefined {
  return fs.existsSync(file) ? fs.readFileSync(file) : undefined;
}

function refuse(sentence: string): never {
  throw new ConfigurationError(sentence);
}
