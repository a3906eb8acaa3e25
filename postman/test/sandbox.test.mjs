// The library of the collection's scripts, tested with the enclaves' vectors.

import assert from 'node:assert/strict';
import { readFile, readdir } from 'node:fs/promises';
import { test } from 'node:test';

import { bundle, render } from '../build.mjs';
import { authenticated } from '../sandbox/authentication.mjs';
import { addressOf, decodeTransaction, isChecksummed, recoverSigner } from '../sandbox/ethereum.mjs';

const VECTORS = new URL('../../tests/vectors/signing/', import.meta.url);
const vectors = await Promise.all(
  (await readdir(VECTORS)).map(async (file) => JSON.parse(await readFile(new URL(file, VECTORS), 'utf8'))),
);

test('the collection matches its sources', async () => {
  const committed = await readFile(new URL('../cloister.postman_collection.json', import.meta.url), 'utf8');
  assert.equal(committed, await render(), 'run `npm run build` in postman/ and commit the result');
});

test('the library works without any of the globals that the sandbox has not', async () => {
  const names = ['TextEncoder', 'TextDecoder', 'crypto', 'process', 'require', 'Buffer'];
  const library = new Function(...names, await bundle())();
  assert.equal(library.authenticated('é', '00000000-0000-4000-8000-000000000000', 1, '{}').mac.length, 64);
});

for (const { name, eth_key, address, transaction_payload, ...expected } of vectors) {
  if (expected.code) continue;
  test(`the signer of ${name}`, () => {
    assert.equal(addressOf(eth_key).toLowerCase(), address);
    assert.ok(isChecksummed(addressOf(eth_key)));
    assert.ok(!isChecksummed(address));
    if (expected.signature) {
      assert.equal(recoverSigner(transaction_payload.userOpHash, expected.signature).toLowerCase(), address);
      assert.notEqual(recoverSigner(`0x${'11'.repeat(32)}`, expected.signature).toLowerCase(), address);
    } else {
      const { sender, hash, nonce } = decodeTransaction(expected.transaction_signed);
      assert.equal(sender.toLowerCase(), address);
      assert.equal(hash, expected.transaction_hash);
      assert.equal(Number(nonce), Number(transaction_payload.nonce));
    }
  });
}

// HKDF and HMAC by node's own cryptography.
test('a request is authenticated as the protocol specifies', async () => {
  const { createHmac, hkdfSync } = await import('node:crypto');
  const [secret, payload, timestamp] = ['correct horse battery staple', '{"userOpHash":"é"}', 1_700_000_000];
  const keyId = '7e99e372-0eba-4001-8002-35e6a1478070';
  const id = Buffer.from(keyId.replaceAll('-', ''), 'hex');
  const time = Buffer.alloc(8);
  time.writeBigUInt64BE(BigInt(timestamp));
  const field = (bytes) => {
    const length = Buffer.alloc(4);
    length.writeUInt32BE(bytes.length);
    return Buffer.concat([length, bytes]);
  };
  const canonical = ['cloister/request/v1', 'sign_transaction', id, time, payload].map((part) =>
    field(Buffer.from(part)),
  );
  const verifier = hkdfSync('sha256', secret, id, 'cloister/verifier/hmac/v1', 32);
  const mac = createHmac('sha256', Buffer.from(verifier)).update(Buffer.concat(canonical)).digest('hex');
  assert.deepEqual(authenticated(secret, keyId, timestamp, payload), { payload, key_id: keyId, timestamp, mac });
});
