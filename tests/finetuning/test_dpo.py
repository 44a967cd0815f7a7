import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import pairs, tiny, training_config
from torch.nn import functional
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from tuneline.errors import TrainingError
from tuneline.finetuning import dpo
from tuneline.training.training_run import Training

DPO = {"beta": 0.1, "loss_type": "sigmoid"}
LORA = {"r": 4, "lora_alpha": 8, "lora_dropout": 0.1, "target_modules": ["q_proj", "v_proj"]}


def train(
    model: PreTrainedModel,
    tokenizer: Any,
    folder: Path,
    *,
    lora: Any = None,
    count: int = 12,
    dpo_more: Any = None,
    **how: Any,
) -> Training:
    made = training_config(**({"packing": False, "num_train_epochs": 1.0, "eval_steps": 5, "save_steps": 99} | how))
    validation = pairs(4, seed=1)
    arguments = DPO | (dpo_more or {})
    return dpo.train(
        model, tokenizer, pairs(count), made, dpo=arguments, lora=lora, folder=folder, validation=validation
    )


def likelihood(model: torch.nn.Module, prompt: list[int], answer: list[int]) -> torch.Tensor:
    logits = model(input_ids=torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
    return -functional.cross_entropy(logits, torch.tensor(answer), reduction="sum")


def test_the_first_steps_equal_the_formula_of_the_paper(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    model, plain = tiny("llama"), tiny("llama")
    base = copy.deepcopy(plain)
    made = train(model, tokenizer, tmp_path, per_device_train_batch_size=12, optim="sgd", warmup_steps=0,
                 learning_rate=0.1, lr_scheduler_type="constant", max_grad_norm=0.0, num_train_epochs=2.0)  # fmt: skip
    losses = []
    for _ in range(2):
        margins = [
            sum(
                sign * (likelihood(plain, one.prompt_ids, ids) - likelihood(base, one.prompt_ids, ids).detach())
                for sign, ids in ((1, one.chosen_ids), (-1, one.rejected_ids))
            )
            for one in pairs(12)
        ]
        loss = -functional.logsigmoid(0.1 * torch.stack(margins)).mean()  # pyright: ignore[reportArgumentType]
        losses.append(loss.item())
        plain.zero_grad()
        loss.backward()
        with torch.no_grad():
            for parameter in plain.parameters():
                if parameter.grad is not None:
                    parameter -= 0.1 * parameter.grad
    assert made.steps == 2
    # The line of the last step says what both steps cost after the first was logged.
    assert [line["loss"] for line in made.history.lines] == pytest.approx(losses, abs=1e-6)
    for mine, its in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine, its, atol=1e-6, rtol=0)


@pytest.mark.parametrize("lora", [None, LORA], ids=["full", "lora"])
def test_dpo_learns_the_preference_and_is_reproducible(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast, lora: Any
) -> None:
    ends = []
    for run in ("first", "second"):
        model = tiny("llama")
        start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        made = train(model, tokenizer, tmp_path / run, lora=lora, num_train_epochs=4.0, learning_rate=5e-3)
        ends.append({name: tensor.clone() for name, tensor in made.model.state_dict().items()})
        moved = {name for name in start if not torch.equal(start[name], ends[-1][name])}
        assert moved == ({name for name in start if "q_proj" in name or "v_proj" in name} if lora else set(start))
        last = made.history.lines[-1]
        assert last["loss"] < made.history.lines[0]["loss"]
        assert last["reward_accuracy"] > 0.5
        assert {"eval_loss", "eval_reward_accuracy", "eval_reward_margin"} <= set(last)
        assert made.model.config.pad_token_id == tiny("llama").config.pad_token_id
        assert (made.adapter is not None) == bool(lora)
        made.model.save_pretrained(tmp_path / run / "saved")
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


@pytest.mark.parametrize(("batch", "accumulation"), [(2, 4), (1, 8)])
def test_accumulation_weights_pairs(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast, batch: int, accumulation: int
) -> None:
    ends = []
    for size, parts in ((8, 1), (batch, accumulation)):
        model = tiny("llama")
        how = {"per_device_train_batch_size": size, "gradient_accumulation_steps": parts}
        how |= {"optim": "sgd", "learning_rate": 0.1, "warmup_steps": 0}
        # All pairs are one step, or other batches would be other steps: pairs of one length stand together.
        train(model, tokenizer, tmp_path / str(size), count=8, **how)
        ends.append(torch.cat([parameter.flatten() for parameter in model.parameters()]))
    torch.testing.assert_close(*ends, atol=1e-6, rtol=0)


def test_an_adapter_on_the_head_is_refused_before_training(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(TrainingError, match=r"finetune.lora: .*lm_head"):
        train(tiny("llama"), tokenizer, tmp_path, lora=LORA | {"target_modules": ["lm_head"]})


@pytest.mark.parametrize("turned_off", [True, False])
def test_trl_turns_the_dropout_of_adapters_off_unless_asked(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast, turned_off: bool
) -> None:
    more = {} if turned_off else {"disable_dropout": False}
    made = [
        train(tiny("llama"), tokenizer, tmp_path / str(p), lora=LORA | {"lora_dropout": p}, dpo_more=more)
        for p in (0.0, 0.5)
    ]
    weights = [one.adapter.weights for one in made if one.adapter]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0]) == turned_off


def test_the_reference_is_asked_without_gradients_and_so_without_noise(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    model, asked = tiny("llama"), []
    model.get_input_embeddings().register_forward_hook(
        lambda module, *_: asked.append((module.training, torch.is_grad_enabled()))
    )
    train(model, tokenizer, tmp_path, lora=LORA, neftune_noise_alpha=5.0)
    in_training = [with_gradients for training, with_gradients in asked if training]
    # It is the model itself, in training mode, with its adapters off.
    assert in_training == [True, False] * (len(in_training) // 2)
    assert in_training
