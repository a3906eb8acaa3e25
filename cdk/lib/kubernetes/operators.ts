/** The rights of operators in the cluster: to see what runs, and to stop it (docs/operate.md, Emergency stop). */

import { type Json, type Manifest, PART_OF } from './manifest';
import { NAMESPACE } from './namespace';

/** The Kubernetes group of CDK_OPERATORS. */
export const OPERATORS = 'cloister-operators';

const NAME = 'cloister-operator';

/**
 * Whoever reads a Secret can be a pod, and whoever starts a container reads Secrets; so operators see no Secrets, and
 * create and change nothing.
 */
export function operatorObjects(): readonly Manifest[] {
  const metadata = { name: NAME, namespace: NAMESPACE, labels: PART_OF };
  const rule = (apiGroup: string, resources: readonly string[], verbs: readonly string[]): Json => ({
    apiGroups: [apiGroup],
    resources,
    verbs,
  });
  const see = ['get', 'list', 'watch'];
  return [
    {
      apiVersion: 'rbac.authorization.k8s.io/v1',
      kind: 'Role',
      metadata,
      rules: [
        rule('', ['pods', 'pods/log', 'services', 'endpoints', 'events', 'configmaps', 'serviceaccounts'], see),
        rule('apps', ['deployments', 'deployments/scale', 'replicasets'], see),
        rule('discovery.k8s.io', ['endpointslices'], see),
        rule('events.k8s.io', ['events'], see),
        rule('networking.k8s.io', ['networkpolicies'], see),
        rule('policy', ['poddisruptionbudgets'], see),
        rule('cert-manager.io', ['certificates', 'certificaterequests', 'issuers'], see),
        rule('elbv2.k8s.aws', ['targetgroupbindings'], see),
        rule('apps', ['deployments/scale'], ['update', 'patch']),
        rule('', ['pods'], ['delete', 'deletecollection']),
        rule('elbv2.k8s.aws', ['targetgroupbindings'], ['delete', 'deletecollection']),
      ],
    },
    {
      apiVersion: 'rbac.authorization.k8s.io/v1',
      kind: 'RoleBinding',
      metadata,
      roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'Role', name: NAME },
      subjects: [{ apiGroup: 'rbac.authorization.k8s.io', kind: 'Group', name: OPERATORS }],
    },
  ];
}
