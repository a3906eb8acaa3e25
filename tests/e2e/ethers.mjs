// Signs transactions with ethers: `node ethers.mjs MODULES < {"eth_key", "transactions": […]}` prints {"address", "signed": […]}.
import { createRequire } from 'node:module';
import { readFileSync } from 'node:fs';

const require = createRequire(`${process.argv[2]}/`);
const { Wallet, getAddress } = require('ethers');

const { eth_key, transactions } = JSON.parse(readFileSync(0, 'utf8'));
const wallet = new Wallet(eth_key);
const signed = [];
for (const transaction of transactions) {
  signed.push(await wallet.signTransaction(transaction));
}
process.stdout.write(JSON.stringify({ address: getAddress(wallet.address), signed }));
