"""The weights with the best measure are kept, and are the result, also after a kill."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_models import classifier, documents, labelled, tiny, training_config

from tuneline.encoding.examples import lengths
from tuneline.errors import TrainingError
from tuneline.training import checkpoints, training_run
from tuneline.training.log import History
from tuneline.training.objectives import Classification
from tuneline.training.training_run import Training

# A rate at which validation soon gets worse.
HOW: dict[str, Any] = {
    "num_train_epochs": 20.0,
    "learning_rate": 0.02,
    "eval_steps": 2,
    "save_steps": 5,
    "warmup_steps": 0,
}


def train(folder: Path, **more: Any) -> Training:
    how = training_config(**(HOW | {"early_stopping_patience": 3} | more))
    return training_run.train(tiny("llama"), documents(10), how, pad=1, folder=folder, validation=documents(10, seed=1))


def weights(made: Training) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in made.model.state_dict().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def test_early_stopping_keeps_the_best_weights_and_resumes_to_the_same_weights(tmp_path: Path) -> None:
    made = train(tmp_path / "work")
    taken = [(int(line["step"]), line["eval_loss"]) for line in made.history.lines if "eval_loss" in line]
    best = min(taken, key=lambda one: one[1])[0]
    assert made.stopped_early
    assert made.best == best
    assert made.steps == taken[-1][0] == best + 2 * 3
    assert made.counts()["best_step"] == best
    assert made.times is not None
    assert int((made.times * lengths(documents(10))).sum()) == made.history.tokens
    assert same(weights(made), load_file(tmp_path / f"work/checkpoint-{best}/model.safetensors"))

    # Killed after its last checkpoint: nothing is trained again.
    kept = {path.name for path in (tmp_path / "work").iterdir()}
    assert f"checkpoint-{best}" in kept
    again = train(tmp_path / "work")
    assert again.history == made.history
    assert same(weights(again), weights(made))

    # The best one is damaged: without it the newest is of no use, and all begins anew.
    (tmp_path / f"work/checkpoint-{best}/model.safetensors").write_bytes(b"damaged")
    assert checkpoints.newest_good(tmp_path / "work") is None
    anew = train(tmp_path / "work")
    assert anew.history.csv() == made.history.csv()
    assert same(weights(anew), weights(made))

    # The newest one is deleted.
    shutil.rmtree(max((tmp_path / "work").iterdir(), key=lambda path: int(path.name.split("-")[1])))
    assert same(weights(train(tmp_path / "work")), weights(made))


def test_the_best_weights_are_kept_without_early_stopping(tmp_path: Path) -> None:
    made = train(tmp_path, early_stopping_patience=None, load_best_model_at_end=True, num_train_epochs=6.0)
    assert not made.stopped_early
    assert made.best is not None
    assert made.best < made.steps
    assert same(weights(made), load_file(tmp_path / f"checkpoint-{made.best}/model.safetensors"))


def test_any_measure_of_the_task_may_decide_which_weights_are_best(tmp_path: Path) -> None:
    examples = labelled(20)
    objective = Classification.for_examples(examples, pad=1, labels=3, multi_label=False)

    def run(name: str) -> Training:
        how = training_config(packing=False, early_stopping_patience=9, metric_for_best_model=name, save_steps=99)
        return training_run.train(
            classifier("llama"), examples, how, pad=1, folder=tmp_path / name, objective=objective, validation=examples
        )

    made = run("accuracy")
    taken = {int(line["step"]): line["eval_accuracy"] for line in made.history.lines if "eval_accuracy" in line}
    assert taken[made.best or 0] == max(taken.values())
    with pytest.raises(TrainingError, match=r"metric_for_best_model: f1 is not measured .* one of loss, accuracy"):
        run("f1")


def test_keeping_the_best_weights_needs_validation_rows(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="early_stopping_patience: the best weights cannot be found"):
        training_run.train(
            tiny("llama"), documents(4), training_config(early_stopping_patience=1), pad=1, folder=tmp_path
        )


def test_losses_and_errors_are_better_when_lower() -> None:
    history = History([{"step": 1, "eval_loss": 2.0, "eval_accuracy": 0.5}, {"step": 2, "eval_loss": 2.0},
                       {"step": 3, "eval_loss": 3.0, "eval_accuracy": 0.7}])  # fmt: skip
    assert (history.best("eval_loss"), history.since_best("eval_loss")) == (1, 2)
    assert (history.best("eval_accuracy"), history.since_best("eval_accuracy")) == (3, 0)
    assert history.best("eval_other") is None


def test_a_step_that_warm_up_has_trained_with_rate_0_is_not_the_best_one(tmp_path: Path) -> None:
    # Every update makes validation worse, so the unchanged weights of step 1 have the best measure.
    made = train(tmp_path, warmup_steps=2, learning_rate=0.5, eval_steps=1, early_stopping_patience=2)
    taken = {int(line["step"]): line["eval_loss"] for line in made.history.lines if "eval_loss" in line}
    assert made.history.lines[0]["learning_rate"] == 0
    assert taken[1] == min(taken.values())
    assert made.best is not None
    assert made.best > 1
    assert not same(weights(made), tiny("llama").state_dict())
    again = train(tmp_path, warmup_steps=2, learning_rate=0.5, eval_steps=1, early_stopping_patience=2)
    assert (again.best, again.history) == (made.best, made.history)
