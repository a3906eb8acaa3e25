import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { test } from 'node:test';

import { enclaveSize, reservation } from '../lib/kubernetes/enclave';
import { installSeccompProfile, reserve } from '../lib/nodes';
import { temporary } from './fixture';

const script = [
  ...reserve(reservation([enclaveSize(1), enclaveSize(1)]), 'kubelet.service'),
  ...installSeccompProfile('arm64'),
].join('\n');

test('bash parses the script', () => {
  execFileSync('bash', ['-n'], { input: script });
});

test('a machine has the page size that Kubernetes counts, whatever the allocator chose', () => {
  const [, hugePages = ''] = /cloister-huge-pages <<'END'\n([^]*?)\nEND\n/.exec(script) ?? [];
  const run = (nodes: Readonly<Record<string, Readonly<Record<string, string>>>>) => {
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
    const { status, stderr } = spawnSync('bash', ['-c', moved], { encoding: 'utf8' });
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
});
