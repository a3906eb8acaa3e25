/** The templates of a whole deployment. */

import * as fs from 'node:fs';
import * as path from 'node:path';

import { App, Stack } from 'aws-cdk-lib';
import { Template } from 'aws-cdk-lib/assertions';
import * as logs from 'aws-cdk-lib/aws-logs';

import { beforePods } from '../lib/application';
import { cloister } from '../lib/cloister';
import type { Environment } from '../lib/configuration';
import { frontDoorKeyReference } from '../lib/front-door-key';
import { withContainers } from './containers';
import { deployment, temporary } from './fixture';

export interface Resource {
  readonly Type: string;
  readonly DeletionPolicy?: string;
  readonly DependsOn?: string | readonly string[];
  readonly Properties: Readonly<Record<string, unknown>>;
}

export type Resources = Readonly<Record<string, Resource>>;

type Variant = 'eks' | 'ecs' | 'identities';

interface StackTemplate {
  readonly Parameters?: Readonly<Record<string, { readonly Type: string; readonly Default?: string }>>;
  readonly Resources: Resources;
}

/** Every stack's template by its name. */
export function templates(variant: Variant, environment: Environment = {}): ReadonlyMap<string, StackTemplate> {
  const zip = path.join(temporary(), 'front-door.zip');
  fs.writeFileSync(zip, 'a zip');
  const { configuration, releases } = withContainers(
    deployment({ CDK_VARIANT: variant, CDK_FRONT_DOOR: zip, ...environment }),
  );
  const app = new App();
  cloister(app, configuration, releases);
  const all = app.node.findAll().filter((node) => Stack.isStack(node));
  return new Map(all.map((stack) => [stack.stackName, Template.fromStack(stack).toJSON() as StackTemplate]));
}

/** Every stack's resources by their logical ids. */
export function stacks(variant: Variant, environment: Environment = {}): ReadonlyMap<string, Resources> {
  return new Map([...templates(variant, environment)].map(([name, { Resources: of }]) => [name, of]));
}

/** The part of the application before the pods. */
export function application(environment: Environment = {}) {
  const zip = path.join(temporary(), 'front-door.zip');
  fs.writeFileSync(zip, 'a zip');
  const { configuration, releases } = deployment({ CDK_FRONT_DOOR: zip, ...environment });
  const stack = new Stack(new App(), 'Application', { env: configuration });
  const pods = {
    urls: { signer: 'https://signer.test:8443', 'key-generator': 'https://key-generator.test:8444' },
    podCertificateAuthority: 'Y2E=',
    key: frontDoorKeyReference(stack, configuration),
  };
  beforePods(stack, configuration, releases, pods, logs.LogGroup.fromLogGroupName(stack, 'PodLog', 'pods'));
  const template = Template.fromStack(stack);
  return { configuration, releases, stack, template, resources: template.toJSON()['Resources'] as Resources };
}

export function ofType(resources: Resources, type: string): readonly (readonly [string, Resource])[] {
  return Object.entries(resources).filter(([, { Type }]) => Type === type);
}
