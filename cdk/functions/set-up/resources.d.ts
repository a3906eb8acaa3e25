export interface Request {
  readonly RequestType: 'Create' | 'Update' | 'Delete';
  readonly ResourceProperties: Readonly<Record<string, string | readonly string[]>>;
}

export type Aws = (service: string, command: string, input: Readonly<Record<string, unknown>>) => Promise<unknown>;

export const resources: Readonly<
  Record<
    string,
    (request: Request, aws: Aws, sleep: (seconds: number) => Promise<void>) => Promise<Readonly<Record<string, string>>>
  >
>;

export function attribute(addonName: string): string;

export function checkAddresses(
  published: { readonly PrefixList: string; readonly AddressesDigest: string },
  aws: Aws,
): Promise<void>;
