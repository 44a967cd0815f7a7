"""The arguments that transformers, trl and peft know, read from their source: a stage's params are checked in a moment,
and importing those libraries takes many seconds.

    TrainingArguments.neftune_noise_alpha: float | None  ->  finetune.neftune_noise_alpha
"""

import ast
import difflib
import functools
import operator
from collections.abc import Collection, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, create_model

from tuneline.params.section import Section

# An integer that no library of the training counts with is refused here, with its line.
_INTEGER = Annotated[int, Field(ge=-(2**31), lt=2**31)]
_PLAIN: dict[str, Any] = {
    "bool": bool, "int": _INTEGER, "float": float, "str": str, "list": list, "dict": dict, "tuple": list, "Any": Any,
}  # fmt: skip


def section(name: str, source: Path, class_name: str, *, own: Collection[str], refused: Mapping[str, str]) -> Any:
    """A section that takes every argument of a class under its own name and type, none of them required.

    Args:
        name: of the section made.
        source: the Python file that defines the class as a dataclass.
        class_name: the class in it.
        own: arguments that the section's subclass declares itself.
        refused: argument -> why it cannot be set here.

    Returns:
        A subclass of `Section`.
    """
    fields: dict[str, Any] = {}
    for argument, annotation in _arguments(source, class_name).items():
        if argument in own:
            continue
        kind = _type(annotation, source)
        reason = refused.get(argument) or (None if kind else "takes an object that YAML cannot hold")
        fields[argument] = (_refusing(reason) if reason else kind, None)
    return create_model(name, __base__=Section, **fields)


def source(package: str, *parts: str) -> Path:
    """A file of an installed package, which is not imported."""
    spec = find_spec(package)
    assert spec is not None and spec.origin is not None, package
    return Path(spec.origin).parent.joinpath(*parts)


def one_of(names: Collection[str]) -> Any:
    """A text that must be one of `names`; another is answered with the one that was meant."""

    def check(value: str) -> str:
        if value in names:
            return value
        close = difflib.get_close_matches(value, names, n=1)
        raise ValueError(f"is unknown; did you mean {close[0]}?" if close else f"is none of {', '.join(names)}")

    return Annotated[str, AfterValidator(check)]


def members(source: Path, enumeration: str) -> list[str]:
    """The values of an enumeration of strings.

    Args:
        source: the Python file that defines it.
        enumeration: the class in it.
    """
    values = [statement.value for statement in _class(source, enumeration).body if isinstance(statement, ast.Assign)]
    return [value.value for value in values if isinstance(value, ast.Constant) and isinstance(value.value, str)]


def _class(source: Path, name: str) -> ast.ClassDef:
    if source not in _trees:
        _trees[source] = ast.parse(source.read_text("utf-8"))
    return next(node for node in _trees[source].body if isinstance(node, ast.ClassDef) and node.name == name)


_trees: dict[Path, ast.Module] = {}


def _arguments(source: Path, class_name: str) -> dict[str, ast.expr]:
    return {
        statement.target.id: statement.annotation
        for statement in _class(source, class_name).body
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)
    }


def _refusing(reason: str) -> Any:
    def refuse(_: object) -> None:
        raise ValueError(reason)

    return Annotated[Any, BeforeValidator(refuse)]


def _type(node: ast.expr, source: Path) -> Any:
    """The type that an annotation says, as far as YAML can hold it; None where it cannot."""
    match node:
        case ast.Constant(value=None):
            return type(None)
        case ast.Name(id=name) if name in _PLAIN:
            return _PLAIN[name]
        case ast.Name(id=name) if name in _enumerations(source):
            return one_of(_enumerations(source)[name])
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return _union([_type(left, source), _type(right, source)])
        case ast.Subscript(value=ast.Name(id="Optional"), slice=inner):
            return _union([_type(inner, source), type(None)])
        case ast.Subscript(value=ast.Name(id="Union"), slice=ast.Tuple(elts=parts)):
            return _union([_type(part, source) for part in parts])
        case ast.Subscript(value=ast.Name(id="Literal"), slice=inner):
            parts = inner.elts if isinstance(inner, ast.Tuple) else [inner]
            return Literal[tuple(part.value for part in parts if isinstance(part, ast.Constant))]
        case ast.Subscript(value=ast.Name(id="list"), slice=inner):
            kind = _type(inner, source)
            return list[kind] if kind else None
        case ast.Subscript(value=ast.Name(id="dict")):
            return dict
    return None


def _union(kinds: list[Any]) -> Any:
    known = [kind for kind in kinds if kind is not None]
    holding = [kind for kind in known if kind is not type(None)]
    return functools.reduce(operator.or_, known) if holding else None


def _enumerations(source: Path) -> dict[str, list[str]]:
    """The enumerations that TrainingArguments names, by where they are defined."""
    if source != TRAINING_ARGUMENTS:
        return {}
    utilities = TRAINING_ARGUMENTS.parent / "trainer_utils.py"
    places = {"OptimizerNames": TRAINING_ARGUMENTS, "SchedulerType": utilities}
    return {name: members(place, name) for name, place in places.items()}


TRAINING_ARGUMENTS = source("transformers", "training_args.py")
DPO_CONFIG = source("trl", "trainer", "dpo_config.py")
LORA_CONFIG = source("peft", "tuners", "lora", "config.py")
SCHEDULERS = members(TRAINING_ARGUMENTS.parent / "trainer_utils.py", "SchedulerType")
OPTIMIZERS = ["muon", *members(TRAINING_ARGUMENTS, "OptimizerNames")]
