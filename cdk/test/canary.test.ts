/** Notices of the canary and of the rules for EventBridge: the vectors of canary-notices.json against the real ones. */

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { test } from 'node:test';

import { EVENTS, ofCall, ofEvents, ofKey, ofTrail } from '../functions/canary/findings';
import { difference, digests } from '../functions/canary/policy';
import { names } from '../lib/configuration';
import { openPolicy } from '../lib/key';
import type { KeyPolicy } from '../lib/key-policy';
import { LINES } from '../lib/observability/lines';
import { matches } from './event-pattern';
import { temporary } from './fixture';
import { application, ofType, type Resources } from './stacks';

type Statement = KeyPolicy['Statement'][number];

interface Notices {
  /** A case of `render`. */
  readonly policy: string;
  readonly policies: readonly {
    readonly name: string;
    readonly without?: readonly string[];
    readonly replace?: readonly Statement[];
    readonly add?: readonly Statement[];
    readonly reversed?: true;
    readonly edit?: readonly [string, string];
    readonly missing: readonly string[];
    readonly unexpected: readonly string[];
  }[];
  readonly keys: readonly {
    readonly name: string;
    readonly metadata?: object;
    readonly rotation?: boolean;
    readonly grants?: readonly object[];
    readonly events: readonly string[];
  }[];
  readonly trails: readonly {
    readonly name: string;
    readonly trail?: object;
    readonly status?: object;
    readonly selectors: object;
    readonly records: boolean;
  }[];
  readonly calls: readonly { readonly name: string; readonly detail: object; readonly rules: readonly string[] }[];
}

const vectors = path.join(__dirname, '../../tests/vectors/key-policy');
const read = <File>(file: string) => JSON.parse(fs.readFileSync(path.join(vectors, file), 'utf8')) as File;
const notices = read<Notices>('canary-notices.json');
const { policy: deployed } = read<{ policy: KeyPolicy }>(`render/${notices.policy}.json`);
const expected = digests(JSON.stringify(deployed));
const METADATA = {
  KeyState: 'Enabled',
  KeySpec: 'SYMMETRIC_DEFAULT',
  KeyUsage: 'ENCRYPT_DECRYPT',
  Origin: 'AWS_KMS',
  MultiRegion: false,
};

for (const { name, missing, unexpected, ...change } of notices.policies) {
  test(`the policy: ${name}`, () => {
    const text = changed(change);
    const found = difference(text, expected);
    assert.deepEqual([found.missing.sort(), found.unexpected.sort()], [[...missing].sort(), [...unexpected].sort()]);
    const key = { policy: text, metadata: METADATA, rotation: { KeyRotationEnabled: true }, grants: [] };
    assert.deepEqual(
      ofKey(key, expected).map(({ event }) => event),
      missing.length + unexpected.length > 0 ? EVENTS.keyPolicyDiffers : [],
    );
  });
}

test('every policy that an enclave refuses is noticed, unless it means the same', () => {
  const each = (directory: string) => fs.readdirSync(path.join(vectors, directory));
  const renderings = each('render').map((file) =>
    digests(JSON.stringify(read<{ policy: KeyPolicy }>(`render/${file}`).policy)),
  );
  const unnoticed = each('refuse').filter((file) => {
    const { policy_text: text } = read<{ policy_text: string }>(`refuse/${file}`);
    return renderings.some((rendering) => {
      const { missing, unexpected } = difference(text, rendering);
      return missing.length + unexpected.length === 0;
    });
  });
  assert.deepEqual(unnoticed, [
    'list-in-the-previous-slot.json',
    // Renderings, which an enclave of another release or form adopts.
    'next-release-where-locked-is-required.json',
    'next-release-with-another-pair.json',
    'open-where-locked-is-required.json',
    'statements-in-another-order.json',
  ]);
});

for (const { name, metadata, rotation = true, grants = [], events } of notices.keys) {
  test(`the key: ${name}`, () => {
    const key = {
      policy: JSON.stringify(deployed),
      metadata: { ...METADATA, ...metadata },
      rotation: { KeyRotationEnabled: rotation },
      grants,
    };
    assert.deepEqual(
      ofKey(key, expected).map(({ event }) => event),
      events,
    );
  });
}

for (const { name, trail, status, selectors, records } of notices.trails) {
  test(`the trail: ${name}`, () => {
    const found = ofTrail(
      {
        trail: { HomeRegion: 'eu-central-1', IsMultiRegionTrail: false, ...trail },
        status: { IsLogging: true, ...status },
        selectors,
      },
      'eu-central-1',
    );
    assert.deepEqual(
      found.map(({ event }) => event),
      records ? [] : EVENTS.trailIncomplete,
    );
  });
}

test('KMS has to deny a call without an enclave', () => {
  assert.deepEqual(ofCall('AccessDeniedException'), []);
  for (const allowed of [undefined, 'DryRunOperationException']) {
    assert.deepEqual(
      ofCall(allowed).map(({ event }) => event),
      EVENTS.keyReleased,
    );
  }
  for (const undecided of ['ThrottlingException', 'NotFoundException', 'TimeoutError']) {
    assert.throws(() => ofCall(undecided), /neither denied nor allowed it/);
  }
});

