"""What is claimed about a model, as in-toto Statements v1: how it was made, what the gate found, and later claims.

With a key a statement is in a signed DSSE envelope. Only this file imports in_toto_attestation.
"""

import base64
import binascii
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import Message
from in_toto_attestation.predicates.provenance.v1 import provenance_pb2
from in_toto_attestation.predicates.test_result.v0 import test_result_pb2
from in_toto_attestation.v1 import statement_pb2
from in_toto_attestation.v1.statement import STATEMENT_TYPE_URI, Statement

from tuneline.core import files
from tuneline.errors import SignatureError
from tuneline.proofs import keys
from tuneline.proofs.keys import PrivateKey, PublicKey

CLAIMS = "claims.jsonl"
"""The name of the file of claims in the folder of a version: one statement or envelope per line."""
PROVENANCE = "https://slsa.dev/provenance/v1"
TEST_RESULT = "https://in-toto.io/attestation/test-result/v0.1"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
FOLDER_DIGEST = "tunelineFolderSha256"
"""The algorithm of a folder's digest: the sha256 of the JSON object path -> sha256 of all its files, keys sorted, in
UTF-8, without spaces."""
_LARGEST = 1 << 24
"""Bytes of a file of claims."""
VERDICTS = {"PASSED": "passed", "WARNED": "undecided", "FAILED": "failed"}
"""The result of the specification -> the gate's verdict."""
_OF_RULE = ("metric", "direction", "versus", "margin", "noise_floor", "value", "slice")
"""What a rule of the gate asks; a noise floor of zero asks nothing."""
_DAMAGED = "is not an in-toto statement"


@dataclass(frozen=True)
class Claim:
    """A statement, and who signed it."""

    statement: dict[str, Any]
    signer: str | None
    """The name of the trusted key; None: not signed, or not checked because no key was given."""
    is_signed: bool

    @property
    def predicate_type(self) -> str:
        """The URI of what is claimed."""
        return self.statement["predicateType"]

    @property
    def predicate(self) -> dict[str, Any]:
        """What is claimed."""
        return self.statement["predicate"]


def statement(predicate_type: str, subject: Mapping[str, str], predicate: Mapping[str, Any]) -> dict[str, Any]:
    """An in-toto Statement v1.

    Args:
        predicate_type: its URI.
        subject: name -> sha256 of a file; of a folder, whose name ends with /, the digest of its files.
        predicate: a JSON object; that of a provenance or a test result must have the fields of its specification.

    Raises:
        ValueError: the statement is not valid.
    """
    value = {
        "_type": STATEMENT_TYPE_URI,
        "subject": [{"name": name, "digest": digest_of(name, sha256)} for name, sha256 in sorted(subject.items())],
        "predicateType": predicate_type,
        "predicate": dict(predicate),
    }
    _check(value)
    return value


def digest_of(name: str, sha256: str) -> dict[str, str]:
    """The digest set of in-toto for a file, or for a folder, whose name ends with /."""
    return {FOLDER_DIGEST if name.endswith("/") else "sha256": sha256}


def gate_result(gate: Mapping[str, Any], url: str = "") -> dict[str, Any]:
    """The predicate test-result v0.1 of the gate.

    Args:
        gate: the value of gate.json.
        url: of the report; relative to the claims.
    """
    rules = gate["rules"]
    configuration = [
        {
            "name": _rule_name(rule),
            "annotations": {name: rule[name] for name in _OF_RULE if _is_asked(rule, name)},
        }
        for rule in rules
    ]
    lists = {"passedTests": "passed", "warnedTests": "undecided", "failedTests": "failed"}
    return {
        "result": next(result for result, verdict in VERDICTS.items() if verdict == gate["verdict"]),
        "configuration": configuration,
        **({"url": url} if url else {}),
        **{
            name: [f"{_rule_name(rule)}: {rule['reason']}" for rule in rules if rule["verdict"] == verdict]
            for name, verdict in lists.items()
        },
    }


def _is_asked(rule: Mapping[str, Any], name: str) -> bool:
    return bool(rule.get(name)) if name == "noise_floor" else rule.get(name) is not None


def _rule_name(rule: Mapping[str, Any]) -> str:
    where = f" on {rule['slice']}" if rule.get("slice") else ""
    return f"{rule['metric']} versus {rule['versus']}{where}"


