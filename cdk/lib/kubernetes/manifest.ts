/** Kubernetes objects as plain data: built by pure functions, applied by the stacks, dumped as YAML by the tests. */

export type Json = string | number | boolean | null | readonly Json[] | { readonly [member: string]: Json };
export type Labels = Readonly<Record<string, string>>;

export interface Metadata {
  readonly [member: string]: Json;
  readonly name: string;
}

export interface Manifest {
  readonly [member: string]: Json;
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: Metadata;
}

/**
 * Labels of every object of Cloister: https://kubernetes.io/docs/concepts/overview/working-with-objects/common-labels/
 */
export const PART_OF: Labels = { 'app.kubernetes.io/part-of': 'cloister' };
