"""Train a base on clean splits for a task. `TASKS` has one entry per task."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tuneline.core import files
from tuneline.data.records import label_codec
from tuneline.data.records.record_form import RecordForm, read_form
from tuneline.encoding import encode, token_cache, truncation
from tuneline.encoding.examples import CHAT, CLASSIFICATION, PLAIN, REGRESSION
from tuneline.encoding.truncation import EncodingReport
from tuneline.errors import ModelError, SetupError, TrainingError, one_line
from tuneline.finetuning import dpo, mixture
from tuneline.finetuning.mixture import Mixture
from tuneline.modeling import adapters, layers, model_folder, models
from tuneline.params import Compute, Finetune, Params
from tuneline.training import distributed, training_run
from tuneline.training.objectives import Causal, Classification, Objective, Regression
from tuneline.training.trainer import Log
from tuneline.training.training_config import TrainingConfig

UNTRAINED = "finetune.num_train_epochs is 0: the merged model is taken as it is, and no row is trained on"
"""What is said of a training of zero epochs."""
# A tokenizer without a limit has an enormous number as its limit.
_UNBOUNDED = 1 << 40


@dataclass(frozen=True)
class Ready:
    """A model and its examples, ready for the training."""

    task: str
    mode: str
    """How records become tokens; stored with the model."""
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    examples: Sequence[Any]
    validation: Sequence[Any]
    report: EncodingReport
    multi_label: bool
    frozen: tuple[str, ...] = ()
    """The names of the parameters that are not trained because of `freeze`."""
    stored_dropout: Mapping[str, float | None] = field(default_factory=dict)
    """The values in the base's config of the keys in `dropout`."""

    @property
    def has_pairs(self) -> bool:
        """Whether the examples are pairs of answers."""
        return TASKS[self.task].objective is None

    @property
    def mixture(self) -> Mixture | None:
        """The examples, if they are from several sets."""
        return self.examples if isinstance(self.examples, Mixture) else None


def _causal(ready: Ready, finetune: Finetune, compute: Compute | None) -> Objective:
    return Causal.for_model(
        ready.model,
        ready.examples,
        pad=models.pad_token_id(ready.tokenizer),
        packing=finetune.packing,
        smoothing=finetune.label_smoothing_factor,
        # The hook that selects the supervised positions does not work in a compiled model.
        sparse=not (compute and compute.torch_compile),
    )


def _classification(ready: Ready, finetune: Finetune, _: Compute | None) -> Objective:
    return Classification.for_examples(
        ready.examples,
        pad=models.pad_token_id(ready.tokenizer),
        labels=len(ready.model.config.id2label or ()),
        multi_label=ready.multi_label,
        class_weights=finetune.class_weights,
        smoothing=finetune.label_smoothing_factor,
        times=ready.mixture.times if ready.mixture else None,
    )


def _regression(ready: Ready, _: Finetune, __: Compute | None) -> Objective:
    return Regression(models.pad_token_id(ready.tokenizer))


@dataclass(frozen=True)
class Task:
    """What distinguishes a task from the others in training."""

    objective: Callable[[Ready, Finetune, Compute | None], Objective] | None
    """None: trl defines the loss of pairs of answers."""
    best: str = "loss"
    """The measure that decides which weights are best if params.yaml does not name one."""


TASKS = {
    "sft": Task(_causal),
    "language-modeling": Task(_causal),
    # The loss rises again while the accuracy still does, because the model becomes too sure of its wrong answers.
    "classification": Task(_classification, best="accuracy"),
    "regression": Task(_regression),
    "preference": Task(None),
}


def splits(clean: Path) -> dict[str, Path]:
    """The folders of the splits that training reads."""
    return {name: clean / name for name in ("train", "validation")}


def prepare(
    task: str,
    clean: Path,
    base: Path,
    finetune: Finetune,
    compute: Compute | None = None,
    *,
    others: Sequence[mixture.MixtureSource] = (),
) -> Ready:
    """Load the base with the head that the task needs, and encode the clean rows.

    Args:
        task: the task of params.yaml.
        clean: the folder of the clean splits and of dataset.json, which describes them.
        base: a model folder; the merged model in it is taken if there is one.
        finetune: section `finetune`.
        compute: section `compute`; None: the model stays on the processor.
        others: sets that are mixed with the clean rows.

    Raises:
        DataError: the clean data are of another task.
        ModelError: the base cannot be used for the task.
        TrainingError: there are too few rows, or the model has no modules for the adapters.
    """
    form = read_form(clean, task)
    labels = None if form.numeric or not form.labelled else labels_of(form, splits(clean)["train"])
    mode, start = _mode(form), model_folder.start_of(base)
    if form.labelled:
        classification = f"{'multi' if form.multi_label else 'single'}_label_classification"
        problem_type = "regression" if form.numeric else classification
        if start == base:
            model, tokenizer = models.new_classifier(base, labels or [], problem_type, finetune.seed, finetune.dropout)
        else:
            model, tokenizer = _merged_classifier(start, labels or [], problem_type, finetune.dropout)
    else:
        model, tokenizer = models.load(start, finetune.dropout)
    models.check_length(model, finetune.max_length, "finetune.max_length")
    if compute:
        _move(model, compute)
    if finetune.lora:
        adapters.config(model, finetune.lora.model_dump())
    frozen = layers.freeze(model, **finetune.freeze.model_dump()) if finetune.freeze else []
    if finetune.layerwise_lr_decay:
        layers.rate_factors(model, finetune.layerwise_lr_decay)
    (examples, report), (validation, _) = (
        encode.encode_split(
            tokenizer,
            path,
            form.record_type,
            form.fields,
            finetune,
            labels=labels,
            names_of=_names_of(form),
            conversational=form.conversational,
            folder=token_cache.FOLDER,
        )
        for path in splits(clean).values()
    )
    if others:
        parts = [_part(tokenizer, other, finetune, form, labels) for other in others]
        examples = Mixture(examples, report, parts, finetune.seed)
        if finetune.num_train_epochs:
            examples.check(finetune.num_train_epochs)
    return Ready(
        task,
        mode,
        model,
        tokenizer,
        examples,
        validation,
        report,
        form.multi_label,
        frozen=tuple(frozen),
        stored_dropout=models.stored_dropout(start, finetune.dropout) if finetune.dropout else {},
    )


