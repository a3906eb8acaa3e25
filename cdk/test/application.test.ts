import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { test } from 'node:test';

import { Match } from 'aws-cdk-lib/assertions';

import { EVENTS } from '../functions/canary/findings';
import { ConfigurationError } from '../lib/configuration';
import { CONTRACT } from '../lib/contract';
import { LINES } from '../lib/observability/lines';
import { matchesSnapshot } from './snapshot';
import { application } from './stacks';

const PROFILE_PARAMETER = '/dev-app/ethereum/front_door/signing_profile_version_arn';
const CALLER = 'arn:aws:iam::111122223333:role/backend';

const { stack, template, resources } = application({ CDK_CALLERS: CALLER });
const ofType = (type: string) =>
  Object.values(resources)
    .filter(({ Type }) => Type === type)
    .map(({ Properties }) => Properties);

test('every method is authorized by IAM and reaches the function', () => {
  const methods = ofType('AWS::ApiGateway::Method');
  assert.ok(methods.length > 10);
  for (const { AuthorizationType, Integration } of methods) {
    assert.equal(AuthorizationType, 'AWS_IAM');
    assert.equal((Integration as { Type: string }).Type, 'AWS_PROXY');
  }
  const routes = ofType('AWS::ApiGateway::Resource').map(({ PathPart }) => PathPart);
  assert.deepEqual(routes.sort(), [
    'generate_key',
    'health',
    'key',
    'set_key',
    'sign_transaction',
    'tx_signature',
    'userop_signature',
    'version',
    '{key_id}',
    '{proxy+}',
  ]);
  // Every resource has methods: otherwise API Gateway answers for it.
  const anywhere = methods.filter(({ HttpMethod }) => HttpMethod === 'ANY');
  assert.equal(anywhere.length, routes.length + 1);
});

test('a POST to a known route needs a body', () => {
  const posts = ofType('AWS::ApiGateway::Method').filter(({ HttpMethod }) => HttpMethod === 'POST');
  assert.equal(posts.length, 7);
  for (const { RequestValidatorId, RequestModels } of posts) {
    assert.ok(RequestValidatorId);
    assert.ok((RequestModels as Record<string, unknown>)['application/json']);
  }
  template.hasResourceProperties('AWS::ApiGateway::RequestValidator', { ValidateRequestBody: true });
});

test('bodies are logged nowhere', () => {
  template.hasResourceProperties('AWS::ApiGateway::Stage', {
    // API Gateway's messages may repeat a header.
    AccessLogSetting: { Format: Match.not(Match.stringLikeRegexp('body|header|authorizer|error.message')) },
    MethodSettings: [
      Match.objectLike({
        DataTraceEnabled: false,
        LoggingLevel: 'OFF',
        MetricsEnabled: false,
        ThrottlingRateLimit: 1000,
        ThrottlingBurstLimit: 2000,
        ResourcePath: '/*',
        HttpMethod: '*',
      }),
    ],
  });
  template.resourceCountIs('AWS::ApiGateway::Stage', 1);
});

test('answers of API Gateway itself have the API’s form, and AWS’s 403s are kept', () => {
  const responses = ofType('AWS::ApiGateway::GatewayResponse');
  for (const { StatusCode, ResponseTemplates } of responses) {
    const body = JSON.parse((ResponseTemplates as Record<string, string>)['application/json'] ?? '') as {
      enclave_status: number;
      enclave_result: { error: string; code: string };
      request_id: string;
    };
    assert.equal(String(body.enclave_status), StatusCode);
    assert.equal(body.request_id, '$context.requestId');
    assert.ok(statusOf(body.enclave_result.code) === body.enclave_status, body.enclave_result.code);
  }
  const limits = fs.readFileSync(path.join(__dirname, '../../crates/protocol/src/limits.rs'), 'utf8');
  const limit = /MAX_BODY_LEN: usize = (\d+) \* 1024;/.exec(limits)?.[1];
  assert.ok(JSON.stringify(responses).includes(`the body is larger than ${limit} KiB`));
  const types = responses.map(({ ResponseType }) => String(ResponseType));
  assert.ok(types.includes('THROTTLED') && types.includes('BAD_REQUEST_BODY'));
  assert.deepEqual(
    types.filter((type) => /AUTH|ACCESS_DENIED|SIGNATURE|4XX|EXPIRED|INVALID/.test(type)),
    [],
  );
});

test('the function is the static binary, in its architecture, and logs for a year', () => {
  template.hasResourceProperties('AWS::Lambda::Function', {
    Runtime: 'provided.al2023',
    Architectures: ['x86_64'],
    Handler: 'bootstrap',
    Timeout: 15,
  });
  const arm = application({ CDK_TARGET_ARCHITECTURE: 'linux/arm64' });
  arm.template.hasResourceProperties('AWS::Lambda::Function', { Runtime: 'provided.al2023', Architectures: ['arm64'] });
});

