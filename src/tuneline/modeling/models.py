"""Model folders: loading with every problem named at once, saving as the same bytes, and what makes runs repeat."""

import os
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    set_seed,
)
from transformers.utils import logging as transformers_logging

from tuneline.core import files, limits
from tuneline.encoding.chat.chat_template import ChatTemplate
from tuneline.encoding.examples import CHAT, PLAIN
from tuneline.errors import ModelError, first_line
from tuneline.modeling.model_folder import MODE_FILE, TOKENIZER_FILES, architectures, is_causal, numbers_held, problems

# To lay a model out without its weights, or to load a tokenizer; seconds and some hundred megabytes for large ones.
_SECONDS = 60
_MEMORY = 8 << 30
# Numbers of a model for each that is held: quantized weights hold several in one, and tied ones are held once.
_QUANTIZED = 16
_OF_A_HEAD = 50_000_000
_LOADS_TOO_LONG = f"the tokenizer takes more than {_SECONDS} s to load; copy the folder again, or use another base"
# What a tokenizer is tried with: its rules may let any of this grow without end.
_PROBE = (
    'The quick brown fox jumps over 13 lazy dogs.\n\n\tdef main(x_1: int = 0) -> None:  # 100 %, "why"?\n'
    "Größe, naïve, œuvre, Ελλάδα, Жизнь, עברית, العربية, हिन्दी, ไทย, 中文，日本語。한국어 \U0001f642 e\u0301 \u200b "
    f"{'a' * 40}{' ' * 40}{'-' * 40}{'0' * 40}"
)
_PROBE_SECONDS = 10
_PROBE_MEMORY = 2 << 30


def use_threads(count: int) -> None:
    """Let one operation run on `count` threads, and silence the libraries' progress bars and advice."""
    torch.set_num_threads(count)
    # The tokenizers' own threads outlive a fork and only warn about it.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    warnings.filterwarnings("ignore", module="torch.utils.data")
    # peft still asks for it by its old name.
    warnings.filterwarnings("ignore", message="`is_gradient_checkpointing`", category=FutureWarning)


