/** The front door: a Lambda function behind a REST API. */

import * as fs from 'node:fs';

import { Duration, RemovalPolicy, type Stack, Validations } from 'aws-cdk-lib';
import * as apigateway from 'aws-cdk-lib/aws-apigateway';
import type * as ec2 from 'aws-cdk-lib/aws-ec2';
import * as iam from 'aws-cdk-lib/aws-iam';
import * as kms from 'aws-cdk-lib/aws-kms';
import * as lambda from 'aws-cdk-lib/aws-lambda';
import * as logs from 'aws-cdk-lib/aws-logs';
import * as s3 from 'aws-cdk-lib/aws-s3';
import * as ssm from 'aws-cdk-lib/aws-ssm';

import { type Configuration, ConfigurationError, names } from './configuration';
import type { Dimensions } from './network';
import type { Service } from './release';

/** Addresses of the pods, and the network to reach them. */
export interface Pods {
  /** `https://host:port` */
  readonly urls: Readonly<Record<Service, string>>;
  /** Base64 of the PEM of the private CA (of two during its renewal), the only root that the function trusts for pods. */
  readonly podCertificateAuthority: string;
  /** The key that authenticates requests to pods, as a reference that CloudFormation resolves. */
  readonly key: string;
  /** The load balancer's, if there is one. */
  readonly targetMetrics?: Readonly<Record<Service, Dimensions>>;
  /** If absent, the function runs outside of the account's networks. */
  readonly network?: { readonly vpc: ec2.IVpc; readonly securityGroup: ec2.ISecurityGroup };
}

export interface FrontDoor {
  readonly api: apigateway.RestApi;
  readonly function: lambda.Function;
  /** One line per request. */
  readonly log: logs.LogGroup;
}

export function frontDoor(stack: Stack, configuration: Configuration, pods: Pods): FrontDoor {
  const name = names(configuration);
  const log = new logs.LogGroup(stack, 'FrontDoorLog', {
    logGroupName: `/aws/lambda/${name.of('front-door')}`,
    retention: logs.RetentionDays.ONE_YEAR,
    removalPolicy: RemovalPolicy.DESTROY,
  });
  const code = signedCode(stack, configuration);
  const role = functionRole(stack, log, pods.network !== undefined);
  // The environment holds the key for the pods: who may read the function's configuration may not read that.
  const environmentEncryption = new kms.Key(stack, 'EnvironmentKey', {
    description: 'Cloister: the environment of the front door',
    enableKeyRotation: true,
    pendingWindow: Duration.days(7),
    removalPolicy: RemovalPolicy.DESTROY,
  });
  environmentEncryption.grantDecrypt(role);
  const handler = new lambda.Function(stack, 'FrontDoor', {
    functionName: name.of('front-door'),
    description: 'Cloister: parses requests, calls the pods, answers',
    runtime: lambda.Runtime.PROVIDED_AL2023,
    architecture: configuration.architecture === 'arm64' ? lambda.Architecture.ARM_64 : lambda.Architecture.X86_64,
    ...code,
    handler: 'bootstrap',
    memorySize: 512,
    // Longer than the 10 seconds after which the function itself answers `deadline_exceeded`.
    timeout: Duration.seconds(15),
    environment: {
      CLOISTER_SIGNER_URL: pods.urls.signer,
      CLOISTER_KEY_GENERATOR_URL: pods.urls['key-generator'],
      CLOISTER_POD_CA: pods.podCertificateAuthority,
      CLOISTER_POD_KEY: pods.key,
      // Nothing reads it: CloudFormation reads references again only if the function changes beside them.
      ...(configuration.renew === undefined ? {} : { CLOISTER_RENEWED: configuration.renew }),
    },
    environmentEncryption,
    ...(pods.network && { vpc: pods.network.vpc, securityGroups: [pods.network.securityGroup] }),
    role,
    logGroup: log,
  });
  return { api: restApi(stack, configuration, handler), function: handler, log };
}

/** The function's code. Code from S3 has to be signed with the deployment's signing profile. */
function signedCode(
  stack: Stack,
  configuration: Configuration,
): Pick<lambda.FunctionProps, 'code' | 'codeSigningConfig'> {
  const { frontDoor: zip } = configuration;
  const signed = /^s3:\/\/([^/]+)\/(.+)$/.exec(zip);
  if (signed === null) {
    if (!fs.existsSync(zip)) {
      throw new ConfigurationError(
        `${zip} does not exist: build the function with \`cargo xtask lambda --architecture ${configuration.architecture}\`, or name its zip with CDK_FRONT_DOOR`,
      );
    }
    return { code: lambda.Code.fromAsset(zip) };
  }
  const [, bucket = '', key = ''] = signed;
  const profile = names(configuration).parameter('front_door/signing_profile_version_arn');
  const config = new lambda.CfnCodeSigningConfig(stack, 'CodeSigning', {
    allowedPublishers: { signingProfileVersionArns: [ssm.StringParameter.valueForStringParameter(stack, profile)] },
    codeSigningPolicies: { untrustedArtifactOnDeployment: 'Enforce' },
  });
  return {
    code: lambda.Code.fromBucket(s3.Bucket.fromBucketName(stack, 'SignedCode', bucket), key),
    codeSigningConfig: lambda.CodeSigningConfig.fromCodeSigningConfigArn(
      stack,
      'CodeSigningConfig',
      config.attrCodeSigningConfigArn,
    ),
  };
}

