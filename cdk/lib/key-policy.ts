/**
 * Renders the key policy: the template that the enclaves measure, for one deployment and its images.
 *
 * The rules are those of crates/key-policy/README.md. A second renderer, so that synthesis needs no Rust program and
 * can combine any two releases; the vectors in tests/vectors/key-policy hold both renderers equal, and an enclave
 * refuses any other policy.
 */

import * as fs from 'node:fs';
import * as path from 'node:path';

import { ConfigurationError } from './configuration';

export interface Deployment {
  readonly partition: string;
  readonly account: string;
  readonly signer_role: string;
  readonly generator_role: string;
  readonly retirement_role: string;
  readonly administrator_role: string;
}

export interface Measurements {
  readonly signer: string;
  readonly generator: string;
  /** PCR0 of the previous release's key generator, which may make data keys until a hand-over is complete. */
  readonly previous_generator?: string | undefined;
  /** The next release: both are admitted while enclaves are replaced. Open form only. */
  readonly next?: { readonly signer: string; readonly generator: string } | undefined;
}

/** Open: the administrator role may replace the policy. Locked: no principal may. */
export type Form = 'open' | 'locked';

export type Json = string | number | boolean | null | readonly Json[] | { readonly [member: string]: Json };

export interface KeyPolicy {
  readonly Version: string;
  readonly Statement: readonly { readonly [member: string]: Json }[];
}

export function renderKeyPolicy(deployment: Deployment, measurements: Measurements, form: Form): KeyPolicy {
  refuseAmbiguity(deployment, measurements);
  if (form === 'locked' && measurements.next !== undefined) {
    refuse('the locked form admits one release only');
  }
  const values: Readonly<Record<string, string | undefined>> = {
    PARTITION: deployment.partition,
    ACCOUNT: deployment.account,
    SIGNER_ROLE: deployment.signer_role,
    GENERATOR_ROLE: deployment.generator_role,
    RETIREMENT_ROLE: deployment.retirement_role,
    ADMINISTRATOR_ROLE: deployment.administrator_role,
    SIGNER_PCR0: measurements.signer,
    GENERATOR_PCR0: measurements.generator,
    PREVIOUS_GENERATOR_PCR0: measurements.previous_generator,
    NEXT_SIGNER_PCR0: measurements.next?.signer,
    NEXT_GENERATOR_PCR0: measurements.next?.generator,
  };
  const template = JSON.parse(fs.readFileSync(TEMPLATE, 'utf8')) as KeyPolicy;
  const absent = form === 'open' ? 'Frozen' : 'Administrator';
  const statements = template.Statement.filter(({ Sid }) => Sid !== absent);
  return fill({ ...template, Statement: statements } as unknown as Json, values) as unknown as KeyPolicy;
}

/**
 * Refuses values that IAM would interpret (wildcards, policy variables), and one image in two slots, which would have
 * the rights of both.
 */
function refuseAmbiguity(
  deployment: Deployment,
  { signer, generator, previous_generator: previous, next }: Measurements,
): void {
  const { partition, account, signer_role, generator_role, retirement_role, administrator_role } = deployment;
  if (!/^[a-z-]+$/.test(partition)) refuse(`\`${partition}\` is not an AWS partition`);
  if (!/^\d{12}$/.test(account)) refuse(`\`${account}\` is not an AWS account id`);
  for (const role of [signer_role, generator_role, retirement_role, administrator_role]) {
    const own = `arn:${partition}:iam::${account}:role/`;
    if (!role.startsWith(own) || !/^[A-Za-z0-9+=,.@_/-]*[A-Za-z0-9+=,.@_-]$/.test(role.slice(own.length))) {
      refuse(`\`${role}\` is not the ARN of a role in the deployment's own account`);
    }
  }
  const slots = Object.entries({
    signer,
    'key generator': generator,
    'previous key generator': previous,
    'next signer': next?.signer,
    'next key generator': next?.generator,
  }).filter((slot): slot is [string, string] => slot[1] !== undefined);
  for (const [slot, pcr0] of slots) {
    if (!/^[0-9a-f]{96}$/.test(pcr0) || /^0+$/.test(pcr0)) {
      refuse(
        `the ${slot}'s \`${pcr0}\` is not the PCR0 of an image: 96 lower-case hex digits, and not the zeros of a debug enclave`,
      );
    }
    // Two releases may have the same signer: it has the same rights in both slots.
    const twin = slots.find(
      ([other, same]) => other !== slot && same === pcr0 && !(slot.endsWith('signer') && other.endsWith('signer')),
    );
    if (twin !== undefined) {
      refuse(`the ${slot} and the ${twin[0]} have the same PCR0`);
    }
  }
}

function refuse(sentence: string): never {
  throw new ConfigurationError(`no key policy can be rendered: ${sentence}`);
}

/** `value` with its placeholders replaced; undefined if a placeholder has no value. A list drops such items. */
function fill(value: Json, values: Readonly<Record<string, string | undefined>>): Json | undefined {
  if (typeof value === 'string') {
    const placeholders = [...value.matchAll(PLACEHOLDER)].map(([, name]) => name ?? '');
    const unknown = placeholders.find((name) => !(name in values));
    if (unknown !== undefined) {
      throw new Error(`the template holds the unknown placeholder ${unknown}`);
    }
    const complete = placeholders.every((name) => values[name] !== undefined);
    return complete ? value.replace(PLACEHOLDER, (_, name: string) => values[name] ?? '') : undefined;
  }
  if (isList(value)) {
    return value.map((item) => fill(item, values)).filter((item) => item !== undefined);
  }
  if (typeof value === 'object' && value !== null) {
    const filled = Object.entries(value).map(([name, member]) => [name, fill(member, values)] as const);
    return filled.some(([, member]) => member === undefined)
      ? undefined
      : (Object.fromEntries(filled) as { [name: string]: Json });
  }
  return value;
}

/** Array.isArray does not narrow a readonly array. */
function isList(value: Json): value is readonly Json[] {
  return Array.isArray(value);
}

const TEMPLATE = path.join(__dirname, '../policies/key-policy.json');
const PLACEHOLDER = /\$\{([^}]*)\}/g;
