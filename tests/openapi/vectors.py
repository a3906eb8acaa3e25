"""Checks every signing vector against the schemas: its request and its answer."""

import json
import sys
from pathlib import Path

import jsonschema_rs
import yaml

ROOT = Path(__file__).resolve().parents[2]
COMPONENTS = yaml.safe_load((ROOT / "docs/openapi.yaml").read_text())["components"]
KEY_ID = "7e99e372-0eba-4001-8002-35e6a1478070"

# Refused by rules that are prose in the schema, or by the text of the JSON.
BEYOND_SCHEMAS = {
    "refused-19-decimals",
    "refused-duplicate-field",
    "refused-from-of-another-key",
    "refused-nonce-float",
    "refused-tip-above-max-fee",
    "refused-value-above-1000000-ether",
    "refused-wrong-checksum",
}


def schema(name):
    return jsonschema_rs.Draft202012Validator({"$ref": f"#/components/schemas/{name}", "components": COMPONENTS})


def problems(name, vector):
    payload = vector["transaction_payload"]
    request = {"key_id": KEY_ID, "secret": "correct horse battery staple", "transaction_payload": payload}
    of_key = "SignUserOpOfKey" if "userOpHash" in payload else "SignTransactionOfKey"
    should_hold = name in BEYOND_SCHEMAS or "code" not in vector
    for schema_name, instance in (("SignTransaction", request), (of_key, request), ("Operation", {"operation": "sign_transaction", "payload": request})):
        if schema(schema_name).is_valid(instance) != should_hold:
            yield f"{name}: the schema {schema_name} {'refuses' if should_hold else 'admits'} its request"
    yield from answer_problems(name, vector)


def answer_problems(name, vector):
    if "code" in vector:
        result = {"error": "x", "code": vector["code"], "field": vector.get("field", "x"), "retryable": False}
        answer, schema_name = {"enclave_status": 400, "enclave_result": result, "request_id": "x"}, "Error400"
    else:
        members = ("signature", "transaction_signed", "transaction_hash")
        answer, schema_name = {member: vector[member] for member in members if member in vector}, "Signed"
    for error in schema(schema_name).iter_errors(answer):
        yield f"{name}: its answer is not what the schema {schema_name} says: {error.message}"


vectors = {file.stem: json.loads(file.read_text()) for file in sorted((ROOT / "tests/vectors/signing").glob("*.json"))}
unknown = BEYOND_SCHEMAS - vectors.keys()
found = [problem for name, vector in vectors.items() for problem in problems(name, vector)]
found += [f"there is no vector {name}" for name in sorted(unknown)]
print("\n".join(found) or f"{len(vectors)} vectors agree with docs/openapi.yaml")
sys.exit(bool(found))
