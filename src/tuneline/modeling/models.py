"""Models and tokenizers: loaded from untrusted folders, made into classifiers, and saved as the same bytes."""

import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    set_seed,
)
from transformers.core_model_loading import revert_weight_conversion
from transformers.utils import logging as transformers_logging

from tuneline.core import files, limits
from tuneline.encoding.chat.chat_template import ChatTemplate
from tuneline.encoding.examples import CHAT, PLAIN
from tuneline.errors import ModelError, first_line
from tuneline.modeling.model_folder import MODE_FILE, TOKENIZER_FILES, architectures, is_causal, problems, tensor_sizes

# To make a model without its weights, or to load a tokenizer. Large ones take seconds and some hundred megabytes.
_SECONDS = 60
_MEMORY = 8 << 30
# Parameters of a model per stored number: quantized weights pack several into one, and tied weights are stored once.
_PARAMETERS_PER_NUMBER = 16
_PARAMETERS_OF_A_HEAD = 50_000_000
_LOADS_TOO_LONG = f"the tokenizer takes more than {_SECONDS} s to load; copy the folder again, or use another base"
# A text to test a tokenizer with: its rules may make any part of it grow without end.
_PROBE = (
    'The quick brown fox jumps over 13 lazy dogs.\n\n\tdef main(x_1: int = 0) -> None:  # 100 %, "why"?\n'
    "Größe, naïve, œuvre, Ελλάδα, Жизнь, עברית, العربية, हिन्दी, ไทย, 中文，日本語。한국어 \U0001f642 e\u0301 \u200b "
    f"{'a' * 40}{' ' * 40}{'-' * 40}{'0' * 40}"
)
_PROBE_SECONDS = 10
_PROBE_MEMORY = 2 << 30


def use_threads(count: int) -> None:
    """Run torch's operations on `count` threads, and turn off the progress bars and warnings of the libraries."""
    torch.set_num_threads(count)
    # Without it tokenizers warns after a fork and stops using threads.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    warnings.filterwarnings("ignore", module="torch.utils.data")
    # peft still uses the old name.
    warnings.filterwarnings("ignore", message="`is_gradient_checkpointing`", category=FutureWarning)


def load(folder: Path, dropout: Mapping[str, float] | None = None) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a causal language model in evaluation mode and its tokenizer: float32, safetensors only, no code.

    Args:
        folder: a folder that `save` or `save_pretrained` wrote.
        dropout: keys of the model's config, with the values that replace the stored ones.

    Raises:
        ModelError: files are missing or do not fit together, or the config has no such key for dropout.
    """
    if not is_causal(folder):
        # transformers would also load an encoder, which sees the tokens that it predicts.
        raise ModelError(
            f"{folder}/config.json: {', '.join(architectures(folder))} is not a causal language model; use another "
            "base, or use this base for task classification or regression"
        )
    model, tokenizer, report = _loaded(AutoModelForCausalLM, folder, "a causal language model", dropout=dropout)
    _refuse_missing(folder, report["missing_keys"], "a language-modelling head")
    if tokenizer.eos_token_id is None:
        raise ModelError(f"{folder}: the tokenizer has no end-of-text token; set eos_token in tokenizer_config.json")
    return model, tokenizer


def load_classifier(
    folder: Path, dropout: Mapping[str, float] | None = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a classifier or a regression as `load` does.

    Args:
        folder: a folder that `save` wrote; its config.json has the labels.
        dropout: as for `load`.

    Raises:
        ModelError: as for `load`, or the labels are missing.
    """
    model, tokenizer, report = _loaded(AutoModelForSequenceClassification, folder, "a classifier", dropout=dropout)
    _refuse_missing(folder, report["missing_keys"], "a classification head")
    problem_type, names = model.config.problem_type, list((model.config.id2label or {}).values())
    if problem_type is None or (problem_type != "regression" and (not names or names[0] == "LABEL_0")):
        raise ModelError(
            f"{folder}/config.json: problem_type or id2label is missing, so the meaning of the model's outputs is "
            "unknown; fine-tune the model here, or set both"
        )
    return model, tokenizer


