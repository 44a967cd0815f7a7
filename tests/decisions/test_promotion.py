"""What follows when the alias `champion` is moved, in a real registry; the checks themselves say what a test wants."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import mlflow
import pytest

from tuneline.commands import promote
from tuneline.decisions import promotion, trusted_history, verification
from tuneline.decisions.promotion import KEPT, REMOVED, UNDONE, Outcome
from tuneline.decisions.verification import Check
from tuneline.params import Params
from tuneline.registry import history, version_files, version_status
from tuneline.registry.runs import Dataset
from tuneline.registry.tracking import NewVersion, Tracker

GOOD = ("1", "2", "4")


class Registry:
    """A model with five versions, of which some do not pass their verification."""

    def __init__(self, tracker: Tracker, p: Params, versions: int = 5) -> None:
        self.tracker, self.p, self.model = tracker, p, p.registry.model
        self.client = mlflow.MlflowClient()
        self.during: Callable[[], object] | None = None
        """What a person does while a version is verified."""
        self.verified: list[tuple[str, str | None]] = []
        self.client.create_registered_model(self.model)
        for _ in range(versions):
            self._register()

    def _register(self) -> None:
        folder = Path("version")
        folder.mkdir(exist_ok=True)
        (folder / "config.json").write_text("{}")
        sha256 = version_files.sha256(folder)
        run = self.client.create_run("0").info.run_id
        tags = {"tuneline.files_sha256": sha256}
        data = Dataset("test", "b" * 64, "data/clean", "evaluation")
        self.tracker.create_version(NewVersion(self.model, run, folder, sha256, tags, {}, data, lambda _: ""))

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
        self.verified.append((version, champion))
        do, self.during = self.during, None
        if do:
            do()
        tracker.version_tags(self.model, version)
        return [Check("gate", version in GOOD, "is good" if version in GOOD else "is worse than the champion")]

    def follow(self, *, dry_run: bool = False) -> Outcome:
        return promotion.follow(self.p, dry_run=dry_run, checks=self.checks)

    def promote(self, version: str, alias: str = "champion") -> None:
        self.client.set_registered_model_alias(self.model, alias, version)

    def demote(self) -> None:
        self.client.delete_registered_model_alias(self.model, "champion")

    def delete(self, version: str) -> None:
        self.client.delete_model_version(self.model, version)

    def damage(self, version: str) -> None:
        folder = self.tracker.local_folder(self.model, version)
        assert folder
        (folder / "config.json").write_text("{} ")

    def erase(self, version: str) -> None:
        self.client.set_model_version_tag(self.model, version, version_status.ERASED, "2026-10-02T08:00:00+00:00")

    def champion(self) -> str | None:
        return self.tracker.aliases(self.model).get("champion")

    def words(self) -> list[tuple[str, str | None, str | None]]:
        found = history.read(self.tracker, self.model)
        assert found.problems == ()
        return [(entry.action, entry.before, entry.after) for entry in found.entries]

    def tags(self, version: str) -> dict[str, str]:
        tags = self.tracker.version_tags(self.model, version)
        return {name: value for name, value in tags.items() if name.startswith("promotion.")}


@pytest.fixture
def registry(tracker: Tracker, project: Params) -> Iterator[Registry]:
    yield Registry(tracker, project)


@pytest.fixture
def kept(registry: Registry) -> Registry:
    """Version 1 is the verified champion."""
    registry.promote("1")
    assert [step.action for step in registry.follow().steps] == [KEPT]
    registry.verified.clear()
    return registry


def test_a_good_promotion_is_kept_and_noted_once(registry: Registry) -> None:
    assert registry.follow().steps == ()
    registry.promote("1")
    [step] = registry.follow().steps
    assert (step.action, step.version, step.champion) == (KEPT, "1", "1")
    assert registry.words() == [("moved", None, "1"), ("verified", None, "1")]
    assert registry.tags("1")["promotion.verdict"] == "kept"
    assert registry.follow().steps == ()
    assert registry.verified == [("1", None)]
    registry.promote("2")
    registry.follow()
    assert registry.verified[1:] == [("2", "1")]
    assert registry.words()[2:] == [("moved", "1", "2"), ("verified", "1", "2")]


def test_a_bad_promotion_is_undone_with_its_reason(kept: Registry) -> None:
    kept.promote("3")
    outcome = kept.follow()
    [step] = outcome.undone
    assert (step.version, step.champion, outcome.champion) == ("3", "1", "1")
    assert step.reason == "gate: is worse than the champion"
    assert step.told() == (
        "version 3 is undone as champion, which is version 1 again: not passed: gate; to promote it all the same, say "
        "why: tuneline promote 3 --override REASON"
    )
    assert kept.champion() == "1"
    assert kept.words()[2:] == [("moved", "1", "3"), ("undone", "3", "1")]
    tags = kept.tags("3")
    assert (tags["promotion.verdict"], tags["promotion.reason"]) == ("undone", "gate: is worse than the champion")
    assert set(tags) == {f"promotion.{name}" for name in ("verdict", "reason", "time", "by", "entry")}
    [entry] = history.read(kept.tracker, kept.model).entries[-1:]
    assert b"is worse than the champion" in history.read_evidence(kept.tracker, entry)["checks.json"]
    assert kept.follow().steps == ()
    assert kept.verified == [("3", "1")]
    # The same promotion once more is a new one.
    kept.promote("3")
    assert len(kept.follow().undone) == 1


def test_a_dry_run_changes_nothing(kept: Registry) -> None:
    kept.promote("3")
    kept.promote("2", "Champion")
    before = kept.words(), kept.tracker.aliases(kept.model), kept.tags("3")
    outcome = kept.follow(dry_run=True)
    assert [(step.alias, step.version, step.champion) for step in outcome.undone] == [
        ("Champion", "2", "3"),
        ("champion", "3", "1"),
    ]
    assert "would be undone as champion, which would be version 1 again: gate:" in outcome.steps[1].line(dry_run=True)
    assert (kept.words(), kept.tracker.aliases(kept.model), kept.tags("3")) == before


@pytest.mark.parametrize("harm", ["delete", "damage"])
def test_without_a_sound_verified_version_no_version_is_champion(kept: Registry, harm: str) -> None:
    kept.promote("3")
    getattr(kept, harm)("1")
    outcome = kept.follow()
    assert outcome.champion is None
    assert kept.champion() is None
    assert [step.action for step in outcome.steps] == [UNDONE, REMOVED]
    assert [word[0] for word in kept.words()[2:]] == ["moved", "undone", "removed"]
    assert kept.follow().steps == ()
    # The next one is compared with none.
    kept.promote("2")
    assert kept.follow().champion == "2"
    assert kept.verified[-1] == ("2", None)


def test_an_alias_that_a_person_removed_is_noted(kept: Registry) -> None:
    kept.demote()
    [step] = kept.follow().steps
    assert (step.action, step.reason) == (REMOVED, "version 1 has lost the alias")
    assert kept.words()[2:] == [("removed", "1", None)]
    assert kept.follow().steps == ()
    # The next one is compared with it all the same.
    kept.promote("3")
    assert kept.follow().champion is None
    assert kept.verified == [("3", "1")]
    assert kept.follow().steps == ()
    # A version is not compared with itself.
    kept.promote("1")
    assert kept.follow().champion == "1"
    assert kept.verified[1:] == [("1", None)]


@pytest.mark.parametrize("harm", ["delete", "damage", "erase", "demote"])
def test_a_version_is_compared_with_the_last_verified_version_that_is_sound(kept: Registry, harm: str) -> None:
    kept.promote("2")
    kept.follow()
    if harm == "demote":
        kept.demote()
        kept.follow()
    else:
        getattr(kept, harm)("2")
    kept.promote("4")
    log: list[str] = []
    assert promotion.follow(kept.p, checks=kept.checks, log=log.append).champion == "4"
    assert kept.verified[-1] == ("4", "2" if harm == "demote" else "1")
    told = any("version 2, which was champion, cannot be compared with version 4: it" in line for line in log)
    assert told == (harm in ("damage", "erase")), log


def test_a_champion_that_was_deleted_is_noted(kept: Registry) -> None:
    kept.delete("1")
    [step] = kept.follow().steps
    assert (step.action, step.reason) == (REMOVED, "version 1, which was champion, was deleted")
    assert kept.follow().steps == ()


@pytest.mark.parametrize("alias", ["Champion", "CHAMPION"])
def test_an_alias_that_differs_by_case_is_removed(kept: Registry, alias: str) -> None:
    kept.promote("2", alias)
    outcome = kept.follow()
    assert kept.tracker.aliases(kept.model) == {"champion": "1"}
    assert outcome.undone[0].reason.startswith("aliases differ by upper and lower case")
    assert kept.tags("2")["promotion.verdict"] == "undone"
    assert kept.verified == []
    assert kept.follow().steps == ()


def test_a_promotion_during_a_verification_is_verified_next(kept: Registry) -> None:
    kept.promote("3")
    kept.during = lambda: kept.promote("2")
    assert kept.follow().champion == "2"
    assert kept.verified == [("3", "1"), ("2", "1")]
    assert kept.words()[2:] == [("moved", "1", "3"), ("moved", "3", "2"), ("verified", "1", "2")]
    kept.promote("4")
    kept.during = lambda: kept.promote("3")
    assert kept.follow().champion == "2"
    assert kept.champion() == "2"


def test_a_version_that_is_deleted_or_demoted_during_its_verification(kept: Registry) -> None:
    kept.promote("3")
    kept.during = lambda: kept.delete("3")
    [step] = kept.follow().steps
    assert (kept.champion(), step.action) == ("1", UNDONE)
    assert step.reason == "version 3 was deleted before it was verified"
    kept.promote("2")
    kept.during = kept.demote
    assert [step.action for step in kept.follow().steps] == [REMOVED]
    assert kept.champion() is None
    kept.promote("5")
    kept.during = lambda: kept.delete("5")
    assert kept.follow().champion is None
    assert kept.follow().steps == ()


@pytest.mark.parametrize("is_gone", [False, True])
def test_an_alias_of_a_version_that_does_not_exist_is_undone(kept: Registry, is_gone: bool) -> None:
    # As after an alias and a deletion at the same moment.
    with sqlite3.connect(kept.tracker.address.removeprefix("sqlite:///")) as store:
        store.execute("UPDATE registered_model_aliases SET version = 99 WHERE name = ?", (kept.model,))
    if is_gone:
        kept.damage("1")
    [step] = kept.follow().undone
    target = None if is_gone else "1"
    assert (step.version, step.champion, step.reason) == ("99", target, "version 99 does not exist")
    assert kept.champion() == target
    assert kept.words()[2:4] == [("moved", "1", "99"), ("undone", "99", target)]
    assert kept.follow().undone == ()


def test_a_person_who_takes_a_promotion_back_ends_it(kept: Registry) -> None:
    kept.promote("2")
    kept.during = lambda: kept.promote("1")
    [step] = kept.follow().steps
    assert step.reason == "version 1 got the alias back before version 2 was verified"
    assert kept.champion() == "1"
    assert kept.follow().steps == ()


class Killed(BaseException):
    """The process ends here."""


WRITES = (
    *("set_registered_model_alias", "delete_registered_model_alias", "set_registered_model_tag", "create_run"),
    *("set_model_version_tag", "update_model_version", "log_batch", "log_param", "log_artifact", "set_terminated"),
)


@contextmanager
def killed(place: int, *, is_after: bool) -> Iterator[list[str]]:
    """End the block before or after a write to MLflow.

    Yields:
        The writes so far.
    """
    seen: list[str] = []

    def ending(name: str, write: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **more: object) -> object:
            seen.append(name)
            if len(seen) > place and not is_after:
                raise Killed
            found = write(*arguments, **more)
            if len(seen) > place:
                raise Killed
            return found

        return call

    with pytest.MonkeyPatch.context() as patch, suppress(Killed):
        for name in WRITES:
            patch.setattr(mlflow.MlflowClient, name, ending(name, getattr(mlflow.MlflowClient, name)))
        yield seen


@contextmanager
def killed_after(write: str) -> Iterator[None]:
    """End the block after the first of these writes to MLflow."""
    real = getattr(mlflow.MlflowClient, write)

    def ending(*arguments: object, **more: object) -> object:
        real(*arguments, **more)
        raise Killed

    with pytest.MonkeyPatch.context() as patch, suppress(Killed):
        patch.setattr(mlflow.MlflowClient, write, ending)
        yield


def check_after_a_kill(registry: Registry, version: str, place: int, *, is_after: bool) -> int:
    """Promote a version, kill what follows at a write, follow again; returns the number of writes."""
    registry.promote("1")
    registry.follow()
    registry.promote(version)
    with killed(place, is_after=is_after) as seen:
        registry.follow()
    registry.follow()
    assert registry.champion() == ("1" if version == "3" else version)
    assert registry.follow().steps == ()
    assert registry.words()[-1][0] == ("undone" if version == "3" else "verified")
    tags = registry.tags(version)
    assert tags["promotion.verdict"] == ("undone" if version == "3" else "kept")
    return len(seen)


@pytest.mark.parametrize("is_after", [False, True])
def test_a_kill_beside_the_write_of_the_alias_is_made_good_by_the_next_run(kept: Registry, is_after: bool) -> None:
    kept.promote("3")
    with killed(1000, is_after=False) as seen:
        kept.follow()
    count = check_after_a_kill(kept, "3", seen.index("set_registered_model_alias"), is_after=is_after)
    assert count == seen.index("set_registered_model_alias") + 1
    assert [word[0] for word in kept.words()].count("undone") == 2


@pytest.mark.slow
@pytest.mark.parametrize("version", ["2", "3"])
@pytest.mark.parametrize("is_after", [False, True])
def test_a_kill_at_any_write_is_made_good_by_the_next_run(kept: Registry, version: str, is_after: bool) -> None:
    place = 0
    while check_after_a_kill(kept, version, place, is_after=is_after) > place:
        place += 1
    assert place > 10


def test_a_champion_that_is_not_verified_is_told_once_a_history_exists(registry: Registry) -> None:
    def note(version: str) -> str | None:
        return trusted_history.unverified_note(registry.tracker, registry.model, version)

    registry.promote("1")
    assert note("1") is None
    registry.follow()
    assert note("1") is None
    expected = "version 2 is champion and is not verified yet; verify it with: tuneline verify"
    assert note("2") == expected
    # Everyone who can write to MLflow can write the tag.
    registry.client.set_model_version_tag(registry.model, "2", version_status.PROMOTION, "kept")
    assert note("2") == expected


def test_files_of_the_champion_that_were_damaged_later_are_told(kept: Registry, project: Params) -> None:
    assert promotion.follow(project, recheck=True).damage.startswith("size: the weights cannot be read")
    kept.damage("1")
    for dry_run in (True, False):
        outcome = promotion.follow(project, recheck=True, dry_run=dry_run)
        assert outcome.damage.startswith("files: its files have the digest")
        assert (outcome.steps, outcome.champion) == ((), "1")


def test_what_an_override_covers_is_not_damage(
    registry: Registry, project: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    unsigned = Check("signature", False, "it is unsigned")
    monkeypatch.setattr(verification, "check_bytes", lambda *_: [Check("files", True, "right"), unsigned])
    registry.promote("1")
    registry.follow()
    outcome = promotion.follow(project, recheck=True)
    assert (outcome.damage, outcome.failed) == ("", "signature: it is unsigned")
    assert outcome.standing() == "version 1 is the verified champion; a check fails"
    promote.promote(
        project, "1", override="ok by Ann", checks=lambda *_, **__: [unsigned, Check("loads", True, "it loads")]
    )
    log: list[str] = []
    outcome = promotion.follow(project, recheck=True, log=log.append)
    assert (outcome.damage, outcome.failed) == ("", "")
    assert log == ["passed  files: right", "overridden  signature: it is unsigned"]
    assert outcome.standing() == (
        f"version 1 is champion by an override of {history.acting_user()} (ok by Ann; not passed: signature); "
        "nothing has changed"
    )
