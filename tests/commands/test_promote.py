"""Promotions and rollbacks by hand, in a real registry; the checks themselves say what a test wants."""

import json
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest
from registry_fixtures import project, tracker

from tuneline.commands import promote as promoting
from tuneline.core import files
from tuneline.decisions import promotion, trusted_history
from tuneline.decisions.verification import Check
from tuneline.errors import RegistryError, SignatureError
from tuneline.params import Params
from tuneline.proofs import claims, keys
from tuneline.registry import history, version_files
from tuneline.registry.runs import Dataset
from tuneline.registry.tracking import NewVersion, Tracker

__all__ = ["project", "tracker"]

FAILS = {"3": "gate", "4": "files", "5": "signature"}


class Desk:
    """A person at the command line, and a model with six versions, of which three do not pass."""

    def __init__(self, tracker: Tracker, p: Params) -> None:
        self.tracker, self.p, self.model = tracker, p, p.registry.model
        self.client = mlflow.MlflowClient()
        self.client.create_registered_model(self.model)
        folder = Path("version")
        files.write_text(folder / "config.json", "{}")
        sha256 = version_files.sha256(folder)
        measured = Dataset("test", sha256, "data/clean", "evaluation")
        run, tags = self.client.create_run("0").info.run_id, {"tuneline.files_sha256": sha256}
        for _ in range(6):
            tracker.create_version(NewVersion(self.model, run, folder, sha256, tags, {}, measured, lambda _: ""))
        self.compared: list[tuple[str, str | None]] = []
        self.replaces: object = None
        self.during: Callable[[], object] = lambda: None
        self.log: list[str] = []

    def checks(self, p: Params, tracker: Tracker, version: str, champion: str | None, **more: object) -> list[Check]:
        self.compared.append((version, champion))
        self.replaces = more.get("replaces")
        self.during()
        wrong = FAILS.get(version)
        return [
            Check(name, name != wrong, "is wrong" if name == wrong else "is right", name == wrong == "files")
            for name in ("files", "signature", "loads", "gate")
        ]

    def promote(self, version: str, alias: str = "champion", override: str | None = None) -> str:
        return promoting.promote(
            self.p, version, alias=alias, override=override, log=self.log.append, checks=self.checks
        )

    def rollback(self, to: str | None = None, reason: str = "", override: str | None = None) -> str:
        return promoting.rollback(
            self.p, to=to, reason=reason, override=override, log=self.log.append, checks=self.checks
        )

    def in_ui(self, version: str, alias: str = "champion") -> None:
        self.client.set_registered_model_alias(self.model, alias, version)

    def champion(self) -> str | None:
        return self.tracker.aliases(self.model).get("champion")

    def words(self) -> list[tuple[str, str | None, str | None, str]]:
        found = history.read(self.tracker, self.model, evidence=True)
        assert found.problems == ()
        return [(entry.action, entry.before, entry.after, entry.reason) for entry in found.entries]


@pytest.fixture
def desk(tracker: Tracker, project: Params) -> Desk:
    return Desk(tracker, project)


def test_a_good_version_is_promoted_with_its_evidence(desk: Desk) -> None:
    assert desk.promote("1") == f"{desk.model}: version 1 is verified and champion now"
    assert desk.promote("2") == f"{desk.model}: version 2 is verified and champion now instead of version 1"
    assert desk.compared == [("1", None), ("2", "1")]
    assert desk.words() == [("verified", None, "1", ""), ("verified", "1", "2", "")]
    tags = desk.tracker.version_tags(desk.model, "2")
    assert (tags["promotion.verdict"], tags["promotion.by"]) == ("kept", history.acting_user())
    entry = history.read(desk.tracker, desk.model).entries[1]
    evidence = history.read_evidence(desk.tracker, entry)
    assert json.loads(evidence["checks.json"])["comparedWith"] == "1"
    [claim] = claims.parse(evidence["claim.jsonl"], [], "claim.jsonl")
    assert claim.predicate_type == "urn:tuneline:promotion:v1"
    assert claim.statement["subject"][0]["name"] == f"{desk.model}/2/"
    # The verification of promotions has nothing to do any more.
    assert promotion.follow(desk.p, checks=desk.checks).steps == ()
    assert "version 2 is champion already, since" in desk.promote("2")
    assert len(desk.words()) == 2


