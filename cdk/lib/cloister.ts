/** All stacks of a deployment. */

import { type App, Aspects, CfnRule, CfnWaitConditionHandle, Fn, Stack, Tags } from 'aws-cdk-lib';

import { applicationStack } from './application';
import { baseStack } from './base';
import { clusterStack } from './cluster';
import { type Configuration, names } from './configuration';
import { ecsStack } from './ecs';
import { existingClusterStacks } from './existing-cluster';
import { FunctionLogs } from './function-logs';
import { keyStack, keySynthesizer } from './key';
import type { Releases } from './release';
import { trailArn } from './trail';

export function cloister(app: App, configuration: Configuration, releases: Releases): void {
  Aspects.of(app).add(new FunctionLogs());
  const base = baseStack(app, configuration);
  const key = keyStack(app, configuration, releases);
  connect(configuration, { base, key, ...variantStacks(app, configuration, releases) });
}

function variantStacks(app: App, configuration: Configuration, releases: Releases): Stacks {
  switch (configuration.variant) {
    case 'eks': {
      const cluster = clusterStack(app, configuration, releases);
      return { cluster: cluster.stack, application: applicationStack(app, configuration, releases, cluster) };
    }
    case 'ecs':
      return { ecs: ecsStack(app, configuration, releases) };
    case 'identities': {
      const [identities, application] = existingClusterStacks(app, configuration, releases);
      return { identities, ...(application && { application }) };
    }
  }
}

type Stacks = Readonly<Record<string, Stack>>;

/** The stacks of a configuration, each with those that are deployed before it. */
function order({ variant, pods }: Configuration): Readonly<Record<string, readonly string[]>> {
  const retained = { base: [], key: ['base'] };
  switch (variant) {
    case 'eks':
      return { ...retained, cluster: ['base'], application: ['key', 'cluster'] };
    case 'ecs':
      return { ...retained, ecs: ['key'] };
    case 'identities': {
      const before = pods?.certificateAuthority !== undefined;
      return { ...retained, identities: ['key'], ...(before && { application: ['key'] }) };
    }
  }
}

/**
 * The same stacks without content: `cdk destroy` needs their names and order alone, and no images. A rule refuses to
 * deploy them, because that would empty the real ones.
 *
 * With the keys the base stack is deployed without its protection before it is destroyed. It has what a deployment
 * without choices of its own has, but nothing that may not be there or that the account may have: a role for API
 * Gateway's logs and a trail would be made, and the account's own role replaced.
 */
export function emptied(app: App, configuration: Configuration): void {
  Aspects.of(app).add(new FunctionLogs());
  const stacks = Object.keys(order(configuration)).map((what) => {
    const unprotected = what === 'base' && configuration.withKeys;
    const stack = unprotected ? baseStack(app, leastBase(configuration)) : emptyStack(app, configuration, what);
    return [what, stack] as const;
  });
  connect(configuration, Object.fromEntries(stacks));
}

function leastBase(configuration: Configuration): Configuration {
  return { ...configuration, apiLogs: 'existing', trail: trailArn(configuration) };
}

function emptyStack(app: App, configuration: Configuration, what: string): Stack {
  const stack = new Stack(app, names(configuration).of(what), {
    env: configuration,
    ...(what === 'key' && { synthesizer: keySynthesizer(configuration) }),
  });
  new CfnWaitConditionHandle(stack, 'Nothing');
  new CfnRule(stack, 'Destroyed', {
    assertions: [
      {
        assert: Fn.conditionEquals('deployed', 'destroyed'),
        assertDescription: '-c destroy=true is for `cdk destroy`: leave it out to deploy',
      },
    ],
  });
  return stack;
}

function connect(configuration: Configuration, stacks: Stacks): void {
  for (const [what, before] of Object.entries(order(configuration))) {
    before.forEach((other) => stacks[other] && stacks[what]?.addStackDependency(stacks[other]));
  }
  for (const [what, stack] of Object.entries(stacks)) {
    // The key policy lets no principal change a key's tags.
    const tags = what === 'key' ? {} : configuration.tags;
    Object.entries(tags).forEach(([name, value]) => Tags.of(stack).add(name, value));
  }
}
