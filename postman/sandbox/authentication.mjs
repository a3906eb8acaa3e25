// The authenticated form of a request (crates/protocol/SPEC.md §4), which does not send the secret.

import { hkdf } from '@noble/hashes/hkdf.js';
import { hmac } from '@noble/hashes/hmac.js';
import { sha256 } from '@noble/hashes/sha2.js';
import { bytesToHex, concatBytes, hexToBytes, utf8ToBytes } from '@noble/hashes/utils.js';

/** `payload` is the text of the transaction payload, `timestamp` is in seconds since the Unix epoch. */
export function authenticated(secret, keyId, timestamp, payload) {
  const id = hexToBytes(keyId.replace(/-/g, ''));
  const verifier = hkdf(sha256, utf8ToBytes(secret), id, utf8ToBytes('cloister/verifier/hmac/v1'), 32);
  const fields = [
    utf8ToBytes('cloister/request/v1'),
    utf8ToBytes('sign_transaction'),
    id,
    u64(timestamp),
    utf8ToBytes(payload),
  ];
  const canonical = concatBytes(...fields.flatMap((field) => [u32(field.length), field]));
  return { payload, key_id: keyId, timestamp, mac: bytesToHex(hmac(sha256, verifier, canonical)) };
}

const u32 = (number) => hexToBytes(number.toString(16).padStart(8, '0'));
const u64 = (number) => hexToBytes(number.toString(16).padStart(16, '0'));
