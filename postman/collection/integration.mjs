// The integration folder: every request form and every refusal.

import { TRANSACTION, folder, request } from './request.mjs';
import { before, beforeWithLibrary, test } from './scripts.mjs';

const USER_OP = { userOpHash: '{{user_op_hash}}' };
const GENERATE = { secret: '{{secret}}' };
const IMPORT = { secret: '{{secret}}', eth_key: '{{eth_key}}' };
const sign = (payload, over = {}) => ({
  key_id: '{{key_id}}',
  secret: '{{secret}}',
  transaction_payload: payload,
  ...over,
});
const operation = (name, payload) => ({ operation: name, payload });

// The answers, form by form.
const generated = {
  flat: test((pm, cloister) => {
    const { key_id, address } = cloister.createdKey(pm, 'flat');
    pm.environment.set('key_id', key_id);
    pm.collectionVariables.set('address', address);
  }),
  wrapped: test((pm, cloister) => {
    const { key_id, address } = cloister.createdKey(pm, 'wrapped');
    pm.environment.set('key_id', key_id);
    pm.collectionVariables.set('address', address);
  }),
};
const imported = {
  flat: test((pm, cloister) => cloister.importedKey(pm, 'flat', pm.environment.get('eth_key'))),
  wrapped: test((pm, cloister) => cloister.importedKey(pm, 'wrapped', pm.environment.get('eth_key'))),
};
const transactionSigned = {
  flat: test((pm, cloister) => {
    cloister.signedTransaction(pm, 'flat', pm.collectionVariables.get('address'), {
      chainId: '4',
      nonce: '0',
      to: '0xa5D3241A1591061F2a4bB69CA0215F66520E67cf',
      value: '10000000000000000',
      gasLimit: '100000',
      maxFeePerGas: '100000000000',
      maxPriorityFeePerGas: '3000000000',
      data: '0x',
    });
  }),
  wrapped: test((pm, cloister) => {
    cloister.signedTransaction(pm, 'wrapped', pm.collectionVariables.get('address'), {
      chainId: '4',
      nonce: '0',
      to: '0xa5D3241A1591061F2a4bB69CA0215F66520E67cf',
      value: '10000000000000000',
    });
  }),
};
const hashSigned = {
  flat: test((pm, cloister) => {
    cloister.signedHash(pm, 'flat', pm.collectionVariables.get('address'), pm.environment.get('user_op_hash'));
  }),
  wrapped: test((pm, cloister) => {
    cloister.signedHash(pm, 'wrapped', pm.collectionVariables.get('address'), pm.environment.get('user_op_hash'));
  }),
};

const post = (name, path, body, event, more = []) => request(name, 'POST', path, { body, events: [...more, event] });

const routes = folder('routes', 'The path is the operation; answers are flat.', [
  post('generate a key', '/generate_key', GENERATE, generated.flat),
  post('import a key', '/set_key', IMPORT, imported.flat),
  post('sign a transaction', '/sign_transaction', sign(TRANSACTION), transactionSigned.flat),
  post(
    'sign a transaction, its amount in ether',
    '/sign_transaction',
    sign({ ...TRANSACTION, valueWei: undefined, value: 0.01 }),
    transactionSigned.flat,
  ),
  post('sign a UserOp hash', '/sign_transaction', sign(USER_OP), hashSigned.flat),
  post(
    'sign a UserOp hash, without the secret',
    '/sign_transaction',
    '{"authenticated": {{authenticated}}}',
    hashSigned.flat,
    [
      beforeWithLibrary((pm, cloister) => {
        const payload = JSON.stringify({ userOpHash: pm.environment.get('user_op_hash') });
        const [secret, keyId] = ['secret', 'key_id'].map((name) => pm.environment.get(name));
        const now = Math.floor(Date.now() / 1000);
        pm.variables.set('authenticated', JSON.stringify(cloister.authenticated(secret, keyId, now, payload)));
      }),
    ],
  ),
  request('health', 'GET', '/health', {
    events: [
      test((pm) => {
        pm.test('both services are ready', () => {
          pm.response.to.have.status(200);
          pm.expect(pm.response.json()).to.have.all.keys('signer', 'key_generator');
          pm.expect(pm.response.json().signer.ready).to.equal(true);
          pm.expect(pm.response.json().key_generator.ready).to.equal(true);
        });
      }),
    ],
  }),
  request('version', 'GET', '/version', {
    events: [
      test((pm) => {
        pm.test('the front door answers with its version', () => {
          pm.response.to.have.status(200);
          pm.expect(pm.response.json()).to.have.all.keys('service', 'version');
          pm.expect(pm.response.json().service).to.equal('front-door');
        });
      }),
    ],
  }),
]);

