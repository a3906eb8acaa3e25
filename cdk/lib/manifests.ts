/** The objects of a deployment on a cluster that exists, for tools that apply objects from a repository. */

import { type Configuration, ConfigurationError, names } from './configuration';
import { pushedImage } from './containers';
import { networkOf } from './existing-cluster';
import { FRONT_DOOR_KEY } from './front-door-key';
import { certificateObjects } from './kubernetes/certificates';
import { devicePlugin } from './kubernetes/device-plugin';
import type { Manifest } from './kubernetes/manifest';
import { dynamodbPolicy, namespaceObjects } from './kubernetes/namespace';
import { operatorObjects } from './kubernetes/operators';
import { traffic } from './kubernetes/traffic';
import { autoscaler, deployment, surroundings, type Workload } from './kubernetes/workload';
import { host } from './network';
import { closed, installSeccompProfile, reserve, reserved, WITHOUT_DOCKER } from './nodes';
import { type Release, type Releases, SERVICES, type Service, withTraffic } from './release';
import { revisions, workloadOf } from './workloads';

/** An SSM parameter of the deployment, by its last names; known when base and key are deployed. */
export type Parameter = (what: string) => string;

export interface Manifests {
  readonly objects: readonly Manifest[];
  /** For clusters with a metrics server; applied by those who want it. */
  readonly autoscalers: readonly Manifest[];
  /** Commands that a machine runs before its kubelet starts. */
  readonly machine: readonly string[];
}

export function manifests(configuration: Configuration, releases: Releases, parameter: Parameter): Manifests {
  const { partition, region, account, pods, targetGroups } = configuration;
  const { cidr, loadBalancerCidrs } = networkOf(configuration);
  const keys = {
    cmkArn: `arn:${partition}:kms:${region}:${account}:key/${parameter('key_id')}`,
    frontDoorSecretArn: parameter(FRONT_DOOR_KEY),
  };
  const workload = (release: Release, service: Service) =>
    workloadOf(configuration, release, service, imageOf(configuration, release, service), keys);
  const bound = SERVICES.map((service) => workload(withTraffic(configuration, releases), service));
  const workloads = SERVICES.flatMap((service) =>
    revisions(releases, service).map((release) => workload(release, service)),
  );
  const reservation = reserved(configuration, releases);
  return {
    objects: [
      ...namespaceObjects({ loadBalancer: loadBalancerCidrs, endpoints: [cidr] }),
      dynamodbPolicy(ANYWHERE),
      ...operatorObjects(),
      devicePlugin(reservation),
      ...certificateObjects((service) => (pods ? new URL(pods.urls[service]).hostname : host(service, configuration))),
      ...workloads.flatMap((of: Workload) => [...surroundings(of), deployment(of)]),
      ...bound.flatMap((of) => (targetGroups === undefined ? [] : [traffic(of, targetGroups[of.service])])),
    ],
    autoscalers: bound.map((of) => autoscaler(of, 2 * of.replicas)),
    machine: [
      '#!/bin/bash',
      ...closed(),
      ...reserve(reservation, 'kubelet.service'),
      WITHOUT_DOCKER,
      ...installSeccompProfile(configuration.architecture),
    ],
  };
}

/** DynamoDB's addresses differ by region and time; a cluster's owner may narrow them. */
const ANYWHERE = [{ ipBlock: { cidr: '0.0.0.0/0', except: ['169.254.0.0/16'] } }];

function imageOf(configuration: Configuration, release: Release, service: Service): string {
  const image = pushedImage(configuration, release, service);
  if (image === undefined) {
    throw new ConfigurationError(
      'CDK_POD_IMAGES is not set: set it to the images of both services by digest, as `cargo xtask push` prints them',
    );
  }
  return image;
}

/** Reads what `aws ssm get-parameters-by-path --recursive --path PATH` printed. */
export function publishedParameters(configuration: Configuration, text: string): Parameter {
  const { Parameters: all } = JSON.parse(text) as { Parameters: readonly { Name: string; Value: string }[] };
  return (what) => {
    const name = names(configuration).parameter(what);
    const found = all.find(({ Name }) => Name === name);
    if (found === undefined) {
      throw new ConfigurationError(
        `the parameters have no ${name}: deploy ${names(configuration).of('base')} and ${names(configuration).of('key')}, and read them again`,
      );
    }
    return found.Value;
  };
}
