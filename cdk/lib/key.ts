/**
 * The CMK that wraps every data key. Retained; only the retirement role can delete it, and every row is lost with it.
 *
 * Its policy is replaced in place while it is open, so that rows sealed under one release open under the next.
 */

import { type App, BootstraplessSynthesizer, RemovalPolicy, Stack, type StackSynthesizer } from 'aws-cdk-lib';
import * as kms from 'aws-cdk-lib/aws-kms';
import * as ssm from 'aws-cdk-lib/aws-ssm';

import { keyTag } from './base';
import { type Configuration, names } from './configuration';
import { type Form, type KeyPolicy, renderKeyPolicy } from './key-policy';
import type { Release, Releases } from './release';

export function keyStack(app: App, configuration: Configuration, { release, next }: Releases): Stack {
  const name = names(configuration);
  const stack = new Stack(app, name.of('key'), {
    description: 'Cloister: the CMK that wraps every data key. Retained.',
    env: configuration,
    terminationProtection: !configuration.withKeys,
    synthesizer: keySynthesizer(configuration),
  });
  const key = new kms.CfnKey(stack, 'Key', {
    // Never change this text: the policy lets no principal change a key's description or tags.
    description: 'Wraps the data keys of Cloister',
    tags: [keyTag(configuration)],
    keyPolicy: openPolicy(release, next),
    enableKeyRotation: true,
    // KMS demands that the creator of a key may change its policy, and does not evaluate a condition on a role.
    bypassPolicyLockoutSafetyCheck: true,
  });
  // Also if its creation is rolled back: only the retirement role may end a key, so the roll-back would fail as well.
  key.applyRemovalPolicy(RemovalPolicy.RETAIN);
  publish(stack, configuration, key);
  return stack;
}

/**
 * The key stack is deployed as the administrator role, the only one that may replace an open policy. The template is
 * sent inline: the role needs no bucket.
 */
export function keySynthesizer(configuration: Configuration): StackSynthesizer {
  const { administratorRole } = names(configuration);
  return new BootstraplessSynthesizer({
    deployRoleArn: administratorRole,
    cloudFormationExecutionRoleArn: administratorRole,
  });
}

/** The CMK in the form in which it is deployed. */
export interface Cmk {
  readonly form: Form;
  readonly arn: string;
}

/** Writes the record of the key, and its id alone, which existing callers read. */
function publish(stack: Stack, configuration: Configuration, key: kms.CfnKey): void {
  const { parameter } = names(configuration);
  const record: Cmk = { form: FORM, arn: key.attrArn };
  new ssm.StringParameter(stack, 'KeyParameter', { parameterName: parameter('key_id'), stringValue: key.ref });
  new ssm.StringParameter(stack, 'CmkParameter', {
    parameterName: parameter('cmk'),
    stringValue: stack.toJsonString(record),
  });
}

/** The key, in another stack: its ARN is known when the stack is deployed. */
export function cmk(stack: Stack, configuration: Configuration): Cmk {
  const id = ssm.StringParameter.valueForStringParameter(stack, names(configuration).parameter('key_id'));
  return {
    form: FORM,
    arn: `arn:${configuration.partition}:kms:${configuration.region}:${configuration.account}:key/${id}`,
  };
}

/** The policy to deploy. It admits the images of the release and of the next one. */
export function openPolicy(release: Release, next?: Release): KeyPolicy {
  const measurements = ({ images }: Release) => ({
    signer: images.signer.pcr0,
    generator: images['key-generator'].pcr0,
  });
  return renderKeyPolicy(release.settings, { ...measurements(release), next: next && measurements(next) }, FORM);
}

/** The only form that is deployed: keys under a locked one could not be handed over to a next image. */
const FORM = 'open';
