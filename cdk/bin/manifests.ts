/**
 * `npm run manifests -- DIRECTORY PARAMETERS`: writes the Kubernetes objects of a deployment on a cluster that exists,
 * for a tool that applies them from a repository. PARAMETERS is the output of `aws ssm get-parameters-by-path
 * --recursive --path PATH`.
 */

import * as fs from 'node:fs';
import * as path from 'node:path';

import { configuration, ConfigurationError, orExplain } from '../lib/configuration';
import type { Manifest } from '../lib/kubernetes/manifest';
import { manifests, publishedParameters } from '../lib/manifests';
import { NODE_CONFIG } from '../lib/nodes';
import { readReleases } from '../lib/release';

/** What is applied: not the autoscalers, and nothing of machines. */
const KUSTOMIZATION = {
  apiVersion: 'kustomize.config.k8s.io/v1beta1',
  kind: 'Kustomization',
  resources: ['kubernetes.yaml', 'extensions.yaml'],
};

orExplain(() => {
  const [directory, parameters] = process.argv.slice(2);
  if (directory === undefined || parameters === undefined || !fs.existsSync(parameters)) {
    throw new ConfigurationError(
      'give a directory, and the file into which `aws ssm get-parameters-by-path --recursive --path PATH` was written',
    );
  }
  const read = configuration(process.env, () => undefined, new Date());
  const published = publishedParameters(read, fs.readFileSync(parameters, 'utf8'));
  const { objects, autoscalers, machine } = manifests(read, readReleases(read), published);
  const extension = ({ apiVersion }: Manifest) => /^(cert-manager\.io|elbv2\.k8s\.aws)\//.test(apiVersion);
  const files = {
    'kubernetes.yaml': yaml(objects.filter((object) => !extension(object))),
    'extensions.yaml': yaml(objects.filter(extension)),
    'kustomization.yaml': `${JSON.stringify(KUSTOMIZATION, undefined, 2)}\n`,
    'autoscalers.yaml': yaml(autoscalers),
    'machine.sh': `${machine.join('\n')}\n`,
    'node-config.yaml': `${NODE_CONFIG}\n`,
  };
  fs.mkdirSync(directory, { recursive: true });
  for (const [name, text] of Object.entries(files)) {
    fs.writeFileSync(path.join(directory, name), text);
  }
});

/** JSON is valid YAML. */
function yaml(manifests: readonly Manifest[]): string {
  return manifests.map((manifest) => `---\n${JSON.stringify(manifest, undefined, 2)}\n`).join('');
}
