/**
 * `npm run --silent pod-tls`: prints the secret with the pods' certificate, its key and their CA, which a deployment on
 * ECS reads. `npm run --silent pod-tls -- FILE`, with the present secret in the file, also keeps the present CA trusted,
 * until the next time.
 *
 * The CA's key is not kept: every machine reads the secret, and one that was broken into once could make certificates
 * for as long as the CA is trusted.
 */

import { execFileSync } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';

import { configuration, ConfigurationError, orExplain } from '../lib/configuration';
import { host } from '../lib/network';
import { SERVICES } from '../lib/release';

const CA_DAYS = '3650';
const DAYS = '825';
const PEM = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g;

orExplain(() => {
  const read = configuration(process.env, () => undefined, new Date());
  const [file] = process.argv.slice(2);
  const present = file === undefined ? '' : presentCa(file);
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'cloister-pod-tls-'));
  try {
    console.log(
      JSON.stringify(
        secret(
          directory,
          SERVICES.map((service) => host(service, read)),
          present,
        ),
      ),
    );
  } finally {
    fs.rmSync(directory, { recursive: true });
  }
});

/** The certificate of the CA that signed the pods' certificate in the given secret, and not of the one before it. */
function presentCa(file: string): string {
  try {
    const present = JSON.parse(fs.readFileSync(file, 'utf8')) as Readonly<Record<'ca' | 'tls.crt', string>>;
    const pods = new X509Certificate(present['tls.crt']);
    const all = Buffer.from(present.ca, 'base64').toString().match(PEM) ?? [];
    const signed = all.find((pem) => pods.verify(new X509Certificate(pem).publicKey));
    if (signed !== undefined) {
      return `${signed}\n`;
    }
  } catch {
    // The text may have a key, so no error may quote it.
  }
  throw new ConfigurationError(
    `${file} is not the present secret: give the JSON that \`npm run --silent pod-tls\` printed, with the certificate of the pods and of their CA, or no file`,
  );
}

/** The members that ecs.ts reads. */
function secret(directory: string, hosts: readonly string[], present: string) {
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
    ca: Buffer.from(read('ca.crt').toString() + present).toString('base64'),
  };
}
