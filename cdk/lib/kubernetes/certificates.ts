/** The pods' TLS: a private CA in the cluster, kept by cert-manager (https://cert-manager.io), which the front door pins. */

import { SERVICES, type Service } from '../release';
import { type Manifest, PART_OF } from './manifest';
import { NAMESPACE } from './namespace';
import { serviceLabels, tlsSecret } from './workload';

/** `host` is the name under which the front door calls a service. */
export function certificateObjects(host: (service: Service) => string): readonly Manifest[] {
  return [...authority(), ...SERVICES.map((service) => certificate(service, host(service)))];
}

/** Where the CA's certificate is found, in the member `ca.crt`. */
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
        // The same key for as long as the cluster lives: the front door trusts it by name and key.
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
      // Pods serve a renewed certificate within seconds of the kubelet's putting it there.
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