const operations = folder(
  'operations',
  'The body names the operation, as in a direct invoke of the function; answers are flat.',
  [
    post(
      'ethereum-key-generator_generate_key',
      '/',
      operation('ethereum-key-generator_generate_key', GENERATE),
      generated.flat,
    ),
    post('ethereum-signer_set_key', '/', operation('ethereum-signer_set_key', IMPORT), imported.flat),
    post(
      'ethereum-signer_sign_transaction',
      '/',
      operation('ethereum-signer_sign_transaction', sign(TRANSACTION)),
      transactionSigned.flat,
    ),
    post(
      'ethereum-signer_sign_transaction, a UserOp hash',
      '/',
      operation('ethereum-signer_sign_transaction', sign(USER_OP)),
      hashSigned.flat,
    ),
    post('generate_key', '/', operation('generate_key', GENERATE), generated.flat),
    post('set_key', '/', operation('set_key', IMPORT), imported.flat),
    post('sign_transaction', '/', operation('sign_transaction', sign(TRANSACTION)), transactionSigned.flat),
  ],
);

const withoutKeyId = (payload) => ({ secret: '{{secret}}', transaction_payload: payload });
const rest = folder('REST', 'The requests of the reference deployment; answers are wrapped.', [
  post('create a key', '/key', GENERATE, generated.wrapped),
  post('create a key from another one', '/key', IMPORT, imported.wrapped),
  post(
    'sign a transaction, key_id in the path',
    '/key/{{key_id}}/tx_signature',
    withoutKeyId(TRANSACTION),
    transactionSigned.wrapped,
  ),
  post(
    'sign a transaction, key_id in path and body',
    '/key/{{key_id}}/tx_signature',
    sign(TRANSACTION),
    transactionSigned.wrapped,
  ),
  post(
    'sign a UserOp hash, key_id in the path',
    '/key/{{key_id}}/userop_signature',
    withoutKeyId(USER_OP),
    hashSigned.wrapped,
  ),
  post(
    'sign a UserOp hash, key_id in path and body',
    '/key/{{key_id}}/userop_signature',
    sign(USER_OP),
    hashSigned.wrapped,
  ),
]);

const OTHER_KEY = '00000000-0000-4000-8000-000000000001';
const WRONG_SECRET = 'this-is-not-the-secret-of-this-key';
const without = (member) => Object.fromEntries(Object.entries(TRANSACTION).filter(([name]) => name !== member));
const refusal = (name, path, body, event) => post(`refused: ${name}`, path, body, event);
const payload = (over) => sign({ ...TRANSACTION, ...over });

