"""Hooks of schemathesis on the laptop stack: sign requests, and apply the rules that a schema cannot express."""

import hashlib
import hmac
import json
import os
import struct
import time
import uuid
from decimal import Decimal

import botocore.auth
import botocore.awsrequest
import botocore.credentials
import requests
import schemathesis
from schemathesis import GenerationMode

ENDPOINT = os.environ["CLOISTER_ENDPOINT"]
SECRET = "correct horse battery staple"
USER_OP_HASH = {"userOpHash": "11" * 32}


class SigV4(requests.auth.AuthBase):
    """AWS Signature Version 4 for `execute-api`, by botocore."""

    def __init__(self):
        self.credentials = botocore.credentials.Credentials(
            os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"], os.environ.get("AWS_SESSION_TOKEN")
        )

    def __call__(self, request):
        # Generated headers may be of any kind: only those that API Gateway requires are signed.
        signed = botocore.awsrequest.AWSRequest(request.method, request.url, data=request.body)
        botocore.auth.SigV4Auth(self.credentials, "execute-api", os.environ["AWS_REGION"]).add_auth(signed)
        request.headers.update(dict(signed.headers))
        return request


schemathesis.auth.set_from_requests(SigV4())


def create_key():
    answer = requests.post(f"{ENDPOINT}/generate_key", json={"secret": SECRET}, auth=SigV4(), timeout=30)
    answer.raise_for_status()
    return answer.json()


KEY = create_key()


@schemathesis.hook
def before_call(context, case, **kwargs):
    """Makes a valid request one that succeeds: with a key that exists, and within the rules that no schema expresses."""
    if case.meta is None or case.meta.generation.mode is not GenerationMode.POSITIVE:
        return
    if "key_id" in (case.path_parameters or {}):
        case.path_parameters["key_id"] = KEY["key_id"]
    if isinstance(case.body, dict):
        case.body = acceptable(case.body, case.operation.path)


def acceptable(body, path):
    if "payload" in body:
        return {**body, "payload": acceptable(body["payload"], path)}
    if "authenticated" in body:
        return {"authenticated": authenticated(payload_for(path))}
    if "transaction_payload" in body:
        payload = body["transaction_payload"]
        key = {"key_id": KEY["key_id"]} if "key_id" in body else {}
        return {"secret": SECRET, **key, "transaction_payload": payload if "userOpHash" in payload else transaction(payload)}
    return body


def transaction(fields):
    """The rules of a transaction that are prose in the schema."""
    # JSON Schema calls 2.0 an integer.
    fields = {name: int(value) if name != "value" and isinstance(value, float) else value for name, value in fields.items()}
    for name, limit in (("chainId", 2**64), ("nonce", 2**64 - 1), ("gas", 2**64), ("gasLimit", 2**64), ("maxFeePerGas", 2**128), ("maxPriorityFeePerGas", 2**128)):
        if name in fields and number(fields[name]) >= limit:
            fields[name] = limit - 1
    if number(fields["maxPriorityFeePerGas"]) > number(fields["maxFeePerGas"]):
        fields["maxPriorityFeePerGas"] = fields["maxFeePerGas"]
    if isinstance(fields.get("value"), float):
        fields["value"] = float(Decimal(fields["value"]).quantize(Decimal("1e-6")))
    if fields["to"] is not None:
        fields["to"] = fields["to"].lower()
    if "from" in fields:
        fields["from"] = KEY["address"]
    if "accessList" in fields:
        fields["accessList"] = [access_list_item(item) for item in fields["accessList"]]
    return fields


def access_list_item(item):
    """Lower case has no checksum to be wrong."""
    if isinstance(item, dict):
        return {**item, "address": item["address"].lower()}
    address, storage_keys = item
    return [address.lower(), storage_keys]


def number(value):
    return value if isinstance(value, int) else int(value, 16 if value.startswith("0x") else 10)


def payload_for(path):
    if not path.endswith("/tx_signature"):
        return json.dumps(USER_OP_HASH)
    fields = {"type": 2, "chainId": 1, "nonce": 0, "gas": 21000, "maxFeePerGas": 1, "maxPriorityFeePerGas": 0, "to": "0x" + "00" * 20}
    return json.dumps(fields)


def authenticated(payload):
    """crates/protocol/SPEC.md §4."""
    key_id, timestamp = uuid.UUID(KEY["key_id"]).bytes, int(time.time())
    # HKDF-SHA256 (RFC 5869) with one block of output.
    extracted = hmac.digest(key_id, SECRET.encode(), "sha256")
    verifier = hmac.digest(extracted, b"cloister/verifier/hmac/v1\x01", "sha256")
    fields = (b"cloister/request/v1", b"sign_transaction", key_id, struct.pack(">Q", timestamp), payload.encode())
    canonical = b"".join(struct.pack(">I", len(field)) + field for field in fields)
    mac = hmac.new(verifier, canonical, hashlib.sha256).hexdigest()
    return {"payload": payload, "key_id": KEY["key_id"], "timestamp": timestamp, "mac": mac}
