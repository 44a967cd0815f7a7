"""Checks of the files of a model folder before anything is loaded, and the mode that is stored in it."""

import math
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from transformers import CONFIG_MAPPING

from tuneline import terminal
from tuneline.core import files
from tuneline.encoding.examples import MODES, PLAIN
from tuneline.errors import ModelError
from tuneline.modeling import unsafe_files

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "spiece.model", "vocab.txt")
MODE_FILE = "tuneline.json"
"""The file that stores the mode, in which records become examples for the model."""
MERGED = "merged"
"""The folder of a merged model, in the folder of the base that its parents were fine-tuned from."""
_LAYERS = ("layers", "n_layer", "depth")
_MOST_LAYERS = 1_000
_MOST_LABELS = 1_000_000
_MOST_NAMED = 20


def problems(folder: Path) -> list[str]:
    """Problems that prevent loading a model and its tokenizer from `folder`, one line each."""
    if not folder.is_dir():
        return [f"{folder}: no such folder; it must contain a model as save_pretrained writes it"]
    found = _unsafe_problems(folder)
    # The remedy against pickled weights writes the missing weights too.
    lacks_weights = bool(found) and not any(folder.glob("*.safetensors"))
    config = _config(folder)
    if config is None:
        found.append(f"{folder}/config.json: missing or not JSON; copy it again from the source of the model")
    elif "auto_map" in config and config.get("model_type") not in CONFIG_MAPPING:
        found.append(
            f"{folder}/config.json: auto_map names Python code of the model, which is never run, and transformers "
            f"{version('transformers')} does not know the architecture (model_type {config.get('model_type')!r}); use "
            "a model whose architecture transformers knows"
        )
    else:
        found += _count_problems(folder, config)
    if not lacks_weights:
        found += _weight_problems(folder)
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        found.append(f"{folder}: no tokenizer ({' or '.join(TOKENIZER_FILES[:3])}); save the model's tokenizer there")
    return found


def _unsafe_problems(folder: Path) -> list[str]:
    """Pickles, code, programs and archives in the folder. The objects of a git clone do not belong to the model."""
    unsafe = {
        path: what for path, what in unsafe_files.unsafe(folder).items() if ".git" not in path.relative_to(folder).parts
    }
    remedy = (
        "remove the file: the weights are in *.safetensors"
        if any(folder.glob("*.safetensors"))
        else "save the model again with save_pretrained, which writes model.safetensors, into a new folder"
    )
    lines = [f"{path}: {what}, so this model is not loaded; {remedy}" for path, what in unsafe.items()]
    more = len(lines) - _MOST_NAMED
    return [*lines[:_MOST_NAMED], f"{folder}: has {more:,} more such files"] if more > 0 else lines


def start_of(base: Path) -> Path:
    """The folder of the model that a fine-tuning begins with: the merged model if there is one, else the base.

    Args:
        base: the folder that the stage `base` wrote.
    """
    merged = base / MERGED
    return merged if merged.is_dir() else base


def architectures(folder: Path) -> list[str]:
    """The architectures that config.json names, such as LlamaForCausalLM."""
    names = (_config(folder) or {}).get("architectures")
    return [str(name) for name in names] if isinstance(names, list) else []


def is_causal(folder: Path) -> bool:
    """Whether the folder contains a causal language model. True if config.json names no architecture."""
    names = architectures(folder)
    return not names or any("CausalLM" in name or "LMHead" in name for name in names)


def _config(folder: Path) -> dict[str, Any] | None:
    try:
        config = files.read_json(folder / "config.json")
    except (OSError, ValueError, RecursionError):
        return None
    return config if isinstance(config, dict) else None


def tensor_sizes(folder: Path) -> list[int]:
    """The number of elements of each tensor of the weights; empty if a file is broken."""
    found = []
    try:
        for path in sorted(folder.glob("*.safetensors")):
            with safe_open(path, framework="np") as file:
                found += [math.prod(file.get_slice(name).get_shape()) for name in file.keys()]  # noqa: SIM118
    except (OSError, SafetensorError):
        return []
    return found


def _count_problems(folder: Path, config: dict[str, Any]) -> list[str]:
    """Numbers of layers or labels that would take minutes to allocate, and that the weights do not have."""
    found = []
    for name, value in _integers(config):
        if name == "num_labels" and value > _MOST_LABELS:
            found.append(f"{folder}/config.json: num_labels is {value}, more than {_MOST_LABELS:,}; use another base")
        if not name.endswith(_LAYERS):
            continue
        if value < 0 or (value > _MOST_LAYERS and value > len(tensor_sizes(folder))):
            found.append(
                f"{folder}/config.json: {name} is {value}, and the weights have fewer layers; copy the folder again, "
                "or use another base"
            )
    return found


def _integers(config: dict[str, Any]) -> Iterator[tuple[str, int]]:
    for name, value in config.items():
        if isinstance(value, dict):
            yield from _integers(value)
        elif isinstance(value, int):
            yield name, value


def _weight_problems(folder: Path) -> list[str]:
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        try:
            shards = sorted(set(files.read_json(index)["weight_map"].values()))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return [f"{index}: is not an index of weights; copy it again from the source of the model"]
        if foreign := [name for name in shards if not unsafe_files.is_plain_name(name)]:
            return [
                f"{index}: names {terminal.shortened(repr(foreign[0]))}, which is not a file of this folder; use "
                "another model"
            ]
        missing = [name for name in shards if not (folder / name).is_file()]
        remedy = f"missing, but {index.name} names it; copy it from the source of the model"
        return [f"{folder}/{name}: {remedy}" for name in missing]
    if (folder / "model.safetensors").is_file():
        return []
    return [f"{folder}/model.safetensors: missing; copy it from the source of the model"]


def stored_mode(folder: Path) -> str:
    """The mode of the model in `folder`; PLAIN without a stored mode.

    Raises:
        ModelError: the file is damaged, or its mode is unknown.
    """
    path = folder / MODE_FILE
    try:
        stored = files.read_json(path)["mode"]
    except FileNotFoundError:
        return PLAIN
    except (OSError, ValueError, KeyError, TypeError):
        raise ModelError(f'{path}: is damaged; it must be {{"mode": "{PLAIN}"}}') from None
    if stored not in MODES:
        raise ModelError(f"{path}: mode {stored!r} is unknown; known: {', '.join(MODES)}")
    return stored
