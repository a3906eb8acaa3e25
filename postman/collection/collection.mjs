// The collection: variables, signing, and the script before every request.

import { integration } from './integration.mjs';
import { load } from './load.mjs';
import { before } from './scripts.mjs';

/** The collection in Postman's format 2.1; `library` is the text of its scripts' library. */
export const collection = (library) => ({
  info: {
    _postman_id: '7b0f3a52-0c52-4d0c-9d6f-2f0a4c1b5e11',
    name: 'Cloister',
    description:
      'Generates, imports and uses Ethereum keys through the REST API, and checks every answer: status, shape and who signed.\n\n' +
      'Choose the environment `Cloister (local)` or `Cloister (deployed)` and fill in what is empty. `integration` tests every request form and every refusal; ' +
      '`load` repeats `iterations` rounds of one UserOp and one transaction signature.\n\n' +
      'This file is made from `postman/collection` and `postman/sandbox`.',
    schema: 'https://schema.getpostman.com/json/collection/v2.1.0/collection.json',
  },
  // https://docs.aws.amazon.com/apigateway/latest/developerguide/permissions.html
  auth: {
    type: 'awsv4',
    awsv4: [
      ['accessKey', '{{aws_key}}'],
      ['secretKey', '{{aws_secret}}'],
      ['sessionToken', '{{aws_session_token}}'],
      ['region', '{{aws_region}}'],
      ['service', 'execute-api'],
    ].map(([key, value]) => ({ key, value, type: 'string' })),
  },
  event: [before(prepare)],
  variable: [{ key: 'cloister_js', value: library, type: 'string' }],
  item: [integration, load],
});

const prepare = (pm) => {
  // A stage's URL is often copied with a slash at its end.
  pm.environment.set('base_url', (pm.environment.get('base_url') || '').replace(/\/+$/, ''));
  // An empty secret or key to import becomes a random one: a GUID has 122 random bits.
  for (const name of ['secret', 'eth_key']) {
    if (!pm.environment.get(name)) {
      pm.environment.set(name, pm.variables.replaceIn('{{$guid}}{{$guid}}').replace(/-/g, ''));
    }
  }
};
