"""Dropout, weights that are not trained, and rates of layers: from params.yaml to the saved model and its report."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import tiny
from transformers import PreTrainedTokenizerFast

from tuneline import params
from tuneline.core import files
from tuneline.errors import ModelError, TrainingError
from tuneline.finetuning import tasks
from tuneline.modeling import models
from tuneline.params import editing
from tuneline.stages import finetune


def give(workplace: Path, **keys: Any) -> params.Params:
    """The params of a workplace with further keys in `finetune`."""
    path = workplace / "params.yaml"
    lines = "".join(f"  {key}: null\n" for key in keys)
    path.write_text(path.read_text("utf-8").replace("\nfinetune:\n", f"\nfinetune:\n{lines}"), "utf-8")
    editing.set_values(path, {f"finetune.{key}": value for key, value in keys.items()})
    return params.load(path)


def ready(workplace: Path, p: params.Params) -> tasks.Ready:
    return tasks.prepare(p.task, workplace / "data/clean", workplace / "models/base", p.finetune)


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    return dict(models.load(folder)[0].state_dict())


def test_weights_that_are_not_trained_are_the_bytes_of_the_base(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    p = give(workplace, freeze={"embeddings": True, "layers": [0]}, layerwise_lr_decay=0.5)
    editing.set_values(workplace / "params.yaml", {"finetune.weight_decay": 0.1})
    finetune.main(params.load())
    before, after = tensors(workplace / p.paths.base), tensors(workplace / p.paths.finetuned)
    same = {name for name in before if before[name].numpy().tobytes() == after[name].numpy().tobytes()}
    assert same == {name for name in before if "embed_tokens" in name or "layers.0." in name}
    frozen = sum(before[name].numel() for name in same)
    accounts = files.read_json(workplace / "reports/training.json")
    assert accounts["frozen"] == frozen
    assert accounts["rates"] == {"embeddings": 0.125, "layer 0": 0.25, "layer 1": 0.5, "head": 1.0}
    said = capsys.readouterr().out
    assert f"frozen: {frozen:,} of {accounts['parameters']:,} weights stay as they are" in said
    assert "learning rates are multiplied by: embeddings 0.125, layer 0 0.25, layer 1 0.5, head 1" in said


def test_dropout_acts_in_training_only_and_is_not_saved(workplace: Path) -> None:
    p = give(workplace, dropout={"attention_dropout": 0.3})
    made = ready(workplace, p)
    ids = torch.tensor([made.examples[0].input_ids])
    quiet, plain = made.model(input_ids=ids).logits, models.load(workplace / p.paths.base)[0](input_ids=ids).logits
    assert torch.equal(quiet, plain)
    made.model.train()
    assert not torch.equal(made.model(input_ids=ids).logits, plain)
    finetune.main(p)
    stored = [files.read_json(workplace / folder / "config.json") for folder in (p.paths.base, p.paths.finetuned)]
    assert [config["attention_dropout"] for config in stored] == [0.0, 0.0]


def test_a_model_that_is_taken_as_it_is_has_the_config_of_its_base(workplace: Path) -> None:
    p = give(workplace, dropout={"attention_dropout": 0.3})
    made = ready(workplace, p)
    untrained = p.finetune.model_copy(update={"num_train_epochs": 0.0})
    assert tasks.train(made, untrained, folder=workplace / "work/none").model.config.attention_dropout == 0.0


def test_a_dropout_that_trl_turns_off_is_told(workplace: Path) -> None:
    lora = {"r": 4, "lora_alpha": 8, "lora_dropout": 0.2}
    editing.set_values(workplace / "params.yaml", {"finetune.lora": lora})
    p = params.load()
    made = dataclasses.replace(ready(workplace, p), task="preference")
    (told,) = tasks.describe_regularisation(made, p.finetune)
    assert told.startswith(
        "lora_dropout 0.2 does nothing: trl turns dropout off; to use it, add disable_dropout: false"
    )
    assert p.finetune.dpo
    used = p.finetune.model_copy(update={"dpo": p.finetune.dpo.model_copy(update={"disable_dropout": False})})
    assert tasks.describe_regularisation(made, used) == []


def test_a_key_that_the_base_does_not_have_is_refused_with_those_it_has(
    workplace: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    p = give(workplace, dropout={"resid_pdrop": 0.1, "attention_dropout": 0.1})
    with pytest.raises(ModelError) as caught:
        ready(workplace, p)
    assert caught.value.problems == (
        f"finetune.dropout.resid_pdrop: {workplace}/models/base/config.json has no such key; the keys of llama are "
        "attention_dropout",
    )
    models.save(tiny("mamba"), tokenizer, workplace / "models/base")
    with pytest.raises(ModelError, match=r"resid_pdrop: .* has no such key; mamba has no dropout; remove it"):
        ready(workplace, p)


def test_a_key_that_no_part_of_the_model_reads_is_refused(workplace: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    models.save(tiny("gpt2"), tokenizer, workplace / "models/base")
    # GPT-2 reads it in its model for multiple choice.
    p = give(workplace, dropout={"summary_first_dropout": 0.1, "resid_pdrop": 0.0})
    with pytest.raises(ModelError) as caught:
        ready(workplace, p)
    assert caught.value.problems == (
        "finetune.dropout.summary_first_dropout: no part of the model reads it; the keys of gpt2 are resid_pdrop, "
        "embd_pdrop, attn_pdrop",
    )


def test_the_dropout_of_a_base_can_be_turned_off(workplace: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    models.save(tiny("gpt2"), tokenizer, workplace / "models/base")
    p = give(workplace, dropout=dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0))
    made = ready(workplace, p)
    ids = torch.tensor([made.examples[0].input_ids])
    plain = made.model(input_ids=ids).logits
    made.model.train()
    assert torch.equal(made.model(input_ids=ids).logits, plain)
    assert made.stored_dropout == dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.1)


def test_a_layer_that_does_not_exist_is_refused_before_training(workplace: Path) -> None:
    with pytest.raises(TrainingError, match=r"^finetune.freeze.layers: 9 is none of the layers of the base, which"):
        ready(workplace, give(workplace, freeze={"layers": [9]}))
