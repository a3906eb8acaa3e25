// The variables of a run: an environment exported from Postman, overridden by the process's environment.

import { readFile } from 'node:fs/promises';

/** Variable of the collection → variable of the process, as `cargo local up` writes them to endpoint.env. */
const FROM_PROCESS = {
  base_url: 'CLOISTER_ENDPOINT',
  aws_region: 'AWS_REGION',
  aws_key: 'AWS_ACCESS_KEY_ID',
  aws_secret: 'AWS_SECRET_ACCESS_KEY',
  aws_session_token: 'AWS_SESSION_TOKEN',
  secret: 'CLOISTER_SECRET',
  key_id: 'CLOISTER_KEY_ID',
};
const REQUIRED = ['base_url', 'aws_region', 'aws_key', 'aws_secret'];
const TEMPLATES = {
  local: new URL('local.postman_environment.json', import.meta.url),
  deployed: new URL('deployed.postman_environment.json', import.meta.url),
};

/** The environment in Postman's form. Throws an error that names what is missing. */
export async function readEnvironment(file, variables) {
  const environment = await parse(file ?? template(variables.CLOISTER_ENDPOINT));
  const given = (key) => variables[FROM_PROCESS[key]];
  // Credentials belong together: a token of other ones would invalidate them.
  const credentials = given('aws_key') !== undefined;
  for (const entry of environment.values) {
    const process = given(entry.key) ?? (credentials && entry.key === 'aws_session_token' ? '' : undefined);
    if (process !== undefined) entry.value = process;
  }
  const value = (key) => environment.values.find((entry) => entry.key === key)?.value;
  const missing = REQUIRED.filter((key) => !value(key));
  if (missing.length > 0) {
    const names = missing.map((key) => `${key} (or the variable ${FROM_PROCESS[key]})`).join(', ');
    throw new Error(
      `${names} ${missing.length > 1 ? 'are' : 'is'} missing. For the laptop stack: start \`cargo local up\` and ` +
        '`set -a; . .cloister/local/endpoint.env; set +a`. For a deployed one: `eval "$(aws configure export-credentials --format env)"`, ' +
        'AWS_REGION and CLOISTER_ENDPOINT; or --environment FILE with an environment exported from Postman.',
    );
  }
  if (!/^https?:\/\/[^/]+/.test(value('base_url')))
    throw new Error(`base_url is ${JSON.stringify(value('base_url'))}, not a URL that starts with https:// or http://`);
  return environment;
}

/** The environment of a stack on this machine, or that of a deployment. */
function template(endpoint) {
  const local = URL.canParse(endpoint) && /^(localhost|127\.[0-9.]+|\[::1\])$/.test(new URL(endpoint).hostname);
  return local ? TEMPLATES.local : TEMPLATES.deployed;
}

async function parse(file) {
  const text = await readFile(file, 'utf8').catch((error) => {
    throw new Error(`cannot read the environment ${file}: ${error.message}`);
  });
  try {
    const environment = JSON.parse(text);
    if (Array.isArray(environment.values)) return environment;
  } catch {
    // The error below covers this, too.
  }
  throw new Error(`${file} is not an environment exported from Postman: it has no list of values`);
}
