"""Preferences by trl's DPOTrainer: the better answer is made likelier than the worse one, held by the base.

The base is a frozen copy of the model, or with adapters the model without them, which needs no second one.
"""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from datasets import Dataset
from datasets.table import InMemoryTable
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DataCollatorForPreference, DPOTrainer

from tuneline.encoding.examples import Preferences, lengths
from tuneline.encoding.packing import plan
from tuneline.errors import TrainingError, one_line
from tuneline.modeling import adapters, models
from tuneline.training import distributed, loop, training_config
from tuneline.training.training_config import Recipe
from tuneline.training.training_run import Training, check_warmup, require, resume, rows_at_most, run, sources


class PreferenceTrainer(loop.RepeatableTrainer, DPOTrainer):
    """trl's loss in our loop: pairs of any batch size count the same, and what is measured is measured in pairs."""

    def _send_telemetry(self) -> None:
        """Nothing is sent anywhere."""

    def _prepare_dataset(self, dataset: Dataset, *_: Any, **__: Any) -> Dataset:
        # The pairs are tokens already.
        return dataset

    def compute_loss(self, model: nn.Module, inputs: dict[str, Tensor], *_: Any, **more: Any) -> Tensor:
        """The batch's share of the mean loss of its optimizer step."""
        sums = self._sums(model, inputs)
        learnt, tokens = int(inputs["completion_mask"].sum()), int(inputs["attention_mask"].sum())
        return self.learn(sums, _pairs(inputs), more["num_items_in_batch"], learnt=learnt, tokens=tokens)

    def measure(self) -> dict[str, float]:
        """The loss a pair, and how often and by how much the better answer is preferred more than by the base."""
        assert self.model is not None
        sums = dict.fromkeys(("loss", "reward_accuracy", "reward_margin"), 0.0)
        pairs = 0.0
        rows, size = cast(Dataset, self.eval_dataset), self.args.per_device_eval_batch_size
        starts = range(0, len(rows), size)[distributed.rank() :: distributed.world()]
        for start in starts:
            self.tell_measuring(start, len(rows))
            batch = self.data_collator([rows[place] for place in range(start, min(start + size, len(rows)))])
            with self.compute_loss_context_manager():
                part = self._sums(self.model, self._prepare_inputs(batch))
            sums = {name: value + part[name].item() for name, value in sums.items()}
            pairs += float(_pairs(batch))
        return distributed.means({name: (value, pairs) for name, value in sums.items()})

    def _sums(self, model: nn.Module, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """The loss and the rewards of a batch, summed over its pairs."""
        pairs = _pairs(inputs)
        mean = DPOTrainer.compute_loss(self, model, inputs)
        # trl keeps the means of the batch for its own log, which is not written here.
        mode = "train" if model.training else "eval"
        kept = self._metrics[mode]
        accuracy, margin = kept["rewards/accuracies"][-1], kept["rewards/margins"][-1]
        kept.clear()
        return {"loss": mean * pairs, "reward_accuracy": pairs * accuracy, "reward_margin": pairs * margin}


def train(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Preferences,
    recipe: Recipe,
    *,
    dpo: dict[str, Any],
    folder: Path,
    lora: dict[str, Any] | None = None,
    validation: Sequence[Any] = (),
    log: loop.Log | None = None,
) -> Training:
    """Train `model` in place, from the newest whole checkpoint in `folder` if there is one.

    Args:
        model: a causal language model, which is also the base that holds it.
        tokenizer: its tokenizer.
        examples: pairs as tokens: `prompt_ids`, `chosen_ids`, `rejected_ids`.
        recipe: how.
        dpo: arguments of DPOConfig by their names.
        folder: of the checkpoints of exactly this training.
        lora: train adapters of this LoraConfig instead of the weights.
        validation: measured every `eval_steps` and at the end.
        log: a tracker's ear.

    Returns:
        The model, the log and the counts.

    Raises:
        TrainingError: there is nothing to learn, the arguments do not fit, or the loss is no number any more.
    """
    require(examples, validation, recipe)
    tokens = lengths(examples)
    rows = plan(
        tokens,
        width=max(tokens),
        batch_size=recipe.rows_of_a_batch,
        epochs=recipe.num_train_epochs,
        seed=recipe.seed,
        packed=False,
        limit=rows_at_most(recipe),
    )
    check_warmup(recipe, recipe.steps(len(rows)))
    resumed, history = resume(folder, log)
    configs = model.config.get_text_config(), model.generation_config
    pads = [getattr(config, "pad_token_id", None) for config in configs]
    trainer = _trainer(model, tokenizer, examples, rows, recipe, dpo, folder, lora, validation)
    course = loop.Course(
        recipe=recipe,
        history=history,
        folder=folder,
        tell=log,
        sources=sources(examples, rows),
        weight=_pairs,
        ceiling=float("inf"),
    )
    run(trainer, course, resumed)
    wrapped = cast(PreTrainedModel, trainer.model)
    adapter = adapters.extract(wrapped) if lora else None
    trained = adapters.merge(wrapped) if lora else model
    # trl's own way through the head, and its opinion on padding, are no part of the model.
    trained.__dict__.pop("forward", None)
    for config, pad in zip(configs, pads, strict=True):
        if config is not None:
            config.pad_token_id = pad
    return Training(trained, adapter, history, False, course.best, course.is_stopped)


def _trainer(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Preferences,
    rows: Sequence[Sequence[int]],
    recipe: Recipe,
    dpo: dict[str, Any],
    folder: Path,
    lora: dict[str, Any] | None,
    validation: Sequence[Any],
) -> PreferenceTrainer:
    arguments = training_config.arguments(
        recipe, folder, evaluate=bool(validation), kind=DPOConfig, max_length=None, pad_to_multiple_of=None, **dpo
    )
    adapter = adapters.config(model, lora) if lora else None
    held_by = None if lora else copy.deepcopy(model).eval().requires_grad_(False)
    # trl gives a tokenizer without padding some.
    its = copy.deepcopy(tokenizer)
    try:
        trainer = PreferenceTrainer(
            model=model,
            ref_model=held_by,
            args=cast(DPOConfig, arguments),
            data_collator=DataCollatorForPreference(pad_token_id=models.pad_token_id(its)),
            train_dataset=_dataset(examples).select([document for row in rows for document in row]),
            eval_dataset=_dataset(validation) if validation else None,
            processing_class=its,
            peft_config=adapter,
        )
    except (ValueError, TypeError, NotImplementedError, ImportError) as error:
        raise TrainingError(f"finetune.{'lora' if lora else 'dpo'}: {one_line(error)}") from None
    # trl's log is not written; ours sums what each process has.
    own: Any = trainer.accelerator
    own.gather = own.gather_for_metrics = lambda tensor, *_, **__: tensor
    # With it transformers would write the tokenizer's special tokens into the model's configuration.
    trainer.processing_class = None
    return trainer


def _dataset(examples: Sequence[Any]) -> Dataset:
    """The pairs as trl reads them, over the same memory, or the same files."""
    pairs = examples if isinstance(examples, Preferences) else Preferences(examples)
    columns = pairs.table.select(["prompt_ids", "chosen_ids", "rejected_ids"])
    # Without a name of its own a set is read whole to be given one; nothing is looked up by it.
    return Dataset(InMemoryTable(columns), fingerprint="pairs")


def _pairs(batch: dict[str, Tensor]) -> Tensor:
    """Pairs in a batch, whose better answers stand before all worse ones."""
    return torch.tensor(float(len(batch["input_ids"]) // 2))
