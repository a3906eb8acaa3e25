/**
 * `check-layout.ts LAYOUT`: checks an OCI layout of the pods' images, and starts their programs with the Deployment's
 * user, capabilities, seccomp profile and read-only root. `cargo xtask test --step "container images"` calls it, as
 * root.
 */

import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';

import { enclaveSize } from '../lib/kubernetes/enclave';
import { environment, PATHS, USER } from '../lib/kubernetes/pods';
import { type SeccompProfile, seccompProfile } from '../lib/kubernetes/seccomp';
import { SERVICES, type Service } from '../lib/release';

interface Descriptor {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
  readonly platform?: { readonly architecture: string };
  readonly annotations?: Readonly<Record<string, string>>;
}

interface Image {
  readonly architecture: string;
  readonly os: string;
  readonly config: {
    readonly User: string;
    readonly Entrypoint: readonly string[];
    readonly Env: readonly string[];
    readonly Cmd?: unknown;
  };
}

const [layout = ''] = process.argv.slice(2);
const work = fs.mkdtempSync(path.join(os.tmpdir(), 'cloister-containers-'));
process.on('exit', () => fs.rmSync(work, { recursive: true, force: true }));

/**
 * A blob of the layout, checked against its descriptor.
 * https://github.com/opencontainers/image-spec/blob/main/image-layout.md
 */
function blob({ digest, size }: Descriptor): Buffer {
  const [algorithm = '', hash = ''] = digest.split(':');
  const bytes = fs.readFileSync(path.join(layout, 'blobs', algorithm, hash));
  assert.equal(bytes.length, size, digest);
  assert.equal(createHash(algorithm).update(bytes).digest('hex'), hash);
  return bytes;
}

const parsed = <Value>(descriptor: Descriptor) => JSON.parse(blob(descriptor).toString()) as Value;

/** Checks the image for every architecture, and unpacks the one for this machine. */
function unpack(index: Descriptor, service: Service): string {
  const { manifests } = parsed<{ manifests: readonly Descriptor[] }>(index);
  const roots = manifests.map((manifest) => {
    const { config, layers } = parsed<{ config: Descriptor; layers: readonly Descriptor[] }>(manifest);
    const image = parsed<Image>(config);
    assert.equal(image.os, 'linux');
    assert.equal(image.architecture, manifest.platform?.architecture);
    assert.equal(image.config.User, `${USER}:${USER}`);
    assert.deepEqual(image.config.Entrypoint, ['/usr/bin/pod']);
    assert.equal(image.config.Cmd ?? undefined, undefined);
    const root = path.join(work, service, image.architecture);
    fs.mkdirSync(root, { recursive: true });
    layers.forEach((layer) =>
      execFileSync('tar', ['--extract', '--gzip', '--preserve-permissions', '--directory', root], {
        input: blob(layer),
      }),
    );
    contains(root, image.architecture);
    return [image.architecture, root] as const;
  });
  const own = roots.find(([architecture]) => architecture === (os.arch() === 'arm64' ? 'arm64' : 'amd64'));
  assert.ok(own !== undefined, `no image for ${os.arch()}`);
  return own[1];
}

