export function digests(text: string): string[];

export function difference(
  text: string,
  expected: readonly string[],
): { readonly missing: string[]; readonly unexpected: string[] };
