interface Change {
  readonly eventName: string;
  readonly dynamodb: {
    readonly Keys: { readonly key_id: { readonly S: string } };
    readonly SequenceNumber: string;
    /** Seconds since 1970. */
    readonly ApproximateCreationDateTime: number;
    readonly OldImage?: object;
    readonly NewImage?: object;
  };
}

export function objects(
  records: readonly Change[],
): { readonly Key: string; readonly ContentType: string; readonly Body: string }[];
