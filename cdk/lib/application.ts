/** The application stack, replaced with every release: pods, front door, alarms. */

import { type App, Stack } from 'aws-cdk-lib';
import * as logs from 'aws-cdk-lib/aws-logs';
import { Asset } from 'aws-cdk-lib/aws-s3-assets';
import * as ssm from 'aws-cdk-lib/aws-ssm';
import type { IDependable } from 'constructs';

import { type Cluster, renew } from './cluster';
import { type Configuration, names } from './configuration';
import { frontDoor, type Pods } from './front-door';
import { frontDoorKeyArn, frontDoorKeyReference } from './front-door-key';
import { cmk } from './key';
import { observability } from './observability';
import { type Releases, withTraffic } from './release';
import { workloads } from './workloads';

export function applicationStack(app: App, configuration: Configuration, releases: Releases, cluster: Cluster): Stack {
  const name = names(configuration);
  const stack = new Stack(app, name.of('application'), {
    description: 'Cloister: pods, front door and alarms',
    env: configuration,
  });
  const pods = {
    urls: cluster.urls,
    podCertificateAuthority: cluster.podCertificateAuthority,
    targetMetrics: cluster.targetMetrics,
    key: frontDoorKeyReference(stack, configuration),
    network: { vpc: cluster.vpc, securityGroup: cluster.frontDoorSecurityGroup },
  };
  const podLog = logs.LogGroup.fromLogGroupName(
    stack,
    'PodLog',
    `/aws/containerinsights/${name.of('cluster')}/application`,
  );
  const { keyRules } = beforePods(stack, configuration, releases, pods, podLog);
  // A rule that does not know an image yet would report its first use of the key.
  workloads(stack, cluster, configuration, releases, {
    cmkArn: cmk(stack, configuration).arn,
    frontDoorSecretArn: frontDoorKeyArn(stack, configuration),
    after: keyRules,
  });
  renew(stack, configuration);
  return stack;
}

/** The part in front of the pods, the same on Kubernetes and ECS: front door, alarms, parameters for callers. */
export function beforePods(
  stack: Stack,
  configuration: Configuration,
  releases: Releases,
  pods: Pods,
  podLog?: logs.ILogGroup,
): ReturnType<typeof observability> & { readonly frontDoor: IDependable } {
  images(stack, configuration, releases);
  const door = frontDoor(stack, configuration, pods);
  const { keyRules } = observability(stack, configuration, releases, {
    frontDoor: door,
    ...(podLog && { podLog }),
    ...(pods.targetMetrics && { targetMetrics: pods.targetMetrics }),
    cmkArn: cmk(stack, configuration).arn,
  });
  return { keyRules, frontDoor: door.function };
}

/** The images that have the traffic, published for verifiers. */
function images(stack: Stack, configuration: Configuration, releases: Releases): void {
  const serving = withTraffic(configuration, releases);
  for (const [service, parameter] of [
    ['signer', 'signer_enclave/eif_uri'],
    ['key-generator', 'generator_enclave/eif_uri'],
  ] as const) {
    const image = new Asset(stack, `Image-${service}`, { path: serving.images[service].file });
    new ssm.StringParameter(stack, `ImageParameter-${service}`, {
      parameterName: names(configuration).parameter(parameter),
      stringValue: image.s3ObjectUrl,
    });
  }
}
