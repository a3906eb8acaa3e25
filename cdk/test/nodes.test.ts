import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { test } from 'node:test';

import { enclaveSize, reservation } from '../lib/kubernetes/enclave';
import { closed, installSeccompProfile, reserve, reserved, WITHOUT_DOCKER } from '../lib/nodes';
import { deployment, temporary } from './fixture';

const script = [
  ...closed(),
  ...reserve(reservation([enclaveSize(1), enclaveSize(1)]), 'kubelet.service'),
  WITHOUT_DOCKER,
  ...installSeccompProfile('arm64'),
].join('\n');

test('bash parses the script', () => {
  execFileSync('bash', ['-n'], { input: script });
});

test('a machine has the page size that Kubernetes counts, whatever the allocator chose', () => {
  const [, hugePages = ''] = /cloister-huge-pages <<'END'\n([^]*?)\nEND\n/.exec(script) ?? [];
  const run = (nodes: Readonly<Record<string, Readonly<Record<string, string>>>>, before = '') => {
    const sys = temporary();
    for (const [node, sizes] of Object.entries(nodes)) {
      for (const [size, count] of Object.entries(sizes)) {
        const directory = path.join(sys, node, 'hugepages', `hugepages-${size}kB`);
        fs.mkdirSync(directory, { recursive: true });
        fs.writeFileSync(path.join(directory, 'nr_hugepages'), `${count}\n`);
      }
    }
    // The same path as on a machine, below a temporary directory.
    const moved = hugePages
      .replaceAll('/sys/devices/system/node', sys)
      .replace('-f 6', `-f ${sys.split('/').length + 1}`);
    const { status, stderr } = spawnSync('bash', ['-c', `${before}${moved}`], { encoding: 'utf8' });
    const pages = (node: string, size: string) =>
      fs.readFileSync(path.join(sys, node, 'hugepages', `hugepages-${size}kB`, 'nr_hugepages'), 'utf8').trim();
    return { status, stderr, pages };
  };

  const arm64 = run({ node0: { 64: '0', 2048: '0', 32768: '24', 1048576: '0' } });
  assert.equal(arm64.status, 0, arm64.stderr);
  assert.deepEqual(
    ['64', '2048', '32768', '1048576'].map((size) => arm64.pages('node0', size)),
    ['0', '384', '0', '0'],
  );

  const amd64 = run({ node0: { 2048: '0', 1048576: '0' }, node1: { 2048: '0', 1048576: '1' } });
  assert.equal(amd64.status, 0, amd64.stderr);
  assert.deepEqual(
    [amd64.pages('node0', '2048'), amd64.pages('node1', '2048'), amd64.pages('node1', '1048576')],
    ['0', '384', '0'],
  );

  // Releases of grep differ in the status with which they list files.
  const failing = 'grep() { command grep "$@"; return 1; }\n';
  for (const before of ['', failing]) {
    const both = run({ node0: { 2048: '100', 1048576: '1' } }, before);
    assert.equal(both.status, 0, both.stderr);
    assert.deepEqual([both.pages('node0', '2048'), both.pages('node0', '1048576')], ['384', '0']);

    const second = run({ node0: { 2048: '0', 1048576: '0' }, node1: { 2048: '100', 1048576: '1' } }, before);
    assert.equal(second.status, 0, second.stderr);
    assert.deepEqual(
      ['node0', 'node1'].map((node) => [second.pages(node, '2048'), second.pages(node, '1048576')]),
      [
        ['0', '0'],
        ['384', '0'],
      ],
    );

    const none = run({ node0: { 2048: '0', 1048576: '0' }, node1: { 2048: '0', 1048576: '0' } }, before);
    assert.deepEqual([none.status, none.stderr], [1, 'the allocator of enclaves has reserved no huge pages\n']);
  }
});

/** Runs the script with programs that succeed and do nothing, except for the named one. */
function prepare(failing: string | undefined, script_ = script) {
  const directory = temporary();
  const programs = ['getent', 'groupadd', 'dnf', 'install', 'systemctl', 'base64', 'gunzip', 'shutdown'];
  for (const program of programs) {
    const body = program === failing ? 'exit 3' : 'cat > /dev/null';
    fs.writeFileSync(
      path.join(directory, program),
      `#!/bin/bash\necho "${program} $*" >> "${directory}/calls"\n${body}\n`,
      { mode: 0o755 },
    );
  }
  fs.mkdirSync(path.join(directory, 'seccomp'));
  const moved = script_.replaceAll('/var/lib/kubelet', directory);
  const { status, stderr } = spawnSync('/bin/bash', ['--norc', '-c', moved], {
    input: '',
    encoding: 'utf8',
    env: { PATH: `${directory}:/bin:/usr/bin` },
  });
  const calls = fs.readFileSync(path.join(directory, 'calls'), 'utf8').trim().split('\n');
  return { status, stderr, ended: calls.includes('shutdown -h now'), calls };
}

test('a machine that cannot prepare itself ends instead of joining without enclaves', () => {
  const ready = prepare(undefined);
  assert.deepEqual([ready.status, ready.ended], [0, false], ready.stderr);
  const called = [...new Set(ready.calls.map((call) => call.split(' ')[0] ?? ''))];
  for (const failing of called.filter((program) => program !== 'getent')) {
    const { status, ended, stderr } = prepare(failing);
    assert.deepEqual([status, ended], [3, true], failing);
    assert.match(stderr, /the machine is not ready for enclaves \(status 3\)/);
  }
  // A variable without a value is no failing command.
  assert.ok(prepare(undefined, [...closed(), 'getent', 'echo "$unset"'].join('\n')).ended);
});

test('images that leave no room for their machine are refused', () => {
  const { configuration, releases } = deployment();
  const ofSize = (mib: number) => ({
    release: {
      ...releases.release,
      images: {
        signer: { ...releases.release.images.signer, size: mib * 2 ** 20 },
        'key-generator': releases.release.images['key-generator'],
      },
    },
  });
  const machines = (type: string) => ({ machines: { ...configuration.machines, type } });
  assert.equal(reserved(machines('m6i.2xlarge'), ofSize(1024)).memoryMib, 2 * 4096 + 256);
  assert.throws(
    () => reserved(machines('c6i.2xlarge'), ofSize(1536)),
    /CDK_MACHINE_TYPE is `c6i\.2xlarge`, with 8 processors and 16384 MiB: 3 enclaves take .* set it to a larger type$/,
  );
  assert.equal(reserved(machines('c6i.4xlarge'), ofSize(1536)).memoryMib, 2 * 6144 + 256);
});