/** Only expected files, and none with privileges. */
function contains(root: string, architecture: string): void {
  const files = fs.readdirSync(root, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  const paths = files.map((entry) => path.join(entry.parentPath, entry.name));
  assert.deepEqual(
    paths.filter((file) => (fs.statSync(file).mode & 0o6000) !== 0),
    [],
  );
  assert.deepEqual(
    paths.filter((file) => fs.statSync(file).uid !== 0 || (fs.statSync(file).mode & 0o022) !== 0),
    [],
  );
  const own = paths.map((file) => `/${path.relative(root, file)}`).filter((file) => !file.startsWith('/lib'));
  assert.deepEqual(
    own.sort(),
    [PATHS.awsRoots, PATHS.image, PATHS.measurements, '/usr/bin/nitro-cli', '/usr/bin/pod'],
    architecture,
  );
}

/**
 * The Deployment's settings for a runtime without Kubernetes:
 * https://github.com/opencontainers/runtime-spec/blob/main/config.md
 */
function runtimeSpec(
  root: string,
  shared: string,
  variables: Readonly<Record<string, string>>,
  seccomp: Omit<SeccompProfile, 'defaultErrnoRet'>,
) {
  const bind = (destination: string, source: string, ...options: string[]) => ({
    destination,
    source,
    type: 'bind',
    options: ['bind', 'nosuid', 'nodev', ...options],
  });
  const tmpfs = (destination: string) => ({
    destination,
    source: 'tmpfs',
    type: 'tmpfs',
    options: ['nosuid', 'nodev', 'mode=1777', 'size=1m'],
  });
  return {
    ociVersion: '1.0.2',
    process: {
      user: { uid: USER, gid: USER },
      args: ['/usr/bin/pod'],
      cwd: '/',
      env: [
        'PATH=/usr/bin',
        ...Object.entries(variables)
          .filter(([, value]) => value !== '')
          .map(([name, value]) => `${name}=${value}`),
      ],
      noNewPrivileges: true,
      capabilities: { bounding: [], effective: [], inheritable: [], permitted: [], ambient: [] },
    },
    root: { path: root, readonly: true },
    mounts: [
      { destination: '/proc', type: 'proc', source: 'proc' },
      { destination: '/dev', type: 'tmpfs', source: 'tmpfs', options: ['nosuid', 'mode=755'] },
      bind(PATHS.tls, path.join(shared, 'tls'), 'ro'),
      bind(PATHS.sockets, path.join(shared, 'sockets'), 'rw'),
      tmpfs(PATHS.logs),
    ],
    linux: { namespaces: [{ type: 'mount' }, { type: 'pid' }, { type: 'ipc' }], seccomp },
  };
}

/** A line of a pod's log. */
interface Line {
  readonly event?: string;
  readonly problem?: string;
}

/** Starts a pod, waits until a line of its log is the `expected` one, and ends it as Kubernetes does. */
async function started(
  service: Service,
  root: string,
  changes: Readonly<Record<string, string>>,
  seccomp: Omit<SeccompProfile, 'defaultErrnoRet'>,
  expected: (line: Line) => boolean,
): Promise<void> {
  const name = `cloister-${service}-${process.pid}`;
  const bundle = fs.mkdtempSync(path.join(work, 'bundle-'));
  for (const directory of ['tls', 'sockets']) {
    fs.mkdirSync(path.join(bundle, directory));
    fs.chownSync(path.join(bundle, directory), USER, USER);
  }
  certificate(path.join(bundle, 'tls'));
  // Only for an enclave that the pod does not manage.
  fs.writeFileSync(path.join(bundle, 'tls/session'), '5e'.repeat(32));
  fs.chownSync(path.join(bundle, 'tls/session'), USER, USER);
  const variables = {
    ...environment({
      service,
      region: 'eu-central-1',
      partition: 'aws',
      cmkArn: 'arn:aws:kms:eu-central-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab',
      frontDoorSecretArn: 'arn:aws:secretsmanager:eu-central-1:123456789012:secret:FrontDoorKey-0123456789ab-AbCdEf',
      tableArn: 'arn:aws:dynamodb:eu-central-1:123456789012:table/cloister-keys',
      enclave: enclaveSize(fs.statSync(path.join(root, PATHS.image)).size),
      deployment: service,
    }),
    CLOISTER_METRICS_NODE: 'here',
    CLOISTER_METRICS_POD: service,
    CLOISTER_LISTEN: '127.0.0.1:0',
    CLOISTER_HEALTH_LISTEN: '127.0.0.1:0',
    CLOISTER_ADDRESS_FILE: `${PATHS.sockets}/addresses.json`,
    // Prevents the search for credentials.
    AWS_ACCESS_KEY_ID: 'none',
    AWS_SECRET_ACCESS_KEY: 'none',
    ...changes,
  };
  fs.writeFileSync(path.join(bundle, 'config.json'), JSON.stringify(runtimeSpec(root, bundle, variables, seccomp)));
  const state = path.join(bundle, 'state');
  // crun needs a unified hierarchy of control groups, even if it is not to use it.
  const crun = [
    '--mount',
    'sh',
    '-c',
    'mount -t cgroup2 none /sys/fs/cgroup && exec crun "$@"',
    'crun',
    '--root',
    state,
    '--cgroup-manager=disabled',
  ];
  const pod = spawn('unshare', [...crun, 'run', '--bundle', bundle, name], { stdio: ['ignore', 'pipe', 'inherit'] });
  let log = '';
  pod.stdout.on('data', (text: Buffer) => (log += text.toString()));
  const ended = new Promise<number | null>((resolve) => pod.on('exit', resolve));
  try {
    const health = `http://${
      (
        await until(
          () => addresses(bundle),
          pod,
          () => log,
        )
      ).health
    }`;
    await until(
      async () => ((await fetch(`${health}/healthz`)).status === 200 ? true : undefined),
      pod,
      () => log,
    );
    await until(
      () => linesOf(log).find(expected),
      pod,
      () => log,
    );
    assert.equal((await fetch(`${health}/readyz`)).status, 503);
  } finally {
    // The pod may have ended already.
    spawnSync('unshare', [...crun, 'kill', name, 'TERM']);
  }
  assert.equal(await ended, 0, log);
}

/** The complete lines of a log; text that is not JSON is skipped. */
function linesOf(log: string): Line[] {
  return log
    .split('\n')
    .filter((line) => line.startsWith('{') && line.endsWith('}'))
    .map((line) => JSON.parse(line) as Line);
}

function addresses(bundle: string): { readonly health: string } | undefined {
  const file = path.join(bundle, 'sockets/addresses.json');
  return fs.existsSync(file) ? (JSON.parse(fs.readFileSync(file, 'utf8')) as { health: string }) : undefined;
}

async function until<Value>(
  look: () => Value | undefined | Promise<Value | undefined>,
  pod: ChildProcess,
  log: () => string,
): Promise<Value> {
  for (
    const deadline = Date.now() + 30_000;
    Date.now() < deadline;
    await new Promise((resolve) => setTimeout(resolve, 50))
  ) {
    assert.equal(pod.exitCode, null, `the pod ended: ${log()}`);
    // Connections are refused while the pod starts.
    const value = await Promise.resolve(look()).catch(() => undefined);
    if (value !== undefined) {
      return value;
    }
  }
  return assert.fail(`nothing came within 30 seconds: ${log()}`);
}

function certificate(directory: string): void {
  const request = [
    'req',
    '-x509',
    '-newkey',
    'ec',
    '-pkeyopt',
    'ec_paramgen_curve:P-256',
    '-nodes',
    '-days',
    '1',
    '-subj',
    '/CN=pod',
    '-addext',
    'subjectAltName=DNS:pod',
  ];
  const files = ['tls.key', 'tls.crt'].map((file) => path.join(directory, file));
  execFileSync('openssl', [...request, '-keyout', files[0] ?? '', '-out', files[1] ?? ''], { stdio: 'pipe' });
  files.forEach((file) => fs.chownSync(file, USER, USER));
}

async function main(): Promise<void> {
  const architecture = os.arch() === 'arm64' ? 'arm64' : 'amd64';
  // Stricter than on nodes: a system call that the profile lacks ends the pod instead of failing.
  const { defaultErrnoRet: _, ...rules } = seccompProfile(architecture);
  const profile = { ...rules, defaultAction: 'SCMP_ACT_KILL_PROCESS' };
  const withoutVsock = { ...profile, syscalls: profile.syscalls.filter(({ args }) => args?.[0]?.value !== AF_VSOCK) };
  const { manifests } = JSON.parse(fs.readFileSync(path.join(layout, 'index.json'), 'utf8')) as {
    manifests: readonly Descriptor[];
  };
  for (const service of SERVICES) {
    const index = manifests.find(
      ({ annotations }) => annotations?.['org.opencontainers.image.ref.name'] === `${service}-pod`,
    );
    assert.ok(index !== undefined, `${layout} has no ${service}-pod`);
    const root = unpack(index, service);
    // The stand-in for nitro-cli needs a shell, and there is none. A pod that fails to run it has measured the image
    // before.
    await started(
      service,
      root,
      {},
      profile,
      ({ event, problem }) => event === 'enclave_down' && problem?.includes('nitro-cli') === true,
    );
    // An enclave that does not exist. The pod connects to it over vsock, so a profile without that family ends the pod.
    const vsock = {
      CLOISTER_ENCLAVE_IMAGE: '',
      CLOISTER_ENCLAVE: 'vsock:16:5000',
      CLOISTER_ENCLAVE_SESSION_FILE: `${PATHS.tls}/session`,
    };
    const unreachable = ({ event }: Line) => event === 'enclave_not_ready';
    await started(service, root, vsock, profile, unreachable);
    await assert.rejects(started(service, root, vsock, withoutVsock, unreachable), /the pod ended/);
    console.log(`${service}-pod: checked and started`);
  }
}

const AF_VSOCK = 40;

void main();
