"""What a person with write access to MLflow can add to a history or exchange in a version, in a real registry."""

import shutil
import sqlite3
from dataclasses import replace
from typing import Any

import pytest
from test_promotion import Registry, killed_after

from tuneline.commands import history_table, promote, signing
from tuneline.decisions import promotion, registry_health, trusted_history, verification
from tuneline.decisions.verification import Check
from tuneline.errors import RegistryError
from tuneline.params import Params
from tuneline.proofs import keys
from tuneline.registry import history, version_files
from tuneline.registry.chain import Entry
from tuneline.registry.tracking import Tracker


class Watched(Registry):
    """A registry whose files are really checked."""

    def checks(
        self,
        p: Params,
        tracker: Tracker,
        version: str,
        champion: str | None,
        *,
        is_earlier: bool,
        dry_run: bool = False,
    ) -> list[Check]:
        found = verification.check_bytes(p, tracker, version)
        files_check = [check for check in found if check.name == verification.FILES]
        return [*files_check, *super().checks(p, tracker, version, champion, is_earlier=is_earlier)]

    def checks_and_exchange(
        self, p: Params, tracker: Tracker, version: str, champion: str | None, *, complete: bool
    ) -> list[Check]:
        """The files are exchanged after they were checked."""
        self.exchange(version)
        return [Check("gate", True, "is good")]

    def exchange(self, version: str) -> None:
        """Exchange the files of a version, and the digest beside them."""
        folder = self.tracker.local_folder(self.model, version)
        assert folder
        (folder / "config.json").write_text('{"bad": true}')
        self.client.set_model_version_tag(self.model, version, "tuneline.files_sha256", version_files.sha256(folder))

    def forge(self, version: str, evidence: dict[str, bytes] | None = None, action: str = "verified") -> Entry:
        """Add an entry as everyone can who may write to MLflow."""
        return history.append(
            self.tracker, self.model, action=action, alias="champion", after=version, evidence=evidence
        )

    def past(self) -> trusted_history.TrustedHistory:
        return trusted_history.read(self.tracker, self.model)

    def now(self) -> str | None:
        return self.past().verified("champion")

    def last_claim(self) -> dict[str, bytes]:
        entry = self.past().found.entries[-1]
        return {"claim.jsonl": history.read_evidence(self.tracker, entry)["claim.jsonl"]}


@pytest.fixture
def registry(tracker: Tracker, project: Params) -> Watched:
    return Watched(tracker, project, versions=3)


@pytest.fixture
def key(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory, project: Params) -> keys.Created:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
    return keys.create("ada")


def test_an_entry_that_no_key_has_signed_makes_no_champion(registry: Watched, key: keys.Created) -> None:
    registry.promote("1")
    registry.follow()
    registry.promote("3")
    registry.forge("3")
    assert registry.now() == "1"
    [step] = registry.follow().undone
    assert (step.version, registry.champion()) == ("3", "1")
    told = history_table.read(registry.p)
    assert told.uncounted == [3]
    shown = list(history_table.lines(told, alias="champion", limit=9))
    assert shown[0].startswith("unsigned: entry 3 does not count, because no key in mlflow/keys has signed a claim")
    assert "version 1 is champion, verified" in shown[1]
    assert any("verified (does not count)" in line for line in shown)


@pytest.mark.parametrize("after", [None, "3"])
def test_a_forged_entry_that_says_that_the_alias_is_gone_ends_no_comparison(
    registry: Watched, key: keys.Created, after: str | None
) -> None:
    registry.promote("1")
    registry.follow()
    history.append(registry.tracker, registry.model, action="removed", alias="champion", before="1", after=after)
    assert registry.now() is None
    registry.promote("3")
    [step] = registry.follow().undone
    assert (step.version, registry.verified[-1]) == ("3", ("3", "1"))


def test_a_version_with_an_unsigned_entry_is_verified_again(registry: Watched, key: keys.Created) -> None:
    registry.promote("2")
    registry.forge("2", action="overridden")
    assert not promotion.is_settled(registry.tracker, registry.model)
    assert registry.follow().champion == "2"
    assert registry.verified == [("2", None)]
    assert promotion.is_settled(registry.tracker, registry.model)


