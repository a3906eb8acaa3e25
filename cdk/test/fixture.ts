/** Small images and configurations for tests. */

import { createHash } from 'node:crypto';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';

import { configuration, type Configuration, type Environment, names } from '../lib/configuration';
import { readReleases, type Releases, SERVICES } from '../lib/release';
import { measuredSettings } from '../lib/settings';

// Every `App` of a test has the flags of cdk.json, as one that `cdk` starts.
const { context } = JSON.parse(fs.readFileSync(path.join(__dirname, '../cdk.json'), 'utf8')) as { context: object };
process.env['CDK_CONTEXT_JSON'] = JSON.stringify(context);

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

/** Writes the output of `cargo xtask image` for this configuration, with images of a few bytes. */
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
    const image = Buffer.from(`${service} of ${name.of(version)}, an image`);
    const file = `${service}.eif`;
    fs.writeFileSync(path.join(directory, file), image);
    const hash = (algorithm: string) => createHash(algorithm).update(image).digest('hex');
    return [service, { file, size: image.length, sha256: hash('sha256'), pcr0: hash('sha384') }] as const;
  });
  const measurements = {
    format: 1,
    architecture: configuration.architecture,
    settings: { ...measuredSettings(configuration), tls_roots: [] },
    inputs: { command_line: commandLine },
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

export function temporary(): string {
  return fs.mkdtempSync(path.join(all, 'images-'));
}

const all = fs.mkdtempSync(path.join(os.tmpdir(), 'cloister-cdk-'));
process.on('exit', () => fs.rmSync(all, { recursive: true, force: true }));
