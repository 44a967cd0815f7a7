import pyarrow as pa
import pytest

from tuneline.decisions import leaked_rows, spent_test_rows
from tuneline.decisions.champion_scores import ChampionResult
from tuneline.evaluation.intervals import Interval
from tuneline.gate import decision
from tuneline.gate.decision import Verdict
from tuneline.params import Params
from tuneline.registry import ledger
from tuneline.registry.tracking import Tracker

ROWS = pa.table({"id": [f"r{row}" for row in range(60)], "cluster": [f"c{row // 2}" for row in range(60)]})
BETTER = {"base": {"bits_per_byte": Interval(-0.5, -0.6, -0.4, 30), "chrf": Interval(5.0, 4.0, 6.0, 30)}}
BETTER["baseline"] = BETTER["base"]


def decide(tracker: Tracker, p: Params, candidate: str, champion: ChampionResult) -> spent_test_rows.Decided:
    def at(level: float) -> Verdict:
        return decision.decide(p.rules, {**BETTER, "champion": champion.measures}, level=level)

    return spent_test_rows.decide(tracker, p, candidate, champion, ROWS, at, where="gate")


def test_looser_rules_versus_the_champion_do_not_make_strict_ones_free(tracker: Tracker, project: Params) -> None:
    others = [rule for rule in project.rules if rule.versus != "champion"]
    versus = [rule for rule in project.rules if rule.versus == "champion"]

    def with_margin(margin: float, *, change_others: bool = False) -> Params:
        kept = [rule.model_copy(update={"margin": rule.margin - 0.01 * change_others}) for rule in others]
        rules = kept + [rule.model_copy(update={"margin": margin, "fails_below": None}) for rule in versus]
        return project.model_copy(update={"gate": project.gate.model_copy(update={"rules": rules})})

    assert decide(tracker, with_margin(-0.5), "a", champion(-0.005)).verdict.verdict == "passed"
    assert decide(tracker, with_margin(0.0), "a", champion(-0.005)).verdict.verdict != "passed"
    assert decide(tracker, with_margin(0.0, change_others=True), "a", champion(-0.005)).facts["comparison"] == 2
    assert decide(tracker, with_margin(0.0), "b", champion(-0.005)).facts["level"] < 0.025


def test_a_dry_run_says_what_it_would_cost_and_writes_nothing(tracker: Tracker, project: Params) -> None:
    result = champion(-0.005)

    def at(level: float) -> Verdict:
        return decision.decide(project.rules, {**BETTER, "champion": result.measures}, level=level)

    found = spent_test_rows.decide(tracker, project, "a", result, ROWS, at, where="verification", dry_run=True)
    assert found.warnings == (
        "This was only a report: the ledger is as before; the comparison itself would cost its level, because it does "
        "not pass.",
    )
    assert ledger.read(tracker, project.registry.model).entries.entries == ()


def champion(difference: float, model: str = "c0") -> ChampionResult:
    half = 0.0196
    measured = {"bits_per_byte": Interval(-difference, -difference - half, -difference + half, 30)}
    return ChampionResult(measures=measured, compared=ROWS, model_sha256=model)


def test_a_first_month_without_a_champion_spends_nothing(tracker: Tracker, project: Params) -> None:
    found = decide(tracker, project, "a", ChampionResult())
    assert (found.verdict.verdict, found.remarks, found.facts) == ("passed", (), {})
    assert [entry.action for entry in ledger.read(tracker, project.registry.model).entries.entries] == ["measured"]


def test_an_honest_improvement_in_month_12_passes(tracker: Tracker, project: Params) -> None:
    for month in range(11):
        found = decide(tracker, project, f"month {month}", champion(-0.005))
        assert found.verdict.verdict == "undecided"
        assert found.facts["comparison"] == month + 1
    # It would have passed by 95 %, and is three standard errors better than is tolerated.
    undecided = decide(tracker, project, "month 11", champion(0.02))
    assert undecided.verdict.verdict == "undecided"
    assert undecided.verdict.rules[3].low is not None
    assert undecided.verdict.rules[3].low > -0.01
    assert "New test rows are due" in undecided.remarks[-1]
    passed = decide(tracker, project, "month 12", champion(0.04))
    assert passed.verdict.verdict == "passed"
    # A pass costs nothing.
    assert decide(tracker, project, "month 13", champion(0.04)).facts["level"] == passed.facts["level"]


def test_the_champion_compared_with_itself_is_no_use_of_the_rows(tracker: Tracker, project: Params) -> None:
    same = ChampionResult(measures={"bits_per_byte": Interval(0.0, 0.0, 0.0, 30)}, compared=ROWS, is_candidate=True)
    assert decide(tracker, project, "a", same).verdict.verdict == "passed"
    assert ledger.read(tracker, project.registry.model).entries.entries == ()


def test_a_champion_that_cannot_be_compared_spends_nothing_and_fails(tracker: Tracker, project: Params) -> None:
    broken = ChampionResult(measures={"bits_per_byte": "version 1 is broken"})
    found = decide(tracker, project, "a", broken)
    assert (found.verdict.verdict, found.facts) == ("failed", {})


def test_a_champion_whose_tags_were_removed_is_a_use_of_the_rows_too(tracker: Tracker, project: Params) -> None:
    first, second = (decide(tracker, project, f"month {month}", champion(-0.005, model="")) for month in range(2))
    assert (first.facts["comparison"], second.facts["comparison"]) == (1, 2)
    assert second.facts["level"] < 0.025


@pytest.mark.parametrize("kind", ["id", "cluster"])
def test_a_leaked_test_set_fails_every_rule(project: Params, kind: str) -> None:
    trained = pa.table({"id": ["x", "y"], "cluster": ["x", "y"]})
    assert leaked_rows.find(trained, ROWS) is None
    leak = {"id": ["x", "y"], "cluster": ["x", "y"]} | {kind: [ROWS[kind][7].as_py(), "y"]}
    reason = leaked_rows.find(pa.table(leak), ROWS)
    assert reason is not None
    of_merged = leaked_rows.find(pa.table(leak), ROWS, is_merged=True)
    assert of_merged is not None
    assert of_merged.startswith("the candidate, or a version that it was merged from, was trained on ")
    measures = leaked_rows.unmeasured(reason, project.rules, {**BETTER, "champion": None})
    verdict = decision.decide(project.rules, measures)
    assert verdict.verdict == "failed"
    assert [rule.verdict for rule in verdict.rules] == ["failed", "failed", "failed", "not applicable"]
    count = 1 if kind == "id" else 2
    assert verdict.rules[0].reason == (
        f"Bits per byte could not be compared with the baseline: the candidate was trained on {count} of the 60 test "
        "rows or on rows of their groups; make the clean data again with: .venv/bin/dvc repro -f prepare."
    )
    assert leaked_rows.near_to_parents(0, 60) is None
    assert leaked_rows.near_to_parents(3, 60) == (
        "a version that the candidate was merged from was trained on near duplicates of 3 of the 60 test rows; merge "
        "versions that were trained on today's rows"
    )