test('a call has an hour to be heard, and a new deployment has made none', () => {
  assert.deepEqual(ofEvents({ called: 0, heard: 0 }), []);
  assert.deepEqual(ofEvents({ called: 3, heard: 1 }), []);
  assert.deepEqual(
    ofEvents({ called: 1, heard: 0 }).map(({ event }) => event),
    EVENTS.unheard,
  );
});

const { configuration, releases, resources } = application();
const rules = new Map(
  ofType(resources, 'AWS::Events::Rule').flatMap(([, { Properties }]) =>
    Properties['EventPattern'] === undefined
      ? []
      : [[String(Properties['Name']).replace('dev-cloister-', ''), resolved(Properties, resources)] as const],
  ),
);
const key = /"(arn:aws:kms:[^"]*)"/.exec(JSON.stringify([...rules.values()]))?.[1];

for (const { name, detail, rules: matching } of notices.calls) {
  test(`a call: ${name}`, () => {
    const { release } = releases;
    const values: Readonly<Record<string, string | undefined>> = {
      KEY: key,
      SIGNER_ROLE: names(configuration).signerRole,
      GENERATOR_ROLE: names(configuration).generatorRole,
      CANARY_ROLE: 'arn:aws:iam::123456789012:role/dev-cloister-canary',
      SIGNER_PCR0: release.images.signer.pcr0,
      GENERATOR_PCR0: release.images['key-generator'].pcr0,
    };
    const event = JSON.parse(
      JSON.stringify({ source: 'aws.kms', 'detail-type': 'AWS API Call via CloudTrail', detail }).replaceAll(
        /\$\{([A-Z0-9_]+)\}/g,
        (_, placeholder: string) => values[placeholder] ?? assert.fail(placeholder),
      ),
    ) as object;
    const noticed = [...rules].filter(([, { EventPattern }]) => matches(EventPattern, event)).map(([id]) => id);
    assert.deepEqual(noticed.sort(), [...matching].sort());
  });
}

test('every rule on calls of KMS is tried, and receives read events', () => {
  assert.deepEqual([...rules.keys()].sort(), [...new Set(notices.calls.flatMap(({ rules: of }) => of))].sort());
  for (const { State } of rules.values()) {
    assert.equal(State, 'ENABLED_WITH_ALL_CLOUDTRAIL_MANAGEMENT_EVENTS');
  }
});

test('every event of the canary is counted by an alarm, and no other', () => {
  const counted = LINES.flatMap(({ log, by }) => (log === 'canary' && 'event' in by ? [by.event].flat() : []));
  assert.deepEqual(counted.sort(), Object.values(EVENTS).flat().sort());
});

test('the canary expects the policy that the key’s stack deploys', () => {
  const [environment] = ofType(resources, 'AWS::Lambda::Function')
    .map(([, { Properties }]) => Properties)
    .filter(({ FunctionName }) => FunctionName === 'dev-cloister-canary')
    .map(({ Environment }) => (Environment as { Variables: Record<string, string> }).Variables);
  const policy = JSON.stringify(openPolicy(releases.release, releases.next));
  assert.deepEqual(difference(policy, environment?.['KEY_POLICY']?.split(',') ?? []), { missing: [], unexpected: [] });
  // Lambda's limit for all variables together.
  assert.ok(JSON.stringify(environment).length < 3500);
});

test('the function asks AWS, and writes lines that are JSON alone', () => {
  const right = run({ policy: JSON.stringify(deployed), denial: 'AccessDeniedException', heard: 3 });
  assert.equal(right.error, '');
  assert.deepEqual(
    right.lines.map(({ event }) => event),
    [undefined],
  );
  const wrong = run({
    policy: changed({ without: ['Attested'] }),
    denial: 'DryRunOperationException',
    heard: 0,
    grants: [{ GrantId: 'one' }],
    logging: false,
  });
  assert.equal(wrong.error, '');
  assert.deepEqual(
    wrong.lines.flatMap(({ event }) => event ?? []),
    ['key_policy_differs', 'key_has_grants', 'key_released', 'trail_does_not_record', 'call_not_heard'],
  );
  // A check that fails does not keep the others from reporting.
  const broken = run({ policy: changed({ without: ['Attested'] }), denial: 'ThrottlingException', heard: 0 });
  assert.match(broken.error, /^failed to compare .*KMS answered ThrottlingException/);
  assert.deepEqual(
    broken.lines.flatMap(({ event }) => event ?? []),
    ['key_policy_differs', 'call_not_heard'],
  );
});

