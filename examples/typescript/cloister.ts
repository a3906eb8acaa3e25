// A client of the API, and a viem account whose key lives in it.

import { Sha256 } from '@aws-crypto/sha256-js';
import { defaultProvider } from '@aws-sdk/credential-provider-node';
import { SignatureV4 } from '@smithy/signature-v4';
import { getTransactionType } from 'viem';
import type { Address, Hex, LocalAccount, TransactionSerializable, TransactionSerializableEIP1559 } from 'viem';
import { toAccount } from 'viem/accounts';

/** A wallet key and its secret. */
export interface Key {
  readonly key_id: string;
  readonly address: Address;
  readonly secret: string;
}

/** Posts `body` to a path of the API and returns the result; throws an error with the API's message. */
export type Post = <Result>(path: string, body: object) => Promise<Result>;

/** A client of the API at `endpoint` (`https://…`, stage included), with the credentials that the AWS SDK finds. */
export function cloister(endpoint: string, region: string): Post {
  const signer = new SignatureV4({ service: 'execute-api', region, credentials: defaultProvider(), sha256: Sha256 });
  return async (path, body) => {
    const url = new URL(`${endpoint.replace(/\/+$/, '')}${path}`);
    const signed = await signer.sign({
      method: 'POST',
      protocol: url.protocol,
      hostname: url.hostname,
      port: url.port ? Number(url.port) : undefined,
      path: url.pathname,
      query: {},
      headers: { host: url.host, 'content-type': 'application/json' },
      body: JSON.stringify(body),
    });
    // fetch sets `host` itself.
    const { host: _, ...headers } = signed.headers;
    const response = await fetch(url, { method: 'POST', headers, body: signed.body });
    return result(response.status, await response.json());
  };
}

/** A new key. Not idempotent: a request that times out may still have created a key. */
export async function generateKey(post: Post, secret: string): Promise<Key> {
  const key = await post<Omit<Key, 'secret'>>('/generate_key', { secret });
  return { ...key, secret };
}

/** A viem account that signs with a key in Cloister. */
export function cloisterAccount(post: Post, key: Key): LocalAccount {
  const sign = <Result>(transaction_payload: object) =>
    post<Result>('/sign_transaction', { key_id: key.key_id, secret: key.secret, transaction_payload });
  return toAccount({
    address: key.address,
    async signTransaction(transaction) {
      const { transaction_signed } = await sign<{ transaction_signed: Hex }>(payload(transaction, key.address));
      return transaction_signed;
    },
    /** Signs the hash of a UserOp, without prefix or further hashing. */
    async sign({ hash }) {
      const { signature } = await sign<{ signature: Hex }>({ userOpHash: hash });
      return signature;
    },
    signMessage: () => refused('messages'),
    signTypedData: () => refused('typed data'),
  });
}

/**
 * A viem transaction in the form of docs/api.md. Without a type the fields decide, as in viem's own accounts. Amounts
 * are wei and travel as decimal strings, so that none is rounded.
 */
export function payload(transaction: TransactionSerializable, from: Address): object {
  const type = getTransactionType(transaction);
  if (type !== 'eip1559') throw new Error(`Cloister signs EIP-1559 transactions, not ${type} ones`);
  const { chainId, nonce, gas, maxFeePerGas, maxPriorityFeePerGas, to, value, data, accessList } =
    transaction as TransactionSerializableEIP1559;
  return {
    type: 2,
    from,
    to: to ?? null,
    chainId,
    nonce,
    gas: decimal('gas', gas),
    maxFeePerGas: decimal('maxFeePerGas', maxFeePerGas),
    maxPriorityFeePerGas: decimal('maxPriorityFeePerGas', maxPriorityFeePerGas),
    valueWei: String(value ?? 0n),
    ...(data && { data }),
    ...(accessList && { accessList }),
  };
}

function decimal(name: string, value: bigint | undefined): string {
  if (value === undefined) throw new Error(`the transaction has no ${name}`);
  return String(value);
}

interface ErrorBody {
  readonly enclave_result?: { readonly error: string; readonly code: string };
  readonly request_id?: string;
  readonly message?: string;
}

function result<Result>(status: number, body: unknown): Result {
  if (status === 200) return body as Result;
  const { enclave_result, request_id, message } = body as ErrorBody;
  const sentence = enclave_result
    ? `${enclave_result.error} (${enclave_result.code}, request ${request_id})`
    : `API Gateway: ${message}`;
  throw new Error(`refused with ${status}: ${sentence}`);
}

function refused(what: string): never {
  throw new Error(`Cloister signs transactions and UserOp hashes, not ${what}`);
}
