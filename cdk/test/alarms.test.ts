/** Publishers of the topics of a deployment: its own alarms and rules, and nobody else. */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Annotations, Match } from 'aws-cdk-lib/assertions';

import type { Environment } from '../lib/configuration';
import { application, ofType, type Resources, stacks } from './stacks';

interface Statement {
  readonly Effect: string;
  readonly Principal: unknown;
  readonly Action: string;
  readonly Resource: unknown;
  readonly Condition?: Readonly<Record<string, Readonly<Record<string, unknown>>>>;
}

/** A service that publishes, by the context that AWS gives to its request. */
interface Publisher {
  readonly service: string;
  readonly sourceArn: unknown;
  readonly topic: unknown;
  readonly name: string;
}

for (const [variant, environment] of [
  ['eks', {}],
  ['ecs', {}],
  ['identities', { CDK_CLUSTER: 'platform' }],
] as const) {
  test(`every topic of ${variant} admits exactly the alarms and rules that notify it`, () => {
    let notifying = 0;
    for (const resources of stacks(variant, environment).values()) {
      const publishers = [...alarmActions(resources), ...ruleTargets(resources)];
      notifying += publishers.length;
      for (const publisher of publishers) {
        const admitting = statements(resources, publisher.topic).filter((statement) => admits(statement, publisher));
        assert.equal(admitting.length, 1, `${publisher.name} is admitted by one statement of its topic`);
      }
      for (const [topic] of ofType(resources, 'AWS::SNS::Topic')) {
        for (const statement of statements(resources, { Ref: topic }).filter(({ Effect }) => Effect === 'Allow')) {
          assert.ok(
            publishers.some((publisher) => admits(statement, publisher)),
            `${JSON.stringify(statement)} admits nothing of this deployment`,
          );
          for (const stranger of strangers({ Ref: topic })) {
            assert.ok(!admits(statement, stranger), `${JSON.stringify(statement)} admits ${stranger.name}`);
          }
        }
      }
    }
    assert.ok(notifying > 15);
  });
}

for (const variant of ['eks', 'ecs'] as const) {
  test(`pods of ${variant} start after the rules that know their images`, () => {
    let pods = 0;
    for (const resources of stacks(variant).values()) {
      const naming = ofType(resources, 'AWS::Events::Rule')
        .filter(([, { Properties }]) => /"[0-9a-f]{96}"/.test(JSON.stringify(Properties['EventPattern'])))
        .map(([id]) => id);
      const starting = [
        ...ofType(resources, 'AWS::ECS::Service'),
        ...ofType(resources, 'Custom::AWSCDK-EKS-KubernetesResource').filter(([, { Properties }]) =>
          /"kind\\*":\\*"Deployment/.test(JSON.stringify(Properties['Manifest'])),
        ),
      ].filter(([, { Properties }]) => !JSON.stringify(Properties).includes('cert-manager'));
      for (const [id] of starting) {
        pods += 1;
        assert.ok(naming.length > 0 && naming.every((rule) => awaits(resources, id, rule)), id);
      }
    }
    assert.equal(pods, 2);
  });

  test(`both services of ${variant} have alarms on pods that cannot serve`, () => {
    const alarms = [...stacks(variant).values()]
      .flatMap((resources) => ofType(resources, 'AWS::CloudWatch::Alarm'))
      .map(([, { Properties }]) => Properties)
      .filter(({ Namespace }) => Namespace === 'AWS/NetworkELB');
    const on = (metric: string) => alarms.filter(({ MetricName }) => MetricName === metric);
    for (const metric of ['UnHealthyHostCount', 'HealthyHostCount']) {
      const groups = on(metric).map(({ Dimensions }) => JSON.stringify(Dimensions));
      assert.equal(new Set(groups).size, 2, metric);
    }
    for (const { TreatMissingData, InsufficientDataActions, AlarmActions } of on('HealthyHostCount')) {
      assert.equal(TreatMissingData, 'missing');
      assert.deepEqual(InsufficientDataActions, AlarmActions);
    }
  });
}

test('subscribers get the alarms, and a function may be called', () => {
  const queue = 'arn:aws:sqs:eu-central-1:123456789012:alarms';
  const handler = 'arn:aws:lambda:eu-central-1:123456789012:function:page';
  const elsewhere = 'arn:aws:lambda:eu-central-1:210987654321:function:page';
  const { resources } = application({ CDK_ALARMS_TO: ['ops@example.org', queue, handler, elsewhere].join() });
  const [[topic = ''] = []] = ofType(resources, 'AWS::SNS::Topic');
  const properties = (type: string) => ofType(resources, type).map(([, { Properties }]) => Properties);
  assert.deepEqual(
    properties('AWS::SNS::Subscription'),
    [
      ['email', 'ops@example.org'],
      ['sqs', queue],
      ['lambda', handler],
      ['lambda', elsewhere],
    ].map(([Protocol, Endpoint]) => ({ TopicArn: { Ref: topic }, Protocol, Endpoint })),
  );
  const admitted = properties('AWS::Lambda::Permission').filter(({ Principal }) => Principal === 'sns.amazonaws.com');
  assert.deepEqual(admitted, [
    {
      Action: 'lambda:InvokeFunction',
      FunctionName: handler,
      Principal: 'sns.amazonaws.com',
      SourceArn: { Ref: topic },
    },
  ]);
});

