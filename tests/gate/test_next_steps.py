"""The advice about a candidate that has not passed the gate."""

from dataclasses import replace

import pytest

from tuneline.evaluation.intervals import Interval
from tuneline.evaluation.slices import Slice, SlicedColumn
from tuneline.gate.decision import decide
from tuneline.gate.next_steps import Situation, next_steps, remark_on_champion
from tuneline.params import Rule

AT = Situation("sft", "builtin", 4.0, 0.002, 700, 150, {"steps": 100, "best_step": 100, "stopped_early": False})


def steps(
    versus: str, low: float, high: float, at: Situation = AT, margin: float = 0.0, fails_below: float | None = None
) -> list[str]:
    values = {"metric": "bits_per_byte", "direction": "lower", "versus": versus, "margin": margin}
    rule = Rule.model_validate(values | {"fails_below": fails_below})
    measured = Interval((low + high) / 2, low, high, 100)
    return next_steps(decide([rule], {versus: {"bits_per_byte": measured}}), at)


def test_the_advice_about_a_merged_model_is_about_the_merge() -> None:
    told = steps("base", 0.1, 0.3, replace(AT, base_source="merge", epochs=0.0, training={"steps": 0}))
    assert told == [
        "Merge other versions or with other weights, or train the merged model: raise finetune.num_train_epochs."
    ]


def test_a_failed_baseline_rule_advises_on_curve_epochs_base_and_rows() -> None:
    told = steps("baseline", 0.1, 0.3)
    assert told[0].startswith("The model predicts text no better than word frequencies do")
    assert (
        told[1]
        == "Train longer: raise finetune.num_train_epochs (now 4); the validation loss was still falling at the end."
    )
    assert told[2].startswith("Start from a pretrained base: docs/bases.md")
    assert told[3].startswith("Bring more rows: 700 were trained on. docs/recipes/README.md")
    assert told[4].startswith("Compare params.yaml with the recipe")


def test_a_chrf_that_copying_the_prompt_reaches_is_not_called_worse_than_word_frequencies() -> None:
    rule = Rule.model_validate({"metric": "chrf", "direction": "higher", "versus": "baseline", "margin": 0.0})
    told = next_steps(decide([rule], {"baseline": {"chrf": Interval(-2.0, -3.0, -1.0, 100, "copy")}}), AT)
    assert told[0].startswith("Copying the prompt scores as high a chrF as the answers do.")
    assert not any("word frequencies" in step for step in told)


def test_the_advice_depends_on_the_training_and_the_base() -> None:
    at = replace(AT, base_source="hub", train_rows=50_000, training={"stopped_early": True, "best_step": 10})
    told = steps("base", 0.1, 0.3, at)
    assert told == [
        "Try another base: docs/bases.md lists models by task and language.",
        "Compare params.yaml with the recipe for data like yours: docs/recipes/README.md.",
        "Lower finetune.learning_rate (now 0.002): fine-tuning has made the model worse than its base.",
    ]


@pytest.mark.parametrize(
    ("metric", "versus", "told"),
    [
        ("general_bits_per_byte", "base", "The model has forgotten what its base knew. Lower finetune.learning_rate"),
        ("general_bits_per_byte", "champion", "The model has forgotten what its base knew."),
        (
            "canary_exposure",
            "value",
            "The model knows training rows by heart. Lower finetune.learning_rate (now 0.002) ",
        ),
        ("copied_share", "base", "The model knows training rows by heart."),
    ],
)
def test_a_model_that_forgets_or_memorises_is_not_advised_to_train_longer(metric: str, versus: str, told: str) -> None:
    value = 3.0 if versus == "value" else None
    rule = Rule.model_validate(
        {"metric": metric, "direction": "lower", "versus": versus, "value": value, "margin": 0.0}
    )
    [found] = next_steps(decide([rule], {versus: {metric: Interval(8.0, 7.0, 9.0, 100)}}), AT)
    assert found.startswith(told)
    [found] = next_steps(decide([rule], {versus: {metric: "no canary was planted"}}), AT)
    assert found.startswith("A rule asks for what was not measured beside the test rows, and names the reason")


def test_after_a_better_champion_the_advice_is_to_compare_data_and_params() -> None:
    [told] = steps("champion", 0.1, 0.3)
    assert told.startswith("The champion is better on the same rows, so it stays.")


def test_a_candidate_that_is_surely_worse_is_not_advised_to_tolerate_more() -> None:
    told = steps("champion", 0.0038, 0.0536, margin=-0.02)
    assert told[0].startswith("The candidate is worse than the champion. Read in the report the rows that it answers")
    assert told[1].startswith("150 test rows are too few to decide")
    assert len(told) == 2


@pytest.mark.parametrize(
    ("metric", "earlier", "now", "rows", "remark"),
    [
        (
            "accuracy",
            0.96,
            0.63,
            261,
            "Accuracy of the champion is 0.630 on these test rows, and was 0.960 on its ",
        ),
        ("accuracy", 0.96, 0.87, 261, ""),
        ("accuracy", 0.96, 0.63, 99, ""),
        ("accuracy", 0.63, 0.96, 261, ""),
        ("bits_per_byte", 2.0, 2.3, 500, "Bits per byte of the champion is 2.300 on these test rows, and was 2.000 on"),
        ("bits_per_byte", 2.0, 2.1, 500, ""),
        ("chrf", 30.0, 20.0, 500, "chrF of the champion is 20.0 on these test rows, and was 30.0 on its own."),
    ],
)
def test_a_champion_that_is_much_worse_on_new_rows_is_remarked(
    metric: str, earlier: float, now: float, rows: int, remark: str
) -> None:
    found = remark_on_champion(["unknown", metric], {metric: earlier}, {metric: now, "rows": rows})
    assert found.startswith(remark)
    assert bool(found) == bool(remark)
    if remark:
        assert found.endswith("their labels or answers are wrong: read some of them before you trust this comparison.")


