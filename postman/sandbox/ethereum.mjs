// Signers and transactions, computed from the answer alone.

import { secp256k1 } from '@noble/curves/secp256k1.js';
import { hexToBytes } from '@noble/hashes/utils.js';
import { Transaction, addr } from 'micro-eth-signer';

/** The fields of a signed transaction (its EIP-2718 encoding, 0x-hex), its sender and its hash. */
export function decodeTransaction(encoded) {
  // Not strict: strict decoding refuses large amounts and gas, which are valid.
  const transaction = Transaction.fromHex(encoded, false);
  return { type: transaction.type, ...transaction.raw, sender: transaction.sender, hash: transaction.hash };
}

/** The address whose key made `signature` (0x-hex of r, s and v = 27 or 28) over exactly `hash`. */
export function recoverSigner(hash, signature) {
  const bytes = hexToBytes(unprefixed(signature));
  const { Signature } = secp256k1;
  const point = Signature.fromBytes(bytes.slice(0, 64))
    .addRecoveryBit(bytes[64] - 27)
    .recoverPublicKey(hexToBytes(unprefixed(hash)));
  return addr.fromPublicKey(point.toBytes());
}

/** The address of a private key, hex with or without 0x. */
export const addressOf = (privateKey) => addr.fromPrivateKey(unprefixed(privateKey));

/** Whether an address has its EIP-55 checksum. */
export const isChecksummed = (address) => addr.addChecksum(address) === address;

const unprefixed = (hex) => hex.replace(/^0x/, '');