def test_a_copied_claim_counts_nowhere_else(registry: Watched, key: keys.Created) -> None:
    registry.promote("1")
    registry.follow()
    copied = registry.last_claim()
    registry.promote("2")
    registry.follow()
    # Later in the same history: as it was, for another version, and for another action.
    registry.forge("1", copied)
    registry.forge("3", copied)
    registry.forge("1", copied, "rolled back")
    assert registry.now() == "2"
    # At the same place of another history, about a version with the same number and files.
    section = registry.p.registry.model_copy(update={"model": "other"})
    other = Watched(registry.tracker, registry.p.model_copy(update={"registry": section}), versions=1)
    history.append(other.tracker, "other", action="moved", alias="champion", after="1", who=history.SOMEONE)
    assert other.forge("1", copied).number == 2
    assert other.now() is None


def test_a_signed_entry_that_was_edited_does_not_count(registry: Watched, key: keys.Created) -> None:
    registry.promote("1")
    registry.follow()
    past = registry.past()
    entry = past.found.entries[-1]
    assert past.voucher(entry) == "ada"
    for change in ({"after": "2"}, {"action": "overridden"}, {"who": "bob"}, {"number": 9}, {"previous": "0"}):
        assert replace(past, _claims={}).voucher(replace(entry, **change)) is None, change
    assert replace(past, found=replace(past.found, start="x"), _claims={}).voucher(entry) is None


def test_a_clone_without_a_key_believes_itself_and_another_clone_verifies_again(
    registry: Watched, key: keys.Created
) -> None:
    away = key.private.with_suffix(".away")
    key.private.rename(away)
    registry.promote("1")
    assert registry.follow().champion == "1"
    assert promotion.is_settled(registry.tracker, registry.model)
    assert registry.follow().steps == ()
    [note, *_] = history_table.lines(history_table.read(registry.p), alias="champion", limit=1)
    assert note.startswith("note: this clone has written entry 2 without a key, so only this clone believes that")
    # Another clone has its own folder work/, and one more clone without a key adds no entry.
    shutil.rmtree("work")
    assert not promotion.is_settled(registry.tracker, registry.model)
    assert registry.follow().champion == "1"
    assert len(registry.words()) == 2
    assert promotion.is_settled(registry.tracker, registry.model)
    shutil.rmtree("work")
    away.rename(key.private)
    assert not promotion.is_settled(registry.tracker, registry.model)
    registry.follow()
    assert registry.past().voucher(registry.past().found.entries[-1]) == "ada"
    assert registry.words()[-1] == ("verified", None, "1")


@pytest.mark.parametrize("has_key", [True, False])
def test_a_promotion_is_undone_to_the_version_that_a_clone_without_a_key_has_verified(
    registry: Watched, key: keys.Created, has_key: bool
) -> None:
    away = key.private.with_suffix(".away")
    key.private.rename(away)
    registry.promote("1")
    registry.follow()
    # Another clone believes only what is signed, so it verifies version 1 once more.
    shutil.rmtree("work")
    if has_key:
        away.rename(key.private)
    registry.promote("3")
    assert registry.follow(dry_run=True).champion == "1"
    [step] = registry.follow().undone
    assert (step.champion, registry.champion()) == ("1", "1")
    assert [version for version, _ in registry.verified[-2:]] == ["3", "1"]
    assert registry.words()[2:] == [("moved", "1", "3"), ("undone", "3", "1"), *[("verified", None, "1")] * has_key]
    assert promotion.is_settled(registry.tracker, registry.model)


def test_a_kill_after_the_undo_of_a_forged_entry_is_made_good(registry: Watched, key: keys.Created) -> None:
    registry.promote("1")
    registry.follow()
    registry.promote("3")
    registry.forge("3")
    with killed_after("set_registered_model_alias"):
        registry.follow()
    assert (registry.champion(), registry.words()[-1]) == ("1", ("moved", "1", "3"))
    registry.follow()
    assert registry.words()[-1] == ("undone", "3", "1")
    assert registry.follow().steps == ()


def test_a_person_with_a_key_accepts_what_is_unsigned(registry: Watched, key: keys.Created) -> None:
    registry.promote("3")
    registry.forge("3")
    away = key.private.with_suffix(".away")
    key.private.rename(away)
    with pytest.raises(RegistryError, match="signed entry 1 of the history, and this machine does not"):
        history_table.accept(registry.p, "from before the key")
    away.rename(key.private)
    first, last = history_table.accept(registry.p, "from before the key")
    assert first == "accepted: entry 1 (verified, version 3)"
    assert last.endswith("entry 2 of the history names what was accepted, and who accepted it")
    assert registry.now() == "3"
    assert history_table.read(registry.p).signers == {1: "ada"}
    # The acceptance is about that entry alone.
    claim = registry.last_claim()
    registry.forge("2")
    history.append(registry.tracker, registry.model, action="accepted", reason="me too", evidence=claim)
    assert registry.now() == "3"
    assert registry.follow().steps == ()


