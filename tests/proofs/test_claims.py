"""Claims: valid in-toto statements in DSSE envelopes, read by parsers that are not ours; a changed claim is refused."""

# The classes of protobuf are made at run time.
# pyright: reportAttributeAccessIssue=false, reportPrivateImportUsage=false

import base64
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from google.protobuf import json_format
from in_toto_attestation.predicates.provenance.v1 import provenance_pb2
from in_toto_attestation.predicates.test_result.v0 import test_result_pb2
from in_toto_attestation.v1 import statement_pb2
from in_toto_attestation.v1.statement import Statement
from made_up_facts import CASES, Case, facts_of
from projects import ROOT
from securesystemslib.dsse import Envelope
from securesystemslib.signer import SSlibKey

from tuneline.core import bounded_yaml
from tuneline.errors import SignatureError
from tuneline.proofs import claims, keys, provenance
from tuneline.proofs.keys import PrivateKey
from tuneline.proofs.provenance import Build

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


def test_a_claim_says_what_a_rule_asks_beyond_its_margin() -> None:
    """A rule with `beyond_twins` asks for more than its margin, so the margin alone would claim too little."""
    for floor, said in ((0.0, None), (0.02, 0.02)):
        [rule] = claims.gate_result(
            {"verdict": "passed", "rules": [RULE | {"verdict": "passed", "noise_floor": floor}]}
        )["configuration"]
        assert rule["annotations"].get("noise_floor") == said


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


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_provenance_of_every_task_is_read_by_in_toto(case: Case, tmp_path: Path) -> None:
    facts = facts_of(case, tmp_path / "clean")
    build = Build("run", "2026-01-02T03:04:05.678Z", "2026-01-02T03:05:05Z", "4" * 40, {"requirements.lock": SHA256})
    value = claims.statement(claims.PROVENANCE, provenance.subject(facts), provenance.predicate(facts, build))
    parsed = json_format.Parse(json.dumps(value), statement_pb2.Statement())
    Statement.copy_from_pb(parsed).validate()
    found = json_format.ParseDict(json_format.MessageToDict(parsed.predicate), provenance_pb2.Provenance())
    params_of_build = found.build_definition.external_parameters
    assert params_of_build["task"] == case.task
    assert params_of_build["finetune"]["learning_rate"] == facts.p.finetune.learning_rate
    assert found.build_definition.internal_parameters["threads"] == facts.p.compute.threads
    digests = {one.name: dict(one.digest) for one in found.build_definition.resolved_dependencies}
    assert digests["code"] == {"gitCommit": "4" * 40}
    assert digests["dvc.lock"] == {"sha256": facts.lineage.dvc_lock_sha256}
    assert digests["requirements.lock"] == {"sha256": SHA256}
    assert digests["data/clean/"] == {"tunelineFolderSha256": facts.lineage.data_sha256}
    assert {one.path for one in facts.raw_sets} < digests.keys()
    if facts.merge:
        assert digests["docstring-writer/12/"] == {"tunelineFolderSha256": "2" * 64}
    details = found.run_details
    assert (details.metadata.invocation_id, details.metadata.started_on.ToJsonString()) == ("run", build.started)
    assert details.builder.id == provenance.BUILDER


def test_the_external_parameters_are_those_of_params_yaml(tmp_path: Path) -> None:
    facts = facts_of(CASES["pairs"], tmp_path / "clean")
    value = provenance.predicate(facts, Build("run", "", "", "", {}))
    written = bounded_yaml.load((ROOT / "params.yaml").read_text("utf-8"), "safe")
    # The file only shows the section `report`.
    assert value["buildDefinition"]["externalParameters"].keys() == written.keys() | {"report"}
    assert value["buildDefinition"]["externalParameters"]["finetune"] == written["finetune"]
    assert value["runDetails"]["metadata"] == {"invocationId": "run"}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_signed_claims_confirm_the_tags_of_the_lineage(case: Case, home: Path, key: PrivateKey) -> None:
    facts = facts_of(case, home / "clean")
    build = Build("run", "", "", "4" * 40, {})
    said = {
        claims.PROVENANCE: provenance.predicate(facts, build),
        claims.TEST_RESULT: claims.gate_result(GATE),
    }
    statements = [claims.statement(kind, provenance.subject(facts), value) for kind, value in said.items()]
    claims.write(home / claims.CLAIMS, statements, key)
    confirmed = provenance.confirmed_tags(claims.read(home / claims.CLAIMS, keys.trusted_keys()))
    unsaid = ("tuneline.environment_sha256", "tuneline.git_commit", "tuneline.git_dirty")
    lineage = {name: value for name, value in facts.lineage.tags().items() if name not in unsaid}
    own = {"run_id": "run", "source_commit": "4" * 40, "verdict": "undecided"}
    own |= {"parents": "4, 12"} if facts.merge else {}
    assert confirmed == lineage | {f"tuneline.{name}": value for name, value in own.items()}
    assert provenance.confirmed_tags([]) == {}


def test_a_provenance_of_another_tool_confirms_nothing() -> None:
    foreign = claims.statement(claims.PROVENANCE, {"a": SHA256}, {"buildDefinition": {"buildType": "x"}})
    with pytest.raises(SignatureError, match="its provenance is not that of this project"):
        provenance.confirmed_tags([claims.Claim(foreign, "ada", is_signed=True)])
