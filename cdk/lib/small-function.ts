/**
 * A small function in JavaScript, `functions/NAME`. Its role may only write its own log, until a caller adds
 * permissions.
 */

import * as fs from 'node:fs';
import * as path from 'node:path';

import { Duration, RemovalPolicy, type Stack } from 'aws-cdk-lib';
import * as iam from 'aws-cdk-lib/aws-iam';
import * as lambda from 'aws-cdk-lib/aws-lambda';
import * as logs from 'aws-cdk-lib/aws-logs';

import { type Configuration, names } from './configuration';

export function smallFunction(
  stack: Stack,
  configuration: Configuration,
  what: string,
  description: string,
  environment: Readonly<Record<string, string>>,
  { timeout = Duration.seconds(30) }: { readonly timeout?: Duration } = {},
): { readonly handler: lambda.Function; readonly role: iam.Role } {
  const functionName = names(configuration).of(what);
  const logGroup = new logs.LogGroup(stack, `${what}-log`, {
    logGroupName: `/aws/lambda/${functionName}`,
    retention: logs.RetentionDays.ONE_YEAR,
    removalPolicy: RemovalPolicy.DESTROY,
  });
  const role = new iam.Role(stack, `${what}-role`, {
    roleName: functionName,
    assumedBy: new iam.ServicePrincipal('lambda.amazonaws.com'),
  });
  logGroup.grantWrite(role);
  const handler = new lambda.Function(stack, `${what}-function`, {
    functionName,
    description,
    runtime: lambda.Runtime.NODEJS_24_X,
    architecture: lambda.Architecture.ARM_64,
    code: code(path.join(__dirname, '../functions', what)),
    handler: 'index.handler',
    environment,
    timeout,
    role,
    logGroup,
  });
  return { handler, role };
}

/** Inline if it is one short file: a template without files can be deployed by any tool. */
function code(directory: string): lambda.Code {
  const files = fs.readdirSync(directory).filter((file) => file.endsWith('.js'));
  const source = fs.readFileSync(path.join(directory, 'index.js'), 'utf8');
  return files.length === 1 && source.length <= MOST_INLINE
    ? lambda.Code.fromInline(source)
    : lambda.Code.fromAsset(directory, { exclude: ['*.d.ts'] });
}

/** https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-properties-lambda-function-code.html */
const MOST_INLINE = 4096;