test('synthesis warns if nobody receives the alarms', () => {
  const warnings = (environment: Environment) =>
    Annotations.fromStack(application(environment).stack).findWarning('*', Match.stringLikeRegexp('CDK_ALARMS_TO'));
  assert.equal(warnings({}).length, 1);
  assert.equal(warnings({ CDK_ALARMS_TO: 'ops@example.org' }).length, 0);
});

test('the canary’s alarm tells if the canary stops, and has nothing to tell before its first run', () => {
  const { resources } = application();
  const alarms = ofType(resources, 'AWS::CloudWatch::Alarm').map(([, { Properties }]) => Properties);
  const canary = alarms.find(({ AlarmName }) => AlarmName === 'dev-cloister-canary');
  assert.equal(canary?.['TreatMissingData'], 'missing');
  assert.deepEqual(canary['InsufficientDataActions'], canary['AlarmActions']);
  // CloudWatch sets a new alarm without data at once if missing data is a breach, however many periods it has.
  for (const { TreatMissingData, AlarmName } of alarms) {
    assert.notEqual(TreatMissingData, 'breaching', String(AlarmName));
  }
});

function awaits(resources: Resources, id: string, awaited: string): boolean {
  const direct = [resources[id]?.DependsOn ?? []].flat();
  return direct.includes(awaited) || direct.some((dependency) => awaits(resources, dependency, awaited));
}

function alarmActions(resources: Resources): Publisher[] {
  return ofType(resources, 'AWS::CloudWatch::Alarm').flatMap(([, { Properties }]) => {
    const name = String(Properties['AlarmName']);
    const actions = ['AlarmActions', 'OKActions', 'InsufficientDataActions'].flatMap(
      (member) => (Properties[member] ?? []) as unknown[],
    );
    assert.ok(actions.length > 0, `${name} notifies nobody`);
    return actions.map((topic) => ({
      service: 'cloudwatch.amazonaws.com',
      sourceArn: `arn:aws:cloudwatch:eu-central-1:123456789012:alarm:${name}`,
      topic,
      name,
    }));
  });
}

function ruleTargets(resources: Resources): Publisher[] {
  const topics = new Set(ofType(resources, 'AWS::SNS::Topic').map(([id]) => id));
  return ofType(resources, 'AWS::Events::Rule').flatMap(([id, { Properties }]) =>
    ((Properties['Targets'] ?? []) as { Arn: { Ref?: string } }[])
      .filter(({ Arn }) => topics.has(Arn.Ref ?? ''))
      .map(({ Arn }) => ({
        service: 'events.amazonaws.com',
        sourceArn: { 'Fn::GetAtt': [id, 'Arn'] },
        topic: Arn,
        name: id,
      })),
  );
}

/** Publishers that no topic of the deployment knows. */
function strangers(topic: unknown): Publisher[] {
  const alarm = (of: string) => ({
    service: 'cloudwatch.amazonaws.com',
    sourceArn: `arn:aws:cloudwatch:${of}`,
    topic,
    name: of,
  });
  return [
    alarm('eu-central-1:123456789012:alarm:another'),
    alarm('eu-central-1:123456789012:alarm:cloister-errors'),
    alarm('eu-central-1:210987654321:alarm:dev-cloister-errors'),
    alarm('us-east-1:123456789012:alarm:dev-cloister-errors'),
    {
      service: 'events.amazonaws.com',
      sourceArn: 'arn:aws:events:eu-central-1:123456789012:rule/another',
      topic,
      name: 'another rule',
    },
    { service: 's3.amazonaws.com', sourceArn: 'arn:aws:s3:::another', topic, name: 'another service' },
  ];
}

function statements(resources: Resources, topic: unknown): Statement[] {
  return ofType(resources, 'AWS::SNS::TopicPolicy')
    .map(([, { Properties }]) => Properties as { Topics: unknown[]; PolicyDocument: { Statement: Statement[] } })
    .filter(({ Topics }) => Topics.some((of) => same(of, topic)))
    .flatMap(({ PolicyDocument }) => PolicyDocument.Statement);
}

function admits({ Effect, Principal, Action, Resource, Condition = {} }: Statement, publisher: Publisher): boolean {
  const { service, sourceArn, topic } = publisher;
  const account = typeof sourceArn === 'string' ? sourceArn.split(':')[4] : '123456789012';
  const context: Readonly<Record<string, unknown>> = { 'aws:SourceArn': sourceArn, 'aws:SourceAccount': account };
  return (
    Effect === 'Allow' &&
    same(Principal, { Service: service }) &&
    Action === 'sns:Publish' &&
    same(Resource, topic) &&
    Object.entries(Condition).every(([operator, keys]) =>
      Object.entries(keys).every(([key, expected]) => matches(operator, context[key], expected)),
    )
  );
}

function matches(operator: string, value: unknown, expected: unknown): boolean {
  if (operator === 'ArnLike' && typeof value === 'string' && typeof expected === 'string') {
    return new RegExp(
      `^${expected
        .split('*')
        .map((text) => text.replaceAll(/[.+?^${}()|[\]\\]/g, '\\$&'))
        .join('.*')}$`,
    ).test(value);
  }
  assert.ok(['ArnLike', 'ArnEquals', 'StringEquals'].includes(operator), operator);
  return same(value, expected);
}

function same(one: unknown, other: unknown): boolean {
  return JSON.stringify(one) === JSON.stringify(other);
}
