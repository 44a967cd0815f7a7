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


def test_what_is_shipped_is_what_params_yaml_says() -> None:
    def value(key: str) -> Any:
        node = PARAMS
        for part in key.split("."):
            node = node[part]
        return node

    assert {key: value(key) for key in suggested.SHIPPED} == suggested.SHIPPED
    assert PARAMS["gate"]["rules"] == suggested.SHIPPED_RULES


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_task_has_a_champion_rule_and_a_rule_versus_what_costs_nothing(case: Case) -> None:
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


def _nothing_learnt(task: Task) -> dict[str, Measures | None]:
    """What is measured of a candidate that does what its base, and the best baseline, do anyway."""
    noise = {name: Interval(0.0, -0.001, 0.001, 100) for name in METRICS_OF_TASK[task]}
    better = noise | {name: Interval(-0.3, -0.4, -0.2, 100) for name in ("bits_per_byte", "token_loss")}
    # Word frequencies are beaten by the base already.
    return {"base": noise, "baseline": better, "champion": None, "value": noise}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_candidate_that_learnt_nothing_does_not_pass(case: Case) -> None:
    rules, _ = suggested.rules_for(suggested.SHIPPED_RULES, case, "sft")
    assert decision.decide([Rule(**rule) for rule in rules], _nothing_learnt(case.task)).verdict != "passed"


def test_a_candidate_as_good_as_a_base_that_has_read_its_text_is_no_failure() -> None:
    for task in ("sft", "language-modeling"):
        rules, _ = suggested.rules_for(suggested.SHIPPED_RULES, Case(task, "builtin", 100), "sft")
        assert decision.decide([Rule(**rule) for rule in rules], _nothing_learnt(task)).verdict == "undecided"


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_nor_by_the_rules_of_a_recipe(path: Path) -> None:
    p = params.load(path)
    assert decision.decide(p.rules, _nothing_learnt(p.task)).verdict != "passed"


def test_a_task_there_and_back_gives_the_same() -> None:
    present = dict(suggested.SHIPPED)
    there, back = Case("preference", "model", 500), Case("sft", "builtin", 500)
    present |= suggested.choose(present, there, is_new=True).values
    assert present["finetune.learning_rate"] == 5e-6
    present |= suggested.choose(present, back, is_new=True).values
    assert {key: present[key] for key in suggested.values_for(back)} == suggested.values_for(back)


def test_next_month_s_rows_change_no_value_that_suits_the_task() -> None:
    few, many = Case("classification", "model", 500), Case("classification", "model", 50_000)
    assert suggested.choose(suggested.values_for(few), many, is_new=False) == ({}, {})
    assert suggested.choose(suggested.values_for(few), many, is_new=True).values["finetune.num_train_epochs"] == 2.0
    by_hand = suggested.values_for(few) | {
        "finetune.early_stopping_patience": None,
        "finetune.num_train_epochs": 1.0,
    }
    assert suggested.choose(by_hand, few, is_new=False) == ({}, {})
    # The base was another in the meantime, so the values of the one before do not suit any more.
    found = suggested.choose(suggested.values_for(Case("sft", "builtin", 500)), Case("sft", "model", 500), is_new=False)
    assert found.values["finetune.learning_rate"] == 2e-5


@pytest.mark.parametrize(
    ("case", "epochs", "rate", "patience", "written"),
    [
        # A rate that another base's table holds, too: the values beside it are still those of this base.
        (Case("sft", "builtin", 500), 4.0, 2e-4, 3, {}),
        (Case("regression", "builtin", 500), 5.0, 3e-5, None, {}),
        # Values by hand that stand in some table or other, with a rate that stands in none, or with this base's.
        (Case("sft", "builtin", 500), 10.0, 0.0007, 3, {}),
        (Case("regression", "builtin", 500), 3.0, 5e-4, None, {}),
        # The base was another, and the epochs were set by hand: the rate changes, the epochs stay.
        (Case("sft", "model", 500), 7.0, 0.002, 3, {"finetune.learning_rate": 2e-5}),
        (Case("sft", "adapters", 500), 3.0, 2e-5, 3, {"finetune.learning_rate": 2e-4}),
        (Case("sft", "model", 500), 3.0, 2e-4, 3, {"finetune.learning_rate": 2e-5}),
        # The task was named by hand in params.yaml as it is shipped.
        (
            Case("classification", "model", 500),
            1.0,
            0.005,
            3,
            {"finetune.learning_rate": 3e-5, "finetune.num_train_epochs": 10.0},
        ),
    ],
)
def test_of_the_same_set_and_task_only_values_that_were_written_for_another_base_change(
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


def test_a_size_that_was_set_by_hand_keeps_the_others_which_fit_it() -> None:
    present = suggested.SHIPPED | {"base.builtin.hidden_size": 100, "base.builtin.num_attention_heads": 3}
    found = suggested.choose(present, Case("classification", "builtin", 500), is_new=True)
    of_base = [key for key in found.values if key.startswith("base.")]
    assert of_base == [f"base.builtin.{key}" for key in ("num_train_epochs", "learning_rate", "adam_learning_rate")]
    assert found.values["finetune.learning_rate"] == 5e-4


def test_epochs_of_a_base_that_were_set_by_hand_are_no_size() -> None:
    present = suggested.SHIPPED | {"base.builtin.num_train_epochs": 2.5}
    found = suggested.choose(present, Case("classification", "builtin", 500), is_new=True)
    assert list(found.kept) == ["base.builtin.num_train_epochs"]
    assert found.values["base.builtin.hidden_size"] == 256


def test_embeddings_are_pretrained_gently_for_few_labelled_rows_and_only_for_these() -> None:
    rate = "base.builtin.adam_learning_rate"
    present = dict(suggested.SHIPPED)
    present |= suggested.choose(present, Case("classification", "builtin", 700), is_new=True).values
    assert present[rate] == 0.01
    present |= suggested.choose(present, Case("sft", "builtin", 700), is_new=True).values
    assert present[rate] == suggested.SHIPPED[rate]
    found = suggested.choose(suggested.SHIPPED | {rate: 0.03}, Case("classification", "builtin", 700), is_new=True)
    assert found.kept == {rate: (0.03, 0.01)}
    assert found.values["base.builtin.hidden_size"] == 256


def test_rules_of_a_person_wait_until_their_task_comes_back() -> None:
    own = [{"metric": "chrf", "direction": "higher", "versus": "base", "margin": 2.0}]
    there, waiting = suggested.rules_for(own, Case("regression", "model", 500), "sft")
    assert waiting == [{**own[0], "task": "sft"}]
    assert there[-1:] == waiting
    assert suggested.rules_for(there, Case("sft", "model", 500), "regression") == (own, [])


def test_what_a_number_of_test_rows_can_decide() -> None:
    assert suggested.resolution("classification", 100) == (
        "with 100 test rows the 95 % interval of a difference in accuracy is about ±0.088: a smaller difference stays "
        "undecided; for ±0.02 about 1,900 test rows are needed"
    )
