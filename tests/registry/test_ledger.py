import sqlite3
from pathlib import Path

import mlflow
import pytest

from tuneline.gate.decision import Decision, Verdict
from tuneline.gate.spending import Budget, level_of
from tuneline.registry import history, ledger
from tuneline.registry.ledger import Comparison
from tuneline.registry.tracking import Tracker


def comparison(
    candidate: str, rows: int = 100, champion: str = "c0", start: int = 0, rules: str = "strict"
) -> Comparison:
    names = [f"row {number}" for number in range(start, start + rows)]
    return Comparison.of(candidate, champion, {"id": names, "cluster": names}, "gate", rules)


def verdict(rule: str) -> Verdict:
    one = Decision("chrf", "higher", "champion", 0.0, 0.1, 0.0, 0.2, rule, "chrF")  # type: ignore[arg-type]
    return Verdict("passed" if rule == "passed" else "undecided", (one,))


def spend(tracker: Tracker, model: str, one: Comparison, rule: str = "undecided") -> Budget:
    asked: list[float] = []

    def decide(level: float) -> Verdict:
        asked.append(level)
        return verdict(rule)

    budget = ledger.spend(tracker, model, one, decide).budget
    assert budget
    assert asked == [budget.level]
    return budget


@pytest.fixture
def model(tracker: Tracker, tmp_path: Path) -> str:
    mlflow.MlflowClient().create_registered_model(tmp_path.name)
    return tmp_path.name


def test_one_candidate_counts_once_however_often_the_gate_runs(tracker: Tracker, model: str) -> None:
    first = [spend(tracker, model, comparison("a")) for _ in range(3)]
    assert [one.position for one in first] == [1, 1, 1]
    # Another candidate, another champion, or other rows is another comparison; one more row opens no new budget.
    assert spend(tracker, model, comparison("b")).position == 3
    assert spend(tracker, model, comparison("b", champion="c1")).position == 5
    assert spend(tracker, model, comparison("b", rows=101)).position == 7
    assert spend(tracker, model, comparison("b")).position == 3
    assert spend(tracker, model, comparison("a")).level == level_of(1)
    assert spend(tracker, model, comparison("c", rows=200)).position == 2
    assert [len(ledger.read(tracker, model).uses()), ledger.read(tracker, model).problems] == [5, ()]


def test_a_pass_spends_nothing_and_without_a_champion_nothing_is_spent(tracker: Tracker, model: str) -> None:
    without = ledger.spend(tracker, model, comparison("a", champion=""), lambda _: verdict("not applicable")).budget
    assert without is None
    assert spend(tracker, model, comparison("b"), "passed").position == 1
    assert spend(tracker, model, comparison("b"), "passed").position == 1
    last = spend(tracker, model, comparison("c"), "failed")
    assert (last.number, last.position) == (2, 1)
    entries = ledger.read(tracker, model).entries.entries
    assert [entry.action for entry in entries] == ["measured", "compared", "compared"]
    assert entries[1].facts["passed"] == "true"
    # The history of the model is another chain.
    assert history.read(tracker, model).entries == ()
    assert "tuneline.history" not in tracker.model_tags(model)


def test_a_process_that_comes_second_looks_again(tracker: Tracker, model: str) -> None:
    positions: list[float] = []

    def decide(level: float) -> Verdict:
        positions.append(level)
        if len(positions) == 1:
            spend(tracker, model, comparison("of another process"))
        return verdict("undecided")

    budget = ledger.spend(tracker, model, comparison("a"), decide).budget
    assert budget
    assert budget.position == 3
    assert positions == [level_of(1), level_of(3)]


def test_a_damaged_ledger_gives_no_budget_back(tracker: Tracker, model: str, store: Path) -> None:
    spend(tracker, model, comparison("a"), "passed")
    spend(tracker, model, comparison("b"))
    runs = [entry.run_id for entry in ledger.read(tracker, model).entries.entries]
    with sqlite3.connect(store / "mlflow.db") as opened:
        opened.execute("UPDATE params SET value = replace(value, 'false', 'true') WHERE run_uuid = ?", (runs[1],))
    found = ledger.read(tracker, model)
    assert found.problems[0].startswith("entry 2 was edited in MLflow's store")
    # No entry is believed: the pass counts as a comparison that has not passed.
    assert spend(tracker, model, comparison("c")).position == 5
    for run in (runs[0], runs[1]):
        mlflow.MlflowClient().delete_run(run)
    assert spend(tracker, model, comparison("d")).position == 7


