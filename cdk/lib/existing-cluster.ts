/**
 * The stacks for a cluster that exists: identities of the pods that others deploy on it (bin/manifests.ts writes their
 * objects), alarms, and optionally the front door before the pods.
 */

import * as fs from 'node:fs';

import { type App, Stack } from 'aws-cdk-lib';
import * as ec2 from 'aws-cdk-lib/aws-ec2';

import { beforePods } from './application';
import { podIdentities } from './cluster';
import { type Configuration, ConfigurationError, names } from './configuration';
import { frontDoorKeyReference } from './front-door-key';
import { cmk } from './key';
import { existingNetwork } from './network';
import { observability } from './observability';
import type { Releases, Service } from './release';

export function existingClusterStacks(
  app: App,
  configuration: Configuration,
  releases: Releases,
): readonly [identities: Stack, application?: Stack] {
  const identities = new Stack(app, names(configuration).of('identities'), {
    description:
      'Cloister: identities of the pods on a cluster that exists, and alarms unless the application has them',
    env: configuration,
  });
  podIdentities(identities, configuration.cluster ?? '', configuration);
  const { urls, certificateAuthority } = configuration.pods ?? {};
  if (urls === undefined || certificateAuthority === undefined) {
    // The key is watched, whoever calls the pods.
    observability(identities, configuration, releases, { cmkArn: cmk(identities, configuration).arn });
    return [identities];
  }
  return [identities, frontDoorStack(app, configuration, releases, urls, certificateAuthority)];
}

function frontDoorStack(
  app: App,
  configuration: Configuration,
  releases: Releases,
  urls: Readonly<Record<Service, string>>,
  certificateAuthority: string,
): Stack {
  const stack = new Stack(app, names(configuration).of('application'), {
    description: 'Cloister: front door and alarms',
    env: configuration,
  });
  const { vpc } = existingNetwork(stack, configuration, networkOf(configuration));
  const securityGroup = new ec2.SecurityGroup(stack, 'FrontDoorGroup', {
    vpc,
    description: 'The front door: calls the pods and nothing else',
    allowAllOutbound: false,
  });
  for (const port of new Set(Object.values(urls).map((url) => Number(new URL(url).port || '443')))) {
    securityGroup.addEgressRule(ec2.Peer.anyIpv4(), ec2.Port.tcp(port), 'Pods');
  }
  beforePods(stack, configuration, releases, {
    urls,
    podCertificateAuthority: authority(certificateAuthority),
    key: frontDoorKeyReference(stack, configuration),
    network: { vpc, securityGroup },
  });
  return stack;
}

/** The network of the cluster, which the configuration describes. */
export function networkOf({ network }: Configuration): Configuration['network'] & { kind: 'existing' } {
  if (network.kind !== 'existing') {
    throw new ConfigurationError('CDK_VPC_ID is not set: describe the network of the cluster CDK_CLUSTER');
  }
  return network;
}

function authority(file: string): string {
  const pem = fs.existsSync(file) ? fs.readFileSync(file, 'utf8') : '';
  if (!pem.includes('-----BEGIN CERTIFICATE-----')) {
    throw new ConfigurationError(
      `${file} has no certificate in PEM: write the CA of the pods' certificates into it, or name another file with CDK_POD_CA`,
    );
  }
  return Buffer.from(pem).toString('base64');
}