def load_translator(folder: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a sequence-to-sequence model, such as one that translates, as `load` does.

    Args:
        folder: as for `load`.

    Raises:
        ModelError: as for `load`, or weights are missing.
    """
    model, tokenizer, report = _loaded(AutoModelForSeq2SeqLM, folder, "a sequence-to-sequence model")
    _refuse_missing(folder, report["missing_keys"], "weights of a sequence-to-sequence model")
    return model, tokenizer


def load_base(folder: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a base as a causal language model; an encoder as a classifier with a new head.

    Args:
        folder: as for `load`.

    Raises:
        ModelError: as for `load` and `new_classifier`.
    """
    if is_causal(folder):
        return load(folder)
    return new_classifier(folder, ["no", "yes"], "single_label_classification", seed=0)


def new_classifier(
    base: Path, labels: Sequence[str], problem_type: str, seed: int, dropout: Mapping[str, float] | None = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A base of any architecture with a new head, in evaluation mode, and its tokenizer.

    Args:
        base: a folder as for `load`; an encoder, too.
        labels: in the order of the outputs; empty for a regression.
        problem_type: single_label_classification, multi_label_classification or regression.
        seed: of the initial weights of the head.
        dropout: as for `load`.

    Returns:
        The model and its tokenizer. The tokenizer of a causal model ends every text with end-of-text.

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
        dropout=dropout,
        num_labels=len(names),
        id2label=names,
        label2id=numbers,
        problem_type=problem_type,
        # A base that is a classifier has a head of another size.
        ignore_mismatched_sizes=True,
    )
    body = f"{model.base_model_prefix}."
    lacking = [*report["missing_keys"], *(key[0] for key in report["mismatched_keys"])]
    # A pooler belongs to the head, wherever an architecture keeps it.
    _refuse_missing(base, [key for key in lacking if key.startswith(body) and ".pooler." not in key], "these tensors")
    generator = torch.Generator().manual_seed(seed)
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and module.out_features == len(names) and not name.startswith(body):
            nn.init.normal_(module.weight, std=getattr(model.config, "initializer_range", 0.02), generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    model.config.pad_token_id = pad_token_id(tokenizer)
    if is_causal(base):
        _add_end_of_text(tokenizer)
    return model, tokenizer


def tensors_of_base(base: Path, fine_tuned: Path) -> dict[str, torch.Tensor]:
    """The tensors of a base, by the names that they have in the files of a model that was fine-tuned from it.

    Args:
        base: a folder as for `load`; an encoder, too.
        fine_tuned: a folder that `save` wrote.

    Returns:
        Name -> tensor in float32, without those that the base does not have, such as the head of a classifier.

    Raises:
        ModelError: the base cannot be loaded.
    """
    if is_causal(fine_tuned):
        return _as_saved(load(base)[0], lacking=set())
    config = AutoConfig.from_pretrained(fine_tuned, local_files_only=True, trust_remote_code=False)
    model, _, report = _loaded(
        AutoModelForSequenceClassification,
        base,
        "a base for a classifier",
        num_labels=config.num_labels,
        ignore_mismatched_sizes=True,
    )
    lacking = {*report["missing_keys"], *(key[0] for key in report["mismatched_keys"])}
    return _as_saved(model, lacking)


def _as_saved(model: PreTrainedModel, lacking: set[str]) -> dict[str, torch.Tensor]:
    """The tensors of a model by their names in a file, where each expert of a layer has tensors of its own."""
    known = {name: tensor for name, tensor in model.state_dict().items() if name not in lacking}
    return dict(revert_weight_conversion(model, known))


def _add_end_of_text(tokenizer: PreTrainedTokenizerBase) -> None:
    """Make a tokenizer that puts nothing around a text put end-of-text after it; the setting is saved with it.

    The head of a causal model reads the last token of a text. Without end-of-text that token is another word in every
    text, and the model has not learned to summarize the text there.
    """
    token = tokenizer.eos_token_id
    puts_nothing = tokenizer("a")["input_ids"] == tokenizer("a", add_special_tokens=False)["input_ids"]
    # The head takes the last token that is not padding.
    if token is None or token == pad_token_id(tokenizer) or not puts_nothing or not hasattr(tokenizer, "add_eos_token"):
        return
    tokenizer.add_eos_token = True  # pyright: ignore[reportAttributeAccessIssue]
    tokenizer.init_kwargs["add_eos_token"] = True


def _loaded(
    auto: Any, folder: Path, what: str, *, dropout: Mapping[str, float] | None = None, **more: Any
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, dict[str, Any]]:
    found = problems(folder)
    if found:
        raise ModelError(*found)
    tokenizer = load_tokenizer(folder)
    try:
        of_config = {key: value for key, value in more.items() if key != "ignore_mismatched_sizes"}
        _refuse_larger_than_weights(auto, folder, of_config)
        if dropout:
            _check_dropout(auto, folder, dropout, of_config)
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
                **(dropout or {}),
            ),
        )
    except ModelError:
        raise
    except Exception as error:
        # An untrusted config can make a library raise anything.
        raise ModelError(f"{folder}: cannot be loaded as {what}: {first_line(error)}") from None
    _refuse_not_finite(model, folder)
    # It names code for another program to download and run. What is loaded here is transformers' own class.
    vars(model.config).pop("auto_map", None)
    rows = model.get_input_embeddings().weight.shape[0]  # pyright: ignore[reportAttributeAccessIssue, reportIndexIssue]
    if len(tokenizer) > rows:
        raise ModelError(
            f"{folder}: the tokenizer has {len(tokenizer)} tokens and the model {rows}; use the tokenizer "
            "that the model was trained with"
        )
    return model.eval(), tokenizer, report