def test_after_its_damage_was_accepted_later_entries_are_believed(tracker: Tracker, model: str, store: Path) -> None:
    spend(tracker, model, comparison("a"), "passed")
    [entry] = ledger.read(tracker, model).entries.entries
    with sqlite3.connect(store / "mlflow.db") as opened:
        opened.execute("UPDATE params SET value = replace(value, 'true', 'false') WHERE run_uuid = ?", (entry.run_id,))
    history.accept(tracker, model, "restored from a backup", book=ledger.BOOK)
    # Entry 1 counts as not passed, and so does the acceptance itself.
    assert spend(tracker, model, comparison("b"), "passed").position == 5
    assert spend(tracker, model, comparison("b"), "passed").position == 5
    assert spend(tracker, model, comparison("c")).position == 5
    # Whoever changed entry 1 may have changed it for this.
    assert spend(tracker, model, comparison("a")).position == 7
    assert [len(ledger.read(tracker, model).entries.entries), ledger.read(tracker, model).problems] == [5, ()]
    with sqlite3.connect(store / "mlflow.db") as opened:
        opened.execute("UPDATE params SET value = 'b' WHERE run_uuid = ? AND key = 'reason'", (entry.run_id,))
    assert spend(tracker, model, comparison("b"), "passed").position == 11


def test_other_rules_about_the_same_candidate_are_another_comparison(tracker: Tracker, model: str) -> None:
    assert spend(tracker, model, comparison("a", rules="lenient"), "passed").position == 1
    assert spend(tracker, model, comparison("a", rules="strict")).position == 1
    # Without the rules in its key, the strict look would have been free.
    assert spend(tracker, model, comparison("b")).position == 3
    assert [use.passed for use in ledger.read(tracker, model).uses()] == [True, False, False]


def test_a_decision_that_comes_out_differently_is_another_comparison(tracker: Tracker, model: str) -> None:
    spend(tracker, model, comparison("a"), "passed")
    asked: list[float] = []

    def fails_now(level: float) -> Verdict:
        asked.append(level)
        return verdict("failed")

    assert ledger.spend(tracker, model, comparison("a"), fails_now).is_new
    assert spend(tracker, model, comparison("b")).position == 3


def test_a_dry_run_adds_nothing(tracker: Tracker, model: str) -> None:
    spent = ledger.spend(tracker, model, comparison("a"), lambda _: verdict("failed"), dry_run=True)
    assert spent.is_new
    assert ledger.read(tracker, model).entries.entries == ()
    assert spend(tracker, model, comparison("b")).position == 1


@pytest.mark.parametrize("write", ["begin_log_run", "attach", "complete_log_run", "claim_param", "tag_model"])
def test_a_kill_before_each_write_spends_once_at_most(
    tracker: Tracker, model: str, write: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Tracker, write, killed)
        spend(tracker, model, comparison("a"))
    assert spend(tracker, model, comparison("a")).position == 1
    assert spend(tracker, model, comparison("b")).position == 3
    assert ledger.read(tracker, model).problems == ()


@pytest.mark.parametrize("damage", ["empty", "cut", "edited", "missing"])
def test_a_damaged_sketch_is_told_until_it_is_accepted_and_no_row_counts_as_new(
    tracker: Tracker, model: str, store: Path, damage: str
) -> None:
    spend(tracker, model, comparison("a"))
    [entry] = ledger.read(tracker, model).entries.entries
    sketch = store / "artifacts" / entry.run_id / "artifacts" / "groups.bin"
    content = sketch.read_bytes()
    sketch.write_bytes({"empty": b"", "cut": content[:-3], "edited": b"\0" + content[1:], "missing": b""}[damage])
    if damage == "missing":
        sketch.unlink()
    for candidate, position in (("b", 3), ("c", 5)):
        spent = ledger.spend(tracker, model, comparison(candidate, rows=50), lambda _: verdict("undecided"))
        assert [spent.budget and spent.budget.position, len(spent.problems)] == [position, 1]
        assert "groups.bin" in spent.problems[0]
    history.accept(tracker, model, "the disk was full", book=ledger.BOOK)
    assert ledger.read(tracker, model).problems == ()
    # The lost rows are known by their number: when they come back, they open no new part.
    assert spend(tracker, model, comparison("d")).position == 9
