"""A training that is killed at any instant and run again ends in the same bytes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from tiny_models import TEXTS

from tuneline.core import files
from tuneline.data.records.record_form import RecordForm
from tuneline.params import editing

WRITTEN = {"base": ("models/base", "reports/base.csv"), "finetune": ("models/finetuned", "reports/training.csv")}
LORA = {"r": 4, "lora_alpha": 8, "lora_dropout": 0.2, "target_modules": "all-linear"}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    # Noise, dropout and a schedule of its own: all that may be forgotten.
    "full": ("sft", {"neftune_noise_alpha": 5.0, "optim": "adafactor", "lr_scheduler_type": "cosine_with_min_lr",
                     "lr_scheduler_kwargs": {"min_lr_rate": 0.1}}),
    "muon": ("sft", {"optim": "muon", "adam_learning_rate": 0.02, "activation_checkpointing": True}),
    "lora": ("sft", {"lora": LORA, "label_smoothing_factor": 0.1, "layerwise_lr_decay": 0.8, "l1_decay": 0.01}),
    "regularised": ("sft", {"freeze": {"embeddings": True}, "dropout": {"attention_dropout": 0.2}, "optim": "muon",
                            "layerwise_lr_decay": 0.8, "l1_decay": 0.01, "neftune_noise_alpha": 5.0}),
    "early": ("sft", {"early_stopping_patience": 2, "eval_steps": 1, "learning_rate": 0.3, "num_train_epochs": 3.0}),
    "plateau": ("sft", {"optim": "sgd", "lr_scheduler_type": "reduce_lr_on_plateau", "warmup_steps": 0}),
    "classification": ("classification", {"class_weights": "balanced", "packing": False}),
    "classification-lora": ("classification", {"lora": LORA, "packing": False}),
    "regression": ("regression", {"packing": False}),
    "preference": ("preference", {"packing": False}),
    "preference-lora-early": ("preference", {"lora": LORA, "packing": False, "early_stopping_patience": 1,
                                             "eval_steps": 1, "metric_for_best_model": "reward_accuracy"}),
}  # fmt: skip
CHEAP = ("lora", "early", "preference-lora-early")


def rows_of(task: str, part: slice) -> dict[str, list[str]]:
    first, rest = zip(*(text.split(" ", 1) for text in TEXTS[part]), strict=True)
    if task == "classification":
        return {"text": list(TEXTS[part]), "label": [text.split()[1][0] for text in TEXTS[part]]}
    if task == "regression":
        return {"text": list(TEXTS[part]), "label": [str(len(text) / 50) for text in TEXTS[part]]}
    if task == "preference":
        return {"prompt": list(first), "chosen": list(rest), "rejected": [*rest[1:], rest[0]]}
    return {"prompt": list(first), "completion": list(rest)}


# What a gate may ask for, where it is not the likelihood.
MEASURED = {"classification": ("accuracy", "higher"), "regression": ("mae", "lower")}


def make(workplace: Path, case: str) -> None:
    task, finetune = CASES[case]
    for name, part in (("train", slice(20, 120)), ("validation", slice(0, 20))):
        files.write_parquet(workplace / f"data/clean/{name}/part-00000.parquet", pa.table(rows_of(task, part)))
    form = RecordForm("prompt-completion" if task == "sft" else task)  # pyright: ignore[reportArgumentType]
    files.write_json(workplace / "data/clean/dataset.json", form.as_json() | {"mixture": {}})
    metric, direction = MEASURED.get(task, ("bits_per_byte", "lower"))
    rule = {"metric": metric, "direction": direction, "versus": "champion", "margin": 0.0}
    editing.set_values(workplace / "params.yaml", {"task": task, "gate.rules": [rule]})
    path = workplace / "params.yaml"
    text = path.read_text("utf-8")
    given = [key for key in finetune if f"\n  {key}: " not in text.split("\nfinetune:")[1].split("\nevaluate:")[0]]
    lines = "".join(f"  {key}: null\n" for key in given)
    path.write_text(text.replace("\nfinetune:\n", f"\nfinetune:\n{lines}"), "utf-8")
    editing.set_values(path, {f"finetune.{key}": value for key, value in finetune.items()})


def made_by(what: str, place: Path) -> list[str]:
    return [files.sha256_path(place / name) for name in WRITTEN[what]]


def hold(workplace: Path, killed_at: Callable[[str, Path, int], bool], what: str, events: tuple[int, ...]) -> None:
    assert not killed_at(what, workplace, 0)
    expected = made_by(what, workplace)
    for name in WRITTEN[what]:
        path = workplace / name
        path.rename(path.with_name(f"{path.name}.uninterrupted"))
    for event in events:
        assert killed_at(what, workplace, event), f"{what} touches no checkpoint {event} times"
        assert not (workplace / WRITTEN[what][1]).exists()
    assert not killed_at(what, workplace, 0)
    assert made_by(what, workplace) == expected
    # What was for going on is gone, and nothing half-written lies about.
    assert {path.name for path in (workplace / "work").iterdir() if path.is_dir()} <= {"tokens", "temporary"}
    assert not list((workplace / "work").glob("temporary/*"))
    assert not list(workplace.rglob("*.partial"))


@pytest.mark.parametrize("what", ["base", "finetune"])
def test_repeated_kills_end_in_the_same_bytes(
    workplace: Path, killed_at: Callable[[str, Path, int], bool], what: str
) -> None:
    # Each run gets a little further: in the middle of the first checkpoint, of its commit, of a later one, after all.
    hold(workplace, killed_at, what, (3, 12, 30, 45))


@pytest.mark.slow
@pytest.mark.parametrize("event", range(4, 90, 6))
def test_a_pretraining_that_stops_early_is_the_same_after_a_kill_at_any_instant(
    workplace: Path, killed_at: Callable[[str, Path, int], bool], event: int
) -> None:
    reversed_words = pa.table({"text": [" ".join(text.split()[::-1]) for text in TEXTS[:20]]})
    files.write_parquet(workplace / "data/pretraining/validation/part-00000.parquet", reversed_words)
    early = {"max_steps": None, "num_train_epochs": 20.0, "warmup_steps": 0.1, "eval_steps": 4, "save_steps": 3}
    editing.set_values(workplace / "params.yaml", {f"base.builtin.{key}": value for key, value in early.items()})
    assert not killed_at("base", workplace, 0)
    expected, report = made_by("base", workplace), files.read_json(workplace / "reports/base.json")
    assert report["stopped_early"]
    assert killed_at("base", workplace, event), f"the base touches no checkpoint {event} times"
    assert not killed_at("base", workplace, 0)
    assert made_by("base", workplace) == expected
    assert files.read_json(workplace / "reports/base.json") == report


@pytest.mark.parametrize(
    "case", [case if case in CHEAP else pytest.param(case, marks=pytest.mark.slow) for case in CASES]
)
def test_every_task_optimizer_and_adapter_resumes_to_the_same_bytes(
    workplace: Path, killed_at: Callable[[str, Path, int], bool], case: str
) -> None:
    make(workplace, case)
    hold(workplace, killed_at, "finetune", (25, 40) if case in CHEAP else (5, 20, 35))
