"""The API, and an eth-account account whose key lives in it."""

import json

import botocore.session
import requests
import rlp
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from eth_account.datastructures import SignedMessage, SignedTransaction
from eth_account.signers.base import BaseAccount
from hexbytes import HexBytes


class Cloister:
    """The API at `endpoint` (`https://…`, stage included), called with the credentials that botocore finds."""

    def __init__(self, endpoint, region):
        self.endpoint = endpoint.rstrip("/")
        self.region = region
        self.session = botocore.session.Session()

    def post(self, path, body):
        """Posts `body` to a path and returns what is answered; raises the sentence of an error."""
        credentials = self.session.get_credentials()
        if credentials is None:
            raise RuntimeError("there are no AWS credentials: botocore looks in the environment, ~/.aws and the instance's metadata")
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
        """A new key as an account. Not idempotent: after a time-out a key may exist that nobody was told of."""
        key = self.post("/generate_key", {"secret": secret})
        return CloisterAccount(self, key["key_id"], key["address"], secret)


class CloisterAccount(BaseAccount):
    """Has everything signed by Cloister."""

    def __init__(self, cloister, key_id, address, secret):
        self._cloister = cloister
        self._key_id = key_id
        self._address = address
        self._secret = secret

    @property
    def address(self):
        return self._address

    def sign_transaction(self, transaction_dict):
        """Signs a transaction as web3.py makes them; amounts are wei."""
        signed = self._sign(payload(transaction_dict, self._address))
        raw = HexBytes(signed["transaction_signed"])
        # The last three items of an EIP-1559 transaction, after its type.
        v, r, s = (int.from_bytes(item) for item in rlp.decode(raw[1:])[-3:])
        return SignedTransaction(raw, HexBytes(signed["transaction_hash"]), r, s, v)

    def unsafe_sign_hash(self, message_hash):
        """Signs the hash of a UserOp, as it stands."""
        message_hash = HexBytes(message_hash)
        signature = HexBytes(self._sign({"userOpHash": message_hash.hex()})["signature"])
        r, s, v = (int.from_bytes(signature[part]) for part in (slice(0, 32), slice(32, 64), slice(64, 65)))
        return SignedMessage(message_hash, r, s, v, signature)

    def sign_message(self, signable_message):
        raise NotImplementedError("Cloister signs transactions and UserOp hashes, not messages")

    def _sign(self, transaction_payload):
        body = {"key_id": self._key_id, "secret": self._secret, "transaction_payload": transaction_payload}
        return self._cloister.post("/sign_transaction", body)


def payload(transaction, sender):
    """A transaction of web3.py as docs/api.md has it. Integers travel as decimal strings, so that none is rounded."""
    transaction = dict(transaction)
    if transaction.pop("type", 2) not in (2, "0x2"):
        raise ValueError("Cloister signs EIP-1559 transactions: give maxFeePerGas and maxPriorityFeePerGas, no gasPrice")
    integers = {"chainId": "chainId", "nonce": "nonce", "gas": "gas", "maxFeePerGas": "maxFeePerGas", "maxPriorityFeePerGas": "maxPriorityFeePerGas", "value": "valueWei"}
    fields = {"type": 2, "from": transaction.pop("from", sender), "to": transaction.pop("to", None) or None}
    fields |= {ours: str(transaction.pop(theirs)) for theirs, ours in integers.items() if theirs in transaction}
    if data := transaction.pop("data", None):
        fields["data"] = HexBytes(data).to_0x_hex()
    # What Cloister does not know it refuses by name.
    return fields | transaction
