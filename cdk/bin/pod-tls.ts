/**
 * `npm run --silent pod-tls`: prints the secret with the pods' certificate, its key and their CA, which a deployment on
 * ECS reads. The CA's key is not kept: a new secret has a new CA.
 */

import { execFileSync } from 'node:child_process';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';

import { configuration, orExplain } from '../lib/configuration';
import { host } from '../lib/network';
import { SERVICES } from '../lib/release';

const CA_DAYS = '3650';
const DAYS = '825';

orExplain(() => {
  const read = configuration(process.env, () => undefined, new Date());
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'cloister-pod-tls-'));
  try {
    console.log(
      JSON.stringify(
        secret(
          directory,
          SERVICES.map((service) => host(service, read)),
        ),
      ),
    );
  } finally {
    fs.rmSync(directory, { recursive: true });
  }
});

/** The members that ecs.ts reads. */
function secret(directory: string, hosts: readonly string[]) {
  const openssl = (...command: readonly string[]) =>
    execFileSync('openssl', command, { cwd: directory, stdio: ['ignore', 'ignore', 'pipe'] });
  const read = (file: string) => fs.readFileSync(path.join(directory, file));
  const newKey = ['req', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-noenc'];
  openssl(...newKey, '-keyout', 'ca.key', '-x509', '-out', 'ca.crt', '-days', CA_DAYS, '-subj', '/CN=Cloister pods');
  openssl(...newKey, '-keyout', 'tls.key', '-out', 'tls.csr', '-subj', '/CN=pods');
  const extensions = [
    `subjectAltName=${hosts.map((name) => `DNS:${name}`).join()}`,
    'basicConstraints=critical,CA:false',
    'extendedKeyUsage=serverAuth',
  ];
  fs.writeFileSync(path.join(directory, 'extensions'), extensions.join('\n'));
  const issuer = ['-CA', 'ca.crt', '-CAkey', 'ca.key', '-CAcreateserial'];
  const issued = ['-out', 'tls.crt', '-days', DAYS, '-extfile', 'extensions'];
  openssl('x509', '-req', '-in', 'tls.csr', ...issuer, ...issued);
  return {
    'tls.crt': read('tls.crt').toString(),
    'tls.key': read('tls.key').toString(),
    ca: read('ca.crt').toString('base64'),
  };
}
