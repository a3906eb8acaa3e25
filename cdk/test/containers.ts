/** Container image contexts for tests. */

import * as fs from 'node:fs';
import * as path from 'node:path';

import type { Configuration } from '../lib/configuration';
import { writeContext } from '../lib/containers';
import { type Releases, SERVICES } from '../lib/release';
import { temporary } from './fixture';

/** Lays out the container images of releases, with an empty program. */
export function withContainers<Given extends { readonly configuration: Configuration; readonly releases: Releases }>(
  given: Given,
): Given {
  const { release, next } = given.releases;
  for (const { directory, architecture } of [release, ...(next === undefined ? [] : [next])]) {
    SERVICES.forEach((service) => writeContext(directory, service, program(architecture)));
  }
  return given;
}

/** The first bytes of a static program; with `segment` 3 of one that needs a loader. */
export function program(architecture: 'amd64' | 'arm64', segment = 1): string {
  const elf = Buffer.alloc(64 + 56);
  elf.write('\x7fELF\x02\x01\x01', 'latin1');
  elf.writeUInt16LE(architecture === 'arm64' ? 183 : 62, 18);
  elf.writeBigUInt64LE(64n, 32);
  elf.writeUInt16LE(56, 54);
  elf.writeUInt16LE(1, 56);
  elf.writeUInt32LE(segment, 64);
  const file = path.join(temporary(), 'pod');
  fs.writeFileSync(file, elf);
  return file;
}