def _refuse_larger_than_weights(auto: Any, folder: Path, more: dict[str, Any]) -> None:
    """Refuse a config of a much larger model than its weights, before memory is allocated for it."""
    config_file = folder / "config.json"
    try:
        # Initial weights on the meta device must not change the random numbers of real weights.
        with limits.within(_SECONDS, _MEMORY), torch.device("meta"), torch.random.fork_rng(devices=[]):
            config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False, **more)
            empty = auto.from_config(config, trust_remote_code=False)
            needed = sum(tensor.numel() for tensor in (*empty.parameters(), *empty.buffers()))
    except (TimeoutError, MemoryError):
        raise ModelError(
            f"{config_file}: describes a model that takes more than {_SECONDS} s or {_MEMORY >> 30} GB to make; "
            "copy the folder again, or use another base"
        ) from None
    stored = sum(tensor_sizes(folder))
    if needed > _PARAMETERS_PER_NUMBER * stored + _PARAMETERS_OF_A_HEAD:
        raise ModelError(
            f"{config_file}: describes a model of {needed:,} parameters, and the weights have {stored:,} numbers; copy "
            "the folder again, or use another base"
        )


def dropout_keys(config: PreTrainedConfig) -> dict[str, float | None]:
    """The keys of a model's config for dropout, with their values."""
    return {
        key: value
        for key, value in config.to_dict().items()
        if "drop" in key and (value is None or isinstance(value, int | float)) and not isinstance(value, bool)
    }


def stored_dropout(folder: Path, keys: Iterable[str]) -> dict[str, float | None]:
    """The values of some keys for dropout in the config of a model folder.

    Args:
        folder: a folder that `load` accepts.
        keys: keys that `load` accepts.
    """
    stored = dropout_keys(AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False))
    return {key: stored[key] for key in keys}


def _check_dropout(auto: Any, folder: Path, dropout: Mapping[str, float], of_config: dict[str, Any]) -> None:
    """Refuse a key that the config does not have, or that no module of the model reads."""
    # A value of its own for each key shows which modules have read it.
    marks = {key: 0.5 + (number + 1) / 1024 for number, key in enumerate(dropout)}
    with torch.device("meta"), torch.random.fork_rng(devices=[]):
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False, **of_config)
        known = dropout_keys(config)
        for key in marks.keys() & known.keys():
            setattr(config, key, marks[key])
        model = auto.from_config(config, trust_remote_code=False)
    read = {value for module in model.modules() for value in vars(module).values() if isinstance(value, float)}
    useful = [key for key in known if key not in marks or marks[key] in read]
    family = config.model_type
    names = f"the keys of {family} are {', '.join(useful)}" if useful else f"{family} has no dropout; remove it"
    problems = [
        f"finetune.dropout.{key}: "
        + ("no part of the model reads it" if key in known else f"{folder}/config.json has no such key")
        + f"; {names}"
        for key in dropout
        if key not in useful
    ]
    if problems:
        raise ModelError(*problems)


def _refuse_not_finite(model: PreTrainedModel, folder: Path) -> None:
    broken = []
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and tensor.numel():
            # Both are NaN if any number is.
            low, high = (tensor.float() if tensor.itemsize == 1 else tensor).aminmax()
            if not (low.isfinite() and high.isfinite()):
                broken.append(name)
    if broken:
        raise ModelError(
            f"{folder}: {len(broken)} tensors of the weights contain NaN or infinite numbers, {broken[0]} first; copy "
            "the folder again, or use another base"
        )