test('code from S3 has to be signed by the profile that the base stack publishes', () => {
  const { template: signed } = application({ CDK_FRONT_DOOR: 's3://signed/front-door.zip', CDK_CODE_SIGNING: 'true' });
  const parameters = signed.toJSON()['Parameters'] as Record<string, { Default?: string }>;
  const [published] = Object.entries(parameters).find(([, { Default }]) => Default === PROFILE_PARAMETER) ?? [];
  assert.ok(published);
  // As AWS made it: an ARN that is put together here is not the profile's.
  signed.hasResourceProperties('AWS::Lambda::CodeSigningConfig', {
    AllowedPublishers: { SigningProfileVersionArns: [{ Ref: published }] },
    CodeSigningPolicies: { UntrustedArtifactOnDeployment: 'Enforce' },
  });
  const [config] = Object.keys(signed.findResources('AWS::Lambda::CodeSigningConfig'));
  signed.hasResourceProperties('AWS::Lambda::Function', {
    FunctionName: 'dev-cloister-front-door',
    CodeSigningConfigArn: { 'Fn::GetAtt': [config, 'CodeSigningConfigArn'] },
    Code: { S3Bucket: 'signed', S3Key: 'front-door.zip' },
  });
});

test('a function that was not built: refused with a sentence', () => {
  assert.throws(
    () => application({ CDK_FRONT_DOOR: '/nowhere.zip' }),
    (error) =>
      error instanceof ConfigurationError &&
      /^\/nowhere\.zip does not exist: build the function with `cargo xtask lambda --architecture amd64`/.test(
        error.message,
      ),
  );
});

test('the role that invokes the API admits the named callers only', () => {
  const another = 'arn:aws:iam::111122223333:user/team/jobs';
  const own = 'arn:aws:iam::123456789012:role/web';
  const trusted = application({ CDK_CALLERS: [CALLER, another, own].join() }).template;
  const statement = (account: string, callers: string | readonly string[]) => ({
    Action: 'sts:AssumeRole',
    Effect: 'Allow',
    // Never the callers themselves: IAM would keep them by their unique ids.
    Principal: { AWS: `arn:aws:iam::${account}:root` },
    Condition: { ArnLike: { 'aws:PrincipalArn': callers } },
  });
  trusted.hasResourceProperties('AWS::IAM::Role', {
    RoleName: 'dev-cloister-invoke',
    AssumeRolePolicyDocument: {
      Statement: [statement('111122223333', [CALLER, another]), statement('123456789012', [own])],
    },
  });
  for (const open of [
    'arn:aws:iam::111122223333:root',
    '*',
    '111122223333',
    'arn:aws:iam::111122223333:role/*',
    // aws:PrincipalArn of a session is its role.
    'arn:aws:sts::111122223333:assumed-role/backend/session',
  ]) {
    assert.throws(
      () => application({ CDK_CALLERS: open }),
      /^Error: CDK_CALLERS names .*: give the ARNs of roles or users of IAM, separated by commas; a whole account/,
    );
  }
});

test('without named callers, the account’s own policies decide who may assume the role', () => {
  const { template: without } = application();
  without.hasResourceProperties('AWS::IAM::Role', {
    RoleName: 'dev-cloister-invoke',
    AssumeRolePolicyDocument: {
      Statement: [
        {
          Action: 'sts:AssumeRole',
          Effect: 'Allow',
          Principal: { AWS: 'arn:aws:iam::123456789012:root' },
        },
      ],
    },
  });
  without.hasResourceProperties('AWS::SSM::Parameter', { Name: '/dev-app/ethereum/rest_url_role_arn' });
});

test('callers find the deployment’s parameters', () => {
  const names = ofType('AWS::SSM::Parameter').map(({ Name }) => Name);
  assert.deepEqual(
    names.sort(),
    ['generator_enclave/eif_uri', 'invoke_lambda', 'rest_url', 'rest_url_role_arn', 'signer_enclave/eif_uri'].map(
      (name) => `/dev-app/ethereum/${name}`,
    ),
  );
});

test('every line that is counted has an event or a code that exists', () => {
  const events = [...CONTRACT.events, ...Object.values(EVENTS).flat()];
  for (const { id, by } of LINES) {
    assert.ok(
      'event' in by ? [by.event].flat().every((event) => events.includes(event)) : statusOf(by.code) >= 400,
      id,
    );
  }
  const filters = ofType('AWS::Logs::MetricFilter').map(({ FilterPattern }) => FilterPattern);
  assert.equal(filters.length, LINES.length);
  assert.ok(filters.includes('{ $.event = "clock_stepped" }'));
  assert.ok(filters.includes('{ $.code = "authentication_failed" }'));
});

test('every alarm notifies the topic', () => {
  const alarms = ofType('AWS::CloudWatch::Alarm');
  assert.ok(alarms.length > LINES.length + 8);
  for (const { AlarmActions, AlarmDescription } of alarms) {
    assert.equal((AlarmActions as unknown[]).length, 1);
    assert.match(String(AlarmDescription), /\.$/);
  }
});

test('snapshot', () => matchesSnapshot('front-door', stack));

/** The HTTP status of a code, as the specification lists them. */
function statusOf(code: string): number {
  const specification = fs.readFileSync(path.join(__dirname, '../../docs/openapi.yaml'), 'utf8');
  const errors = specification.matchAll(
    /enclave_status: \{ const: (\d{3}) \}[^}]*?code: \{ enum: \[([a-z_, ]+)\] \}/gs,
  );
  return Number([...errors].find(([, , codes]) => codes?.split(', ').includes(code))?.[1]);
}
