"""Arguments of transformers that could be accepted without effect: each has its effect here."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import documents, tiny, training_config

from tuneline import params
from tuneline.encoding.examples import Example
from tuneline.errors import TrainingError
from tuneline.finetuning import tasks
from tuneline.training import training_run
from tuneline.training.training_run import Training

ROOT = Path(__file__).resolve().parents[2]


def train(folder: Path, *, lora: Any = None, **how: Any) -> Training:
    made = training_config(save_steps=99, **how)
    return training_run.train(tiny("llama"), documents(12), made, pad=1, folder=folder, lora=lora)


def flat(made: Training) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in made.model.parameters()])


@pytest.mark.parametrize("lora", [None, {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj"]}], ids=["full", "lora"])
def test_neftune_noise_is_added_and_is_reproducible(tmp_path: Path, lora: Any) -> None:
    plain, *noisy = (
        train(tmp_path / str(run), lora=lora, neftune_noise_alpha=alpha) for run, alpha in enumerate((None, 5.0, 5.0))
    )
    assert torch.equal(flat(noisy[0]), flat(noisy[1]))
    assert (flat(plain) - flat(noisy[0])).abs().max() > 1e-4
    assert not noisy[0].model.get_input_embeddings()._forward_hooks


def test_dropout_of_adapters_acts_in_training(tmp_path: Path) -> None:
    lora = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj"]}
    plain, none, some = (train(tmp_path / str(p), lora=lora | {"lora_dropout": p}) for p in (0.0, 0.0, 0.5))
    assert torch.equal(flat(plain), flat(none))
    assert not torch.equal(flat(plain), flat(some))


@pytest.mark.parametrize("lora", [None, {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj"]}], ids=["full", "lora"])
def test_gradient_checkpointing_changes_no_weight(tmp_path: Path, lora: Any) -> None:
    plain, saving = (train(tmp_path / str(on), lora=lora, gradient_checkpointing=on) for on in (False, True))
    torch.testing.assert_close(flat(plain), flat(saving), atol=1e-6, rtol=0)


def test_lr_scheduler_kwargs_reach_the_scheduler(tmp_path: Path) -> None:
    made = train(tmp_path, lr_scheduler_type="cosine_with_min_lr", learning_rate=1e-3, logging_steps=1,
                 lr_scheduler_kwargs={"min_lr_rate": 0.5})  # fmt: skip
    assert 5e-4 <= made.history.lines[-1]["learning_rate"] < 6.5e-4
    with pytest.raises(TrainingError, match=r"^finetune.lr_scheduler_kwargs: do not fit cosine: .*min_lr"):
        train(tmp_path / "wrong", lr_scheduler_kwargs={"min_lr": 0.5})


def test_an_optimizer_that_is_not_installed_is_an_error_before_training(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"^finetune.optim: galore_adamw cannot be used"):
        train(tmp_path, optim="galore_adamw", optim_target_modules=["q_proj"])


def test_bfloat16_is_used_and_the_weights_stay_float32(tmp_path: Path) -> None:
    plain, half = train(tmp_path / "plain"), train(tmp_path / "half", precision="bfloat16")
    assert {parameter.dtype for parameter in half.model.parameters()} == {torch.float32}
    assert not torch.equal(flat(plain), flat(half))


@pytest.mark.parametrize("at", [3, 9])
def test_a_nan_loss_names_its_rows_and_the_last_good_checkpoint(
    tmp_path: Path, at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    examples = [Example(*one[:2], f"data/raw/mine/a.jsonl:{line}") for line, one in enumerate(documents(20), 1)]
    how = training_config(packing=False, num_train_epochs=1.0, save_steps=4, per_device_train_batch_size=2)
    seen: list[int] = []
    model = tiny("llama")

    def spoil(*_: Any) -> None:
        seen.extend([1] if model.training else [])
        if len(seen) == at:
            next(model.parameters()).data.fill_(float("nan"))

    counted = model.register_forward_pre_hook(spoil)
    with pytest.raises(TrainingError) as caught:
        training_run.train(model, examples, how, pad=1, folder=tmp_path)
    counted.remove()
    said = str(caught.value)
    assert said.startswith(f"step {at}: the loss is nan in the batch of data/raw/mine/a.jsonl:")
    assert said.split(";")[0].count("a.jsonl:") == 2
    kept = f"the last good checkpoint is {tmp_path}/checkpoint-8" if at > 8 else "no checkpoint was written yet"
    assert kept in said


@pytest.mark.parametrize(
    ("task", "given", "measure"),
    [
        ("sft", None, "eval_loss"),
        ("regression", None, "eval_loss"),
        ("preference", None, "eval_loss"),
        ("classification", None, "eval_accuracy"),
        ("classification", "loss", "eval_loss"),
        ("preference", "eval_reward_accuracy", "eval_reward_accuracy"),
    ],
)
def test_the_measure_that_decides_which_weights_are_best(task: str, given: str | None, measure: str) -> None:
    finetune = params.load(ROOT / "params.yaml").finetune
    if given:
        finetune = finetune.model_copy(update={"metric_for_best_model": given})
        finetune.model_fields_set.add("metric_for_best_model")
    assert tasks.config_of(task, finetune).best_measure == measure
