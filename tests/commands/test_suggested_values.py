"""What `tuneline use` writes for a task, a base and a number of rows."""

from pathlib import Path
from typing import Any, get_args

import pytest
from ruamel.yaml import YAML

from tuneline import params
from tuneline.commands.use import suggested_values as suggested
from tuneline.commands.use.suggested_values import BaseKind, Case
from tuneline.evaluation.intervals import Interval, Measures
from tuneline.gate import decision
from tuneline.params import Task
from tuneline.params.gate import METRICS_OF_TASK, Rule, problem_of_task

ROOT = Path(__file__).resolve().parents[2]
PARAMS: Any = YAML(typ="safe").load((ROOT / "params.yaml").read_text("utf-8"))
RECIPES = [ROOT / "params.yaml", *sorted((ROOT / "docs" / "recipes").glob("*.yaml"))]
CASES = [
    Case(task, base, rows) for task in get_args(Task) for base in get_args(BaseKind) for rows in (100, 5_000, 100_000)
]


def test_the_shipped_values_are_those_of_params_yaml() -> None:
    def value(key: str) -> Any:
        node = PARAMS
        for part in key.split("."):
            node = node[part]
        return node

    assert {key: value(key) for key in suggested.SHIPPED} == suggested.SHIPPED
    assert PARAMS["gate"]["rules"] == suggested.SHIPPED_RULES


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_task_has_a_rule_versus_champion_and_versus_baseline(case: Case) -> None:
    rules, _ = suggested.rules_for(suggested.SHIPPED_RULES, case, "sft")
    assert [problem_of_task(Rule(**rule), case.task) for rule in rules] == [None] * len(rules)
    against = {rule["versus"]: rule["margin"] for rule in rules}
    assert against["champion"] < 0
    assert "baseline" in against
    if case.task in ("sft", "language-modeling"):
        assert against["baseline"] == 0.0
    else:
        assert against["baseline"] < 0
    assert suggested.SHIPPED.keys() >= suggested.values_for(case).keys()


def _untrained(task: Task) -> dict[str, Measures | None]:
    """The measures of a candidate that is as good as its base and the best baseline."""
    noise = {name: Interval(0.0, -0.001, 0.001, 100) for name in METRICS_OF_TASK[task]}
    better = noise | {name: Interval(-0.3, -0.4, -0.2, 100) for name in ("bits_per_byte", "token_loss")}
    # The base is already better than word frequencies.
    return {"base": noise, "baseline": better, "champion": None, "value": noise}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_an_untrained_candidate_does_not_pass(case: Case) -> None:
    rules, _ = suggested.rules_for(suggested.SHIPPED_RULES, case, "sft")
    assert decision.decide([Rule(**rule) for rule in rules], _untrained(case.task)).verdict != "passed"


def test_a_candidate_as_good_as_its_builtin_base_is_undecided() -> None:
    for task in ("sft", "language-modeling"):
        rules, _ = suggested.rules_for(suggested.SHIPPED_RULES, Case(task, "builtin", 100), "sft")
        assert decision.decide([Rule(**rule) for rule in rules], _untrained(task)).verdict == "undecided"


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_an_untrained_candidate_does_not_pass_the_rules_of_a_recipe(path: Path) -> None:
    p = params.load(path)
    assert decision.decide(p.rules, _untrained(p.task)).verdict != "passed"


def test_changing_the_task_and_back_gives_the_same_values() -> None:
    present = dict(suggested.SHIPPED)
    there, back = Case("preference", "model", 500), Case("sft", "builtin", 500)
    present |= suggested.choose(present, there, is_new=True).values
    assert present["finetune.learning_rate"] == 5e-6
    present |= suggested.choose(present, back, is_new=True).values
    assert {key: present[key] for key in suggested.values_for(back)} == suggested.values_for(back)


def test_more_rows_of_the_same_set_change_no_value() -> None:
    few, many = Case("classification", "model", 500), Case("classification", "model", 50_000)
    assert suggested.choose(suggested.values_for(few), many, is_new=False) == ({}, {})
    assert suggested.choose(suggested.values_for(few), many, is_new=True).values["finetune.num_train_epochs"] == 2.0
    by_hand = suggested.values_for(few) | {
        "finetune.early_stopping_patience": None,
        "finetune.num_train_epochs": 1.0,
    }
    assert suggested.choose(by_hand, few, is_new=False) == ({}, {})
    # The base has changed, so the values of the previous base do not fit.
    found = suggested.choose(suggested.values_for(Case("sft", "builtin", 500)), Case("sft", "model", 500), is_new=False)
    assert found.values["finetune.learning_rate"] == 2e-5


