"""Claims: valid in-toto statements in DSSE envelopes, read by parsers that are not ours; a changed claim is refused."""

import base64
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from google.protobuf import json_format
from in_toto_attestation.predicates.test_result.v0 import test_result_pb2
from in_toto_attestation.v1 import statement_pb2
from in_toto_attestation.v1.statement import Statement
from securesystemslib.dsse import Envelope
from securesystemslib.signer import SSlibKey

from tuneline.errors import SignatureError
from tuneline.proofs import claims, keys
from tuneline.proofs.keys import PrivateKey

SHA256 = "ab" * 32
RULE = {"metric": "bits_per_byte", "direction": "lower", "versus": "base", "margin": 0.01, "reason": "因为 1.2 < 1.3"}
GATE = {
    "verdict": "undecided",
    "rules": [RULE | {"verdict": "passed"}, RULE | {"verdict": "undecided", "metric": "chrf"}],
}


def made() -> dict:
    return claims.statement(
        claims.TEST_RESULT, {"model.safetensors": SHA256, "model/": "cd" * 32}, claims.gate_result(GATE)
    )


def test_a_statement_is_read_by_in_toto() -> None:
    parsed = json_format.Parse(json.dumps(made()), statement_pb2.Statement())
    Statement.copy_from_pb(parsed).validate()
    assert [(one.name, dict(one.digest)) for one in parsed.subject] == [
        ("model.safetensors", {"sha256": SHA256}),
        ("model/", {"tunelineFolderSha256": "cd" * 32}),
    ]
    result = json_format.ParseDict(json_format.MessageToDict(parsed.predicate), test_result_pb2.TestResult())
    assert (result.result, list(result.passed_tests), list(result.warned_tests), list(result.failed_tests)) == (
        "WARNED",
        ["bits_per_byte versus base: 因为 1.2 < 1.3"],
        ["chrf versus base: 因为 1.2 < 1.3"],
        [],
    )
    assert dict(result.configuration[0].annotations) == {
        "metric": "bits_per_byte",
        "direction": "lower",
        "versus": "base",
        "margin": 0.01,
    }


@pytest.mark.parametrize(
    ("kind", "predicate"),
    [
        (claims.TEST_RESULT, {"result": "PASSED", "passed": []}),
        (claims.TEST_RESULT, {"result": 5}),
        (claims.PROVENANCE, {"buildDefinition": {"buildType": "x", "externalParameters": "params.yaml"}}),
        ("", {"a": 1}),
        ("https://example.org/x", {}),
    ],
)
def test_a_statement_that_is_not_valid_is_not_made(kind: str, predicate: dict) -> None:
    with pytest.raises(ValueError, match=r"."):
        claims.statement(kind, {"a": SHA256}, predicate)


def test_an_envelope_is_verified_by_securesystemslib(key: PrivateKey) -> None:
    value = json.loads(json.dumps(claims.envelope(made(), key)))
    public = SSlibKey.from_crypto(load_pem_public_key(key.public.path.read_bytes()), keyid=key.public.id)
    Envelope.from_dict(value).verify([public], 1)


def test_claims_are_read_with_their_signers(home: Path, key: PrivateKey) -> None:
    path = home / "claims.jsonl"
    claims.write(path, [made(), made()], key)
    assert [(one.statement, one.signer) for one in claims.read(path, keys.trusted_keys())] == [(made(), "ada")] * 2
    assert [(one.signer, one.is_signed) for one in claims.read(path, [])] == [(None, True)] * 2
    claims.write(path, [made()], None)
    (plain,) = claims.read(path, keys.trusted_keys())
    assert (plain.signer, plain.is_signed, plain.predicate["result"]) == (None, False, "WARNED")
    (line,) = claims.parse(claims.as_line(made(), key), keys.trusted_keys(), "x")
    assert line.signer == "ada"


def test_a_changed_claim_and_another_key_are_refused(home: Path, key: PrivateKey) -> None:
    path = home / "claims.jsonl"
    value = claims.envelope(made(), key)
    with pytest.raises(SignatureError, match=r"trusted key \(bob\)"):
        path.write_text(json.dumps(value))
        claims.read(path, [keys.create("bob").public])
    said = made()
    said["predicate"]["result"] = "PASSED"
    path.write_text(json.dumps(value | {"payload": base64.b64encode(json.dumps(said).encode()).decode()}))
    with pytest.raises(SignatureError, match=r"claims.jsonl:1: was changed, or was not signed"):
        claims.read(path, keys.trusted_keys())


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        "5",
        '{"payloadType": "x"}',
        '{"_type": "https://in-toto.io/Statement/v1"}',
        '{"payloadType": "application/vnd.in-toto+json", "payload": "e30=", "signatures": []}',
        '{"payloadType": "application/vnd.in-toto+json", "payload": "!", "signatures": [1]}',
        "[" * 50_000,
    ],
)
def test_a_line_that_is_no_claim_is_named(home: Path, line: str) -> None:
    path = home / "claims.jsonl"
    path.write_text(f"{json.dumps(made())}\n{line}\n")
    with pytest.raises(SignatureError, match=r"claims.jsonl:2: is not an in-toto statement"):
        claims.read(path, [])