def load(folder: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a model and its tokenizer from local files: safetensors only, no code of the model's own, float32.

    Args:
        folder: what `save` or `save_pretrained` wrote.

    Returns:
        The model in evaluation mode, and its tokenizer.

    Raises:
        ModelError: something is missing or does not fit; all problems at once.
    """
    if not is_causal(folder):
        # transformers would load an encoder too, and let it see the words that it is to foretell.
        raise ModelError(
            f"{folder}/config.json: {', '.join(architectures(folder))} is no causal language model; use another base, "
            "or this one for task classification or regression"
        )
    model, tokenizer, report = _loaded(AutoModelForCausalLM, folder, "a causal language model")
    _refuse_missing(folder, report["missing_keys"], "a language-modelling head")
    if tokenizer.eos_token_id is None:
        raise ModelError(f"{folder}: the tokenizer has no end-of-text token; set eos_token in tokenizer_config.json")
    return model, tokenizer


def load_classifier(folder: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a model that names labels, or one that gives a number, as `load` does.

    Args:
        folder: what `save` wrote; the labels are in its config.

    Raises:
        ModelError: something is missing or does not fit, the labels too.
    """
    model, tokenizer, report = _loaded(AutoModelForSequenceClassification, folder, "a classifier")
    _refuse_missing(folder, report["missing_keys"], "a classification head")
    problem_type, names = model.config.problem_type, list((model.config.id2label or {}).values())
    if problem_type is None or (problem_type != "regression" and (not names or names[0] == "LABEL_0")):
        raise ModelError(
            f"{folder}/config.json: problem_type or id2label is missing, so what the model's outputs mean is not "
            "known; fine-tune it here, or set both"
        )
    return model, tokenizer


def load_base(folder: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a base as what it is: a causal language model, or a body that only a classifier's head can be put on.

    Args:
        folder: as for `load`.

    Raises:
        ModelError: as for `load` and `new_classifier`.
    """
    if is_causal(folder):
        return load(folder)
    return new_classifier(folder, ["no", "yes"], "single_label_classification", seed=0)


def new_classifier(
    base: Path, labels: Sequence[str], problem_type: str, seed: int
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A base of any family with a new head.

    Args:
        base: a folder as for `load`; a model without a language-modelling head will do.
        labels: in the order of the outputs; none for a regression.
        problem_type: single_label_classification, multi_label_classification or regression.
        seed: where the head's first weights come from.

    Returns:
        The model in evaluation mode, and its tokenizer; that of a causal model closes every text with end-of-text.

    Raises:
        ModelError: the base cannot be loaded, or lacks more than the head.
    """
    set_seed(seed)
    names = dict(enumerate(labels)) if labels else {0: "number"}
    numbers = {name: number for number, name in names.items()}
    model, tokenizer, report = _loaded(
        AutoModelForSequenceClassification,
        base,
        "a base for a classifier",
        num_labels=len(names),
        id2label=names,
        label2id=numbers,
        problem_type=problem_type,
        # Of a base that has been a classifier itself.
        ignore_mismatched_sizes=True,
    )
    body = f"{model.base_model_prefix}."
    lacking = [*report["missing_keys"], *(key[0] for key in report["mismatched_keys"])]
    # A pooler is a part of the head, wherever a family keeps it.
    _refuse_missing(base, [key for key in lacking if key.startswith(body) and ".pooler." not in key], "these tensors")
    generator = torch.Generator().manual_seed(seed)
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and module.out_features == len(names) and not name.startswith(body):
            nn.init.normal_(module.weight, std=getattr(model.config, "initializer_range", 0.02), generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    model.config.pad_token_id = pad_token_id(tokenizer)
    if is_causal(base):
        _close_texts(tokenizer)
    return model, tokenizer


def _close_texts(tokenizer: PreTrainedTokenizerBase) -> None:
    """Let end-of-text stand behind every text, where the tokenizer puts nothing around a text yet.

    The head of a causal model sees the last token. Without end-of-text that is another word in every text, which the
    model has learnt to go on from and not to sum the text up at.

    Args:
        tokenizer: changed in place; how it was changed is saved with it.
    """
    token = tokenizer.eos_token_id
    puts_nothing = tokenizer("a")["input_ids"] == tokenizer("a", add_special_tokens=False)["input_ids"]
    # The head takes the last token that is not padding.
    if token is None or token == pad_token_id(tokenizer) or not puts_nothing or not hasattr(tokenizer, "add_eos_token"):
        return
    tokenizer.add_eos_token = True  # pyright: ignore[reportAttributeAccessIssue]
    tokenizer.init_kwargs["add_eos_token"] = True


def _loaded(
    auto: Any, folder: Path, what: str, **more: Any
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, dict[str, Any]]:
    found = problems(folder)
    if found:
        raise ModelError(*found)
    tokenizer = load_tokenizer(folder)
    try:
        _refuse_more_than_is_held(auto, folder, {k: v for k, v in more.items() if k != "ignore_mismatched_sizes"})
        model, report = cast(
            "tuple[PreTrainedModel, dict[str, Any]]",
            auto.from_pretrained(
                folder,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                dtype=torch.float32,
                output_loading_info=True,
                **more,
            ),
        )
    except ModelError:
        raise
    except Exception as error:
        # Whatever a stranger's config can make a library raise.
        raise ModelError(f"{folder}: cannot be loaded as {what}: {first_line(error)}") from None
    _refuse_not_finite(model, folder)
    rows = model.get_input_embeddings().weight.shape[0]  # pyright: ignore[reportAttributeAccessIssue, reportIndexIssue]
    if len(tokenizer) > rows:
        raise ModelError(
            f"{folder}: the tokenizer knows {len(tokenizer)} tokens and the model {rows}; "
            "use the tokenizer that the model was trained with"
        )
    return model.eval(), tokenizer, report


def _refuse_more_than_is_held(auto: Any, folder: Path, more: dict[str, Any]) -> None:
    """Refuse a config that describes a much larger model than the weights hold, before any memory is taken for it."""
    config_file = folder / "config.json"
    try:
        # What is drawn for weights that are never made may not change those that are.
        with limits.within(_SECONDS, _MEMORY), torch.device("meta"), torch.random.fork_rng(devices=[]):
            config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False, **more)
            empty = auto.from_config(config, trust_remote_code=False)
            needed = sum(tensor.numel() for tensor in (*empty.parameters(), *empty.buffers()))
    except (TimeoutError, MemoryError):
        raise ModelError(
            f"{config_file}: describes a model that takes more than {_SECONDS} s or {_MEMORY >> 30} GB to lay out; "
            "copy the folder again, or use another base"
        ) from None
    held = sum(numbers_held(folder))
    if needed > _QUANTIZED * held + _OF_A_HEAD:
        raise ModelError(
            f"{config_file}: describes a model of {needed:,} numbers, and the weights hold {held:,}; copy the folder "
            "again, or use another base"
        )


def _refuse_not_finite(model: PreTrainedModel, folder: Path) -> None:
    broken = []
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and tensor.numel():
            # Either of the two is NaN where any number is.
            low, high = (tensor.float() if tensor.itemsize == 1 else tensor).aminmax()
            if not (low.isfinite() and high.isfinite()):
                broken.append(name)
    if broken:
        raise ModelError(
            f"{folder}: {len(broken)} tensors of the weights hold NaN or infinite numbers, {broken[0]} first; copy the "
            "folder again, or use another base"
        )


def _refuse_missing(folder: Path, missing: Iterable[str], needed: str) -> None:
    # transformers would fill them with random numbers and go on.
    lacking = sorted(missing)
    if lacking:
        raise ModelError(
            f"{folder}: the weights lack {len(lacking)} tensors that the model needs, {lacking[0]} first; "
            f"copy the folder again, or use a model with {needed}"
        )


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Load only the tokenizer of a model folder.

    Raises:
        ModelError: there is none, or it has neither an end-of-text token nor one that fills rows up.
    """
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        raise ModelError(*problems(folder))
    try:
        # Its library reserves memory for each of its threads, so that only time can be bounded.
        with limits.exit_after(2 * _SECONDS, f"{folder}: {_LOADS_TOO_LONG}"), limits.within(_SECONDS):
            tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
            if isinstance(tokenizer, PreTrainedTokenizerBase):
                if _may_grow(tokenizer):
                    _try(folder, tokenizer)
                tokenizer("a")
    except TimeoutError:
        raise ModelError(f"{folder}: {_LOADS_TOO_LONG}") from None
    except ModelError:
        raise
    except Exception as error:
        # Whatever a stranger's files can make a library raise.
        raise ModelError(f"{folder}: the tokenizer cannot be loaded: {first_line(error)}") from None
    if not isinstance(tokenizer, PreTrainedTokenizerBase):
        raise ModelError(
            f"{folder}/tokenizer_config.json: tokenizer_class names {type(tokenizer).__name__}, which is not a "
            "tokenizer; copy the folder again, or use another base"
        )
    template: Any = tokenizer.chat_template
    texts = template.values() if isinstance(template, dict) else [template or ""]
    if not all(isinstance(text, str) for text in texts):
        raise ModelError(f"{folder}: the chat template is not text; put another one into the folder")
    if tokenizer.eos_token_id is None and tokenizer.pad_token_id is None:
        raise ModelError(f"{folder}: the tokenizer has no end-of-text token; set eos_token in tokenizer_config.json")
    return tokenizer


def _may_grow(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether a tokenizer has rules that could make more text than they are given; the builtin base's has none."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    rules = [getattr(backend, name, tokenizer) for name in ("normalizer", "pre_tokenizer", "decoder")]
    return any(type(rule).__name__ not in ("NoneType", "ByteLevel") for rule in rules)


def _try(folder: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    """Let a tokenizer cut a short text into tokens and put it together again, where it can do no harm."""
    most = f"{_PROBE_SECONDS} s or {_PROBE_MEMORY >> 30} GB of memory for {len(_PROBE)} characters of text"
    try:
        limits.try_in_child(
            _PROBE_SECONDS, _PROBE_MEMORY, lambda: tokenizer.decode(tokenizer(_PROBE, verbose=False)["input_ids"])
        )
    except (TimeoutError, MemoryError):
        raise ModelError(
            f"{folder}: the tokenizer takes more than {most}; copy the folder again, or use another base"
        ) from None
    except ChildProcessError as error:
        raise ModelError(
            f"{folder}: the tokenizer ends its process ({error}) over {len(_PROBE)} characters of text; copy the "
            "folder again, or use another base"
        ) from None


def save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path, mode: str = PLAIN) -> None:
    """Write a model folder that transformers' Auto classes load; the same model gives the same bytes.

    Args:
        model: the model.
        tokenizer: its tokenizer.
        folder: the folder to be made or replaced.
        mode: how records become tokens for this model.
    """
    if mode in (PLAIN, CHAT):
        # A trainer switches the cache off, with which an answer would be read again for every token of it.
        model.config.use_cache = True
    if mode == CHAT and model.generation_config is not None:
        # Whoever serves the folder reads there with what an answer ends.
        ends = [tokenizer.eos_token_id, ChatTemplate(tokenizer).end_of_turn()]
        model.generation_config.eos_token_id = sorted({end for end in ends if isinstance(end, int)})
    # How it was loaded is no property of a tokenizer.
    for name in ("is_local", "local_files_only"):
        tokenizer.init_kwargs.pop(name, None)
    with files.atomic_folder(folder) as beside, files.full_disk_as_os_error(beside):
        model.save_pretrained(beside)
        tokenizer.save_pretrained(beside)
        for path in beside.iterdir():
            path.chmod(0o644)
        files.write_json(beside / MODE_FILE, {"mode": mode})


def pad_token_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """The token that fills rows up; it is never learnt, so that end-of-text does where there is no other."""
    token = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    assert isinstance(token, int)
    return token


def check_length(model: PreTrainedModel, max_length: int, key: str) -> None:
    """Refuse rows that are longer than what the model can see.

    Raises:
        ModelError: naming the params key.
    """
    positions = max_positions(model)
    if positions is not None and max_length > positions:
        raise ModelError(
            f"{key}: {max_length} tokens are more than the model can see at once ({positions}); "
            f"set it to {positions} or less"
        )


def max_positions(model: PreTrainedModel) -> int | None:
    """Tokens that the model can see at once; None where it has no such bound."""
    positions = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    for name, module in model.named_modules():
        # RoBERTa's family numbers its positions from behind that of the padding.
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding) and module.padding_idx is not None:
            positions = module.num_embeddings - module.padding_idx - 1
    return positions


def count_parameters(model: PreTrainedModel) -> int:
    """Parameters of the model, a shared one once."""
    return sum(parameter.numel() for parameter in model.parameters())
