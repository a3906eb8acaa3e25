/** The pods' container images, built from a directory next to the enclave images. */

import * as fs from 'node:fs';
import * as path from 'node:path';

import type { Stack } from 'aws-cdk-lib';
import { DockerImageAsset, Platform } from 'aws-cdk-lib/aws-ecr-assets';

import { type Architecture, type Configuration, ConfigurationError } from './configuration';
import type { Release, Service } from './release';

/** Lays out the Dockerfile's inputs, a pod and the image of its enclave; returns the directory. */
export function writeContext(images: string, service: Service, program: string): string {
  const measurements = JSON.parse(fs.readFileSync(path.join(images, 'measurements.json'), 'utf8')) as Measurements;
  requireStatic(program, measurements.architecture);
  const context = contextOf(images, service);
  fs.rmSync(context, { recursive: true, force: true });
  const put = (file: string, mode: number, content: Buffer | string) => {
    const to = path.join(context, file);
    fs.mkdirSync(path.dirname(to), { recursive: true });
    fs.writeFileSync(to, content, { mode });
  };
  put('Dockerfile', 0o644, fs.readFileSync(path.join(__dirname, '../containers/Dockerfile')));
  put('root/usr/bin/pod', 0o755, fs.readFileSync(program));
  put('root/enclave/image.eif', 0o644, fs.readFileSync(path.join(images, measurements.images[service].file)));
  put('root/enclave/measurements.json', 0o644, fs.readFileSync(path.join(images, 'measurements.json')));
  // The pod's own calls trust its enclave's roots, not the bundle of a distribution.
  put('root/enclave/aws-roots.pem', 0o644, measurements.settings.tls_roots.join(''));
  return context;
}

interface Measurements {
  readonly architecture: Architecture;
  readonly settings: { readonly tls_roots: readonly string[] };
  readonly images: Readonly<Record<Service, { readonly file: string }>>;
}

/**
 * The container image of a service of a release. `cdk deploy` pushes it to the account's registry, with Docker or the
 * program that CDK_DOCKER names.
 */
export function podImage(
  stack: Stack,
  { architecture }: Pick<Configuration, 'architecture'>,
  release: Release,
  service: Service,
): DockerImageAsset {
  const directory = contextOf(release.directory, service);
  const image = path.join(directory, 'root/enclave/image.eif');
  if (!fs.existsSync(image) || !fs.readFileSync(image).equals(fs.readFileSync(release.images[service].file))) {
    throw new ConfigurationError(
      `${directory} does not hold the container image of this release's ${service}: run \`cargo xtask containers --images ${release.directory}\``,
    );
  }
  const id = `Image-${service}-${release.images[service].pcr0.slice(0, 12)}`;
  return new DockerImageAsset(stack, id, {
    directory,
    platform: architecture === 'arm64' ? Platform.LINUX_ARM64 : Platform.LINUX_AMD64,
  });
}

function contextOf(images: string, service: Service): string {
  return path.join(images, 'containers', service);
}

/**
 * Refuses dynamically linked programs: the container image has no loader. ELF:
 * https://refspecs.linuxfoundation.org/elf/gabi4+/ch4.eheader.html
 */
function requireStatic(program: string, architecture: Architecture): void {
  const elf = fs.readFileSync(program);
  const refuse = (problem: string): never => {
    throw new ConfigurationError(`${program} ${problem}: build it with \`cargo xtask containers\``);
  };
  if (elf.length < 64 || elf.toString('latin1', 1, 4) !== 'ELF' || elf[4] !== 2) {
    refuse('is not a 64-bit program for Linux');
  }
  if (elf.readUInt16LE(18) !== MACHINES[architecture]) {
    refuse(`is not for ${architecture}, as the enclave images are`);
  }
  const [start, size, count] = [Number(elf.readBigUInt64LE(32)), elf.readUInt16LE(54), elf.readUInt16LE(56)];
  if (Array.from({ length: count }, (_, index) => elf.readUInt32LE(start + index * size)).includes(PT_INTERP)) {
    refuse('needs a loader, and the container image has none');
  }
}

const MACHINES: Readonly<Record<Architecture, number>> = { amd64: 62, arm64: 183 };
const PT_INTERP = 3;