@pytest.mark.parametrize(
    ("case", "epochs", "rate", "patience", "written"),
    [
        # The table of another base holds the rate too, but the other values are those of this base.
        (Case("sft", "builtin", 500), 4.0, 2e-4, 3, {}),
        (Case("regression", "builtin", 500), 5.0, 3e-5, None, {}),
        # Values set by hand that some table holds, with a rate that no table holds, or with this base's rate.
        (Case("sft", "builtin", 500), 10.0, 0.0007, 3, {}),
        (Case("regression", "builtin", 500), 3.0, 5e-4, None, {}),
        # The base has changed, and the epochs were set by hand: the rate changes, the epochs stay.
        (Case("sft", "model", 500), 7.0, 0.002, 3, {"finetune.learning_rate": 2e-5}),
        (Case("sft", "adapters", 500), 3.0, 2e-5, 3, {"finetune.learning_rate": 2e-4}),
        (Case("sft", "model", 500), 3.0, 2e-4, 3, {"finetune.learning_rate": 2e-5}),
        # The task was set by hand in the shipped params.yaml.
        (
            Case("classification", "model", 500),
            1.0,
            0.005,
            3,
            {"finetune.learning_rate": 3e-5, "finetune.num_train_epochs": 10.0},
        ),
    ],
)
def test_for_the_same_set_only_values_of_another_base_change(
    case: Case, epochs: float, rate: float, patience: int | None, written: dict[str, float]
) -> None:
    present = suggested.SHIPPED | {
        "finetune.num_train_epochs": epochs,
        "finetune.learning_rate": rate,
        "finetune.early_stopping_patience": patience,
    }
    found = suggested.choose(present, case, is_new=False)
    assert found.values == written


def test_a_value_that_no_table_holds_was_set_by_hand() -> None:
    present = suggested.SHIPPED | {"finetune.learning_rate": 0.00123}
    found = suggested.choose(present, Case("sft", "model", 500), is_new=True)
    assert found.kept == {"finetune.learning_rate": (0.00123, 2e-5)}
    assert "finetune.learning_rate" not in found.values


def test_one_size_set_by_hand_keeps_all_sizes() -> None:
    present = suggested.SHIPPED | {"base.builtin.hidden_size": 100, "base.builtin.num_attention_heads": 3}
    found = suggested.choose(present, Case("classification", "builtin", 500), is_new=True)
    of_base = [key for key in found.values if key.startswith("base.")]
    assert of_base == [f"base.builtin.{key}" for key in ("num_train_epochs", "learning_rate", "adam_learning_rate")]
    assert found.values["finetune.learning_rate"] == 5e-4


def test_epochs_set_by_hand_do_not_keep_the_sizes() -> None:
    present = suggested.SHIPPED | {"base.builtin.num_train_epochs": 2.5}
    found = suggested.choose(present, Case("classification", "builtin", 500), is_new=True)
    assert list(found.kept) == ["base.builtin.num_train_epochs"]
    assert found.values["base.builtin.hidden_size"] == 256


def test_few_labelled_rows_get_a_low_pretraining_rate() -> None:
    rate = "base.builtin.adam_learning_rate"
    present = dict(suggested.SHIPPED)
    present |= suggested.choose(present, Case("classification", "builtin", 700), is_new=True).values
    assert present[rate] == 0.01
    present |= suggested.choose(present, Case("sft", "builtin", 700), is_new=True).values
    assert present[rate] == suggested.SHIPPED[rate]
    found = suggested.choose(suggested.SHIPPED | {rate: 0.03}, Case("classification", "builtin", 700), is_new=True)
    assert found.kept == {rate: (0.03, 0.01)}
    assert found.values["base.builtin.hidden_size"] == 256


def test_rules_set_by_hand_apply_again_when_their_task_returns() -> None:
    own = [{"metric": "chrf", "direction": "higher", "versus": "base", "margin": 2.0}]
    there, waiting = suggested.rules_for(own, Case("regression", "model", 500), "sft")
    assert waiting == [{**own[0], "task": "sft"}]
    assert there[-1:] == waiting
    assert suggested.rules_for(there, Case("sft", "model", 500), "regression") == (own, [])


def test_the_message_about_the_number_of_test_rows() -> None:
    assert suggested.resolution("classification", 100, 0.1) == (
        "with 100 test rows the 95 % interval of a difference in accuracy is about ±0.088: a smaller difference stays "
        "undecided; for ±0.02 about 1,900 test rows are needed"
    )


def test_a_handful_of_rows_is_told_how_many_are_needed() -> None:
    assert suggested.resolution("sft", 1, 0.2) == (
        "with 1 test rows no rule is decided: an interval needs at least 10 test rows with different prompts or texts, "
        "which are a share of 0.2 (data.split.test), so bring 50 rows or more; docs/recipes/README.md says how many "
        "each task needs"
    )
