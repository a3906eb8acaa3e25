/** EventBridge's patterns, as far as the rules use them. */

import assert from 'node:assert/strict';

/** https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-create-pattern-operators.html */
export function matches(pattern: unknown, event: unknown): boolean {
  return Object.entries(pattern as object).every(([name, part]: [string, unknown]) => {
    if (name === '$or') {
      return (part as unknown[]).some((alternative) => matches(alternative, event));
    }
    const values = members(event, name);
    return Array.isArray(part)
      ? part.some((condition) => holds(condition, values.flat()))
      : values.length > 0
        ? values.flat().some((value) => matches(part, value))
        : matches(part, {});
  });
}

/** The values of a member; none if there is no such member. */
function members(event: unknown, name: string): unknown[] {
  const value = (event as Readonly<Record<string, unknown>>)[name];
  return value === undefined ? [] : [value];
}

function holds(condition: unknown, values: readonly unknown[]): boolean {
  if (typeof condition !== 'object' || condition === null) {
    return values.includes(condition);
  }
  const [[operator, argument] = ['', undefined]] = Object.entries(condition) as [string, unknown][];
  switch (operator) {
    case 'exists':
      return values.length > 0 === argument;
    case 'prefix':
      return values.some((value) => String(value).startsWith(String(argument)));
    case 'anything-but':
      return values.some((value) => !(argument as unknown[]).includes(value));
    default:
      return assert.fail(`unknown operator ${operator}`);
  }
}