def test_an_undecided_gate_advises_more_rows_and_a_passed_gate_nothing() -> None:
    told = steps("baseline", -0.1, 0.3, margin=-0.05)
    assert told[0].startswith("150 test rows are too few to decide")
    assert told[1].startswith("Or tolerate a larger loss")
    assert steps("baseline", -0.3, -0.1) == []


def test_the_advice_says_when_fine_tuning_shows_no_improvement() -> None:
    nothing = (
        "The numbers do not show that fine-tuning has made the model better than its base, which was pretrained on the "
        "same text."
    )
    told = steps("base", -0.01, 0.02, fails_below=-0.05)
    assert told[0] == nothing
    assert told[1].startswith("Train longer")
    assert told[2].startswith("Start from a pretrained base")
    assert told[3].startswith("150 test rows are too few to decide")
    # More rows would not help: the interval is not above zero.
    told = steps("base", 0.01, 0.02, fails_below=-0.05)
    assert told[0] == nothing
    assert not any("too few" in one for one in told)
    told = steps("base", -0.01, 0.02, replace(AT, base_source="hub"))
    assert told[0] == "The numbers do not show that fine-tuning has made the model better than its base."


def versus_base(**bounds: tuple[float | None, float | None]) -> dict[str, dict[str, dict[str, float | None]]]:
    return {
        "versus_base": {name: {"difference": 0.0, "low": low, "high": high} for name, (low, high) in bounds.items()}
    }


def test_the_advice_names_the_metrics_in_which_fine_tuning_shows_an_improvement() -> None:
    measured = versus_base(
        bits_per_byte=(-0.02, 0.01),
        token_loss=(-0.2, 0.1),
        chrf=(1.0, 3.0),
        bleu=(0.1, 0.4),
        token_f1=(-0.2, -0.1),
        exact_match=(None, None),
        distinct_1=(0.1, 0.2),
    )
    told = steps("base", -0.01, 0.02, replace(AT, base_source="hub", evaluation=measured))
    assert told[0] == (
        "Fine-tuning has made the model better than its base in BLEU, chrF: these intervals are above zero. The "
        "numbers do not show it for Bits per byte, Exact match. It is worse in Token F1."
    )
    both = {"evaluation": versus_base(bits_per_byte=(-0.02, 0.01), chrf=(1.0, 3.0)), "base_source": "hub"}
    told = steps("base", -0.01, 0.02, replace(AT, **both))
    assert told[0] == (
        "Fine-tuning has made the model better than its base in chrF: these intervals are above zero. The numbers "
        "do not show it for Bits per byte."
    )
    none = replace(AT, base_source="hub", evaluation=versus_base(bits_per_byte=(-0.02, 0.01), chrf=(-1.0, 3.0)))
    assert steps("base", -0.01, 0.02, none)[0].startswith("The numbers do not show that fine-tuning has made the model")


def test_few_long_rows_that_hold_much_of_the_bytes_are_named_while_undecided() -> None:
    at = replace(AT, evaluation={"largest_rows": 3, "largest_share_of_bytes": 0.43})
    said = (
        "Few long rows decide the likelihood: the largest 3 of 150 test rows hold 43% of the bytes. Leave long rows "
        "out of the data, or raise finetune.max_length and base.builtin.max_length, if the model does not see them "
        "whole."
    )
    assert said in steps("baseline", -0.1, 0.3, at, margin=-0.05)
    few = replace(at, evaluation={"largest_rows": 3, "largest_share_of_bytes": 0.1})
    assert not any("long rows" in step for step in steps("baseline", -0.1, 0.3, few, margin=-0.05))
    only = replace(at, test_rows=1, evaluation={"largest_rows": 1, "largest_share_of_bytes": 1.0})
    assert not any("long rows" in step for step in steps("baseline", -0.1, 0.3, only, margin=-0.05))


def test_a_base_that_was_not_compared_is_not_called_better() -> None:
    rule = Rule.model_validate({"metric": "bits_per_byte", "direction": "lower", "versus": "base", "margin": 0.0})
    told = next_steps(decide([rule], {"base": {"bits_per_byte": "the model is its base"}}), AT)
    assert not any("worse than its base" in step for step in told)


def test_a_failed_slice_is_advised_on_as_such() -> None:
    rule = Rule.model_validate(
        {"metric": "chrf", "direction": "higher", "versus": "champion", "margin": 0.0, "slice": "language=zh"}
    )
    part = Slice("zh", 50, 50, {}, {"champion": {"chrf": Interval(-2.0, -3.0, -1.0, 50)}})
    for asked, beginning in (
        (rule, "The candidate is not good enough on a slice of the test rows."),
        (rule.model_copy(update={"slice": "language=zz"}), "A rule asks for a slice that was not measured"),
    ):
        slices = {"champion": {"language": SlicedColumn((part,), 1, {})}}
        [told] = next_steps(decide([asked], {"champion": {}}, slices=slices), AT)
        assert told.startswith(beginning)
