/**
 * The key with which the front door authenticates its requests to pods: a secret of Secrets Manager. Pods read it with
 * their own roles; the front door gets it when it is deployed.
 */

import { RemovalPolicy, SecretValue, type Stack, Validations } from 'aws-cdk-lib';
import * as iam from 'aws-cdk-lib/aws-iam';
import * as secretsmanager from 'aws-cdk-lib/aws-secretsmanager';
import * as ssm from 'aws-cdk-lib/aws-ssm';

import { type Configuration, names } from './configuration';

/** The SSM parameter with the secret's ARN, by its last names. */
export const FRONT_DOOR_KEY = 'front_door/key_secret';

/**
 * Makes the key: 64 random digits in hex. Nothing that is retained depends on it, so it goes with its stack, and it has
 * no name that the next one would collide with.
 */
export function frontDoorKey(stack: Stack, configuration: Configuration): secretsmanager.ISecret {
  const secret = new secretsmanager.Secret(stack, 'FrontDoorKey', {
    description: 'Cloister: authenticates requests of the front door to pods',
    generateSecretString: {
      passwordLength: 64,
      excludePunctuation: true,
      excludeUppercase: true,
      excludeCharacters: 'ghijklmnopqrstuvwxyz',
    },
    removalPolicy: RemovalPolicy.DESTROY,
  });
  Validations.of(secret).acknowledge({
    id: 'AwsSolutions-SMG4',
    reason: 'A new version reaches the front door by a deployment only; pods accept two versions meanwhile.',
  });
  new ssm.StringParameter(stack, 'FrontDoorKeyParameter', {
    parameterName: parameter(configuration),
    stringValue: secret.secretArn,
  });
  return secret;
}

/** The permission to read the key, which pods need. */
export function readsFrontDoorKey(secret: secretsmanager.ISecret): iam.PolicyStatement {
  return new iam.PolicyStatement({ actions: ['secretsmanager:GetSecretValue'], resources: [secret.secretArn] });
}

/** The secret's ARN, which is known at deployment. */
export function frontDoorKeyArn(stack: Stack, configuration: Configuration): string {
  return ssm.StringParameter.valueForStringParameter(stack, parameter(configuration));
}

/**
 * A reference that CloudFormation replaces by the key when it updates the resource with the reference. It does so only
 * if the template changes: a configured version makes it change.
 */
export function frontDoorKeyReference(stack: Stack, configuration: Configuration): string {
  const { frontDoorKeyVersion: versionId } = configuration;
  return SecretValue.secretsManager(
    frontDoorKeyArn(stack, configuration),
    versionId === undefined ? {} : { versionId },
  ).unsafeUnwrap();
}

function parameter(configuration: Configuration): string {
  return names(configuration).parameter(FRONT_DOOR_KEY);
}
