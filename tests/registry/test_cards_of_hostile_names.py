"""Labels and values of slices that look like code, in a model card and in the names of metrics."""

from hostile_names import NAMES
from huggingface_hub import ModelCard
from huggingface_hub.repocard_data import model_index_to_eval_results
from mlflow.utils import validation

from tuneline import params
from tuneline.registry import cards, measured
from tuneline.registry.lineage import Lineage


def test_a_model_card_stays_readable(project: params.Params, lineage: Lineage) -> None:
    rules = [
        {"metric": f"recall:{name}", "verdict": "passed", "reason": f"Recall of “{name}” is better."} for name in NAMES
    ]
    evaluation = {
        "rows": 9,
        "candidate": {"accuracy": 0.5},
        "recall": {name: {"candidate": 0.5} for name in NAMES},
        "versus_majority": {"accuracy": {"difference": 0.1, "low": 0.0, "high": 0.2}},
    }
    p = project.model_copy(update={"task": "classification"})
    text = cards.model_card(p, lineage, {"verdict": "passed", "rules": rules}, evaluation)
    assert "\x1b" not in text
    assert "<b>" not in text
    assert sum(line.startswith("- Recall of ") for line in text.splitlines()) == len(NAMES)
    assert model_index_to_eval_results(ModelCard(text).data.to_dict()["model-index"])[1]
    gate = {"verdict": "passed", "rules": rules}
    assert "\x1b" not in cards.version_description("classification", gate, evaluation, [])


def test_metrics_of_hostile_names_do_not_reach_mlflow(project: params.Params) -> None:
    evaluation = {
        "rows": 9,
        "candidate": {"accuracy": 0.5},
        "recall": {name: {"candidate": 0.5} for name in NAMES},
        "versus_champion": {f"recall:{name}": {"difference": 0.1, "low": 0.0, "high": 0.2} for name in NAMES},
        "slices": {"shop": {name: {"accuracy": 0.5} for name in [*NAMES, "điện thoại"]}},
        "gaps": {name: {"accuracy": 0.5} for name in NAMES},
    }
    found = measured.run_metrics(evaluation)
    assert found["candidate.accuracy"] == 0.5
    assert found["slices.shop.điện thoại.accuracy"] == 0.5
    for name in found:
        validation._validate_metric_name(name)
