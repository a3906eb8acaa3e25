"""Sends ether from a key in Cloister."""

import os
import secrets
import sys

from eth_keys import keys
from web3 import Web3

from cloister import Cloister, CloisterAccount

RECIPIENT = "0xa5D3241A1591061F2a4bB69CA0215F66520E67cf"


def main():
    cloister = Cloister(variable("CLOISTER_ENDPOINT"), variable("AWS_REGION"))
    chain = Web3(Web3.HTTPProvider(variable("CLOISTER_CHAIN_RPC")))
    account = account_of(cloister)
    print(f"address       {account.address}")
    fund(chain, account.address)

    tip = chain.eth.max_priority_fee
    signed = account.sign_transaction(
        {
            "chainId": chain.eth.chain_id,
            "nonce": chain.eth.get_transaction_count(account.address),
            "to": RECIPIENT,
            "value": Web3.to_wei("0.01", "ether"),
            "gas": 21_000,
            "maxPriorityFeePerGas": tip,
            "maxFeePerGas": 2 * chain.eth.get_block("latest")["baseFeePerGas"] + tip,
        }
    )
    transaction = chain.eth.send_raw_transaction(signed.raw_transaction)
    receipt = chain.eth.wait_for_transaction_receipt(transaction)
    if receipt["status"] != 1 or receipt["from"] != account.address or transaction != signed.hash:
        sys.exit(f"{transaction.to_0x_hex()} failed on the chain")
    print(f"transaction   {transaction.to_0x_hex()} in block {receipt['blockNumber']}")

    user_op_hash = Web3.keccak(text="in place of the result of EntryPoint.getUserOpHash")
    signed = account.unsafe_sign_hash(user_op_hash)
    signer = keys.Signature(vrs=(signed.v - 27, signed.r, signed.s)).recover_public_key_from_msg_hash(user_op_hash)
    if signer.to_checksum_address() != account.address:
        sys.exit("the UserOp hash was signed by another key")
    print(f"UserOp hash   signed: {signed.signature.to_0x_hex()}")


def account_of(cloister):
    """The key that the environment names, or a new one."""
    named = [os.environ.get(name) for name in ("CLOISTER_KEY_ID", "CLOISTER_ADDRESS", "CLOISTER_SECRET")]
    return CloisterAccount(cloister, *named) if all(named) else cloister.generate_key(secrets.token_hex(32))


def fund(chain, address):
    """Gives the address ether on a development chain."""
    if chain.eth.get_balance(address) > 0:
        return
    answer = chain.provider.make_request("anvil_setBalance", [address, hex(Web3.to_wei(1, "ether"))])
    if "error" in answer:
        names = "CLOISTER_KEY_ID, CLOISTER_ADDRESS and CLOISTER_SECRET"
        sys.exit(f"{address} has no ether on chain {chain.eth.chain_id}: name a key that has with {names}")


def variable(name):
    value = os.environ.get(name)
    return value or sys.exit(f"set {name}: `cargo local up` writes it to .cloister/local/endpoint.env")


main()
