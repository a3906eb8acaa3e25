export interface Finding {
  readonly event: string;
}

/** Events by the alarm that counts them. */
export const EVENTS: Readonly<
  Record<'keyPolicyDiffers' | 'keyStateDiffers' | 'keyReleased' | 'trailIncomplete' | 'unheard', readonly string[]>
>;

/** Answers of KMS. */
export interface Key {
  readonly policy: string;
  readonly metadata: Readonly<Record<string, unknown>>;
  readonly rotation: { readonly KeyRotationEnabled: boolean };
  readonly grants: readonly object[];
}

export function ofKey(key: Key, expected: readonly string[]): Finding[];

export function ofCall(outcome: string | undefined): Finding[];

/** Answers of CloudTrail. */
export interface Trail {
  readonly trail: object;
  readonly status: object;
  readonly selectors: object;
}

export function ofTrail(trail: Trail, region: string): Finding[];

export function ofEvents(counts: { readonly called: number; readonly heard: number }): Finding[];
