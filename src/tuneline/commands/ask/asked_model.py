"""The model that answers: its folder, how rows become its input, and the params that a version stores in its folder."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml.error import YAMLError

from tuneline import params
from tuneline.core import bounded_yaml
from tuneline.errors import ParamsError, one_line

PREDICTS = ("classification", "regression")
"""Modes of models that give labels or numbers. All other models write text."""


@dataclass(frozen=True)
class AskedModel:
    """A model whose files are on this machine."""

    name: str
    """The name for messages, for example `reviews version 3`."""
    folder: Path
    mode: str
    """plain, chat, classification or regression."""
    max_length: int
    """Most tokens of a text in training."""
    columns: Mapping[str, str]
    """Field -> column of the training files, if its params name them."""

    @property
    def chats(self) -> bool:
        """Whether it was trained on conversations."""
        return self.mode == "chat"

    @property
    def predicts(self) -> bool:
        """Whether it gives labels or numbers instead of text."""
        return self.mode in PREDICTS


@dataclass(frozen=True)
class OwnParams:
    """The params in the folder of a version that its answers depend on."""

    model: str
    max_length: int
    max_new_tokens: int
    batch_size: int
    threads: int
    columns: Mapping[str, str]


def read_own_params(folder: Path) -> OwnParams:
    """Read params.yaml of a version; only what its answers depend on, so that params of other releases can be read.

    Args:
        folder: of the version.

    Raises:
        ParamsError: the file or a value is missing or is not what it must be; all problems at once.
    """
    path = folder / params.PARAMS_FILE
    try:
        document = bounded_yaml.load(path.read_text("utf-8"), "safe")
    except FileNotFoundError:
        raise ParamsError(f"{path}: no such file; register the model again with `tuneline register`") from None
    except (YAMLError, UnicodeDecodeError) as error:
        raise ParamsError(f"{path}: cannot be read as YAML: {one_line(error)}; use another version") from None
    numbers = {
        key: _value(document, section, key)
        for section, key in (
            ("finetune", "max_length"),
            ("evaluate", "max_new_tokens"),
            ("evaluate", "batch_size"),
            ("compute", "threads"),
        )
    }
    wrong = [key for key, value in numbers.items() if type(value) is not int or value < 1]
    if wrong:
        raise ParamsError(
            *(f"{path}: {key} is {numbers[key]!r}, not a number from 1 on; use another version" for key in wrong)
        )
    columns = _value(document, "data", "columns")
    return OwnParams(
        model=str(_value(document, "registry", "model")),
        columns={str(key): str(value) for key, value in columns.items()} if isinstance(columns, dict) else {},
        **numbers,
    )


def _value(document: Any, section: str, key: str) -> Any:
    inner = document.get(section) if isinstance(document, dict) else None
    return inner.get(key) if isinstance(inner, dict) else None
