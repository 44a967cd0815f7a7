"""A task from clean splits and a base to a trained model: which head, which rows, which objective."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tuneline.core import files
from tuneline.data.records import label_codec
from tuneline.data.records.record_form import RecordForm, read_form
from tuneline.encoding import encode, token_cache, truncation
from tuneline.encoding.examples import CHAT, CLASSIFICATION, PLAIN, REGRESSION, Preferences
from tuneline.encoding.truncation import EncodingReport
from tuneline.errors import SetupError, TrainingError, one_line
from tuneline.finetuning import dpo, mixing
from tuneline.finetuning.mixing import Mixture
from tuneline.modeling import adapters, models
from tuneline.params import Compute, Finetune, Params
from tuneline.training import distributed, loop, training_run
from tuneline.training.objectives import Causal, Classification, Objective, Regression
from tuneline.training.training_config import Recipe

_UNBOUNDED = 1 << 40


@dataclass(frozen=True)
class Ready:
    """What is trained, and on what."""

    task: str
    mode: str
    """How records become tokens for the model, as it is stored with it."""
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    examples: Sequence[Any]
    validation: Sequence[Any]
    account: EncodingReport
    multi_label: bool

    @property
    def mixture(self) -> Mixture | None:
        """The examples, where they are of several sets."""
        return self.examples if isinstance(self.examples, Mixture) else None


def splits(clean: Path) -> dict[str, Path]:
    """The splits that training reads."""
    return {name: clean / name for name in ("train", "validation")}


def prepare(
    task: str,
    clean: Path,
    base: Path,
    finetune: Finetune,
    compute: Compute | None = None,
    *,
    others: Sequence[mixing.Wanted] = (),
) -> Ready:
    """Load the base with the head that the task needs, and make the clean rows into examples.

    Args:
        task: what is learnt.
        clean: the folder of clean splits, and of dataset.json, which says what they hold.
        base: a model folder.
        finetune: the params.
        compute: on what it will be trained; None: the model stays as it is loaded.
        others: sets that are trained beside the clean rows.

    Raises:
        ModelError: the base cannot be used for it.
        TrainingError: there is too little to learn from, or adapters are to go where there is nothing.
    """
    form = read_form(clean)
    labels = None if form.numeric or not form.labelled else labels_of(form, splits(clean)["train"])
    mode = _mode(form)
    if form.labelled:
        problem_type = (
            "regression" if form.numeric else f"{'multi' if form.multi_label else 'single'}_label_classification"
        )
        model, tokenizer = models.new_classifier(base, labels or [], problem_type, finetune.seed)
    else:
        model, tokenizer = models.load(base)
    models.check_length(model, finetune.max_length, "finetune.max_length")
    if compute:
        _place(model, compute)
    if finetune.lora:
        adapters.config(model, finetune.lora.model_dump())
    (examples, account), (validation, _) = (
        encode.encode_split(
            tokenizer,
            path,
            form.record_type,
            form.fields,
            finetune,
            labels=labels,
            names_of=partial(label_codec.decode, multi_label=True) if form.multi_label else None,
            conversational=form.conversational,
            folder=token_cache.FOLDER,
        )
        for path in splits(clean).values()
    )
    if others:
        examples = Mixture(examples, account, [_part(tokenizer, one, finetune) for one in others], finetune.seed)
        examples.check(finetune.num_train_epochs)
    return Ready(task, mode, model, tokenizer, examples, validation, account, form.multi_label)


def describe_truncated(ready: Ready, finetune: Finetune) -> list[str]:
    """What is cut of the training rows, for a person; nothing where nothing is.

    Args:
        ready: by `prepare`.
        finetune: the params.
    """
    return [
        f"{name}{line}"
        for name, account in _accounts(ready)
        for line in account.describe_truncated(finetune.max_length)
    ]


def refusals(ready: Ready, p: Params) -> list[str]:
    """Why `finetune` refuses training rows of which too much is cut, and what to do; nothing where it does not.

    Plain text that is mixed in may be cut.

    Args:
        ready: by `prepare`.
        p: the params.

    Returns:
        A line for each set, with a `max_length` that is enough, or what to do where the base cannot see so much.
    """
    finetune, is_builtin = p.finetune, p.base.source == "builtin"
    bounds = (models.max_positions(ready.model), ready.tokenizer.model_max_length)
    # A tokenizer that knows no bound has an enormous number.
    base = min((one for one in bounds if one and one < _UNBOUNDED), default=None)
    allowed = finetune.max_truncated_fraction
    return [
        name + truncation.refusal(account, finetune.max_length, allowed, base, is_builtin=is_builtin)
        for name, account in _accounts(ready, with_text=False)
        if account.truncated_fraction > allowed
    ]


def check_truncated(ready: Ready, p: Params) -> None:
    """Say what is cut of the training rows, and refuse rows of which too much is.

    Args:
        ready: by `prepare`.
        p: the params.

    Raises:
        TrainingError: the lines of `refusals`.
    """
    if refused := refusals(ready, p):
        raise TrainingError(*refused)
    if not distributed.rank():
        for line in describe_truncated(ready, p.finetune):
            print(line, flush=True)


def _accounts(ready: Ready, *, with_text: bool = True) -> list[tuple[str, EncodingReport]]:
    """The account of each set after its name; perhaps without the plain text that is mixed in."""
    parts = ready.mixture.others if ready.mixture else []
    others = [(f"data.mixture.{part.name}: ", part.account) for part in parts if with_text or not part.is_text]
    return [("", ready.account), *others]


def _part(tokenizer: PreTrainedTokenizerBase, one: mixing.Wanted, finetune: Finetune) -> mixing.Part:
    form = one.form
    try:
        examples, account = encode.encode_split(
            tokenizer,
            one.path,
            form.record_type,
            form.fields,
            finetune,
            conversational=form.conversational,
            folder=token_cache.FOLDER,
        )
    except TrainingError as error:
        raise TrainingError(*(f"data.mixture.{one.name}: {problem}" for problem in error.problems)) from None
    return mixing.Part(one.name, examples, account, one.share, is_text=one.form.record_type == "text")


def _place(model: PreTrainedModel, compute: Compute) -> None:
    """Give a model the attention that is asked for, and bring it to where it is trained."""
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
    ready: Ready, finetune: Finetune, compute: Compute | None = None, *, folder: Path, log: loop.Log | None = None
) -> training_run.Training:
    """Train what is ready, from the newest whole checkpoint if there is one.

    Args:
        ready: by `prepare`.
        finetune: the params.
        compute: on what; None: on the processor, in float32.
        folder: of the checkpoints of exactly this training.
        log: a tracker's ear.

    Raises:
        TrainingError: what cannot be trained, or was not well trained.
    """
    recipe, pad = recipe_of(ready.task, finetune, compute), models.pad_token_id(ready.tokenizer)
    lora = finetune.lora.model_dump() if finetune.lora else None
    if ready.task == "preference":
        assert finetune.dpo is not None
        assert isinstance(ready.examples, Preferences)
        return dpo.train(
            ready.model,
            ready.tokenizer,
            ready.examples,
            recipe,
            dpo=finetune.dpo.model_dump(),
            folder=folder,
            lora=lora,
            validation=ready.validation,
            log=log,
        )
    return training_run.train(
        ready.model,
        ready.examples,
        recipe,
        objective=objective(ready, finetune, pad, compute),
        pad=pad,
        folder=folder,
        lora=lora,
        validation=ready.validation,
        of_epoch=ready.mixture.of_epoch if ready.mixture else None,
        log=log,
    )


def recipe_of(task: str, finetune: Finetune, compute: Compute | None = None) -> Recipe:
    """How a task is trained.

    Of labels the accuracy says which weights are best, where the params do not: their loss rises again while still more
    of them get right, as the model gets too certain of those that are wrong. Of all else the loss does.
    """
    judge = finetune.model_dump().get("metric_for_best_model") or {"classification": "accuracy"}.get(task, "loss")
    return Recipe.of(finetune, compute, metric_for_best_model=judge)


def objective(ready: Ready, finetune: Finetune, pad: int, compute: Compute | None = None) -> Objective:
    """What the trainer is to learn; of a preference trl knows it."""
    smoothing = finetune.label_smoothing_factor
    if ready.task == "regression":
        return Regression(pad)
    if ready.task == "classification":
        return Classification.of(
            ready.examples,
            pad=pad,
            labels=len(ready.model.config.id2label or ()),
            several=ready.multi_label,
            class_weights=finetune.class_weights,
            smoothing=smoothing,
        )
    # A compiled model knows nothing of the hook that keeps what is not learnt from the output head.
    sparse = not (compute and compute.torch_compile)
    return Causal.of(ready.model, ready.examples, pad=pad, packing=finetune.packing, smoothing=smoothing, sparse=sparse)


def _mode(form: RecordForm) -> str:
    if form.labelled:
        return REGRESSION if form.numeric else CLASSIFICATION
    return CHAT if form.conversational else PLAIN


def labels_of(form: RecordForm, split: Path) -> list[str]:
    """The labels of a clean split, sorted.

    Args:
        form: of its records.
        split: its parquet file or folder.
    """
    written = files.read_parquet(split, ["label"]).column("label").unique().to_pylist()
    return sorted({name for label in written for name in label_codec.decode(label, multi_label=form.multi_label)})
