"""The adapter with every form of a transaction that web3.py makes: `python -m unittest`."""

import unittest

from eth_account import Account
from web3 import Web3
from web3.middleware import SignAndSendRawMiddlewareBuilder
from web3.providers.base import BaseProvider

from cloister import CloisterAccount, payload

RECIPIENT = "0xa5D3241A1591061F2a4bB69CA0215F66520E67cf"
TRANSACTION = {
    "chainId": 4,
    "nonce": 7,
    "to": RECIPIENT,
    "value": 10**16,
    "gas": 21_000,
    "maxFeePerGas": 2**64 + 1,
    "maxPriorityFeePerGas": 0,
}
# A published key: never use it for money.
LOCAL = Account.from_key("0x6835311872e1c63b50a8edd16605e2253c2a9c58ef9bf41f1d1c0c724981931a")


class Api:
    """Stands in for the API: signs what it is sent with a local key."""

    def __init__(self):
        self.payloads = []

    def post(self, path, body):
        assert path == "/sign_transaction"
        sent = body["transaction_payload"]
        self.payloads.append(sent)
        names = {"valueWei": "value", "type": "type", "to": "to"}
        numbers = {names.get(name, name): int(value) for name, value in sent.items() if name not in ("from", "to", "data")}
        signed = LOCAL.sign_transaction({**numbers, "to": sent["to"], "data": sent.get("data", "0x")})
        return {"transaction_signed": signed.raw_transaction.to_0x_hex(), "transaction_hash": signed.hash.to_0x_hex()}


class Node(BaseProvider):
    """A node that remembers raw transactions."""

    def __init__(self):
        super().__init__()
        self.sent = []

    def make_request(self, method, params):
        answers = {
            "eth_chainId": "0x4",
            "eth_getTransactionCount": "0x7",
            "eth_estimateGas": "0x5208",
            "eth_maxPriorityFeePerGas": "0x1",
            "eth_getBlockByNumber": {"baseFeePerGas": "0x2", "gasLimit": "0x1c9c380", "number": "0x1"},
            "eth_gasPrice": "0x3",
        }
        if method == "eth_sendRawTransaction":
            self.sent.append(params[0])
            return {"jsonrpc": "2.0", "id": 1, "result": "0x" + "11" * 32}
        return {"jsonrpc": "2.0", "id": 1, "result": answers[method]}


class Transactions(unittest.TestCase):
    expected = payload(TRANSACTION, LOCAL.address)

    def test_amounts_travel_as_wei_in_decimal_text(self):
        self.assertEqual(self.expected["valueWei"], str(10**16))
        self.assertEqual(self.expected["maxFeePerGas"], str(2**64 + 1))
        self.assertNotIn("value", self.expected)

    def test_every_spelling_of_the_type_is_read(self):
        for spelling in (2, "0x2", "0x02", "2"):
            self.assertEqual(payload({**TRANSACTION, "type": spelling}, LOCAL.address), self.expected)
        for other in (0, "0x1", 3):
            with self.assertRaises(ValueError):
                payload({**TRANSACTION, "type": other}, LOCAL.address)

    def test_a_recipient_of_bytes_is_read(self):
        recipient = bytes.fromhex(RECIPIENT[2:])
        self.assertEqual(payload({**TRANSACTION, "to": recipient}, LOCAL.address), self.expected)
        for creation in (None, "", b""):
            self.assertIsNone(payload({**TRANSACTION, "to": creation}, LOCAL.address)["to"])

    def test_integers_as_hex_text_are_read(self):
        as_hex = {name: hex(value) if isinstance(value, int) else value for name, value in TRANSACTION.items()}
        self.assertEqual(payload(as_hex, LOCAL.address), self.expected)

    def test_web3s_signing_middleware_takes_the_account(self):
        api, node = Api(), Node()
        account = CloisterAccount(api, "7e99e372-0eba-4001-8002-35e6a1478070", LOCAL.address, "secret")
        web3 = Web3(node)
        web3.middleware_onion.inject(SignAndSendRawMiddlewareBuilder.build(account), layer=0)
        for recipient in (RECIPIENT, bytes.fromhex(RECIPIENT[2:])):
            web3.eth.send_transaction({"from": account.address, "to": recipient, "value": 10**16})
            self.assertEqual(api.payloads[-1]["to"], RECIPIENT)
            self.assertEqual(api.payloads[-1]["valueWei"], str(10**16))
            self.assertEqual(Account.recover_transaction(node.sent[-1]), account.address)


if __name__ == "__main__":
    unittest.main()
