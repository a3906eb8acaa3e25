/**
 * `npm run manifests -- DIRECTORY`: writes every Kubernetes object of an example deployment, one YAML file for objects
 * of Kubernetes itself and one for those of its extensions. The stacks apply the same objects; this program applies
 * none.
 */

import * as fs from 'node:fs';
import * as path from 'node:path';

import { certificateObjects } from '../lib/kubernetes/certificates';
import { devicePlugin } from '../lib/kubernetes/device-plugin';
import { enclaveSize, reservation } from '../lib/kubernetes/enclave';
import type { Manifest } from '../lib/kubernetes/manifest';
import { dynamodbPolicy, NAMESPACE, namespaceObjects } from '../lib/kubernetes/namespace';
import { operatorObjects } from '../lib/kubernetes/operators';
import { traffic } from '../lib/kubernetes/traffic';
import { autoscaler, deployment, surroundings, type Workload } from '../lib/kubernetes/workload';
import { host } from '../lib/network';
import { SERVICES } from '../lib/release';

const enclave = enclaveSize(7_100_000);
const workloads: readonly Workload[] = SERVICES.flatMap((service) =>
  (['amd64', 'arm64'] as const).map((architecture) => ({
    namespace: NAMESPACE,
    service,
    architecture,
    image: '123456789012.dkr.ecr.eu-central-1.amazonaws.com/cloister:0000',
    pcr0: (architecture === 'amd64' ? '0a' : '1b').repeat(48),
    replicas: 2,
    region: 'eu-central-1',
    partition: 'aws',
    cmkArn: 'arn:aws:kms:eu-central-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab',
    tableArn: 'arn:aws:dynamodb:eu-central-1:123456789012:table/cloister-keys',
    enclave,
    deployment: service,
  })),
);
const targetGroup = 'arn:aws:elasticloadbalancing:eu-central-1:123456789012:targetgroup/cloister/0123456789abcdef';
const objects: readonly Manifest[] = [
  ...namespaceObjects({ loadBalancer: ['10.0.96.0/26'], endpoints: ['10.0.97.0/26'] }),
  dynamodbPolicy([{ ipBlock: { cidr: '52.94.0.0/22' } }]),
  ...operatorObjects(),
  devicePlugin(reservation(SERVICES.map(() => enclave))),
  ...certificateObjects((service) => host(service, { prefix: '' })),
  ...workloads.flatMap((of) => [...surroundings(of), deployment(of), autoscaler(of, 4), traffic(of, targetGroup)]),
];

const [directory = '.'] = process.argv.slice(2);
fs.mkdirSync(directory, { recursive: true });
const extension = ({ apiVersion }: Manifest) => /^(cert-manager\.io|elbv2\.k8s\.aws)\//.test(apiVersion);
// JSON is valid YAML.
const yaml = (manifests: readonly Manifest[]) =>
  manifests.map((manifest) => `---\n${JSON.stringify(manifest, undefined, 2)}\n`).join('');
fs.writeFileSync(path.join(directory, 'kubernetes.yaml'), yaml(objects.filter((object) => !extension(object))));
fs.writeFileSync(path.join(directory, 'extensions.yaml'), yaml(objects.filter(extension)));