def _refuse_missing(folder: Path, missing: Iterable[str], needed: str) -> None:
    # transformers would fill them with random numbers.
    lacking = sorted(missing)
    if lacking:
        raise ModelError(
            f"{folder}: the weights lack {len(lacking)} tensors of the model, {lacking[0]} first; "
            f"copy the folder again, or use a model with {needed}"
        )


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Load only the tokenizer of a model folder.

    Raises:
        ModelError: it is missing or broken, or has neither an end-of-text token nor a padding token.
    """
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        raise ModelError(*problems(folder))
    try:
        # The library reserves memory for each of its threads, so only the time can be limited.
        with limits.exit_after(2 * _SECONDS, f"{folder}: {_LOADS_TOO_LONG}"), limits.within(_SECONDS):
            tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
            if isinstance(tokenizer, PreTrainedTokenizerBase):
                if _may_grow(tokenizer):
                    _probe(folder, tokenizer)
                tokenizer("a")
    except TimeoutError:
        raise ModelError(f"{folder}: {_LOADS_TOO_LONG}") from None
    except ModelError:
        raise
    except Exception as error:
        # Untrusted files can make a library raise anything.
        raise ModelError(f"{folder}: the tokenizer cannot be loaded: {first_line(error)}") from None
    if not isinstance(tokenizer, PreTrainedTokenizerBase):
        raise ModelError(
            f"{folder}/tokenizer_config.json: tokenizer_class names {type(tokenizer).__name__}, which is not a "
            "tokenizer; copy the folder again, or use another base"
        )
    tokenizer.init_kwargs.pop("auto_map", None)
    template: Any = tokenizer.chat_template
    texts = template.values() if isinstance(template, dict) else [template or ""]
    if not all(isinstance(text, str) for text in texts):
        raise ModelError(f"{folder}: the chat template is not text; put another one into the folder")
    if tokenizer.eos_token_id is None and tokenizer.pad_token_id is None:
        raise ModelError(f"{folder}: the tokenizer has no end-of-text token; set eos_token in tokenizer_config.json")
    return tokenizer


def _may_grow(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether a tokenizer has rules that can make a text longer; the built-in base's has none."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    rules = [getattr(backend, name, tokenizer) for name in ("normalizer", "pre_tokenizer", "decoder")]
    return any(type(rule).__name__ not in ("NoneType", "ByteLevel") for rule in rules)


def _probe(folder: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    """Encode and decode a short text in a child process with limits."""
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
            f"{folder}: the tokenizer crashes ({error}) on {len(_PROBE)} characters of text; copy the folder "
            "again, or use another base"
        ) from None


def save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path, mode: str = PLAIN) -> None:
    """Write a model folder that transformers' Auto classes load; the same model gives the same bytes.

    Args:
        model: the model.
        tokenizer: its tokenizer.
        folder: the folder to write or replace.
        mode: how records become examples for this model.
    """
    if mode in (PLAIN, CHAT):
        # A trainer turns the cache off; without it generation reads the whole text again for every token.
        model.config.use_cache = True
    if mode == CHAT and model.generation_config is not None:
        # Servers read the tokens that end an answer from generation_config.json.
        ends = [tokenizer.eos_token_id, ChatTemplate(tokenizer).end_of_turn()]
        model.generation_config.eos_token_id = sorted({end for end in ends if isinstance(end, int)})
    # These arguments of loading would be saved as settings.
    for name in ("is_local", "local_files_only"):
        tokenizer.init_kwargs.pop(name, None)
    with files.atomic_folder(folder) as temporary, files.full_disk_as_os_error(temporary):
        model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        for path in temporary.iterdir():
            path.chmod(0o644)
        files.write_json(temporary / MODE_FILE, {"mode": mode})


def pad_token_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """The padding token, or end-of-text for a tokenizer without one; padding is never supervised."""
    token = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    assert isinstance(token, int)
    return token


def check_length(model: PreTrainedModel, max_length: int, key: str) -> None:
    """Check that rows are not longer than the context of the model.

    Raises:
        ModelError: names the key of params.yaml.
    """
    positions = max_positions(model)
    if positions is not None and max_length > positions:
        raise ModelError(
            f"{key}: {max_length} tokens are more than the model can see at once ({positions}); "
            f"set it to {positions} or less"
        )


def max_positions(model: PreTrainedModel) -> int | None:
    """Tokens of the model's context; None without a limit."""
    positions = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    for name, module in model.named_modules():
        # RoBERTa's positions begin after the position of the padding.
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding) and module.padding_idx is not None:
            positions = module.num_embeddings - module.padding_idx - 1
    return positions


def count_parameters(model: PreTrainedModel) -> int:
    """Parameters of the model; shared ones count once."""
    return sum(parameter.numel() for parameter in model.parameters())
