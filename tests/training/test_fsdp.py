"""Processes with shards of the weights learn the same as one process with all weights."""

from pathlib import Path
from typing import Any

import pytest
import torch
from test_distributed import hold_after_kills, hold_equal
from test_kill import make
from tiny_models import tiny
from transformers import PreTrainedTokenizerFast

from tuneline import params
from tuneline.core import files
from tuneline.errors import ParamsError
from tuneline.modeling import models
from tuneline.params import editing

SHARDED = {"finetune.nproc_per_node": 2, "finetune.fsdp": "full_shard", "finetune.per_device_train_batch_size": 8}


def add(place: Path, **more: Any) -> None:
    """Keys of finetune that params.yaml does not have yet."""
    path = place / "params.yaml"
    lines = "".join(f"  {key}: null\n" for key in more)
    path.write_text(path.read_text("utf-8").replace("\nfinetune:\n", f"\nfinetune:\n{lines}"), "utf-8")
    editing.set_values(path, {f"finetune.{key}": value for key, value in more.items()})


@pytest.mark.slow
def test_two_sharded_processes_learn_the_same_as_one(workplace: Path) -> None:
    editing.set_values(workplace / "params.yaml", SHARDED)
    # One batch of validation, for two processes of which each must have the other's weights.
    add(workplace, per_device_eval_batch_size=32)
    hold_equal(workplace, 2, weights_within=1e-6)
    alone, *halves = (files.read_json(workplace / f"held-{of}.json") for of in ("1-0", "2-0", "2-1"))
    whole = sum(weight.nbytes for weight in models.load(workplace / "models/base")[0].parameters())
    for half in halves:
        # After each step that is told, and after each evaluation.
        assert len(half) == len(alone)
        assert all(0.4 * whole < held < 0.6 * whole for held in half)

    places = [workplace / f"work/{of}/checkpoint-4" for of in (1, 2)]
    names = [{path.name for path in place.iterdir() if "rng_state" not in path.name} for place in places]
    assert names[0] == names[1]
    states = [torch.load(place / "optimizer.pt", weights_only=True) for place in places]
    assert states[0]["state"].keys() == states[1]["state"].keys()
    for number, kept in states[0]["state"].items():
        torch.testing.assert_close(states[1]["state"][number], kept, atol=1e-6, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    "case", ["tied", "gpt2", "lora", "classification", "classification-lora", "regression", "regularised"]
)
def test_sharded_processes_learn_the_same_as_one_for_every_task(
    workplace: Path, tokenizer: PreTrainedTokenizerFast, case: str
) -> None:
    if case in ("tied", "gpt2"):
        # Dropout is another in every process.
        without_dropout = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
        made = tiny("gpt2", **without_dropout) if case == "gpt2" else tiny("llama", tie_word_embeddings=True)
        models.save(made, tokenizer, workplace / "models/base")
        add(workplace, activation_checkpointing=True, load_best_model_at_end=True)
    else:
        make(workplace, case)
    dropout = {"finetune.lora": {"r": 4, "lora_alpha": 8, "lora_dropout": 0.0}} if "lora" in case else {}
    if case == "regularised":
        dropout = dict.fromkeys(("finetune.dropout", "finetune.neftune_noise_alpha")) | {
            "finetune.optim": "adamw_torch"
        }
    editing.set_values(workplace / "params.yaml", SHARDED | dropout)
    # Three batches of validation: the second process has none in the second round.
    add(workplace, per_device_eval_batch_size=8)
    hold_equal(workplace, 2)


@pytest.mark.slow
@pytest.mark.timeout(900)  # Six starts of three processes.
def test_a_killed_process_changes_nothing_and_no_process_outlives_the_stage(workplace: Path) -> None:
    add(workplace, neftune_noise_alpha=5.0)
    editing.set_values(workplace / "params.yaml", SHARDED | {"finetune.num_train_epochs": 4.0})
    hold_after_kills(workplace)


def test_all_settings_that_do_not_fit_fsdp_are_reported_together(workplace: Path) -> None:
    path = workplace / "params.yaml"
    editing.set_values(path, {"finetune.fsdp": "full_shard", "finetune.optim": "muon", "task": "preference"})
    editing.set_values(path, {"compute.device": "cuda", "compute.torch_compile": True})
    with pytest.raises(ParamsError) as caught:
        params.load(path)
    (told,) = [problem for problem in caught.value.problems if "finetune.fsdp: " in problem]
    for wrong in (
        "nproc_per_node is 1; set nproc_per_node to 2 or more",
        "optim muon",
        "task preference",
        "compute.torch_compile",
    ):
        assert wrong in told
    editing.set_values(path, {"finetune.optim": "adafactor", "finetune.nproc_per_node": 2, "task": "sft"})
    with pytest.raises(ParamsError, match=r"optim adafactor, .* adamw_torch,"):
        params.load(path)
