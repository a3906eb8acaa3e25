/** Small images and configurations to test with. */

import { createHash } from 'node:crypto';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';

import { configuration, type Configuration, type Environment, names } from '../lib/configuration';
import { readEif } from '../lib/eif';
import { readReleases, type Releases, SERVICES } from '../lib/release';
import { measuredSettings } from '../lib/settings';

export const ENVIRONMENT: Environment = {
  CDK_PREFIX: 'dev-',
  CDK_DEPLOY_ACCOUNT: '123456789012',
  CDK_DEPLOY_REGION: 'eu-central-1',
  CDK_TARGET_ARCHITECTURE: 'linux/amd64',
};

export const NOW = new Date('2026-12-01T12:00:00Z');

export const PRODUCTION = 'reboot=k console=null quiet rdinit=/init';
export const DEBUG = 'reboot=k console=ttyS0 rdinit=/init';

export function configured(
  environment: Environment = {},
  context: Readonly<Record<string, string>> = {},
): Configuration {
  const all = { ...ENVIRONMENT, ...environment };
  return configuration(all, (name) => context[name], NOW);
}

/** Writes what `cargo xtask image` leaves, with images of a few bytes that are for this configuration. */
export function writeImages(
  configuration: Configuration,
  {
    directory = temporary(),
    commandLine = PRODUCTION,
    version = 'one',
  }: { directory?: string; commandLine?: string; version?: string } = {},
): string {
  fs.mkdirSync(directory, { recursive: true });
  const name = names(configuration);
  const images = SERVICES.map((service) => {
    const image = eif(configuration.architecture, [
      'kernel',
      commandLine,
      'init',
      service,
      `settings of ${name.of(version)}`,
    ]);
    const file = `${service}.eif`;
    fs.writeFileSync(path.join(directory, file), image);
    const sha256 = createHash('sha256').update(image).digest('hex');
    return [service, { file, size: image.length, sha256, pcr0: readEif(image)?.pcr0 ?? '' }] as const;
  });
  const measurements = {
    format: 1,
    architecture: configuration.architecture,
    settings: { ...measuredSettings(configuration), tls_roots: [] },
    images: Object.fromEntries(images),
  };
  fs.writeFileSync(path.join(directory, 'measurements.json'), JSON.stringify(measurements, undefined, 2));
  return directory;
}

/** A configuration and a release for it. */
export function deployment(
  environment: Environment = {},
  context: Readonly<Record<string, string>> = {},
): { configuration: Configuration; releases: Releases } {
  const images = writeImages(configured(environment, context));
  const read = configured({ ...environment, CDK_IMAGES: images }, context);
  return { configuration: read, releases: readReleases(read) };
}

/** An enclave image: kernel, command line, and ramdisks. */
export function eif(
  architecture: 'amd64' | 'arm64',
  [kernel = '', commandLine = '', ...ramdisks]: readonly string[],
): Buffer {
  const parts = [
    [1, kernel],
    [2, commandLine],
    [5, '{}'],
    ...ramdisks.map((ramdisk) => [3, ramdisk] as const),
  ] as const;
  const header = Buffer.alloc(548);
  header.write('.eif');
  header.writeUInt16BE(4, 4);
  header.writeUInt16BE(architecture === 'arm64' ? 1 : 0, 6);
  header.writeUInt16BE(parts.length, 26);
  let position = header.length;
  const sections = parts.map(([kind, text], index) => {
    const section = Buffer.alloc(12 + text.length);
    section.writeUInt16BE(kind, 0);
    section.writeBigUInt64BE(BigInt(text.length), 4);
    section.write(text, 12);
    header.writeBigUInt64BE(BigInt(position), 28 + 8 * index);
    position += section.length;
    return section;
  });
  return Buffer.concat([header, ...sections]);
}

export function temporary(): string {
  return fs.mkdtempSync(path.join(all, 'images-'));
}

const all = fs.mkdtempSync(path.join(os.tmpdir(), 'cloister-cdk-'));
process.on('exit', () => fs.rmSync(all, { recursive: true, force: true }));
