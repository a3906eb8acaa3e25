/** Address ranges of IPv4. */

/** A range whose address is its first. */
export function isCidr(text: string): boolean {
  const { first, length, mask } = range(text);
  return (
    /^(\d{1,3}\.){3}\d{1,3}\/\d{1,2}$/.test(text) &&
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