function changed({
  without = [],
  replace = [],
  add = [],
  reversed = undefined,
  edit = ['', ''],
}: Partial<Notices['policies'][number]>): string {
  const kept = deployed.Statement.filter(({ Sid }) => !without.includes(String(Sid)));
  const statements = [
    ...kept.map((statement) => replace.find(({ Sid }) => Sid === statement['Sid']) ?? statement),
    ...add,
  ];
  const policy = { ...deployed, Statement: reversed ? statements.reverse() : statements };
  return JSON.stringify(policy).replace(...edit);
}

/** A rule's properties, with names in place of references. */
function resolved(value: unknown, of: Resources): Readonly<Record<string, unknown>> {
  const resolve = (part: unknown): unknown => {
    if (Array.isArray(part)) {
      return part.map(resolve);
    }
    if (typeof part !== 'object' || part === null) {
      return part;
    }
    const [[name, argument] = ['', undefined]] = Object.entries(part) as [string, unknown][];
    switch (name) {
      case 'Ref':
        return String(argument);
      case 'Fn::Join': {
        const [separator, parts] = argument as [string, unknown[]];
        return parts.map(resolve).join(separator);
      }
      case 'Fn::GetAtt': {
        const [id = ''] = argument as string[];
        return `arn:aws:iam::123456789012:role/${String(of[id]?.Properties['RoleName'])}`;
      }
      default:
        return Object.fromEntries(Object.entries(part).map(([member, inner]) => [member, resolve(inner)]));
    }
  };
  return resolve(value) as Readonly<Record<string, unknown>>;
}

/** Runs the function with stand-ins for the SDK's clients. */
function run(answers: {
  readonly policy: string;
  readonly denial: string;
  readonly heard: number;
  readonly grants?: readonly object[];
  readonly logging?: boolean;
}): { readonly lines: readonly { readonly event?: string }[]; readonly error: string } {
  const modules = temporary();
  const commands = {
    'client-kms': ['GetKeyPolicy', 'DescribeKey', 'GetKeyRotationStatus', 'ListGrants', 'GenerateDataKey'],
    'client-cloudtrail': ['GetTrail', 'GetTrailStatus', 'GetEventSelectors'],
    'client-cloudwatch': ['GetMetricStatistics'],
  };
  const clients = {
    'client-kms': 'KMSClient',
    'client-cloudtrail': 'CloudTrailClient',
    'client-cloudwatch': 'CloudWatchClient',
  };
  for (const [name, of] of Object.entries(commands)) {
    const directory = path.join(modules, '@aws-sdk', name);
    fs.mkdirSync(directory, { recursive: true });
    const classes = of.map(
      (command) => `exports.${command}Command = class ${command} { constructor(input) { this.input = input; } };`,
    );
    const client = clients[name as keyof typeof clients];
    fs.writeFileSync(
      path.join(directory, 'index.js'),
      `${classes.join('\n')}\nexports.${client} = class { async send(command) { return globalThis.answer(command.constructor.name, command.input); } };`,
    );
  }
  const program = `
    const answers = ${JSON.stringify({ grants: [], logging: true, ...answers })};
    const KEY = 'arn:aws:kms:eu-central-1:123456789012:key/1';
    globalThis.answer = (command, input) => {
      if (/Key|Grants/.test(command) && input.KeyId !== KEY) throw new Error('another key');
      switch (command) {
        case 'GetKeyPolicy': return { Policy: answers.policy };
        case 'DescribeKey': return { KeyMetadata: ${JSON.stringify(METADATA)} };
        case 'GetKeyRotationStatus': return { KeyRotationEnabled: true };
        case 'ListGrants': return { Grants: answers.grants };
        case 'GenerateDataKey':
          if (input.DryRun !== true) throw new Error('a data key was made');
          throw Object.assign(new Error(), { name: answers.denial });
        case 'GetTrail': return { Trail: { HomeRegion: 'eu-central-1' } };
        case 'GetTrailStatus': return { IsLogging: answers.logging };
        case 'GetEventSelectors': return { EventSelectors: [{ IncludeManagementEvents: true, ReadWriteType: 'All' }] };
        case 'GetMetricStatistics':
          return { Datapoints: input.MetricName === 'Invocations' ? [{ Sum: 1 }, { Sum: 2 }] : answers.heard ? [{ Sum: answers.heard }] : [] };
      }
    };
    require(${JSON.stringify(path.join(__dirname, '../functions/canary/index.js'))}).handler({}).catch(({ message }) => process.stderr.write(message));`;
  const { stdout, stderr } = spawnSync(process.execPath, ['-e', program], {
    encoding: 'utf8',
    env: {
      NODE_PATH: modules,
      AWS_REGION: 'eu-central-1',
      AWS_LAMBDA_FUNCTION_NAME: 'canary',
      CMK_ARN: 'arn:aws:kms:eu-central-1:123456789012:key/1',
      KEY_POLICY: expected.join(),
      TRAIL_ARN: 'trail',
      HEARD_RULE: 'heard',
    },
  });
  const lines = stdout.trimEnd().split('\n');
  return { lines: lines.map((line) => JSON.parse(line) as { event?: string }), error: stderr };
}
