import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';

import { handler } from '../functions/set-up';
import { type Aws, checkAddresses, type Request, resources } from '../functions/set-up/resources';
import { retrying } from '../functions/set-up/retry';

type Call = readonly [service: string, command: string, input: Readonly<Record<string, unknown>>];

/** Asks for a resource, and returns its attributes, the calls of AWS, and the seconds that it waited. */
async function ask(
  type: string,
  RequestType: Request['RequestType'],
  ResourceProperties: Request['ResourceProperties'],
  answer: (command: string, calls: number) => unknown,
) {
  const calls: Call[] = [];
  let waited = 0;
  const aws: Aws = async (...call) => {
    calls.push(call);
    const given = answer(call[1], calls.filter(([, command]) => command === call[1]).length);
    if (given instanceof Error) {
      throw given;
    }
    return given;
  };
  const resource = resources[type] ?? assert.fail(type);
  const attributes = await resource({ RequestType, ResourceProperties }, aws, async (seconds) => {
    waited += seconds;
  });
  return { attributes, calls, commands: calls.map(([, command]) => command), waited };
}

function named(name: string): Error {
  return Object.assign(new Error(name), { name });
}

test('a log group is taken over if it exists, and deleted if it is there', async () => {
  const properties = { Name: '/aws/eks/cloister-cluster/cluster', RetentionInDays: '90' };
  for (const created of [{}, named('ResourceAlreadyExistsException')]) {
    const { calls } = await ask('Custom::LogGroup', 'Create', properties, (command) =>
      command === 'CreateLogGroup' ? created : {},
    );
    assert.deepEqual(calls, [
      ['logs', 'CreateLogGroup', { logGroupName: properties.Name }],
      ['logs', 'PutRetentionPolicy', { logGroupName: properties.Name, retentionInDays: 90 }],
    ]);
  }
  for (const deleted of [{}, named('ResourceNotFoundException')]) {
    const { commands } = await ask('Custom::LogGroup', 'Delete', properties, () => deleted);
    assert.deepEqual(commands, ['DeleteLogGroup']);
  }
  await assert.rejects(ask('Custom::LogGroup', 'Create', properties, () => named('AccessDeniedException')));
});

test('a closed security group keeps no rule, whatever it had', async () => {
  const own = { IpProtocol: '-1', UserIdGroupPairs: [{ GroupId: 'sg-1', UserId: '123456789012' }] };
  const all = { IpProtocol: '-1', IpRanges: [{ CidrIp: '0.0.0.0/0' }] };
  const close = async (IpPermissions: readonly object[], IpPermissionsEgress: readonly object[]) => {
    const { calls } = await ask('Custom::ClosedSecurityGroup', 'Create', { GroupId: 'sg-1' }, (command) =>
      command === 'DescribeSecurityGroups' ? { SecurityGroups: [{ IpPermissions, IpPermissionsEgress }] } : {},
    );
    return calls.slice(1);
  };
  assert.deepEqual(await close([own], [all]), [
    ['ec2', 'RevokeSecurityGroupIngress', { GroupId: 'sg-1', IpPermissions: [own] }],
    ['ec2', 'RevokeSecurityGroupEgress', { GroupId: 'sg-1', IpPermissions: [all] }],
  ]);
  assert.deepEqual(await close([], []), []);
  assert.deepEqual((await ask('Custom::ClosedSecurityGroup', 'Delete', { GroupId: 'sg-1' }, () => ({}))).calls, []);
});

test('what AWS publishes is its default for the version of Kubernetes, and all addresses of DynamoDB', async () => {
  const properties = {
    Version: '1.36',
    Ami: '/aws/service/ami',
    AddOns: ['vpc-cni', 'coredns'],
    PrefixList: 'com.amazonaws.eu-central-1.dynamodb',
  };
  const published = {
    GetParameter: { Parameter: { Value: '1.36.2-20261101' } },
    DescribePrefixLists: { PrefixLists: [{ Cidrs: ['52.94.0.0/22', '52.119.224.0/20'] }] },
    DescribeAddonVersions: {
      addons: [
        {
          addonVersions: [
            { addonVersion: 'v2', compatibilities: [{ clusterVersion: '1.36', defaultVersion: false }] },
            {
              addonVersion: 'v1',
              compatibilities: [
                { clusterVersion: '1.35', defaultVersion: false },
                { clusterVersion: '1.36', defaultVersion: true },
              ],
            },
          ],
        },
      ],
    },
  };
  const { attributes } = await ask('Custom::Published', 'Create', properties, (command) =>
    Reflect.get(published, command),
  );
  assert.deepEqual(attributes, {
    AmiRelease: '1.36.2-20261101',
    vpccni: 'v1',
    coredns: 'v1',
    Addresses: '[{"ipBlock":{"cidr":"52.119.224.0/20"}},{"ipBlock":{"cidr":"52.94.0.0/22"}}]',
    AddressesDigest: attributes['AddressesDigest'],
  });
  const today = (...Cidrs: readonly string[]) =>
    checkAddresses(
      { PrefixList: properties.PrefixList, AddressesDigest: attributes['AddressesDigest'] ?? '' },
      async () => ({
        PrefixLists: [{ Cidrs }],
      }),
    );
  await today('52.119.224.0/20', '52.94.0.0/22');
  await assert.rejects(today('52.94.0.0/22', '52.119.224.0/20', '35.71.64.0/22'), /35\.71\.64\.0\/22.*CDK_RENEW/);
  await assert.rejects(today('52.94.0.0/22'), /deploy with another CDK_RENEW/);
  assert.deepEqual((await ask('Custom::Published', 'Delete', properties, () => ({}))).calls, []);
  const without = (command: string, answer: unknown) =>
    ask('Custom::Published', 'Update', properties, (asked) =>
      asked === command ? answer : Reflect.get(published, asked),
    );
  await assert.rejects(without('DescribePrefixLists', { PrefixLists: [] }), /prefix list .* has no addresses/);
  await assert.rejects(
    without('DescribeAddonVersions', { addons: [] }),
    /add-on vpc-cni has no default version .* 1\.36/,
  );
});

