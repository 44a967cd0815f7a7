from math import inf
from pathlib import Path
from typing import Any

import pytest
from projects import ROOT
from pydantic import ValidationError

from tuneline import params
from tuneline.errors import ParamsError
from tuneline.params import TASK_KEYS, Task, editing
from tuneline.params.gate import METRICS, METRICS_OF_TASK, OF_LABEL, Rule, metric, problem_of_task

FORGETTING = {"metric": "general_bits_per_byte", "direction": "lower", "versus": "base", "margin": -0.05}
EXTRACTION = {"metric": "extraction_strength", "direction": "lower", "versus": "base", "margin": -0.05}


def rule(**more: Any) -> Rule:
    better = "lower" if more.get("metric") in ("ece", "mae", "perplexity") else "higher"
    values = {"metric": "accuracy", "direction": better, "versus": "baseline", "margin": 0.0}
    return Rule.model_validate(values | more)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"metric": "acuracy"}, "no metric has this name; did you mean accuracy? The metrics are bits_per_byte,"),
        ({"metric": "recall:"}, "no metric has this name; the metrics are bits_per_byte,"),
        ({"metric": "f1:spam"}, "recall:LABEL, precision:LABEL"),
        ({"metric": "perplexity", "direction": "lower"}, "no metric has this name"),
        ({"direction": "lower"}, "accuracy is better when higher, but direction is lower; set direction to higher"),
        ({"metric": "rmse"}, "rmse is better when lower"),
        ({"versus": "value"}, "versus value needs the key `value`"),
        ({"fails_below": 0.1}, "fails_below 0.1 is above the margin 0; set it to the margin or less"),
        ({"value": 0.9}, "value 0.9 is only used with versus value, and versus is baseline; remove value"),
    ],
)
def test_a_contradictory_rule_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as error:
        rule(**values)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("values", "task", "key"),
    [
        ({"metric": "chrf"}, "language-modeling", "metric"),
        ({}, "sft", "metric"),
        ({"metric": "recall:spam"}, "regression", "metric"),
        ({"versus": "base"}, "classification", "versus"),
        ({"metric": "spearman", "versus": "base"}, "regression", "versus"),
        ({"metric": "reward_margin", "versus": "base"}, "preference", None),
        ({"metric": "recall:spam"}, "classification", None),
        ({"metric": "precision:spam"}, "classification", None),
        ({"metric": "precision:spam"}, "sft", "metric"),
        ({"metric": "ece"}, "classification", None),
        ({"metric": "length_ratio"}, "sft", "versus"),
        ({"metric": "length_ratio", "direction": "lower", "versus": "value", "value": 1.5}, "sft", None),
        ({"versus": "value", "value": 0.9}, "classification", None),
    ],
)
def test_a_rule_on_a_metric_that_the_task_does_not_measure_is_refused(
    values: dict[str, Any], task: Task, key: str | None
) -> None:
    found = problem_of_task(rule(**values), task)
    assert (found and found[0]) == key


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_has_its_direction_range_and_source(name: str) -> None:
    one = METRICS[name]
    assert one.name and one.better in ("lower", "higher", "neither")
    assert one.range[0] < one.range[1]
    assert "http" in one.source or "scikit-learn" in one.source


def test_every_metric_of_a_task_has_its_line_in_the_table() -> None:
    assert {name for names in METRICS_OF_TASK.values() for name in names} <= set(METRICS)
    assert metric("recall:不满意").name == "Recall of “不满意”"


def test_the_documentation_has_a_line_for_every_metric() -> None:
    def bound(value: float) -> str:
        return {inf: "∞", -inf: "−∞"}.get(value, f"{value:g}".replace("-", "−"))

    lines = (ROOT / "docs/metrics.md").read_text("utf-8").splitlines()
    known = METRICS | {f"{kind}:LABEL": one for kind, one in OF_LABEL.items()}
    wanted = [
        f"| `{name}` | {one.name} | {one.better} | {bound(one.range[0])} to {bound(one.range[1])} | {one.source} |"
        for name, one in known.items()
    ]
    of_tasks = {task: (*keys.metrics, *keys.probes) for task, keys in TASK_KEYS.items()}
    wanted += [f"| {task} | {', '.join(f'`{name}`' for name in names)} |" for task, names in of_tasks.items()]
    assert [line for line in wanted if line not in lines] == []
    documented = [line for line in lines if line.startswith("| `")]
    assert [line for line in documented if line not in wanted] == []


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"data.canaries": 9}, "data.canaries: 9 canaries are too few: the interval of their exposure needs 10"),
        (
            {"evaluate.probes.general_rows": 4, "gate.rules": [FORGETTING]},
            "evaluate.probes.general_rows: 4 rows are too few to decide the rule on general_bits_per_byte",
        ),
        (
            {"evaluate.probes.memorisation_rows": 4, "gate.rules": [EXTRACTION]},
            "evaluate.probes.memorisation_rows: 4 rows are too few to decide the rule on extraction_strength",
        ),
        (
            {"data.raw": "data/raw/faq", "data.pretraining": "data/raw/faq-pretraining", "gate.rules": [FORGETTING]},
            "the builtin base is pretrained on the text of the raw set itself (data/raw/faq-pretraining)",
        ),
        (
            {"base.source": "path", "base.input": "models/mine", "gate.rules": [FORGETTING]},
            "base.source is path, so no pretraining text was held out, and data.general is null; remove the rule,",
        ),
    ],
)
def test_what_a_rule_of_a_probe_could_never_measure_is_refused(
    tmp_path: Path, params_text: str, values: dict[str, Any], problem: str
) -> None:
    file = tmp_path / "params.yaml"
    file.write_text(params_text, "utf-8")
    editing.set_values(file, values)
    with pytest.raises(ParamsError) as found:
        params.load(file)
    [told] = found.value.problems
    assert problem in told


def test_few_rows_of_a_probe_are_no_problem_without_a_rule(tmp_path: Path, params_text: str) -> None:
    file = tmp_path / "params.yaml"
    file.write_text(params_text, "utf-8")
    editing.set_values(file, {"evaluate.probes.general_rows": 4, "data.canaries": 10})
    params.load(file)
    editing.set_values(file, {"data.raw": "data/raw/faq", "data.pretraining": "data/raw/faq-pretraining"})
    assert "text of the raw set itself" in params.load(file).why_no_general_text
    assert params.load(ROOT / "params.yaml").why_no_general_text == ""
