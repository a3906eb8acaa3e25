// The adapter with every form of a transaction that viem passes to an account: `npm test`.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import type { TransactionSerializable } from 'viem';

import { cloisterAccount, payload } from './cloister.ts';
import type { Post } from './cloister.ts';

const ADDRESS = '0xe06C2c216fC36E2d40fB0199623032CC17b3B41b';
const FIELDS = {
  chainId: 4,
  nonce: 7,
  gas: 21_000n,
  maxFeePerGas: 2n ** 64n + 1n,
  maxPriorityFeePerGas: 0n,
  to: '0xa5D3241A1591061F2a4bB69CA0215F66520E67cf',
  value: 10n ** 16n,
} as const;
const EXPECTED = {
  type: 2,
  from: ADDRESS,
  to: FIELDS.to,
  chainId: 4,
  nonce: 7,
  gas: '21000',
  maxFeePerGas: '18446744073709551617',
  maxPriorityFeePerGas: '0',
  valueWei: '10000000000000000',
};

test('a transaction is sent with and without its type', async () => {
  const sent: unknown[] = [];
  const post = (async (_path: string, body: { transaction_payload: unknown }) => {
    sent.push(body.transaction_payload);
    return { transaction_signed: '0x02' };
  }) as Post;
  const key = { key_id: '7e99e372-0eba-4001-8002-35e6a1478070', address: ADDRESS, secret: 'secret' } as const;
  const account = cloisterAccount(post, key);
  assert.equal(await account.signTransaction({ ...FIELDS, type: 'eip1559' }), '0x02');
  assert.equal(await account.signTransaction({ ...FIELDS }), '0x02');
  assert.deepEqual(sent, [EXPECTED, EXPECTED]);
});

test('other types are refused by name', () => {
  const { chainId, nonce, gas, to } = FIELDS;
  const legacy: TransactionSerializable = { chainId, nonce, gas, to, gasPrice: 1n };
  assert.throws(() => payload(legacy, ADDRESS), /not legacy ones/);
});

test('a missing fee is named', () => {
  const { chainId, nonce, gas, to, maxFeePerGas } = FIELDS;
  assert.throws(() => payload({ chainId, nonce, gas, to, maxFeePerGas }, ADDRESS), /no maxPriorityFeePerGas/);
});