def envelope(statement: Mapping[str, Any], key: PrivateKey | None) -> dict[str, Any]:
    """The statement in a DSSE envelope signed with the key; without a key the statement itself."""
    if key is None:
        return dict(statement)
    payload = json.dumps(statement, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
    signature = key.sign(_to_sign(PAYLOAD_TYPE, payload))
    return {
        "payload": base64.b64encode(payload).decode("ascii"),
        "payloadType": PAYLOAD_TYPE,
        "signatures": [{"keyid": key.public.id, "sig": base64.b64encode(signature).decode("ascii")}],
    }


def write(path: Path, statements: Sequence[Mapping[str, Any]], key: PrivateKey | None) -> None:
    """Write a file of claims, signed where there is a key."""
    files.write_jsonl(path, (envelope(one, key) for one in statements))


def as_line(statement: Mapping[str, Any], key: PrivateKey | None) -> bytes:
    """A single claim as the content of a file of claims."""
    return json.dumps(envelope(statement, key), ensure_ascii=False, allow_nan=False).encode() + b"\n"


def read(path: Path, public_keys: Sequence[Path]) -> list[Claim]:
    """The claims in a file.

    Args:
        path: one statement or envelope per line.
        public_keys: the files of the keys that are trusted; empty: signatures are not checked.

    Raises:
        SignatureError: a line is not a valid statement, or its signature is wrong or of another key.
    """
    with path.open("rb") as file:
        content = file.read(_LARGEST + 1)
    if len(content) > _LARGEST:
        raise SignatureError(f"{path}: is larger than {_LARGEST:,} bytes, so it is not a file of claims")
    return list(parse(content, public_keys, str(path)))


def parse(content: bytes, public_keys: Sequence[Path], place: str) -> Iterator[Claim]:
    """The claims in the content of a file.

    Args:
        content: one statement or envelope per line.
        public_keys: as for `read`.
        place: the name of the file for messages.

    Raises:
        SignatureError: as `read`.
    """
    trusted = keys.read_publics(public_keys)
    for number, line in enumerate(content.splitlines(), 1):
        if line.strip():
            yield _claim(line, trusted, f"{place}:{number}")


def _claim(line: bytes, trusted: Sequence[PublicKey], place: str) -> Claim:
    try:
        value = json.loads(line.decode("utf-8"))
        if not isinstance(value, dict):
            raise SignatureError(f"{place}: {_DAMAGED}")
        if "payloadType" not in value:
            _check(value)
            return Claim(value, None, is_signed=False)
        kind, payload = value["payloadType"], base64.b64decode(value["payload"], validate=True)
        signatures = [base64.b64decode(one["sig"], validate=True) for one in value["signatures"]]
        said = json.loads(payload.decode("utf-8"))
        _check(said)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, binascii.Error) as error:
        reason = " ".join(f"{type(error).__name__} {error}".split())[:200]
        raise SignatureError(f"{place}: {_DAMAGED}: {reason}; do not use this claim") from None
    if kind != PAYLOAD_TYPE:
        raise SignatureError(f"{place}: holds {kind!r} instead of {PAYLOAD_TYPE}; do not use this claim")
    data = _to_sign(kind, payload)
    signer = next((key.name for key in trusted if any(key.has_signed(one, data) for one in signatures)), None)
    if trusted and signer is None:
        known = ", ".join(key.name for key in trusted)
        raise SignatureError(
            f"{place}: was changed, or was not signed with a trusted key ({known}); do not use this claim"
        )
    return Claim(said, signer, is_signed=True)


def _to_sign(kind: str, payload: bytes) -> bytes:
    """The bytes that a DSSE signature covers, its pre-authentication encoding."""
    name = kind.encode()
    return b"DSSEv1 %d %b %d %b" % (len(name), name, len(payload), payload)


_PREDICATES: dict[str, type[Message]] = {
    PROVENANCE: provenance_pb2.Provenance,  # pyright: ignore[reportAttributeAccessIssue]
    TEST_RESULT: test_result_pb2.TestResult,  # pyright: ignore[reportAttributeAccessIssue]
}


def _check(value: Any) -> None:
    """Raise ValueError unless the value is a valid statement, and its predicate has the fields of its type."""
    try:
        parsed = json_format.ParseDict(value, statement_pb2.Statement())  # pyright: ignore[reportAttributeAccessIssue]
        Statement.copy_from_pb(parsed).validate()
        if known := _PREDICATES.get(value["predicateType"]):
            json_format.ParseDict(value["predicate"], known())
    except json_format.ParseError as error:
        raise ValueError(str(error)) from None
