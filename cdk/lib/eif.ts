/**
 * What the hypervisor measures of an enclave image file, computed from its bytes.
 *
 * The format is that of https://github.com/aws/aws-nitro-enclaves-image-format; docs/images.md says which sections a register covers.
 * `crates/eif` checks an image thoroughly before it is started; this reader only has to notice that a file is another one.
 */

import { createHash } from 'node:crypto';

import type { Architecture } from './configuration';

export interface Eif {
  readonly architecture: Architecture;
  readonly commandLine: string;
  /** SHA-384(0⁴⁸ ‖ SHA-384(kernel ‖ command line ‖ ramdisks)), lower-case hex. */
  readonly pcr0: string;
}

/** Reads an image; undefined for bytes that are none. */
export function readEif(image: Buffer): Eif | undefined {
  try {
    return read(image);
  } catch (error) {
    // Buffer's own complaint about reading past its end.
    if (error instanceof RangeError) {
      return undefined;
    }
    throw error;
  }
}

function read(image: Buffer): Eif | undefined {
  if (image.toString('latin1', 0, 4) !== '.eif') {
    return undefined;
  }
  const flags = image.readUInt16BE(6);
  const count = image.readUInt16BE(SECTION_COUNT_AT);
  const sections = Array.from({ length: Math.min(count, MOST_SECTIONS) }, (_, index) => {
    const start = Number(image.readBigUInt64BE(OFFSETS_AT + 8 * index));
    const length = Number(image.readBigUInt64BE(start + 4));
    return {
      kind: image.readUInt16BE(start),
      data: image.subarray(start + SECTION_HEADER, start + SECTION_HEADER + length),
      length,
    };
  });
  if (sections.some(({ data, length }) => data.length !== length)) {
    return undefined;
  }
  const measured = [KERNEL, COMMAND_LINE, RAMDISK].flatMap((kind) =>
    sections.filter((section) => section.kind === kind),
  );
  const content = createHash('sha384');
  measured.forEach(({ data }) => content.update(data));
  return {
    architecture: (flags & 1) === 1 ? 'arm64' : 'amd64',
    commandLine: sections.find(({ kind }) => kind === COMMAND_LINE)?.data.toString('latin1') ?? '',
    pcr0: createHash('sha384').update(Buffer.alloc(48)).update(content.digest()).digest('hex'),
  };
}

const KERNEL = 1;
const COMMAND_LINE = 2;
const RAMDISK = 3;
const SECTION_COUNT_AT = 26;
const OFFSETS_AT = 28;
const SECTION_HEADER = 12;
const MOST_SECTIONS = 32;
