interface Row {
  readonly sealed: { readonly M: Readonly<Record<string, { readonly B: Uint8Array }>> };
}

export function decryption(
  row: Row | undefined,
  cmkArn: string,
): {
  readonly KeyId: string;
  readonly CiphertextBlob: Uint8Array;
  readonly EncryptionContext: Readonly<Record<string, string>>;
  readonly DryRun: true;
};

export function verdict(outcome: string): void;