test('a binding is deleted when the targets of the next one were checked, after five minutes at most', async () => {
  const states = (...all: readonly string[]) => ({
    TargetHealthDescriptions: all.map((State) => ({ TargetHealth: { State } })),
  });
  const until = async (answer: (polls: number) => unknown) =>
    (await ask('Custom::Handover', 'Delete', { TargetGroupArn: 'arn' }, (_, polls) => answer(polls))).waited;
  assert.equal(await until(() => states('healthy', 'healthy')), 60);
  assert.equal(await until((polls) => states('healthy', polls < 9 ? 'initial' : 'healthy')), 135);
  assert.equal(await until(() => states('healthy', 'unhealthy')), 60);
  assert.equal(await until(() => states('initial')), 300);
  const logged: string[] = [];
  const log = console.error;
  console.error = (line: string) => logged.push(line);
  try {
    assert.equal(await until((polls) => (polls < 3 ? states('initial') : named('TargetGroupNotFound'))), 45);
  } finally {
    console.error = log;
  }
  assert.deepEqual(
    logged.map((line) => JSON.parse(line)),
    [{ event: 'targets_not_seen', target_group: 'arn', error: 'TargetGroupNotFound: TargetGroupNotFound' }],
  );
  for (const type of ['Create', 'Update'] as const) {
    assert.deepEqual((await ask('Custom::Handover', type, { TargetGroupArn: 'arn' }, () => ({}))).calls, []);
  }
});

test('a call is repeated for a minute while its permission may not count yet, and no other error is', async () => {
  const call = async (answer: (calls: number) => unknown) => {
    let calls = 0;
    let waited = 0;
    const aws = retrying(
      async () => {
        calls += 1;
        const given = answer(calls);
        if (given instanceof Error) {
          throw given;
        }
        return given;
      },
      async (seconds) => {
        waited += seconds;
      },
    );
    const result = await aws('ec2', 'DescribeSecurityGroups', {}).catch((error: Error) => error.name);
    return { result, calls, waited };
  };
  for (const passing of ['AccessDenied', 'AccessDeniedException', 'UnauthorizedOperation', 'Throttling']) {
    const twice = await call((calls) => (calls <= 2 ? named(passing) : 'an answer'));
    assert.deepEqual(twice, { result: 'an answer', calls: 3, waited: 3 }, passing);
    assert.deepEqual(await call(() => named(passing)), { result: passing, calls: 7, waited: 63 });
  }
  assert.deepEqual(await call(() => named('ResourceNotFoundException')), {
    result: 'ResourceNotFoundException',
    calls: 1,
    waited: 0,
  });
  assert.deepEqual(await call(() => 'an answer'), { result: 'an answer', calls: 1, waited: 0 });
});

test('CloudFormation gets a result in every case, to a URL that takes no content type', async () => {
  const answers: { method?: string; type?: string; body: Record<string, unknown> }[] = [];
  const server = createServer((request, response) => {
    let text = '';
    request.on('data', (chunk) => (text += chunk));
    request.on('end', () => {
      const { method, headers } = request;
      answers.push({
        ...(method && { method }),
        ...(headers['content-type'] && { type: headers['content-type'] }),
        body: JSON.parse(text),
      });
      response.end();
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const event = {
    RequestType: 'Delete' as const,
    ResourceType: 'Custom::ClosedSecurityGroup',
    ResponseURL: `http://127.0.0.1:${port}/answer`,
    StackId: 'stack',
    RequestId: 'request',
    LogicalResourceId: 'logical',
    ResourceProperties: {},
  };
  const log = console.error;
  console.error = () => undefined;
  try {
    await handler({ ...event, PhysicalResourceId: 'physical' });
    // The library of AWS is not installed here: the first call fails.
    await handler({ ...event, RequestType: 'Create' });
    await handler({ ...event, ResourceType: 'Custom::Unknown' });
  } finally {
    console.error = log;
    server.close();
  }
  const of = { StackId: 'stack', RequestId: 'request', LogicalResourceId: 'logical' };
  assert.deepEqual(
    answers.map(({ method, type }) => [method, type]),
    Array(3).fill(['PUT', undefined]),
  );
  assert.deepEqual(answers[0]?.body, { Status: 'SUCCESS', Data: {}, ...of, PhysicalResourceId: 'physical' });
  for (const { body } of answers.slice(1)) {
    const { Status, PhysicalResourceId } = body;
    assert.deepEqual([Status, PhysicalResourceId], ['FAILED', 'logical-request']);
  }
});
