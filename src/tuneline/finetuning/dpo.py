"""Preferences with trl's DPOTrainer: the chosen answer becomes more likely than the rejected one.

The base holds the model back. It is a frozen copy of the model; with adapters it is the model without them.
"""

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from datasets import Dataset
from datasets.table import InMemoryTable
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DataCollatorForPreference, DPOTrainer

from tuneline.encoding.examples import Preferences
from tuneline.errors import TrainingError, one_line
from tuneline.modeling import adapters, models
from tuneline.training import distributed, training_config
from tuneline.training.trainer import Log, RepeatableTrainer
from tuneline.training.training_config import TrainingConfig
from tuneline.training.training_run import Training, counted, planned_rows, result, sources


class PreferenceTrainer(RepeatableTrainer, DPOTrainer):
    """trl's loss in our loop. Losses and measures are means over pairs, whatever the batch size."""

    def _send_telemetry(self) -> None:
        """Send nothing."""

    def _prepare_dataset(self, dataset: Dataset, *_: Any, **__: Any) -> Dataset:
        # The pairs are encoded already.
        return dataset

    def weight_of(self, batch: dict[str, Tensor]) -> Tensor:
        """The number of pairs; a batch has their chosen answers before their rejected ones."""
        return torch.tensor(float(len(batch["input_ids"]) // 2))

    def compute_loss(self, model: nn.Module, inputs: dict[str, Tensor], *_: Any, **more: Any) -> Tensor:
        """The batch's share of the mean loss of its optimizer step."""
        sums = self._sums(model, inputs)
        supervised, tokens = int(inputs["completion_mask"].sum()), int(inputs["attention_mask"].sum())
        weight = self.weight_of(inputs)
        return self.scaled_loss(sums, weight, more["num_items_in_batch"], supervised=supervised, tokens=tokens)

    def measure(self) -> dict[str, float]:
        """The loss per pair, and how often and by how much the chosen answer gains more than the rejected one."""
        assert self.model is not None
        sums = dict.fromkeys(("loss", "reward_accuracy", "reward_margin"), 0.0)
        pairs = 0.0
        rows, size = cast(Dataset, self.eval_dataset), self.args.per_device_eval_batch_size
        starts = range(0, len(rows), size)[distributed.rank() :: distributed.world()]
        for start in starts:
            self.show_validation(start, len(rows))
            batch = self.data_collator([rows[number] for number in range(start, min(start + size, len(rows)))])
            with self.compute_loss_context_manager():
                part = self._sums(self.model, self._prepare_inputs(batch))
            sums = {name: value + part[name].item() for name, value in sums.items()}
            pairs += float(self.weight_of(batch))
        return distributed.means({name: (value, pairs) for name, value in sums.items()})

    def _sums(self, model: nn.Module, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """The loss and the rewards of a batch, summed over its pairs."""
        pairs = self.weight_of(inputs)
        mean = DPOTrainer.compute_loss(self, model, inputs)
        # trl keeps the means of each batch for its own log.
        means = self._metrics["train" if model.training else "eval"]
        accuracy, margin = means["rewards/accuracies"][-1], means["rewards/margins"][-1]
        means.clear()
        return {"loss": mean * pairs, "reward_accuracy": pairs * accuracy, "reward_margin": pairs * margin}


def train(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Any],
    config: TrainingConfig,
    *,
    dpo: dict[str, Any],
    folder: Path,
    lora: dict[str, Any] | None = None,
    validation: Sequence[Any] = (),
    of_epoch: Callable[[int], Sequence[int]] | None = None,
    log: Log | None = None,
) -> Training:
    """Train `model` in place, from the newest complete checkpoint in `folder` if there is one.

    Args:
        model: a causal language model.
        tokenizer: its tokenizer.
        examples: encoded pairs: `prompt_ids`, `chosen_ids`, `rejected_ids`.
        config: how to train.
        dpo: arguments of DPOConfig.
        folder: the checkpoints of exactly this training.
        lora: arguments of LoraConfig; adapters are trained instead of the weights.
        validation: pairs that are measured every `eval_steps` steps and at the end.
        of_epoch: gives the examples of an epoch, as in `packing.plan`.
        log: called with the measures of each logged step.

    Raises:
        TrainingError: nothing can be trained, the arguments do not fit, or the loss is not finite.
    """
    rows = planned_rows(examples, validation, config, packed=False, of_epoch=of_epoch)
    # trl sets the padding token of both configurations.
    configs = model.config.get_text_config(), model.generation_config
    pads = [getattr(each, "pad_token_id", None) for each in configs]
    trainer = _trainer(model, tokenizer, examples, rows, config, dpo, folder, lora, validation)
    trainer.fit(config, folder=folder, sources=sources(examples, rows), log=log)
    trained = result(trainer, cast(PreTrainedModel, trainer.model) if lora else model, lora=bool(lora), packed=False)
    # trl replaces `forward`.
    trained.model.__dict__.pop("forward", None)
    for each, pad in zip(configs, pads, strict=True):
        if each is not None:
            each.pad_token_id = pad
    return counted(trained, rows, len(examples), config)


def _trainer(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Any],
    rows: Sequence[Sequence[int]],
    config: TrainingConfig,
    dpo: dict[str, Any],
    folder: Path,
    lora: dict[str, Any] | None,
    validation: Sequence[Any],
) -> PreferenceTrainer:
    arguments = training_config.arguments(
        config, folder, evaluate=bool(validation), kind=DPOConfig, max_length=None, pad_to_multiple_of=None, **dpo
    )
    adapter = adapters.config(model, lora) if lora else None
    reference = None if lora else copy.deepcopy(model).eval().requires_grad_(False)
    # trl changes a tokenizer that has no padding token.
    own_tokenizer = copy.deepcopy(tokenizer)
    try:
        trainer = PreferenceTrainer(
            model=model,
            ref_model=reference,
            args=cast(DPOConfig, arguments),
            data_collator=DataCollatorForPreference(pad_token_id=models.pad_token_id(own_tokenizer)),
            train_dataset=_dataset(examples).select([document for row in rows for document in row]),
            eval_dataset=_dataset(validation) if validation else None,
            processing_class=own_tokenizer,
            peft_config=adapter,
        )
    except (ValueError, TypeError, NotImplementedError, ImportError) as error:
        raise TrainingError(f"finetune.{'lora' if lora else 'dpo'}: {one_line(error)}") from None
    # trl gathers the means of all processes for its own log; our log sums the values of each process.
    accelerator: Any = trainer.accelerator
    accelerator.gather = accelerator.gather_for_metrics = lambda tensor, *_, **__: tensor
    # With a tokenizer transformers writes special tokens into the model's configuration.
    trainer.processing_class = None
    return trainer


def _dataset(examples: Sequence[Any]) -> Dataset:
    """The pairs in the form of trl. They share the memory, or the files, of `examples`."""
    pairs = examples if isinstance(examples, Preferences) else Preferences(examples)
    columns = pairs.table.select(["prompt_ids", "chosen_ids", "rejected_ids"])
    # Without a given fingerprint datasets reads all rows to compute one, which nothing uses.
    return Dataset(InMemoryTable(columns), fingerprint="pairs")
