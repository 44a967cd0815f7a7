"""The estimate of memory and time before a training, and the trial of its longest batches."""

import dataclasses
from pathlib import Path

import pytest

from tuneline import params
from tuneline.core import files
from tuneline.errors import TrainingError
from tuneline.finetuning import estimate, tasks
from tuneline.params import editing
from tuneline.stages import finetune
from tuneline.training.training_config import TrainingConfig


def ready(place: Path) -> tuple[tasks.Ready, params.Params]:
    p = params.load(place / "params.yaml")
    return tasks.prepare(p.task, place / "data/clean", place / "models/base", p.finetune, p.compute), p


@pytest.mark.slow
def test_the_trial_does_not_change_the_weights_of_the_training(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    editing.set_values(workplace / "params.yaml", {"compute.threads": 1})
    finetune.main(params.load())
    without = [files.sha256_path(workplace / name) for name in ("models/finetuned", "reports/training.csv")]
    assert "the longest batches need" not in capfd.readouterr().out
    monkeypatch.setattr(estimate, "LONG", 0.0)
    finetune.main(params.load())
    assert [files.sha256_path(workplace / name) for name in ("models/finetuned", "reports/training.csv")] == without
    assert "the longest batches need" in capfd.readouterr().out


@pytest.mark.slow
def test_batches_that_do_not_fit_are_refused_with_the_key_to_lower(workplace: Path) -> None:
    # Room for the libraries and the model, and none for 400,000 rows side by side.
    values = {"finetune.per_device_train_batch_size": 400_000, "finetune.packing": False}
    editing.set_values(workplace / "params.yaml", values)
    with pytest.raises(
        TrainingError, match=r"^out of memory: \w+ does not fit into the .* MB .*; lower finetune|use a"
    ):
        estimate.trial(60_000_000)


def test_the_estimate_counts_weights_gradients_and_optimizer(workplace: Path) -> None:
    made, p = ready(workplace)
    said = estimate.estimate(made, TrainingConfig.from_params(p.finetune), lora=False)
    assert said.fixed == 4 * said.parameters * 4
    assert estimate.estimate(made, TrainingConfig.from_params(p.finetune), lora=True).fixed == 4 * said.parameters
    sharded = [TrainingConfig.from_params(p.finetune, nproc_per_node=count, fsdp="full_shard") for count in (2, 8)]
    fixed = [estimate.estimate(made, config, lora=False).fixed for config in sharded]
    assert fixed == [said.fixed // 2, 4 * said.parameters]
    assert said.tokens == sum(len(example.input_ids) for example in made.examples)


def test_the_estimate_counts_no_gradients_of_weights_that_are_not_trained(workplace: Path) -> None:
    made, p = ready(workplace)
    config = TrainingConfig.from_params(p.finetune)
    said = estimate.estimate(made, config, lora=False)
    kept = dataclasses.replace(made, frozen=("model.embed_tokens.weight",))
    embeddings = made.model.get_parameter("model.embed_tokens.weight").numel()
    assert estimate.estimate(kept, config, lora=False).fixed == said.fixed - 4 * embeddings * 3