def test_a_version_that_does_not_pass_never_gets_the_alias(desk: Desk) -> None:
    desk.promote("1")
    with pytest.raises(RegistryError) as refused:
        desk.promote("3")
    assert refused.value.problems == (
        "gate: is wrong",
        f"{desk.model}: version 3 has not passed its verification, so version 1 stays champion; to promote it all the "
        "same, say why: tuneline promote 3 --override REASON",
    )
    assert (desk.champion(), len(desk.words())) == ("1", 1)
    assert "promotion.verdict" not in desk.tracker.version_tags(desk.model, "3")


def test_an_override_is_kept_with_its_reason_and_never_covers_damage(desk: Desk) -> None:
    desk.promote("1")
    assert "version 5 is champion now instead of version 1, by an override of" in desk.promote(
        "5", override="ok by Ann"
    )
    assert desk.words()[1:] == [("overridden", "1", "5", "ok by Ann; not passed: signature")]
    assert desk.tracker.version_tags(desk.model, "5")["promotion.verdict"] == "overridden"
    assert promotion.follow(desk.p, checks=desk.checks).steps == ()
    with pytest.raises(RegistryError, match="an override does not cover damage; use another version"):
        desk.promote("4", override="I want it")
    with pytest.raises(RegistryError, match="say in a few words why"):
        desk.promote("3", override=" ")
    assert desk.champion() == "5"


def test_what_cannot_be_promoted_is_a_sentence(desk: Desk) -> None:
    with pytest.raises(
        RegistryError, match=r"version 9: is not in the registry at .*; it has versions 1, 2, 3, 4, 5, 6"
    ):
        desk.promote("9")
    for alias in ("latest", "V7"):
        with pytest.raises(RegistryError, match=r"--alias: .* MLflow keeps"):
            desk.promote("1", alias)
    desk.in_ui("2", "Champion")
    for move in (lambda: desk.promote("1"), desk.rollback):
        with pytest.raises(RegistryError, match=r"version 2 has the alias Champion, which differs from champion only"):
            move()
    desk.client.delete_registered_model(desk.model)
    with pytest.raises(RegistryError, match=r"no such model is registered at .*registry\.model"):
        desk.promote("1")
    assert desk.compared == []


def test_an_alias_that_moves_during_the_verification_is_left(desk: Desk) -> None:
    desk.promote("1")
    desk.during = lambda: desk.in_ui("6")
    with pytest.raises(RegistryError, match="champion moved from version 1 to version 6 while version 2 was verified"):
        desk.promote("2")
    assert (desk.champion(), len(desk.words())) == ("6", 1)
    # The version that somebody has set is verified, or a person verifies it.
    desk.during = lambda: None
    assert desk.promote("6") == f"{desk.model}: version 6 is verified and champion now"
    assert desk.words()[1:] == [("verified", "1", "6", "")]
    desk.in_ui("3")
    with pytest.raises(RegistryError, match="a person has given it the alias champion already: undo that with"):
        desk.promote("3")


def test_a_rollback_goes_back_one_champion_at_a_time(desk: Desk) -> None:
    with pytest.raises(RegistryError, match=r"no verified version was champion before, so there is nothing to go back"):
        desk.rollback()
    for version in ("1", "2", "6"):
        desk.promote(version)
    assert desk.rollback(reason="too slow") == (
        f"{desk.model}: champion went back from version 6 to version 2, which is verified"
    )
    assert (desk.compared[-1], desk.replaces) == (("2", None), "6")
    assert desk.words()[-1] == ("rolled back", "6", "2", "too slow")
    assert desk.tracker.version_tags(desk.model, "2")["promotion.verdict"] == "rolled back"
    assert promotion.follow(desk.p, checks=desk.checks).steps == ()
    desk.rollback()
    assert desk.champion() == "1"
    with pytest.raises(RegistryError, match=r"before version 1, so there is nothing to go back to; name a version"):
        desk.rollback()
    assert "version 1 is champion already" in desk.rollback("1")
    desk.rollback("6")
    assert desk.champion() == "6"


