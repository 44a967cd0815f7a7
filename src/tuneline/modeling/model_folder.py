"""What a model folder must hold before anything of it is loaded."""

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from tuneline.core import files
from tuneline.encoding.examples import MODES, PLAIN
from tuneline.errors import ModelError

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "spiece.model", "vocab.txt")
MODE_FILE = "tuneline.json"
"""The file of a model folder that stores the mode: how records become tokens for the model."""
_LAYERS = ("layers", "n_layer", "depth")
_MOST_LAYERS = 1_000
_MOST_LABELS = 1_000_000
_PICKLED_WEIGHTS = ("pytorch_model*.bin", "*.pt", "*.pth", "*.ckpt")


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
    else:
        found += _count_problems(folder, config)
    found += _weight_problems(folder)
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        found.append(f"{folder}: no tokenizer ({' or '.join(TOKENIZER_FILES[:3])}); save the model's tokenizer there")
    return found


def strangers(folder: Path) -> list[str]:
    """What is no file of the folder's own, a line each: links that lead out of it, devices, pipes.

    A snapshot of the hub's cache consists of links to the files of its repository, and those are its own.
    """
    is_snapshot = folder.parent.name == "snapshots"
    home = os.path.realpath(folder.parent.parent if is_snapshot else folder)
    found = []
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() and not Path(os.path.realpath(path)).is_relative_to(home):
            found.append(
                f"{path}: is a link to {path.readlink()}, which may show any file of this machine; put the file itself "
                "there"
            )
        elif path.exists() and not (path.is_file() or path.is_dir()):
            found.append(f"{path}: is neither a file nor a folder; take it away")
    return found


def architectures(folder: Path) -> list[str]:
    """What the config says that the folder holds, such as LlamaForCausalLM; empty where it says nothing."""
    names = (_config(folder) or {}).get("architectures")
    return [str(name) for name in names] if isinstance(names, list) else []


def is_causal(folder: Path) -> bool:
    """Whether the folder holds an architecture that writes text; one that names none is taken for it."""
    names = architectures(folder)
    return not names or any("CausalLM" in name or "LMHead" in name for name in names)


def _config(folder: Path) -> dict[str, Any] | None:
    try:
        config = files.read_json(folder / "config.json")
    except (OSError, ValueError, RecursionError):
        return None
    return config if isinstance(config, dict) else None


def numbers_held(folder: Path) -> list[int]:
    """How many numbers each tensor of the weights holds, as the heads of their files say; empty where one is broken."""
    found = []
    try:
        for path in sorted(folder.glob("*.safetensors")):
            with safe_open(path, framework="np") as file:
                found += [math.prod(file.get_slice(name).get_shape()) for name in file.keys()]  # noqa: SIM118
    except (OSError, SafetensorError):
        return []
    return found


def _count_problems(folder: Path, config: dict[str, Any]) -> list[str]:
    """Layers or labels beyond all reason: making them would take minutes before it shows that the weights lack them."""
    found = []
    for name, value in _integers(config):
        if name == "num_labels" and value > _MOST_LABELS:
            found.append(f"{folder}/config.json: num_labels is {value}, more than {_MOST_LABELS:,}; use another base")
        if not name.endswith(_LAYERS):
            continue
        if value < 0 or (value > _MOST_LAYERS and value > len(numbers_held(folder))):
            found.append(
                f"{folder}/config.json: {name} is {value}, and the weights do not hold so many layers; copy the folder "
                "again, or use another base"
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


def stored_mode(folder: Path) -> str:
    """How records become tokens for the model in `folder`, as stored with it."""
    path = folder / MODE_FILE
    try:
        stored = files.read_json(path)["mode"]
    except FileNotFoundError:
        return PLAIN
    except (OSError, ValueError, KeyError, TypeError):
        raise ModelError(f'{path}: is not as it was written; it must be {{"mode": "{PLAIN}"}}') from None
    if stored not in MODES:
        raise ModelError(f"{path}: mode {stored!r} is unknown here; known: {', '.join(MODES)}")
    return stored
