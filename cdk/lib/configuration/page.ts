/** The page docs/configuration.md, made of the table of variables. */

import { type Knob, KNOBS } from './knobs';

export function configurationPage(): string {
  const all: readonly Knob<unknown>[] = Object.values(KNOBS);
  const rows = (of: readonly Knob<unknown>[]) =>
    of.map(({ variable, context, meaning }) => `| \`${variable ?? `-c ${context}=…`}\` | ${meaning} |`);
  const variables = all.filter(({ variable }) => variable !== undefined);
  const contextOnly = all.filter(({ variable }) => variable === undefined);
  return [
    '# Configuration of a deployment',
    '',
    'CDK reads these variables; `npm run snapshots` in `cdk` writes this page from their table in [`cdk/lib/configuration/knobs.ts`](../cdk/lib/configuration/knobs.ts).',
    'Each is also a context value: `CDK_VPC_ID=…` is `-c vpc-id=…`, which comes first.',
    'Lists are separated by commas; a value in brackets is the one of a variable that is not set.',
    'Values that are invalid, or contradict each other, are refused at synthesis, all together and with a sentence each.',
    '',
    '| Variable | Meaning |',
    '|---|---|',
    ...rows(variables),
    '',
    'Some values are for one command and must not stay in an environment; they are context values only:',
    '',
    '| Context | Meaning |',
    '|---|---|',
    ...rows(contextOnly),
    '',
  ].join('\n');
}