def test_a_rollback_leaves_out_deleted_versions_and_refuses_what_does_not_pass(desk: Desk) -> None:
    desk.promote("1")
    desk.promote("5", override="x")
    desk.promote("2")
    desk.promote("6")
    desk.client.delete_model_version(desk.model, "2")
    with pytest.raises(
        RegistryError, match=r"signature: is wrong\n.*so version 6 stays champion; name another .*\(1\)"
    ):
        desk.rollback()
    assert "note: version 2, which was champion before, was deleted" in desk.log
    desk.rollback("1")
    # What somebody has set meanwhile is not verified, so the last verified version comes back.
    desk.in_ui("6")
    desk.rollback()
    assert desk.champion() == "1"
    desk.client.delete_registered_model_alias(desk.model, "champion")
    promotion.follow(desk.p, checks=desk.checks)
    desk.rollback()
    assert desk.words()[-1] == ("rolled back", None, "1", "")


def test_a_rollback_may_override_what_a_promotion_may(desk: Desk) -> None:
    desk.promote("5", override="ok by Ann")
    desk.promote("1")
    with pytest.raises(RegistryError, match=r"say why: tuneline rollback --to 5 --override REASON"):
        desk.rollback()
    assert desk.rollback(override="1 is wrong") == (
        f"{desk.model}: champion went back from version 1 to version 5, by an override of {history.acting_user()}"
    )
    assert desk.words()[-1] == ("overridden", "1", "5", "1 is wrong; not passed: signature")
    assert promotion.follow(desk.p, checks=desk.checks).steps == ()
    with pytest.raises(RegistryError, match="an override does not cover damage"):
        desk.rollback("4", override="I want it")
    with pytest.raises(RegistryError, match="say in a few words why"):
        desk.rollback("1", override=" ")


def test_a_rollback_does_not_propose_erased_versions(desk: Desk) -> None:
    desk.promote("1")
    desk.promote("2")
    desk.tracker.update_version(desk.model, "1", {"tuneline.erased": "2026-10-03"})
    desk.tracker.update_version(desk.model, "6", {"tuneline.verdict": "passed"})
    with pytest.raises(RegistryError, match=r"passed the gate is 6: tuneline promote 6 \(registered: 2, 3, 4, 5, 6\)"):
        desk.rollback()
    assert "note: version 1, which was champion before, was erased" in desk.log


def test_another_alias_has_its_own_history(desk: Desk, tmp_path: Path) -> None:
    desk.promote("1")
    desk.promote("2", "challenger")
    assert desk.compared[-1] == ("2", None)
    assert desk.tracker.aliases(desk.model) == {"champion": "1", "challenger": "2"}
    assert "promotion.verdict" not in desk.tracker.version_tags(desk.model, "2")


def test_the_claim_is_signed_and_a_key_that_cannot_be_used_changes_nothing(
    desk: Desk, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
    made = keys.create("ada")
    desk.promote("1")
    [entry] = history.read(desk.tracker, desk.model).entries
    content = history.read_evidence(desk.tracker, entry)["claim.jsonl"]
    [claim] = claims.parse(content, [made.public], "claim.jsonl")
    assert (claim.signer, claim.predicate["action"], claim.predicate["decidedBy"]) == ("ada", "verified", entry.who)
    assert trusted_history.read(desk.tracker, desk.model).voucher(entry) == "ada"
    made.private.chmod(0o644)
    with pytest.raises(SignatureError, match="so other users can read or change this private key"):
        desk.promote("2")
    assert (desk.champion(), len(desk.words())) == ("1", 1)
    # A bad promotion is undone without a signature.
    desk.in_ui("3")
    promotion.follow(desk.p, log=desk.log.append, checks=desk.checks)
    assert desk.champion() == "1"
    assert any(line.startswith("the claim about version 3 is not signed: ") for line in desk.log)


def killed(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(("version", "override", "after"), [("2", None, "2"), ("3", "I want it", "1")])
def test_a_promotion_that_was_killed_after_the_alias_is_verified_like_one_from_the_ui(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, version: str, override: str | None, after: str
) -> None:
    desk.promote("1")
    with monkeypatch.context() as patch:
        patch.setattr(history, "append", killed)
        with pytest.raises(KeyboardInterrupt):
            desk.promote(version, override=override)
    assert (desk.champion(), len(desk.words())) == (version, 1)
    promotion.follow(desk.p, checks=desk.checks)
    assert desk.champion() == after
    assert desk.words()[-1][:3] == (("verified", "1", "2") if after == "2" else ("undone", "3", "1"))
