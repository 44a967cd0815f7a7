"""Change single values of params.yaml; comments and order stay."""

import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import CommentMark
from ruamel.yaml.tokens import CommentToken

from tuneline.core import files


def written(value: Any) -> str:
    """A value in one line, in the form of params.yaml."""
    text = io.StringIO()
    _yaml().dump([_in_one_line(value)], text)
    return text.getvalue().strip().removeprefix("- ")


def _yaml() -> YAML:
    yaml = YAML(typ="rt")
    yaml.preserve_quotes = True
    yaml.width = 10_000
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.representer.add_representer(
        type(None), lambda dumper, _: dumper.represent_scalar("tag:yaml.org,2002:null", "null")
    )
    return yaml


def set_values(path: Path, values: Mapping[str, Any]) -> None:
    """Set keys of a params file, atomically.

    Args:
        path: the file.
        values: dotted key such as "data.raw" -> value; each key must be in the file.

    Raises:
        KeyError: a key is not in the file.
    """
    yaml = _yaml()
    before = path.read_text("utf-8")
    document = yaml.load(before)
    for key, value in values.items():
        *sections, name = key.split(".")
        node = document
        for section in sections:
            node = node[section]
        if name not in node:
            raise KeyError(key)
        node[name] = _list(value, node[name]) if isinstance(value, list) else value
    text = io.StringIO()
    yaml.dump(document, text)
    files.write_text(path, _apart(text.getvalue(), before))


def _list(value: list[Any], before: Any) -> Any:
    """A list with the comments of the list that it replaces; items that stay keep their form."""
    if not value or not isinstance(before, CommentedSeq) or before.fa.flow_style() or not before:
        return [_in_one_line(item) for item in value]
    last = before.ca.items.get(len(before) - 1, [None])[0]
    if last is not None and len(value) != len(before):
        # What follows the last line of the list stays behind its end.
        own, _, rest = last.value.partition("\n")
        last.value = f"{own}\n"
        lines = [CommentToken(f"{line.strip()}\n", CommentMark(4), None) for line in rest.splitlines() if line.strip()]
        before.ca.end = [*lines, *(before.ca.end or [])]
    for place, item in enumerate(value[: len(before)]):
        if written(before[place]) != written(item):
            before[place] = _in_one_line(item)
    before.extend(map(_in_one_line, value[len(before) :]))
    for place in range(len(before) - 1, len(value) - 1, -1):
        del before[place]
    return before


def _in_one_line(item: Any) -> Any:
    if not isinstance(item, Mapping):
        return item
    line = CommentedMap({key: _in_one_line(value) for key, value in item.items()})
    line.fa.set_flow_style()
    return line


def _apart(text: str, before: str) -> str:
    """The text with the empty lines before its sections, which ruamel moves or removes."""
    sections = re.findall(r"\n\n(\w+:)", before)
    return re.sub(rf"(?<!\n)\n(?={'|'.join(sections)})", "\n\n", text) if sections else text