const refusals = folder('refusals', 'Nothing of this is signed. Errors look alike in every form.', [
  refusal(
    'not JSON',
    '/generate_key',
    '{"secret": ',
    test((pm, cloister) => cloister.refused(pm, 400, 'malformed_json')),
  ),
  refusal(
    'an unknown member',
    '/generate_key',
    { ...GENERATE, colour: 'red' },
    test((pm, cloister) => cloister.refused(pm, 400, 'unknown_field', 'colour')),
  ),
  refusal(
    'a member twice',
    '/generate_key',
    '{"secret": "{{secret}}", "secret": "{{secret}}"}',
    test((pm, cloister) => cloister.refused(pm, 400, 'duplicate_field', 'secret')),
  ),
  refusal(
    'no secret',
    '/generate_key',
    {},
    test((pm, cloister) => cloister.refused(pm, 400, 'missing_field', 'secret')),
  ),
  refusal(
    'a short secret',
    '/generate_key',
    { secret: 'short' },
    test((pm, cloister) => cloister.refused(pm, 400, 'invalid_field', 'secret')),
  ),
  refusal(
    'the key 0',
    '/set_key',
    { ...IMPORT, eth_key: '0'.repeat(64) },
    test((pm, cloister) => cloister.refused(pm, 400, 'invalid_field', 'eth_key')),
  ),
  refusal(
    'no key',
    '/set_key',
    GENERATE,
    test((pm, cloister) => cloister.refused(pm, 400, 'missing_field', 'eth_key')),
  ),
  refusal(
    'a negative amount',
    '/sign_transaction',
    payload({ valueWei: undefined, value: -1 }),
    test((pm, cloister) => cloister.refused(pm, 400, 'invalid_field', 'transaction_payload.value')),
  ),
  refusal(
    'an amount twice',
    '/sign_transaction',
    payload({ value: 1 }),
    test((pm, cloister) => cloister.refused(pm, 400, 'invalid_field', 'transaction_payload.valueWei')),
  ),
  refusal(
    'a legacy transaction',
    '/sign_transaction',
    payload({ type: 0 }),
    test((pm, cloister) => cloister.refused(pm, 400, 'unsupported_transaction_type', 'transaction_payload.type')),
  ),
  refusal(
    'no recipient',
    '/sign_transaction',
    sign(without('to')),
    test((pm, cloister) => cloister.refused(pm, 400, 'missing_field', 'transaction_payload.to')),
  ),
  refusal(
    'a wrong checksum',
    '/sign_transaction',
    payload({ to: '0xA5D3241A1591061F2a4bB69CA0215F66520E67cf' }),
    test((pm, cloister) => cloister.refused(pm, 400, 'invalid_field', 'transaction_payload.to')),
  ),
  refusal(
    'a short UserOp hash',
    '/sign_transaction',
    sign({ userOpHash: '0x00' }),
    test((pm, cloister) => cloister.refused(pm, 400, 'invalid_field', 'transaction_payload.userOpHash')),
  ),
  refusal(
    'a wrong secret',
    '/sign_transaction',
    sign(TRANSACTION, { secret: WRONG_SECRET }),
    test((pm, cloister) => cloister.refused(pm, 403, 'authentication_failed')),
  ),
  refusal(
    'a wrong secret, REST',
    '/key/{{key_id}}/userop_signature',
    sign(USER_OP, { secret: WRONG_SECRET }),
    test((pm, cloister) => cloister.refused(pm, 403, 'authentication_failed')),
  ),
  refusal(
    'a key that does not exist',
    '/sign_transaction',
    sign(TRANSACTION, { key_id: OTHER_KEY }),
    test((pm, cloister) => cloister.refused(pm, 404, 'key_not_found')),
  ),
  refusal(
    'another key_id in the path',
    `/key/${OTHER_KEY}/tx_signature`,
    sign(TRANSACTION),
    test((pm, cloister) => cloister.refused(pm, 400, 'invalid_field', 'key_id')),
  ),
  refusal(
    'a UserOp hash where transactions are signed',
    '/key/{{key_id}}/tx_signature',
    sign(USER_OP),
    test((pm, cloister) => cloister.refused(pm, 400, 'invalid_field', 'transaction_payload')),
  ),
  refusal(
    'a transaction where UserOp hashes are signed',
    '/key/{{key_id}}/userop_signature',
    sign(TRANSACTION),
    test((pm, cloister) => cloister.refused(pm, 400, 'invalid_field', 'transaction_payload')),
  ),
  refusal(
    'an unknown operation',
    '/',
    operation('sign_everything', GENERATE),
    test((pm, cloister) => cloister.refused(pm, 400, 'unknown_operation', 'operation')),
  ),
  post(
    'refused: more than 320 KiB',
    '/generate_key',
    '{{large}}',
    test((pm, cloister) => cloister.refused(pm, 413, 'body_too_large')),
    [before((pm) => pm.variables.set('large', ' '.repeat(320 * 1024 + 1)))],
  ),
]);

const credentials = (over) => ({
  type: 'awsv4',
  awsv4: Object.entries({
    accessKey: '{{aws_key}}',
    secretKey: '{{aws_secret}}',
    sessionToken: '{{aws_session_token}}',
    region: '{{aws_region}}',
    service: 'execute-api',
    ...over,
  }).map(([key, value]) => ({ key, value, type: 'string' })),
});
const intruder = (name, auth, event) =>
  request(`refused: ${name}`, 'POST', '/generate_key', { body: GENERATE, auth, events: [event] });

const signatures = folder('AWS signatures', 'Refused by API Gateway, with its own bodies.', [
  intruder(
    'unsigned',
    { type: 'noauth' },
    test((pm, cloister) => cloister.refusedByGateway(pm, /^Missing Authentication Token$/)),
  ),
  intruder(
    'a wrong secret access key',
    credentials({ secretKey: 'wrong' }),
    test((pm, cloister) => cloister.refusedByGateway(pm, /signature/i)),
  ),
  intruder(
    'signed for another service',
    credentials({ service: 's3' }),
    test((pm, cloister) => cloister.refusedByGateway(pm, /execute-api/)),
  ),
  intruder(
    'an unknown access key',
    credentials({ accessKey: 'AKIAIOSFODNN7EXAMPLE' }),
    test((pm, cloister) => cloister.refusedByGateway(pm, /token/i)),
  ),
]);

export const integration = folder(
  'integration',
  'Every request form and every refusal. Creates keys; the id of the last one stays in `key_id`.',
  [routes, operations, rest, refusals, signatures],
);