def test_an_entry_that_is_added_while_a_person_accepts_others_is_not_accepted(
    registry: Watched, key: keys.Created, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.forge("1")
    accept_damage = history.accept

    def accept_later(*arguments: Any, **more: Any) -> Entry | None:
        if more["book"] is history.HISTORY:
            registry.forge("3")
        return accept_damage(*arguments, **more)

    monkeypatch.setattr(history, "accept", accept_later)
    assert history_table.accept(registry.p, "from before the key")[0] == "accepted: entry 1 (verified, version 1)"
    assert (registry.now(), history_table.read(registry.p).uncounted) == ("1", [2])


def test_without_keys_everything_counts(registry: Watched) -> None:
    registry.promote("1")
    registry.forge("1")
    assert registry.follow().steps == ()
    assert history_table.read(registry.p).signers is None


def test_a_champion_that_was_exchanged_goes_back_to_the_verified_version_before_it(registry: Watched) -> None:
    for version in ("1", "2"):
        registry.promote(version)
        registry.follow()
    registry.exchange("2")
    # The periodic check sees it.
    assert not promotion.is_settled(registry.tracker, registry.model)
    [step] = registry.follow().undone
    assert (step.version, step.champion, registry.champion()) == ("2", "1", "1")
    assert "its files and its tags were exchanged together in MLflow" in step.reason
    assert registry.words()[4:] == [("moved", "2", "2"), ("undone", "2", "1")]
    assert registry.tags("2")["promotion.verdict"] == "undone"
    assert promotion.is_settled(registry.tracker, registry.model)
    # It does not become champion again.
    registry.promote("2")
    assert registry.follow(dry_run=True).champion == "1"


def test_the_claim_is_about_the_files_that_were_verified_and_not_about_those_of_a_moment_later(
    registry: Watched,
) -> None:
    registry.promote("1")
    registry.follow()
    registry.promote("2")
    registry.during = lambda: registry.exchange("2")
    [kept, undone] = registry.follow().steps
    assert (kept.action, undone.action, registry.champion()) == (promotion.KEPT, promotion.UNDONE, "1")
    promote.promote(registry.p, "3", checks=registry.checks_and_exchange)
    assert registry.now() == "1"


def test_an_accepted_entry_that_is_edited_later_does_not_count(registry: Watched, key: keys.Created) -> None:
    registry.promote("2")
    entry = registry.forge("2")
    history_table.accept(registry.p, "from before the key")
    assert registry.now() == "2"
    with sqlite3.connect(registry.tracker.address.removeprefix("sqlite:///")) as store:
        store.execute("UPDATE params SET value = '3' WHERE run_uuid = ? AND key = 'to'", (entry.run_id,))
    assert registry.now() is None
    # A person who has seen the edit can accept it too.
    history_table.accept(registry.p, "I know")
    assert registry.now() == "3"


def test_without_an_intact_verified_version_no_version_is_champion(registry: Watched) -> None:
    registry.promote("1")
    registry.follow()
    registry.exchange("1")
    [step] = registry.follow().undone
    assert (step.version, step.champion, registry.champion()) == ("1", None, None)
    assert registry.follow().steps == ()


def test_a_model_that_was_deleted_and_made_again_has_no_verified_version(registry: Watched) -> None:
    registry.promote("1")
    registry.follow()
    registry.client.delete_registered_model(registry.model)
    registry.client.create_registered_model(registry.model)
    registry._register()
    registry.promote("1")
    registry.verified.clear()
    assert registry.follow().champion == "1"
    assert registry.verified == [("1", None)]


def test_the_first_key_accepts_what_is_there_and_a_second_key_does_not(
    registry: Watched, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", registry.tracker.address)
    registry.forge("1")
    told = signing.create("ada")[-1]
    assert "has 1 entry from before this key, of which the last made version 1 champion; entry 2 accepts them" in told
    assert registry.now() == "1"
    registry.forge("3")
    assert len(signing.create("bob")) == 3
    assert registry.now() == "1"


def test_doctor_tells_an_exchanged_version(registry: Watched) -> None:
    registry.promote("1")
    registry.follow()
    registry.exchange("1")
    health = next(registry_health.examine(registry.p))
    assert "exchanged together in MLflow; " in health.problems[0]
