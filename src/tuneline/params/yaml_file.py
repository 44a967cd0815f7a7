"""Read a YAML file into a frozen section. Every problem is named with its line."""

import difflib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from ruamel.yaml.error import YAMLError

from tuneline.core import bounded_yaml
from tuneline.errors import TunelineError, one_line
from tuneline.params.section import Section

# The most problems that an error names, and the most characters of each, and of the value that is wrong.
_NAMED = 50
_LINE = 500
_VALUE = 120
# Reading this takes seconds.
_LONGEST_FILE = 2_000_000

_Root = TypeVar("_Root", bound=Section)


def read(
    path: Path,
    root: type[_Root],
    error: type[TunelineError],
    remedy: str = "run this in the project's root, where {name} is",
) -> _Root:
    """Read and check a file.

    Args:
        path: the file.
        root: the type of its content.
        error: the error to raise.
        remedy: what to do where the file does not exist, with {name} and {path} of it.

    Returns:
        The frozen values.

    Raises:
        TunelineError: of the type `error`, with all problems, one per line, each with file, line and key.
    """
    # DVC reads YAML 1.2 with ruamel.yaml; PyYAML reads `3e-4` as text.
    try:
        if (size := path.stat().st_size) > _LONGEST_FILE:
            raise error(f"{path}: has {size:,} bytes, and at most {_LONGEST_FILE:,} are read; make it shorter")
        document = bounded_yaml.load(path.read_text("utf-8"), "rt")
    except FileNotFoundError:
        raise error(f"{path}: no such file; {remedy.format(name=path.name, path=path)}") from None
    except (YAMLError, UnicodeDecodeError) as problem:
        raise error(f"{path}: cannot be read as YAML: {one_line(problem)}") from None
    if document is None and not any(field.is_required() for field in root.model_fields.values()):
        document = {}
    if not isinstance(document, dict):
        raise error(f"{path}: must be a mapping of the sections {', '.join(_names(root))}")
    try:
        return root.model_validate(_plain(document))
    except ValidationError as invalid:
        found = invalid.errors()
        more = [f"and {len(found) - _NAMED} more problems"] if len(found) > _NAMED else []
        named = (_describe(path, root, document, problem) for problem in found[:_NAMED])
        raise error(*map(_cut, named), *more) from None


def _cut(line: str, most: int = _LINE) -> str:
    return line if len(line) <= most else f"{line[:most]}…"


def _plain(node: Any) -> Any:
    """ruamel's round-trip nodes as plain values, which strict validation needs."""
    if isinstance(node, dict):
        return {str(key): _plain(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_plain(value) for value in node]
    for kind in (bool, int, float, str):
        if isinstance(node, kind):
            return kind(node)
    return node


def _describe(path: Path, root: type[Section], document: Any, problem: ErrorDetails) -> str:
    # A check of several sections names the key itself, because pydantic gives no location.
    location = (*problem["loc"], *problem.get("ctx", {}).get("at", ()))
    place = f"{path}:{_line(document, location)}"
    key = ".".join(_keys(document, location))
    if problem["type"] == "extra_forbidden":
        known, required = _known_keys(root, location[:-1])
        close = difflib.get_close_matches(str(location[-1]), known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"known here: {', '.join(required or known)}"
        return f"{place}: {key}: unknown key; {hint}"
    if problem["type"] == "missing":
        return f"{place}: {key}: missing; {_line_to_add(root, location)}"
    if problem["type"] == "list_type":
        return f"{place}: {key}: {_cut(repr(problem['input']), _VALUE)}: must be a list; {_as_list(problem['input'])}"
    if not key:
        return f"{place}: {problem['msg']}"
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] in ("bool_type", "bool_parsing"):
        # YAML 1.2 reads yes and no as texts.
        message = "write true or false"
    value = "" if isinstance(problem["input"], dict | list) else f"{_cut(repr(problem['input']), _VALUE)}: "
    return f"{place}: {key}: {value}{message[:1].lower()}{message[1:]}"


def _line_to_add(root: type[Section], location: Sequence[int | str]) -> str:
    """What to add where a key is missing: the line itself, if one value leaves everything as it is without the key."""
    name = str(location[-1])
    section = _section_at(root, location[:-1])
    field = next(field for key, field in section.model_fields.items() if (field.alias or key) == name)
    where = (
        f"to the section {parts[-1]}" if (parts := [part for part in location[:-1] if isinstance(part, str)]) else ""
    )
    if (value := _neutral(field)) is not None:
        return f"add the line `{name}: {value}` {where}".rstrip()
    if inner := next(_sections(field.annotation), None):
        return f"add the section `{name}:` with its keys {', '.join(_names(inner))}"
    return f"add a line `{name}: {_placeholder(field.annotation)}` {where}".rstrip()


def _neutral(field: FieldInfo) -> str | None:
    if field.examples:
        return json.dumps(field.examples[0]) if not isinstance(field.examples[0], str) else field.examples[0]
    if type(None) in get_args(field.annotation):
        return "null"
    may_be_empty = all(not getattr(bound, "min_length", 0) for bound in field.metadata)
    return {list: "[]", dict: "{}"}.get(get_origin(field.annotation)) if may_be_empty else None  # pyright: ignore[reportArgumentType]


def _placeholder(annotation: Any) -> str:
    if get_origin(annotation) is Literal:
        return " | ".join(map(str, get_args(annotation)))
    if annotation is bool:
        return "true | false"
    return {int: "NUMBER", float: "NUMBER", str: "TEXT"}.get(annotation, "VALUE")


def _as_list(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, int | str):
        return "write its items as [A, B]"
    return _cut(f"write [{value}]", _VALUE)


def _keys(document: Any, location: Sequence[Any]) -> list[str]:
    """The parts of a location that a person has written. pydantic also names the alternatives of a type."""
    keys: list[str] = []
    node = document
    for part in location:
        # pydantic's word for the key of a mapping, after the key.
        if part == "[key]":
            continue
        if isinstance(node, dict):
            keys.append(str(part))
            node = node.get(part)
        elif isinstance(node, list) and isinstance(part, int):
            keys.append(str(part))
            node = node[part]
    return keys


def _line(document: Any, location: Sequence[Any]) -> int:
    """The line (from 1) of the deepest part of `location` that is in the file."""
    line = 1
    node: Any = document
    for part in location:
        try:
            line = (node.lc.item(part) if isinstance(part, int) else node.lc.key(part))[0] + 1
            node = node[part]
        except (KeyError, IndexError, TypeError, AttributeError):
            break
    return line


def _known_keys(root: type[Section], location: Sequence[int | str]) -> tuple[list[str], list[str]]:
    """All keys of a section, and the required keys."""
    section = _section_at(root, location)
    return _names(section), [field.alias or name for name, field in section.model_fields.items() if field.is_required()]


def _section_at(root: type[Section], location: Sequence[int | str]) -> type[Section]:
    section: type[Section] = root
    for part in location:
        fields = {field.alias or name: field for name, field in section.model_fields.items()}
        # A number is a place in a list. Other parts may be names from the file, such as a set of a mixture.
        if known := fields.get(str(part)):
            section = next(_sections(known.annotation), section)
    return section


def _sections(annotation: Any) -> Iterator[type[Section]]:
    """The sections in a type such as `list[Rule] | None`."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
    for inner in get_args(annotation):
        yield from _sections(inner)


def _names(section: type[Section]) -> list[str]:
    return [field.alias or name for name, field in section.model_fields.items()]
