// The assertions of the collection's test scripts. Each function takes Postman's `pm`.

import { addressOf, decodeTransaction, isChecksummed, recoverSigner } from './ethereum.mjs';

/** The answer to the generation of a key; returns `{key_id, address}`. */
export function createdKey(pm, form) {
  const { key_id, address } = success(pm, form, ['key_id', 'address']);
  pm.test('the key has a lower-case UUID and a checksummed address', () => {
    pm.expect(key_id).to.match(/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/);
    pm.expect(isChecksummed(address), address).to.equal(true);
  });
  return { key_id, address };
}

/** The answer to the import of a key: as that of a generation, and the address is the key's. */
export function importedKey(pm, form, privateKey) {
  const key = createdKey(pm, form);
  pm.test('the address is that of the imported key', () => pm.expect(key.address).to.equal(addressOf(privateKey)));
  return key;
}

/** A signed transaction: its fields are the ones asked for (integers as decimal text), its sender is `address`. */
export function signedTransaction(pm, form, address, asked) {
  const names = form === 'wrapped' ? ['tx_signed', 'tx_hash'] : ['transaction_signed', 'transaction_hash'];
  const result = success(pm, form, names);
  const [signed, hash] = names.map((name) => result[name]);
  pm.test('the transaction is hex, without 0x in the wrapped form', () => {
    pm.expect(signed).to.match(form === 'wrapped' ? /^02[0-9a-f]+$/ : /^0x02[0-9a-f]+$/);
    pm.expect(hash).to.match(/^0x[0-9a-f]{64}$/);
  });
  pm.test('its sender is the key, its fields are the ones asked for', () => {
    const transaction = decodeTransaction(form === 'wrapped' ? `0x${signed}` : signed);
    pm.expect(transaction.sender).to.equal(address);
    pm.expect(transaction.hash).to.equal(hash);
    for (const [name, value] of Object.entries(asked)) {
      pm.expect(String(transaction[name]), name).to.equal(value);
    }
  });
}

/** A signature over exactly `hash`, by the key of `address`, or by any when that is empty; returns the signer. */
export function signedHash(pm, form, address, hash) {
  const { signature } = success(pm, form, ['signature']);
  pm.test('the signature has 65 bytes and ends in 27 or 28', () => {
    pm.expect(signature).to.match(/^0x[0-9a-f]{128}(1b|1c)$/);
  });
  let signer = '';
  pm.test('its signer is the key', () => {
    signer = recoverSigner(hash, signature);
    pm.expect(signer).to.equal(address || signer);
  });
  return signer;
}

/** An error of Cloister: status, code and, where one is at fault, the member. */
export function refused(pm, status, code, field) {
  pm.test(`refused with ${status} ${code}`, () => {
    pm.response.to.have.status(status);
    const body = pm.response.json();
    pm.expect(body).to.have.all.keys('enclave_status', 'enclave_result', 'request_id');
    pm.expect(body.enclave_status).to.equal(status);
    pm.expect(body.request_id).to.be.a('string').that.is.not.empty;
    const { error, code: given, field: named, retryable } = body.enclave_result;
    pm.expect(given).to.equal(code);
    pm.expect(error).to.be.a('string').that.is.not.empty;
    pm.expect(retryable).to.be.a('boolean');
    pm.expect(named).to.equal(field);
  });
}

/**
 * Ends the run if API Gateway refused a request that should succeed: wrong credentials refuse all others, too, and
 * AWS's message is clearer than their assertions.
 */
function stopIfRefusedByGateway(pm) {
  if (pm.response.code !== 403) return;
  const { message, enclave_status } = pm.response.json();
  if (message === undefined || enclave_status !== undefined) return;
  pm.execution.setNextRequest(null);
  throw new Error(`API Gateway refused the request with 403: ${message}`);
}

/** An error of API Gateway itself, in AWS's form. */
export function refusedByGateway(pm, message) {
  pm.test('refused by API Gateway with 403', () => {
    pm.response.to.have.status(403);
    const body = pm.response.json();
    pm.expect(Object.keys(body)).to.eql(['message']);
    pm.expect(body.message).to.match(message);
  });
}

/** A success in the caller's form with at least these members; returns them. */
function success(pm, form, names) {
  stopIfRefusedByGateway(pm);
  let result = {};
  pm.test(`answered with 200, ${form}, with ${names.join(' and ')}`, () => {
    pm.response.to.have.status(200);
    pm.expect(pm.response.headers.get('content-type')).to.match(/^application\/json/);
    const body = pm.response.json();
    if (form === 'wrapped') {
      pm.expect(body).to.have.all.keys('enclave_status', 'enclave_result');
      pm.expect(body.enclave_status).to.equal(200);
    }
    const given = form === 'wrapped' ? body.enclave_result : body;
    pm.expect(given).to.include.all.keys(...names);
    result = given;
  });
  return result;
}
