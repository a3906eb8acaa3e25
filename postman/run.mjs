// Runs a folder of the collection with newman, and reports the results.

import { fork } from 'node:child_process';
import { mkdir, writeFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { resolve } from 'node:path';
import { parseArgs } from 'node:util';

import { readEnvironment } from './environment.mjs';
import { html } from './report.mjs';
import { summarize, text } from './summary.mjs';

const USAGE = `usage: node run.mjs integration | load RUNNERS ROUNDS    [--environment FILE] [--report DIRECTORY]
       node run.mjs environment                                prints an environment for the Postman app
RUNNERS run side by side, each ROUNDS rounds of one UserOp and one transaction signature.
What is called: CLOISTER_ENDPOINT, AWS_REGION, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, or the environment
exported from Postman. A load uses the key CLOISTER_KEY_ID with CLOISTER_SECRET if they are set, and makes one per runner otherwise.`;

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  console.error(error.message);
  process.exitCode = 2;
}

async function main(argv) {
  const { folder, runners, rounds, environment: file, report } = commandLine(argv);
  const environment = await readEnvironment(file, process.env);
  if (folder === 'environment') {
    console.log(JSON.stringify(environment, undefined, 2));
    return 0;
  }
  environment.values.find(({ key }) => key === 'iterations').value = String(rounds);
  const endpoint = environment.values.find(({ key }) => key === 'base_url').value;
  await reach(endpoint);
  const reports = resolve(report);
  await mkdir(reports, { recursive: true });

  const date = new Date();
  const started = performance.now();
  const results = await Promise.all(
    shares(runners).map((share) => runProcess({ folder, environment, runners: share })),
  );
  const summary = summarize(results.flat(), { folder, runners, rounds, seconds: (performance.now() - started) / 1000 });
  const index = resolve(reports, 'index.html');
  await writeFile(index, html(summary, { endpoint, started: date }));
  console.log(`${text(summary)}\nreport: ${index}`);
  return summary.failures.length > 0 || summary.assertions === 0 ? 1 : 0;
}

/** Fails at once if the endpoint does not answer. The request is not signed, so any status will do. */
async function reach(url) {
  await fetch(url, { signal: AbortSignal.timeout(10_000) }).catch((error) => {
    throw new Error(`${url} does not answer: ${error.cause?.message ?? error.message}`);
  });
}

function commandLine(argv) {
  const options = { environment: { type: 'string' }, report: { type: 'string', default: 'reports' } };
  const { positionals, values } = usageOnError(() => parseArgs({ args: argv, options, allowPositionals: true }));
  const [folder, ...numbers] = positionals;
  const expected = { environment: 0, integration: 0, load: 2 }[folder];
  if (expected !== numbers.length) throw new Error(USAGE);
  const [runners, rounds] = folder === 'load' ? [count('RUNNERS', numbers[0]), count('ROUNDS', numbers[1])] : [1, 1];
  return { folder, runners, rounds, ...values };
}

function usageOnError(parse) {
  try {
    return parse();
  } catch (error) {
    throw new Error(`${error.message}\n${USAGE}`);
  }
}

function count(name, value) {
  if (!/^[1-9][0-9]{0,5}$/.test(value)) throw new Error(`${name} is ${value}, not a number from 1 to 999999\n${USAGE}`);
  return Number(value);
}

/** The numbers 1 to `runners`, dealt out to as many processes as there are processors. */
function shares(runners) {
  const processes = Math.min(runners, availableParallelism());
  return Array.from({ length: processes }, (_, process) =>
    Array.from({ length: runners }, (_, runner) => runner + 1).filter((runner) => runner % processes === process),
  );
}

/** Resolves to all messages of the process. */
function runProcess(task) {
  const child = fork(new URL('runner.mjs', import.meta.url));
  const messages = [];
  child.on('message', (message) => messages.push(message));
  // A message and not an argument: arguments can be read by every user of the machine.
  child.send(task);
  return new Promise((done, fail) => {
    child.on('error', fail);
    child.on('exit', (code, signal) => {
      if (code !== 0)
        messages.push({ failure: { request: '(newman)', message: `a runner's process ended with ${signal ?? code}` } });
      done(messages);
    });
  });
}
