// The load folder: a round is one UserOp hash and one transaction.

import { TRANSACTION, folder, request } from './request.mjs';
import { before, test } from './scripts.mjs';

const signBody = (payload) => ({ key_id: '{{key_id}}', secret: '{{secret}}', transaction_payload: payload });

export const load = folder(
  'load',
  'Repeats `iterations` rounds with the key `key_id` and its `secret`; without a `key_id` a key is generated first. ' +
    'Run this folder alone. Every answer is checked as in `integration`.',
  [
    request('load: a key', 'POST', '/generate_key', {
      body: { secret: '{{secret}}' },
      events: [
        before((pm) => {
          pm.collectionVariables.set('round', 0);
          if (pm.environment.get('key_id')) {
            // This key's address is unknown: the first signature reveals it, and all others must agree.
            pm.collectionVariables.set('load_address', '');
            pm.execution.skipRequest();
          }
        }),
        test((pm, cloister) => {
          const { key_id, address } = cloister.createdKey(pm, 'flat');
          pm.environment.set('key_id', key_id);
          pm.collectionVariables.set('load_address', address);
        }),
      ],
    }),
    request('load: UserOp hash', 'POST', '/sign_transaction', {
      body: signBody({ userOpHash: '{{user_op_hash}}' }),
      events: [
        test((pm, cloister) => {
          const address = pm.collectionVariables.get('load_address');
          const signer = cloister.signedHash(pm, 'flat', address, pm.environment.get('user_op_hash'));
          pm.collectionVariables.set('load_address', address || signer);
        }),
      ],
    }),
    request('load: transaction', 'POST', '/sign_transaction', {
      // Another nonce in every round, so that an answer to another request would be seen.
      body: JSON.stringify(signBody({ ...TRANSACTION, nonce: '{{round}}' }), undefined, 2),
      events: [
        test((pm, cloister) => {
          const round = Number(pm.collectionVariables.get('round'));
          cloister.signedTransaction(pm, 'flat', pm.collectionVariables.get('load_address'), {
            nonce: String(round),
            to: '0xa5D3241A1591061F2a4bB69CA0215F66520E67cf',
            value: '10000000000000000',
          });
          pm.collectionVariables.set('round', round + 1);
          pm.execution.setNextRequest(
            round + 1 < Number(pm.environment.get('iterations')) ? 'load: UserOp hash' : null,
          );
        }),
      ],
    }),
  ],
);
