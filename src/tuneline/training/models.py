"""Model folders: loading with every problem named at once, saving as the same bytes, and what makes runs repeat."""

import os
import warnings
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from tuneline import files
from tuneline.errors import ModelError
from tuneline.training.checkpoints import naming_a_full_disk

MODE_FILE = "tuneline.json"
PLAIN = "plain"
"""The mode in which a text, or a pair's prompt and completion, is trained as written plus end-of-text."""
CHAT = "chat"
"""The mode in which conversations go through the tokenizer's chat template, and what the assistant says is learnt."""
CLASSIFICATION = "classification"
REGRESSION = "regression"
_MODES = (PLAIN, CHAT, CLASSIFICATION, REGRESSION)
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "spiece.model", "vocab.txt")
_PICKLED_WEIGHTS = ("pytorch_model*.bin", "*.pt", "*.pth", "*.ckpt")


def use_threads(count: int) -> None:
    """Let one operation run on `count` threads, and silence the libraries' progress bars and advice."""
    torch.set_num_threads(count)
    # The tokenizers' own threads outlive a fork and only warn about it.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    warnings.filterwarnings("ignore", module="torch.utils.data")


def problems(folder: Path) -> list[str]:
    """What keeps `folder` from being loaded as a causal language model with its tokenizer, a line each."""
    if not folder.is_dir():
        return [f"{folder}: no such folder; it must hold a model as save_pretrained writes it"]
    found = []
    config = _config(folder)
    if config is None:
        found.append(f"{folder}/config.json: missing or no JSON; copy it from where the model came from")
    elif "auto_map" in config:
        found.append(
            f"{folder}/config.json: auto_map asks for Python code of its own, which is never run; "
            "use a model whose architecture transformers knows"
        )
    found += _weight_problems(folder)
    if not any((folder / name).is_file() for name in _TOKENIZER_FILES):
        found.append(f"{folder}: no tokenizer ({' or '.join(_TOKENIZER_FILES[:3])}); save the model's tokenizer there")
    return found


def _config(folder: Path) -> dict[str, Any] | None:
    try:
        config = files.read_json(folder / "config.json")
    except (OSError, ValueError):
        return None
    return config if isinstance(config, dict) else None


def _weight_problems(folder: Path) -> list[str]:
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        try:
            shards = sorted(set(files.read_json(index)["weight_map"].values()))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return [f"{index}: is no index of weights; copy it again from where the model came from"]
        return [
            f"{folder}/{name}: named by {index.name} but missing" for name in shards if not (folder / name).is_file()
        ]
    if (folder / "model.safetensors").is_file():
        return []
    pickled = sorted(path.name for pattern in _PICKLED_WEIGHTS for path in folder.glob(pattern))
    if pickled:
        return [
            f"{folder}/{pickled[0]}: pickled weights can run code when they are read and are refused; "
            "save the model again with save_pretrained, which writes model.safetensors"
        ]
    return [f"{folder}/model.safetensors: missing; copy it from where the model came from"]


def load(folder: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a model and its tokenizer from local files: safetensors only, no code of the model's own, float32.

    Args:
        folder: what `save` or `save_pretrained` wrote.

    Returns:
        The model in evaluation mode, and its tokenizer.

    Raises:
        ModelError: something is missing or does not fit; all problems at once.
    """
    found = problems(folder)
    if found:
        raise ModelError(*found)
    tokenizer = load_tokenizer(folder)
    try:
        model, report = cast(
            "tuple[PreTrainedModel, dict[str, Any]]",
            AutoModelForCausalLM.from_pretrained(
                folder,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                dtype=torch.float32,
                output_loading_info=True,
            ),
        )
    except (OSError, ValueError, RuntimeError, KeyError, ImportError, SafetensorError) as error:
        raise ModelError(f"{folder}: cannot be loaded as a causal language model: {_first_line(error)}") from None
    # transformers would fill them with random numbers and go on.
    missing = sorted(report["missing_keys"])
    if missing:
        raise ModelError(
            f"{folder}: the weights lack {len(missing)} tensors that the model needs, {missing[0]} first; "
            "copy the folder again, or use a model with a language-modelling head"
        )
    rows = model.get_input_embeddings().weight.shape[0]  # pyright: ignore[reportAttributeAccessIssue, reportIndexIssue]
    if len(tokenizer) > rows:
        raise ModelError(
            f"{folder}: the tokenizer knows {len(tokenizer)} tokens and the model {rows}; "
            "use the tokenizer that the model was trained with"
        )
    return model.eval(), tokenizer


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Load only the tokenizer of a model folder.

    Raises:
        ModelError: there is none, or it has no end-of-text token.
    """
    if not any((folder / name).is_file() for name in _TOKENIZER_FILES):
        raise ModelError(*problems(folder))
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, RuntimeError, KeyError, ImportError, TypeError, AttributeError) as error:
        raise ModelError(f"{folder}: the tokenizer cannot be loaded: {_first_line(error)}") from None
    if tokenizer.eos_token_id is None:
        raise ModelError(f"{folder}: the tokenizer has no end-of-text token; set eos_token in tokenizer_config.json")
    return tokenizer


def mode(folder: Path) -> str:
    """How records become tokens for the model in `folder`, as stored with it."""
    path = folder / MODE_FILE
    try:
        stored = files.read_json(path)["mode"]
    except FileNotFoundError:
        return PLAIN
    except (OSError, ValueError, KeyError, TypeError):
        raise ModelError(f'{path}: is not as it was written; it must be {{"mode": "{PLAIN}"}}') from None
    if stored not in _MODES:
        raise ModelError(f"{path}: mode {stored!r} is unknown here; known: {', '.join(_MODES)}")
    return stored


def save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path, mode: str = PLAIN) -> None:
    """Write a model folder that transformers' Auto classes load; the same model gives the same bytes.

    Args:
        model: the model.
        tokenizer: its tokenizer.
        folder: the folder to be made or replaced.
        mode: how records become tokens for this model.
    """
    # A trainer switches the cache off, with which an answer would be read again for every token of it.
    model.config.use_cache = True
    # How it was loaded is no property of a tokenizer.
    for name in ("is_local", "local_files_only"):
        tokenizer.init_kwargs.pop(name, None)
    with files.atomic_folder(folder) as beside, naming_a_full_disk(beside):
        model.save_pretrained(beside)
        tokenizer.save_pretrained(beside)
        for path in beside.iterdir():
            path.chmod(0o644)
        files.write_json(beside / MODE_FILE, {"mode": mode})


def pad(tokenizer: PreTrainedTokenizerBase) -> int:
    """The token that fills rows up; it is never learnt, so that end-of-text does where there is no other."""
    token = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    assert isinstance(token, int)
    return token


def check_length(model: PreTrainedModel, max_length: int, key: str) -> None:
    """Refuse rows that are longer than what the model can see.

    Raises:
        ModelError: naming the params key.
    """
    positions = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if positions is not None and max_length > positions:
        raise ModelError(
            f"{key}: {max_length} tokens are more than the model can see at once ({positions}); "
            f"set it to {positions} or less"
        )


def count_parameters(model: PreTrainedModel) -> int:
    """Parameters of the model, a shared one once."""
    return sum(parameter.numel() for parameter in model.parameters())


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
