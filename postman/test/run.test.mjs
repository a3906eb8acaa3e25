// Runs that have to fail, their messages, and reports without secrets.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { address } from '../report.mjs';
import { percentile } from '../summary.mjs';

const SECRET_ACCESS_KEY = 'wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY';
const SECRET = 'the-secret-of-this-wallet-key';
const SIGNATURE =
  '0xd154b7efa02c822051d61899bbeb1ee9887b8bcc30f4f549a3d49950f13ee02d2140ced835ef716a4648082c762a161e1764950523f3716e0d0a51672b30205d1c';

let directory;
let server;
/** What the server answers a path with. */
let answers = {};

before(async () => {
  directory = await mkdtemp(join(tmpdir(), 'cloister-postman-'));
  server = createServer((request, response) => {
    const { status = 403, body = { message: 'Missing Authentication Token' } } = answers[request.url] ?? {};
    request
      .resume()
      .on('end', () => response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body)));
  });
  await new Promise((listening) => server.listen(0, '127.0.0.1', listening));
});
after(async () => {
  server.close();
  await rm(directory, { recursive: true });
});

const run = (args, variables = {}) =>
  new Promise((done) => {
    const endpoint = `http://127.0.0.1:${server.address().port}`;
    const env = {
      PATH: process.env.PATH,
      CLOISTER_ENDPOINT: endpoint,
      AWS_REGION: 'eu-central-1',
      AWS_ACCESS_KEY_ID: 'AKIAIOSFODNN7EXAMPLE',
      AWS_SECRET_ACCESS_KEY: SECRET_ACCESS_KEY,
      CLOISTER_SECRET: SECRET,
      ...variables,
    };
    const script = fileURLToPath(new URL('../run.mjs', import.meta.url));
    execFile(process.execPath, [script, ...args, '--report', directory], { env }, (error, stdout, stderr) =>
      done({ code: error?.code ?? 0, stdout, stderr }),
    );
  });

test('a signature by another key fails the load', async () => {
  answers = {
    '/generate_key': {
      status: 200,
      body: { key_id: '7e99e372-0eba-4001-8002-35e6a1478070', address: '0xe06C2c216fC36E2d40fB0199623032CC17b3B41b' },
    },
    '/sign_transaction': { status: 200, body: { signature: SIGNATURE } },
  };
  const { code, stdout } = await run(['load', '2', '3']);
  assert.equal(code, 1, stdout);
  assert.match(stdout, /FAILED 6×  load: UserOp hash: its signer is the key/);
  assert.match(stdout, /^2 runners × 3 rounds: 14 requests/m);
  assert.match(stdout, /^load: transaction +6 /m);
  assert.deepEqual(await readdir(directory), ['index.html']);
  const report = await readFile(join(directory, 'index.html'), 'utf8');
  for (const secret of [SECRET_ACCESS_KEY, SECRET, 'AKIAIOSFODNN7EXAMPLE', 'Signature=']) {
    assert.ok(!report.includes(secret), `the report contains ${secret}`);
  }
  // Complete offline, with date, endpoint and chart.
  assert.doesNotMatch(report, /<script|<link|<img|src=|href=|url\(|@import/);
  assert.match(report, new RegExp(`<td>${new Date().getUTCFullYear()}-.*Z</td>`));
  assert.ok(report.includes(`<td>http://127.0.0.1:${server.address().port}</td>`), report);
  assert.equal(report.match(/<circle /g).length, 14);
});

test('the endpoint is reported without its credentials', () => {
  assert.equal(address('https://user:password@api.example/prod/?token=x'), 'https://api.example/prod/');
});

for (const folder of [['integration'], ['load', '2', '50']]) {
  test(`wrong credentials end the ${folder[0]} at the first refusal, with AWS's message`, async () => {
    const message = 'The security token included in the request is invalid.';
    answers = Object.fromEntries(['/generate_key', '/sign_transaction'].map((path) => [path, { body: { message } }]));
    const { code, stdout } = await run(folder);
    assert.equal(code, 1, stdout);
    const failed = stdout.split('\n').filter((line) => line.startsWith('FAILED'));
    assert.equal(failed.length, 1, stdout);
    assert.ok(failed[0].endsWith(`API Gateway refused the request with 403: ${message}`), stdout);
    const runners = Number(folder[1] ?? 1);
    assert.match(stdout, new RegExp(`${runners} requests, `));
  });
}

test('what is missing or wrong is named', async () => {
  const wrong = async (args, variables, message) => {
    const { code, stderr } = await run(args, variables);
    assert.equal(code, 2);
    assert.match(stderr, message);
  };
  const broken = join(directory, 'broken.json');
  await writeFile(broken, '{}');
  await wrong([], {}, /^usage: /);
  await wrong(['load', '1'], {}, /^usage: /);
  await wrong(['load', '1', 'x'], {}, /^ROUNDS is x, not a number from 1 to 999999/);
  await wrong(['load', '1', '1', '--fast'], {}, /--fast/);
  await wrong(['integration'], { CLOISTER_ENDPOINT: '' }, /^base_url \(or the variable CLOISTER_ENDPOINT\) is missing/);
  await wrong(['integration'], { CLOISTER_ENDPOINT: 'example.org' }, /^base_url is "example.org", not a URL/);
  await wrong(['integration', '--environment', broken], {}, /is not an environment exported from Postman/);
  await wrong(['integration', '--environment', 'nowhere.json'], {}, /^cannot read the environment nowhere.json/);
  await wrong(['integration'], { CLOISTER_ENDPOINT: 'http://127.0.0.1:9' }, /^http:\/\/127.0.0.1:9 does not answer: /);
});

test('an environment for the app has the values of the process', async () => {
  const { code, stdout } = await run(['environment']);
  assert.equal(code, 0);
  const values = Object.fromEntries(JSON.parse(stdout).values.map(({ key, value }) => [key, value]));
  assert.equal(values.aws_secret, SECRET_ACCESS_KEY);
  assert.equal(values.secret, SECRET);
  assert.equal(values.iterations, '10');
  assert.equal(JSON.parse(stdout).name, 'Cloister (local)');

  const deployed = await run(['environment'], {
    CLOISTER_ENDPOINT: 'https://a.execute-api.eu-central-1.amazonaws.com/prod',
  });
  assert.equal(JSON.parse(deployed.stdout).name, 'Cloister (deployed)');
  assert.notEqual(JSON.parse(deployed.stdout).id, JSON.parse(stdout).id);
});

test('percentiles by nearest rank', () => {
  const values = Array.from({ length: 200 }, (_, index) => index + 1);
  assert.deepEqual(
    [50, 90, 99, 100].map((percent) => percentile(values, percent)),
    [100, 180, 198, 200],
  );
  assert.equal(percentile([7], 99), 7);
});
