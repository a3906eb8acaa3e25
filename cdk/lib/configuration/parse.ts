/** Parsers of the values of variables. */

import * as path from 'node:path';

/** Gets an empty text for what is not set. */
export type Parse<Value> = (text: string) => Value | Invalid;

/** `items` are the invalid elements of a list; empty if the whole text is invalid. */
export class Invalid {
  constructor(readonly items: readonly string[] = []) {}
}

export const matching =
  (right: RegExp): Parse<string> =>
  (text) =>
    right.test(text) ? text : new Invalid();

export const optional =
  <Value>(parse: Parse<Value>): Parse<Value | undefined> =>
  (text) =>
    text === '' ? undefined : parse(text);

/** One of a few words; the first one if nothing is set. */
export const choice =
  <const Choice extends string>(...choices: readonly [Choice, ...Choice[]]): Parse<Choice> =>
  (text) =>
    text === '' ? choices[0] : (choices.find((one) => one === text) ?? new Invalid());

export const flag: Parse<boolean> = (text) => (['', 'true', 'false'].includes(text) ? text === 'true' : new Invalid());

export const count: Parse<number | undefined> = optional((text) =>
  /^[1-9]\d?$/.test(text) ? Number(text) : new Invalid(),
);

export const file: Parse<string | undefined> = optional((text) =>
  text.startsWith('s3://') ? text : path.resolve(text),
);

/** Elements that are separated by commas. Each occurs once. */
export const list =
  (right: RegExp | ((item: string) => boolean)): Parse<readonly string[]> =>
  (text) => {
    const items = text
      .split(',')
      .map((item) => item.trim())
      .filter((item) => item !== '');
    const isRight = right instanceof RegExp ? (item: string) => right.test(item) : right;
    const wrong = items.filter((item, index) => !isRight(item) || items.indexOf(item) !== index);
    return wrong.length === 0 ? items : new Invalid(wrong);
  };

/** `name=value` pairs; a name occurs once. */
export const pairs =
  (right: RegExp): Parse<Readonly<Record<string, string>>> =>
  (text) => {
    const items = list(right)(text);
    if (items instanceof Invalid) {
      return items;
    }
    const entries = items.map((item) => [item.slice(0, item.indexOf('=')), item.slice(item.indexOf('=') + 1)] as const);
    const twice = entries.filter(([name], index) => entries.findIndex(([other]) => other === name) !== index);
    return twice.length === 0 ? Object.fromEntries(entries) : new Invalid(twice.map((entry) => entry.join('=')));
  };

/** `service=VALUE` of both services. */
export const perService = (right: string): Parse<PerService | undefined> =>
  optional((text) => {
    const given = pairs(new RegExp(`^(signer|key-generator)=${right}$`))(text);
    if (given instanceof Invalid) {
      return given;
    }
    const { signer, 'key-generator': generator } = given;
    return signer === undefined || generator === undefined ? new Invalid() : { signer, 'key-generator': generator };
  });

type PerService = Readonly<Record<'signer' | 'key-generator', string>>;
