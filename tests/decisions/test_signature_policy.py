"""Which signatures a project asks for, of versions in a real registry."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tuneline import params
from tuneline.commands.ask import served_version
from tuneline.decisions import signature_policy
from tuneline.errors import RegistryError
from tuneline.proofs import claims, keys, signatures
from tuneline.registry import tracking, versions
from tuneline.registry.lineage import Lineage

GATE = {"verdict": "passed", "rules": []}


@pytest.fixture(autouse=True)
def home(project: params.Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder for private keys beside the project."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path.parent / f"{tmp_path.name}-config"))
    monkeypatch.delenv(keys.LOCATION, raising=False)


def register(
    tracker: tracking.Tracker, p: params.Params, lineage: Lineage, complete: Callable[[Path], None]
) -> tuple[int, Path]:
    """A version whose folder was completed in some way: its number and its folder."""
    git = {"git_commit": "2" * 40, "git_dirty": "false"}
    subject = versions.training_subject(p, fingerprint="f", data_sha256="b", base_sha256="c", git=git)
    run = tracker.ensure_run(subject, [])
    evaluation = {"rows": 1, "candidate": {"bits_per_byte": 1.0}}
    wrong = signature_policy.wrong_signature
    made = versions.register(tracker, p, lineage, run, GATE, evaluation, complete, lambda _: None, wrong)
    return int(made.version), versions.fetch_version(tracker, p.registry.model, made.version)


def test_an_unsigned_version_may_answer_and_may_not_be_promoted(
    project: params.Params, tracker: tracking.Tracker, lineage: Lineage
) -> None:
    number, folder = register(tracker, project, lineage, lambda _: None)
    assert signature_policy.signature_problem(folder) is None
    keys.create("ada")
    assert "it is unsigned" in (signature_policy.signature_problem(folder) or "")
    assert served_version.serve(project, version=number, alias="").folder == folder


def test_a_signed_version_answers_and_may_be_promoted(
    project: params.Params, tracker: tracking.Tracker, lineage: Lineage
) -> None:
    keys.create("ada")
    key = keys.signing_key()
    assert key
    # The folder that is signed holds links, and MLflow's store the files.
    number, folder = register(tracker, project, lineage, lambda folder: signatures.sign(folder, key))
    assert signature_policy.signature_problem(folder) is None
    assert served_version.serve(project, version=number, alias="").folder == folder
    key.public.path.unlink()
    keys.create("bob")
    assert "not trusted; trusted: bob" in (signature_policy.signature_problem(folder) or "")
    (keys.TRUSTED / "none.pub").write_text("none")
    assert "none.pub: is not a public key" in (signature_policy.signature_problem(folder) or "")


def test_a_version_that_was_exchanged_with_its_tags_does_not_answer(
    project: params.Params, tracker: tracking.Tracker, lineage: Lineage
) -> None:
    """Whoever can write to the registry can also write the digest of other files into its tags."""
    keys.create("ada")
    key = keys.signing_key()
    assert key

    def exchange(folder: Path) -> None:
        signatures.sign(folder, key)
        (folder / "model.safetensors").unlink()
        (folder / "model.safetensors").write_bytes(b"others")

    number, _ = register(tracker, project, lineage, exchange)
    with pytest.raises(RegistryError, match=r"its signature is wrong: model.safetensors: was changed"):
        served_version.serve(project, version=number, alias="")
    model = project.registry.model
    assert versions.find_damage(tracker, model, str(number)) is None
    damage = signature_policy.find_damage(tracker, model, str(number)) or ""
    assert damage.startswith("model.safetensors: was changed since it was signed; the folder is not as it was signed")
    # The next registration of the same model takes its place.
    made, _ = register(tracker, project, lineage, lambda folder: signatures.sign(folder, key))
    assert made == number + 1
    assert tracker.version_tags(model, str(number))["tuneline.broken"] == damage
    assert register(tracker, project, lineage, lambda _: None)[0] == made


def test_a_signature_that_was_removed_with_its_digest_is_missed(
    project: params.Params, tracker: tracking.Tracker, lineage: Lineage
) -> None:
    keys.create("ada")
    number, folder = register(tracker, project, lineage, lambda _: None)
    model = project.registry.model
    tracker.update_version(model, str(number), {signature_policy.SIGNED: "ada"})
    with pytest.raises(RegistryError, match="was signed by ada when it was registered, but its signature was removed"):
        served_version.serve(project, version=number, alias="")
    tags = tracker.version_tags(model, str(number))
    problem = signature_policy.signature_problem(folder, tags)
    assert problem == signature_policy.wrong_signature(folder, tags)
    assert problem == signature_policy.find_damage(tracker, model, str(number))
    assert "signature was removed" in (problem or "")


def test_a_tag_that_was_edited_differs_from_what_was_signed(tmp_path: Path) -> None:
    keys.create("ada")
    key = keys.signing_key()
    assert key
    rule = {"metric": "chrf", "versus": "base", "verdict": "undecided", "reason": "The interval holds zero."}
    gate = {"verdict": "undecided", "rules": [rule]}
    made = {
        "buildDefinition": {
            "buildType": "b",
            "externalParameters": {"registry": {"model": "m"}, "paths": {"clean": "data/clean", "base": "models/base"}},
            "internalParameters": {"fingerprint": "f"},
            "resolvedDependencies": [{"name": "dvc.lock", "digest": {"sha256": "d" * 64}}],
        },
        "runDetails": {"builder": {"id": "b"}, "metadata": {"invocationId": "run"}, "byproducts": []},
    }
    said = {claims.PROVENANCE: made, claims.TEST_RESULT: claims.gate_result(gate)}
    folder = tmp_path / "version"
    claims.write(
        folder / claims.CLAIMS, [claims.statement(kind, {"m/": "e" * 64}, of) for kind, of in said.items()], key
    )
    signatures.sign(folder, key)
    tags = {"run_id": "run", "fingerprint": "f", "model_sha256": "e" * 64, "verdict": "undecided"}
    tags = {f"tuneline.{name}": value for name, value in {**tags, "dvc_lock_sha256": "d" * 64}.items()}
    assert signature_policy.signature_problem(folder, tags) is None
    for name in tags:
        problem = signature_policy.signature_problem(folder, {**tags, name: "passed"}) or ""
        assert problem.startswith(f"its tag {name} is 'passed', but '{tags[name]}' was signed")
    # What people see in MLflow's list of tags, and what the gate says later about the same model.
    shown = signature_policy.signature_problem(folder, {**tags, "1 verdict": "passed"}) or ""
    assert shown.startswith("its tag 1 verdict is 'passed', but 'undecided' was signed")
    assert signature_policy.later_verdicts(folder, {**tags, "1 verdict": "undecided"}) is None
    assert signature_policy.later_verdicts(folder, {**tags, "tuneline.verdict.2": "passed"}) == (
        "the signed verdict is undecided; the later verdict passed in its tags is in no signed claim"
    )
    assert "tuneline.verdict is 'missing'" in (signature_policy.signature_problem(folder, {}) or "")
