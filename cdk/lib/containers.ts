/** The pods' container images: pushed before, or built from a directory next to the enclave images. */

import * as fs from 'node:fs';
import * as path from 'node:path';

import type { Stack } from 'aws-cdk-lib';
import * as ecr from 'aws-cdk-lib/aws-ecr';
import { DockerImageAsset, Platform } from 'aws-cdk-lib/aws-ecr-assets';
import * as ecs from 'aws-cdk-lib/aws-ecs';

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

/** A pod's container image. */
export interface PodImage {
  readonly imageUri: string;
  /** For a task of ECS. */
  readonly container: ecs.ContainerImage;
}

/**
 * The container image of a service of a release: one that was pushed before, by its digest, or one that `cdk deploy`
 * builds and pushes to the account's registry, with Docker or the program that CDK_DOCKER names.
 */
export function podImage(stack: Stack, configuration: Configuration, release: Release, service: Service): PodImage {
  const pushed = pushedImage(configuration, release, service);
  const directory = contextOf(release.directory, service);
  const id = `Image-${service}-${release.images[service].pcr0.slice(0, 12)}`;
  if (pushed !== undefined) {
    return { imageUri: pushed, container: byDigest(stack, id, pushed) };
  }
  requireEnclave(directory, release, service);
  const built = new DockerImageAsset(stack, id, {
    directory,
    platform: configuration.architecture === 'arm64' ? Platform.LINUX_ARM64 : Platform.LINUX_AMD64,
  });
  return { imageUri: built.imageUri, container: ecs.ContainerImage.fromDockerImageAsset(built) };
}

/** The name, by digest, of an image that was pushed before; undefined if none was. */
export function pushedImage(
  { next, podImages }: Configuration,
  release: Release,
  service: Service,
): string | undefined {
  const pushed = next?.images === release.directory ? next.podImages : podImages;
  const directory = contextOf(release.directory, service);
  // Images that were built elsewhere come without the directory. An enclave of another release adopts no key.
  if (pushed !== undefined && fs.existsSync(directory)) {
    requireEnclave(directory, release, service);
  }
  return pushed?.[service];
}

/** The role that starts a task may read from the account's registry; other registries have to admit everybody. */
function byDigest(stack: Stack, id: string, uri: string): ecs.ContainerImage {
  const [, account, region, repositoryName = '', digest] =
    /^(\d{12})\.dkr\.ecr\.([a-z0-9-]+)\.[a-z.]+\/(.+)@(sha256:.+)$/.exec(uri) ?? [];
  if (account === undefined || region === undefined) {
    return ecs.ContainerImage.fromRegistry(uri);
  }
  const repositoryArn = stack.formatArn({
    service: 'ecr',
    resource: 'repository',
    resourceName: repositoryName,
    account,
    region,
  });
  const repository = ecr.Repository.fromRepositoryAttributes(stack, id, { repositoryArn, repositoryName });
  return ecs.ContainerImage.fromEcrRepository(repository, digest);
}

function requireEnclave(directory: string, release: Release, service: Service): void {
  const image = path.join(directory, 'root/enclave/image.eif');
  if (!fs.existsSync(image) || !fs.readFileSync(image).equals(fs.readFileSync(release.images[service].file))) {
    throw new ConfigurationError(
      `${directory} does not hold the container image of this release's ${service}: run \`cargo xtask containers --images ${release.directory}\``,
    );
  }
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
