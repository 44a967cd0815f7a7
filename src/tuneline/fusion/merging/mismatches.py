"""Why the weights of two models cannot be merged, found in their folders: shapes, config, labels, tokenizer, mode."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from tuneline.core import files
from tuneline.errors import ModelError
from tuneline.fusion.merging import merged_model
from tuneline.modeling import models
from tuneline.modeling.model_folder import stored_mode

_NOT_OF_THE_MODEL = {"transformers_version", "_name_or_path", "dtype", "torch_dtype", "use_cache"}
"""Keys of config.json that do not say what the weights mean."""
_LABELS = ("id2label", "label2id", "problem_type")
_STATE = ("truncation", "padding")
"""Keys of tokenizer.json that the last call has left there."""
_WEIGHTS = (".safetensors", ".safetensors.index.json")
_NAMED = 3


def find(one: str, first: Path, other: str, second: Path) -> list[str]:
    """Why two models cannot be merged, in sentences without a remedy; empty if they can.

    Args:
        one: what the first model is called, such as `version 3`.
        first: its folder.
        other: what the second model is called.
        second: its folder.

    Raises:
        ModelError: a file of a folder is damaged.
    """
    found = [*_modes(one, first, other, second), *_configs(one, first, other, second)]
    found += merged_model.differences(one, merged_model.shapes(first), other, merged_model.shapes(second))
    return [*found, *_tokenizers(one, first, other, second)]


def _modes(one: str, first: Path, other: str, second: Path) -> Iterator[str]:
    modes = stored_mode(first), stored_mode(second)
    if modes[0] != modes[1]:
        yield f"{one} has the mode {modes[0]}, and {other} {modes[1]}, so rows become tokens in different ways"


def _configs(one: str, first: Path, other: str, second: Path) -> Iterator[str]:
    configs = [_config(folder) for folder in (first, second)]
    labels = [_labels(config) for config in configs]
    if labels[0] != labels[1]:
        yield f"{one} answers with {labels[0]}, and {other} with {labels[1]}"
    for key in sorted({*configs[0], *configs[1]} - _NOT_OF_THE_MODEL - set(_LABELS)):
        values = [config.get(key) for config in configs]
        if values[0] != values[1]:
            yield f"config.json: {key} is {values[0]!r} in {one}, and {values[1]!r} in {other}"


def _config(folder: Path) -> dict[str, Any]:
    try:
        config = files.read_json(folder / "config.json")
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{folder}/config.json: cannot be read ({error})") from None
    if not isinstance(config, dict):
        raise ModelError(f"{folder}/config.json: is not a JSON object")
    return config


def _labels(config: Mapping[str, Any]) -> str:
    kind, names = config.get("problem_type"), config.get("id2label")
    if kind == "regression":
        return "a number"
    if kind is None or not isinstance(names, dict):
        return "text"
    # JSON makes texts of the numbers.
    ordered = sorted(names, key=lambda number: int(number) if str(number).isdecimal() else -1)
    several = "several of " if str(kind).startswith("multi") else ""
    return f"{several}the labels {', '.join(str(names[number]) for number in ordered)}"


def _tokenizers(one: str, first: Path, other: str, second: Path) -> Iterator[str]:
    if _tokenizer_files(first) == _tokenizer_files(second):
        return
    tokenizers = models.load_tokenizer(first), models.load_tokenizer(second)
    vocabularies = [tokenizer.get_vocab() for tokenizer in tokenizers]
    names = sorted({*vocabularies[0], *vocabularies[1]})
    if unlike := [name for name in names if vocabularies[0].get(name) != vocabularies[1].get(name)]:
        more = " …" if len(unlike) > _NAMED else ""
        yield (
            f"the tokenizers of {one} and {other} give {len(unlike):,} tokens different numbers: "
            f"{', '.join(map(repr, unlike[:_NAMED]))}{more}"
        )
    rules = [_rules(tokenizer) for tokenizer in tokenizers]
    keys = [key for key in sorted({*rules[0], *rules[1]}) if rules[0].get(key) != rules[1].get(key)]
    if keys and not unlike:
        yield f"the tokenizers of {one} and {other} cut a text in different ways ({', '.join(keys)} of tokenizer.json)"
    for name in ("eos_token_id", "pad_token_id", "add_eos_token", "add_bos_token"):
        values = [getattr(tokenizer, name, None) for tokenizer in tokenizers]
        if values[0] != values[1]:
            yield f"{name} of the tokenizer is {values[0]} in {one}, and {values[1]} in {other}"
    if tokenizers[0].chat_template != tokenizers[1].chat_template:
        yield f"{one} and {other} have different chat templates"


def _tokenizer_files(folder: Path) -> dict[str, str]:
    own = ("config.json", "generation_config.json", "tuneline.json")
    return {
        path.name: files.sha256_file(path)
        for path in sorted(folder.iterdir())
        if path.is_file()
        and path.name not in own
        and not path.name.endswith(_WEIGHTS)
        and ("token" in path.name or path.name.startswith(("vocab", "merges", "spiece", "chat_template")))
    }


def _rules(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    rules = json.loads(backend.to_str()) if backend is not None else {}
    return {key: value for key, value in rules.items() if key not in _STATE}
