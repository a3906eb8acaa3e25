/**
 * The pods' TLS: a private CA in the cluster, managed by cert-manager (https://cert-manager.io) and pinned by the front
 * door.
 */

import { SERVICES, type Service } from '../release';
import { type Manifest, PART_OF } from './manifest';
import { NAMESPACE } from './namespace';
import { serviceLabels, tlsSecret } from './workload';

/** `host` is the name by which the front door calls a service. */
export function certificateObjects(host: (service: Service) => string): readonly Manifest[] {
  return [...authority(), ...SERVICES.map((service) => certificate(service, host(service)))];
}

/** The Secret with the CA's certificate in its member `ca.crt`. */
export const AUTHORITY_SECRET = 'certificate-authority';

function authority(): readonly Manifest[] {
  return [
    issuer('self-signed', { selfSigned: {} }),
    {
      apiVersion: 'cert-manager.io/v1',
      kind: 'Certificate',
      metadata: { name: 'certificate-authority', namespace: NAMESPACE, labels: PART_OF },
      spec: {
        isCA: true,
        commonName: 'Cloister pods',
        secretName: AUTHORITY_SECRET,
        duration: days(3650),
        // The same key for the lifetime of the cluster: the front door trusts name and key.
        privateKey: { algorithm: 'ECDSA', size: 256, rotationPolicy: 'Never' },
        issuerRef: { name: 'self-signed', kind: 'Issuer', group: 'cert-manager.io' },
      },
    },
    issuer('certificate-authority', { ca: { secretName: AUTHORITY_SECRET } }),
  ];
}

function issuer(name: string, spec: Manifest['spec'] & object): Manifest {
  return {
    apiVersion: 'cert-manager.io/v1',
    kind: 'Issuer',
    metadata: { name, namespace: NAMESPACE, labels: PART_OF },
    spec,
  };
}

function certificate(service: Service, host: string): Manifest {
  return {
    apiVersion: 'cert-manager.io/v1',
    kind: 'Certificate',
    metadata: { name: service, namespace: NAMESPACE, labels: serviceLabels(service) },
    spec: {
      secretName: tlsSecret(service),
      dnsNames: [host],
      usages: ['digital signature', 'server auth'],
      // Pods serve a renewed certificate within seconds after the kubelet writes it.
      duration: days(90),
      renewBefore: days(30),
      privateKey: { algorithm: 'ECDSA', size: 256, rotationPolicy: 'Always' },
      issuerRef: { name: 'certificate-authority', kind: 'Issuer', group: 'cert-manager.io' },
    },
  };
}

function days(count: number): string {
  return `${count * 24}h0m0s`;
}
