// Sends ether from a key in Cloister.

import { randomBytes } from 'node:crypto';

import {
  createPublicClient,
  createTestClient,
  createWalletClient,
  http,
  keccak256,
  parseEther,
  recoverAddress,
  toHex,
} from 'viem';
import type { Address, Chain } from 'viem';
import { foundry } from 'viem/chains';

import { cloister, cloisterAccount, generateKey } from './cloister.ts';
import type { Key, Post } from './cloister.ts';

const RECIPIENT = '0xa5D3241A1591061F2a4bB69CA0215F66520E67cf';

const post = cloister(variable('CLOISTER_ENDPOINT'), variable('AWS_REGION'));
const transport = http(variable('CLOISTER_CHAIN_RPC'));
const chain: Chain = { ...foundry, id: await createPublicClient({ transport }).getChainId() };
const reader = createPublicClient({ chain, transport });

const account = cloisterAccount(post, await key(post));
console.log(`address       ${account.address}`);
await fund(account.address);

const wallet = createWalletClient({ account, chain, transport });
const hash = await wallet.sendTransaction({ to: RECIPIENT, value: parseEther('0.01') });
const receipt = await reader.waitForTransactionReceipt({ hash });
if (receipt.status !== 'success' || receipt.from !== account.address.toLowerCase())
  throw new Error(`${hash} failed on the chain`);
console.log(`transaction   ${hash} in block ${receipt.blockNumber}`);

const userOpHash = keccak256(toHex('in place of the result of EntryPoint.getUserOpHash'));
const signature = await account.sign?.({ hash: userOpHash });
if (!signature || (await recoverAddress({ hash: userOpHash, signature })) !== account.address)
  throw new Error('the UserOp hash was signed by another key');
console.log(`UserOp hash   signed: ${signature}`);

/** The key that the environment names, or a new one. */
async function key(api: Post): Promise<Key> {
  const { CLOISTER_KEY_ID: key_id, CLOISTER_ADDRESS: address, CLOISTER_SECRET: secret } = process.env;
  if (key_id && address && secret) return { key_id, address: address as Address, secret };
  return generateKey(api, randomBytes(32).toString('hex'));
}

/** Gives the address ether on a development chain. */
async function fund(address: Address): Promise<void> {
  if ((await reader.getBalance({ address })) > 0n) return;
  await createTestClient({ chain, mode: 'anvil', transport })
    .setBalance({ address, value: parseEther('1') })
    .catch(() => {
      throw new Error(
        `${address} has no ether on chain ${chain.id}: name a key that has with CLOISTER_KEY_ID, CLOISTER_ADDRESS and CLOISTER_SECRET`,
      );
    });
}

function variable(name: string): string {
  const value = process.env[name];
  if (!value) throw new Error(`set ${name}: \`cargo local up\` writes it to .cloister/local/endpoint.env`);
  return value;
}
