"""A client of the API, and an eth-account account whose key lives in it."""

import json

import botocore.session
import requests
import rlp
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from eth_account.datastructures import SignedMessage, SignedTransaction
from eth_account.signers.base import BaseAccount
from eth_utils import to_checksum_address
from hexbytes import HexBytes
from web3.middleware.signing import to_account


class Cloister:
    """A client of the API at `endpoint` (`https://…`, stage included), with the credentials that botocore finds."""

    def __init__(self, endpoint, region):
        self.endpoint = endpoint.rstrip("/")
        self.region = region
        self.session = botocore.session.Session()

    def post(self, path, body):
        """Posts `body` to a path and returns the result; raises an error with the API's message."""
        credentials = self.session.get_credentials()
        if credentials is None:
            raise RuntimeError("no AWS credentials found: botocore searches the environment, ~/.aws and the instance's metadata")
        request = AWSRequest("POST", self.endpoint + path, data=json.dumps(body), headers={"content-type": "application/json"})
        SigV4Auth(credentials, "execute-api", self.region).add_auth(request)
        prepared = request.prepare()
        answer = requests.post(prepared.url, data=prepared.body, headers=dict(prepared.headers), timeout=35)
        result = answer.json()
        if answer.status_code == 200:
            return result
        if "enclave_result" in result:
            error = result["enclave_result"]
            raise RuntimeError(f"refused with {answer.status_code}: {error['error']} ({error['code']}, request {result['request_id']})")
        raise RuntimeError(f"refused by API Gateway with {answer.status_code}: {result['message']}")

    def generate_key(self, secret):
        """A new key as an account. Not idempotent: a request that times out may still have created a key."""
        key = self.post("/generate_key", {"secret": secret})
        return CloisterAccount(self, key["key_id"], key["address"], secret)


class CloisterAccount(BaseAccount):
    """An account that signs with a key in Cloister. web3.py's signing middleware accepts it."""

    def __init__(self, cloister, key_id, address, secret):
        self._cloister = cloister
        self._key_id = key_id
        self._address = address
        self._secret = secret

    @property
    def address(self):
        return self._address

    def sign_transaction(self, transaction_dict):
        """Signs a transaction of web3.py; amounts are wei."""
        signed = self._sign(payload(transaction_dict, self._address))
        raw = HexBytes(signed["transaction_signed"])
        # The last three items of an EIP-1559 transaction, after its type.
        v, r, s = (int.from_bytes(item) for item in rlp.decode(raw[1:])[-3:])
        return SignedTransaction(raw, HexBytes(signed["transaction_hash"]), r, s, v)

    def unsafe_sign_hash(self, message_hash):
        """Signs the hash of a UserOp, without prefix or further hashing."""
        message_hash = HexBytes(message_hash)
        signature = HexBytes(self._sign({"userOpHash": message_hash.hex()})["signature"])
        r, s, v = (int.from_bytes(signature[part]) for part in (slice(0, 32), slice(32, 64), slice(64, 65)))
        return SignedMessage(message_hash, r, s, v, signature)

    def sign_message(self, signable_message):
        raise NotImplementedError("Cloister signs transactions and UserOp hashes, not messages")

    def _sign(self, transaction_payload):
        body = {"key_id": self._key_id, "secret": self._secret, "transaction_payload": transaction_payload}
        return self._cloister.post("/sign_transaction", body)


# SignAndSendRawMiddlewareBuilder.build(account)
to_account.register(CloisterAccount, lambda account: account)

# Members of a web3.py transaction that are integers, and their names in docs/api.md.
INTEGERS = {
    "chainId": "chainId",
    "nonce": "nonce",
    "gas": "gas",
    "maxFeePerGas": "maxFeePerGas",
    "maxPriorityFeePerGas": "maxPriorityFeePerGas",
    "value": "valueWei",
}


def payload(transaction, sender):
    """A web3.py transaction in the form of docs/api.md. Integers travel as decimal strings, so that none is rounded."""
    transaction = dict(transaction)
    if integer(transaction.pop("type", 2)) != 2:
        raise ValueError("Cloister signs EIP-1559 transactions: give maxFeePerGas and maxPriorityFeePerGas, no gasPrice")
    fields = {"type": 2, "from": address(transaction.pop("from", sender)), "to": address(transaction.pop("to", None))}
    fields |= {ours: str(integer(transaction.pop(theirs))) for theirs, ours in INTEGERS.items() if theirs in transaction}
    if data := transaction.pop("data", None):
        fields["data"] = HexBytes(data).to_0x_hex()
    # Cloister refuses other members by name.
    return fields | transaction


def integer(value):
    """An integer, or its text in decimal or 0x-hex."""
    return int(value, 0) if isinstance(value, str) else int(value)


def address(value):
    """An address as text, also of 20 bytes; None creates a contract."""
    if not value:
        return None
    return to_checksum_address(value) if isinstance(value, (bytes, bytearray)) else value