/** The permissions of Lambda's managed policies, limited to this function's log. */
function functionRole(stack: Stack, log: logs.LogGroup, inNetwork: boolean): iam.Role {
  const role = new iam.Role(stack, 'FrontDoorRole', { assumedBy: new iam.ServicePrincipal('lambda.amazonaws.com') });
  log.grantWrite(role);
  if (inNetwork) {
    role.addManagedPolicy(iam.ManagedPolicy.fromAwsManagedPolicyName('service-role/AWSLambdaENIManagementAccess'));
    Validations.of(role).acknowledge({
      id: 'AwsSolutions-IAM4[Policy::arn:<AWS::Partition>:iam::aws:policy/service-role/AWSLambdaENIManagementAccess]',
      reason:
        'The network interfaces of a function in a VPC: AWS maintains the list of actions, which have no resource level.',
    });
  }
  return role;
}

function restApi(stack: Stack, configuration: Configuration, handler: lambda.Function): apigateway.RestApi {
  const name = names(configuration);
  const accessLog = new logs.LogGroup(stack, 'AccessLog', {
    logGroupName: `/aws/apigateway/${name.of('access')}`,
    retention: logs.RetentionDays.ONE_YEAR,
    removalPolicy: RemovalPolicy.DESTROY,
  });
  const api = new apigateway.RestApi(stack, 'Api', {
    restApiName: name.of('api'),
    description: 'Cloister: Ethereum keys in enclaves',
    endpointTypes: [apigateway.EndpointType.REGIONAL],
    // The base stack sets the account's role for logs.
    cloudWatchRole: false,
    defaultMethodOptions: { authorizationType: apigateway.AuthorizationType.IAM },
    deployOptions: {
      stageName: 'prod',
      throttlingRateLimit: REQUESTS_PER_SECOND,
      throttlingBurstLimit: 2 * REQUESTS_PER_SECOND,
      // The access log has the errors: API Gateway would write them to a group of its own, without a retention.
      loggingLevel: apigateway.MethodLoggingLevel.OFF,
      // `true` logs bodies, which contain the callers' secrets.
      dataTraceEnabled: false,
      // Metrics of each method are charged; those of the API are not.
      metricsEnabled: false,
      accessLogDestination: new apigateway.LogGroupLogDestination(accessLog),
      accessLogFormat: apigateway.AccessLogFormat.custom(JSON.stringify(ACCESS_LOG)),
    },
  });
  const integration = new apigateway.LambdaIntegration(handler, { scopePermissionToMethod: false });
  const needsBody = {
    requestValidator: api.addRequestValidator('BodyRequired', { validateRequestBody: true }),
    // Only the type: API Gateway's drafts of JSON Schema cannot express the function's checks.
    requestModels: {
      'application/json': api.addModel('AnObject', {
        contentType: 'application/json',
        schema: { type: apigateway.JsonSchemaType.OBJECT },
      }),
    },
  };
  for (const route of POST_ROUTES) {
    api.root.resourceForPath(route).addMethod('POST', integration, needsBody);
  }
  // All other requests reach the function as well, which answers in the API's form.
  for (const path of ['/', '/{proxy+}', '/key/{key_id}', ...POST_ROUTES, '/health', '/version']) {
    const resource = path === '/' ? api.root : api.root.resourceForPath(path);
    if (resource.node.tryFindChild('ANY') === undefined) {
      resource.addMethod('ANY', integration);
    }
  }
  for (const [id, { type, status, code, error, headers }] of Object.entries(GATEWAY_RESPONSES)) {
    api.addGatewayResponse(id, {
      type,
      statusCode: String(status),
      templates: { 'application/json': contractError(status, code, error) },
      ...(headers === undefined ? {} : { responseHeaders: headers }),
    });
  }
  invokeRole(stack, configuration, api);
  new ssm.StringParameter(stack, 'UrlParameter', { parameterName: name.parameter('rest_url'), stringValue: api.url });
  // For callers that invoke the function itself, with a permission of their own.
  new ssm.StringParameter(stack, 'FunctionParameter', {
    parameterName: name.parameter('invoke_lambda'),
    stringValue: handler.functionName,
  });
  Validations.of(api).acknowledge(
    {
      id: 'AwsSolutions-COG4',
      reason: 'Callers are authenticated by IAM (SigV4) on every method, and a test asserts it.',
    },
    {
      id: 'AwsSolutions-APIG3',
      reason: 'Every method needs a signature by a principal of IAM; a web ACL is the account’s own choice.',
    },
    {
      id: 'AwsSolutions-APIG6',
      reason: 'The access log has every request and every kind of error, in a group with a retention.',
    },
    {
      id: 'AwsSolutions-APIG2',
      reason: 'A validator requires a body on every POST; the function refuses bodies of other methods.',
    },
  );
  return api;
}