def _merged_classifier(
    folder: Path, labels: list[str], problem_type: str, dropout: Mapping[str, float] | None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A merged model with its head, which the parents have learned for their labels."""
    model, tokenizer = models.load_classifier(folder, dropout)
    names = list((model.config.id2label or {}).values()) if labels else []
    if model.config.problem_type != problem_type or names != labels:
        raise ModelError(
            f"{folder}: the merged versions have learned {model.config.problem_type} with the labels "
            f"{', '.join(names) or 'of numbers'}, and the training rows are {problem_type} with the labels "
            f"{', '.join(labels) or 'of numbers'}; merge versions that were trained with these labels"
        )
    return model, tokenizer


def describe_truncated(ready: Ready, finetune: Finetune) -> list[str]:
    """One line for each set with truncated training rows.

    Args:
        ready: the result of `prepare`.
        finetune: section `finetune`.
    """
    return [
        f"{name}{line}" for name, report in _reports(ready) for line in report.describe_truncated(finetune.max_length)
    ]


def regularised(ready: Ready, finetune: Finetune) -> dict[str, Any]:
    """What training.json says of weights that were not trained and of rates of layers; empty without both.

    Args:
        ready: the result of `prepare`.
        finetune: section `finetune`.

    Returns:
        `frozen`: how many weights, and `rates`: part of the model -> what its learning rate was multiplied by.
    """
    found: dict[str, Any] = {}
    if ready.frozen:
        named = dict(ready.model.named_parameters())
        found["frozen"] = sum(named[name].numel() for name in ready.frozen)
    if finetune.layerwise_lr_decay:
        found["rates"] = layers.rate_factors(ready.model, finetune.layerwise_lr_decay)
    return found


def describe_regularisation(ready: Ready, finetune: Finetune) -> list[str]:
    """Lines about weights that are not trained, rates of layers, and a dropout that has no effect.

    Args:
        ready: the result of `prepare`.
        finetune: section `finetune`.
    """
    lines, found = [], regularised(ready, finetune)
    if "frozen" in found:
        every = models.count_parameters(ready.model)
        lines.append(f"frozen: {found['frozen']:,} of {every:,} weights stay as they are")
    if "rates" in found:
        told = ", ".join(f"{part} {factor:.3g}" for part, factor in found["rates"].items())
        lines.append(f"learning rates are multiplied by: {told}")
    dpo_dropout = finetune.dpo and finetune.dpo.disable_dropout is False
    if ready.has_pairs and finetune.lora and finetune.lora.lora_dropout and not dpo_dropout:
        lines.append(
            f"lora_dropout {finetune.lora.lora_dropout:g} does nothing: trl turns dropout off; to use it, add "
            "disable_dropout: false to finetune.dpo"
        )
    return lines


def refusals(ready: Ready, p: Params) -> list[str]:
    """One line for each set of which more is truncated than max_truncated_fraction allows.

    Plain text that is mixed in may be truncated.

    Args:
        ready: the result of `prepare`.
        p: the params.

    Returns:
        Lines with the fact and a `max_length` that is enough, or another remedy if the base cannot see so many tokens.
    """
    finetune, is_builtin = p.finetune, p.base.source == "builtin"
    bounds = (models.max_positions(ready.model), ready.tokenizer.model_max_length)
    base = min((bound for bound in bounds if bound and bound < _UNBOUNDED), default=None)
    allowed = finetune.max_truncated_fraction
    return [
        name + truncation.refusal(report, finetune.max_length, allowed, base, is_builtin=is_builtin)
        for name, report in _reports(ready, with_text=False)
        if report.truncated_fraction > allowed
    ]


def check_truncated(ready: Ready, p: Params) -> None:
    """Print what is truncated of the training rows, and refuse a training with too much truncation.

    Args:
        ready: the result of `prepare`.
        p: the params.

    Raises:
        TrainingError: the lines of `refusals`.
    """
    if refused := refusals(ready, p):
        raise TrainingError(*refused)
    if not distributed.rank():
        for line in [*describe_truncated(ready, p.finetune), *describe_regularisation(ready, p.finetune)]:
            print(line, flush=True)


def _reports(ready: Ready, *, with_text: bool = True) -> list[tuple[str, EncodingReport]]:
    """The prefix of a message about each set, and the set's encoding report."""
    parts = ready.mixture.others if ready.mixture else []
    others = [(f"{part.key}: ", part.report) for part in parts if with_text or not part.is_text]
    return [("", ready.report), *others]


def _part(
    tokenizer: PreTrainedTokenizerBase,
    source: mixture.MixtureSource,
    finetune: Finetune,
    of_raw: RecordForm,
    labels: Sequence[str] | None,
) -> mixture.Part:
    form = source.form
    if form != of_raw and (form.labelled or of_raw.labelled):
        raise TrainingError(
            f"data.mixture.{source.name}: holds records of {form}, and the raw set holds {of_raw}; remove the set from "
            "data.mixture"
        )
    try:
        examples, report = encode.encode_split(
            tokenizer,
            source.path,
            form.record_type,
            form.fields,
            finetune,
            labels=labels,
            names_of=_names_of(form),
            conversational=form.conversational,
            folder=token_cache.FOLDER,
        )
    except TrainingError as error:
        raise TrainingError(*(f"{source.key}: {problem}" for problem in error.problems)) from None
    is_text = form.record_type == "text"
    return mixture.Part(source.name, examples, report, source.share, is_text=is_text, key=source.key)


def _names_of(form: RecordForm) -> encode.LabelNames | None:
    return partial(label_codec.decode, multi_label=True) if form.multi_label else None


def _move(model: PreTrainedModel, compute: Compute) -> None:
    """Set the attention implementation, and move the model to its device."""
    if compute.attn_implementation:
        try:
            model.set_attn_implementation(compute.attn_implementation)
        except (ValueError, ImportError, AttributeError) as error:
            raise SetupError(
                f"compute.attn_implementation: {compute.attn_implementation} cannot be used: {one_line(error)}"
            ) from None
    if compute.device == "cuda":
        model.to("cuda")  # pyright: ignore[reportArgumentType]


def train(
    ready: Ready, finetune: Finetune, compute: Compute | None = None, *, folder: Path, log: Log | None = None
) -> training_run.Training:
    """Train from the newest complete checkpoint in `folder` if there is one.

    Args:
        ready: the result of `prepare`.
        finetune: section `finetune`.
        compute: section `compute`; None: train on the processor, in float32.
        folder: the checkpoints of exactly this training.
        log: called with the measures of each logged step.

    Raises:
        TrainingError: nothing can be trained, or the training has diverged.
    """
    if finetune.num_train_epochs:
        trained = _train(ready, finetune, compute, folder, log)
    else:
        trained = training_run.untrained(ready.model, len(ready.examples))
    # Dropout belongs to this training: the model is used, and may be trained again, with the config of its base.
    for key, value in ready.stored_dropout.items():
        setattr(trained.model.config, key, value)
    return trained


def _train(
    ready: Ready, finetune: Finetune, compute: Compute | None, folder: Path, log: Log | None
) -> training_run.Training:
    config = config_of(ready.task, finetune, compute)
    lora = finetune.lora.model_dump() if finetune.lora else None
    objective = TASKS[ready.task].objective
    if objective is None:
        assert finetune.dpo is not None
        return dpo.train(
            ready.model,
            ready.tokenizer,
            ready.examples,
            config,
            dpo=finetune.dpo.model_dump(),
            folder=folder,
            lora=lora,
            validation=ready.validation,
            of_epoch=ready.mixture.of_epoch if ready.mixture else None,
            log=log,
        )
    return training_run.train(
        ready.model,
        ready.examples,
        config,
        objective=objective(ready, finetune, compute),
        pad=models.pad_token_id(ready.tokenizer),
        folder=folder,
        lora=lora,
        validation=ready.validation,
        of_epoch=ready.mixture.of_epoch if ready.mixture else None,
        log=log,
    )


def config_of(task: str, finetune: Finetune, compute: Compute | None = None) -> TrainingConfig:
    """The training config of a task.

    Args:
        task: the task of params.yaml.
        finetune: section `finetune`.
        compute: section `compute`; None: on the processor, in float32.
    """
    best = finetune.metric_for_best_model or TASKS[task].best
    return TrainingConfig.from_params(finetune, compute, metric_for_best_model=best)


def _mode(form: RecordForm) -> str:
    if form.labelled:
        return REGRESSION if form.numeric else CLASSIFICATION
    return CHAT if form.conversational else PLAIN


def labels_of(form: RecordForm, split: Path) -> list[str]:
    """The labels of a clean split, sorted.

    Args:
        form: the form of its records.
        split: its parquet file or folder.
    """
    written = files.read_parquet(split, ["label"]).column("label").unique().to_pylist()
    return sorted({name for label in written for name in label_codec.decode(label, multi_label=form.multi_label)})