/** The role for callers of the API. */
function invokeRole(stack: Stack, configuration: Configuration, api: apigateway.RestApi): void {
  const name = names(configuration);
  const role = new iam.Role(stack, 'InvokeRole', {
    roleName: name.of('invoke'),
    assumedBy: new iam.CompositePrincipal(...callers(configuration)),
  });
  role.addToPolicy(
    new iam.PolicyStatement({ actions: ['execute-api:Invoke'], resources: [api.arnForExecuteApi('*', '/*', 'prod')] }),
  );
  new ssm.StringParameter(stack, 'InvokeRoleParameter', {
    parameterName: name.parameter('rest_url_role_arn'),
    stringValue: role.roleArn,
  });
  const apiId = stack.getLogicalId(api.node.defaultChild as apigateway.CfnRestApi);
  Validations.of(role).acknowledge({
    id: `AwsSolutions-IAM5[Resource::arn:${configuration.partition}:execute-api:${configuration.region}:${configuration.account}:<${apiId}>/prod/*/*]`,
    reason: 'Every route of this one API.',
  });
}

/**
 * The named callers. Without any, whoever of the account has a policy that allows to assume the role.
 *
 * IAM keeps a role or user that is a principal by its unique id: a missing one fails the deployment, and one that is
 * created again is locked out. Their account is the principal therefore, and a condition names them.
 */
function callers({ callers: named, account }: Configuration): readonly iam.IPrincipal[] {
  const accountOf = (arn: string) => arn.split(':')[4] ?? '';
  const accounts = [...new Set(named.map(accountOf))].map((id) => {
    const arns = named.filter((arn) => accountOf(arn) === id);
    return new iam.AccountPrincipal(id).withConditions({ ArnLike: { 'aws:PrincipalArn': arns } });
  });
  return named.length === 0 ? [new iam.AccountPrincipal(account)] : accounts;
}

function contractError(status: number, code: string, error: string): string {
  return JSON.stringify({
    enclave_status: status,
    enclave_result: { error, code, retryable: status >= 503 },
    request_id: '$context.requestId',
  });
}

const POST_ROUTES = [
  '/',
  '/generate_key',
  '/set_key',
  '/sign_transaction',
  '/key',
  '/key/{key_id}/tx_signature',
  '/key/{key_id}/userop_signature',
] as const;

interface GatewayResponse {
  readonly type: apigateway.ResponseType;
  readonly status: number;
  readonly code: string;
  readonly error: string;
  readonly headers?: Readonly<Record<string, string>>;
}

/** Answers of API Gateway itself, with the codes of docs/api.md. Its 403s keep AWS's bodies, which SDKs recognise. */
const GATEWAY_RESPONSES: Readonly<Record<string, GatewayResponse>> = {
  BadBody: {
    type: apigateway.ResponseType.BAD_REQUEST_BODY,
    status: 400,
    code: 'malformed_json',
    error: 'the body must be one JSON object',
  },
  TooLarge: {
    type: apigateway.ResponseType.REQUEST_TOO_LARGE,
    status: 413,
    code: 'body_too_large',
    error: 'the body is larger than 320 KiB',
  },
  Throttled: {
    type: apigateway.ResponseType.THROTTLED,
    status: 503,
    code: 'busy',
    error: 'too many requests at once',
    headers: { 'Retry-After': "'1'" },
  },
  IntegrationTimeout: {
    type: apigateway.ResponseType.INTEGRATION_TIMEOUT,
    status: 504,
    code: 'deadline_exceeded',
    error: 'the request took too long',
  },
  IntegrationFailure: {
    type: apigateway.ResponseType.INTEGRATION_FAILURE,
    status: 500,
    code: 'internal',
    error: 'internal error',
  },
  ServerError: { type: apigateway.ResponseType.DEFAULT_5XX, status: 500, code: 'internal', error: 'internal error' },
};

/**
 * https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-variables-for-access-logging.html. No body,
 * and no header of the caller.
 */
const ACCESS_LOG = {
  request_id: '$context.requestId',
  time: '$context.requestTime',
  caller: '$context.identity.userArn',
  ip: '$context.identity.sourceIp',
  method: '$context.httpMethod',
  route: '$context.resourcePath',
  status: '$context.status',
  error: '$context.error.responseType',
  integration_error: '$context.integration.error',
  length: '$context.responseLength',
  ms: '$context.responseLatency',
  function_ms: '$context.integrationLatency',
};

/** Limit of the whole API; an account has 10 000 for all of its APIs. */
const REQUESTS_PER_SECOND = 1000;
