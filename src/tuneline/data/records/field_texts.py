"""Read and replace the texts in the fields of a record of any form."""

import re
from collections.abc import Callable, Sequence
from typing import Any

import orjson

from tuneline.data.records.record_form import RecordForm

# The pattern begins with a plain brace, to which the search can skip.
_PLACEHOLDER = re.compile(
    r"\{(?:\{\s*\w[\w .-]{0,39}\s*\}\}"  # {{name}}
    # {name}, but not the arguments of LaTeX (\frac{ab}), of a shell (${HOME}) or of sets and powers (x^{ab}).
    r"|(?<![\w\\$}{^\]]\{)[^\W\d]\w{1,39}\}(?!\}))"
)
_NAMED = 3


def texts(form: RecordForm, values: tuple[str, ...]) -> tuple[str, ...]:
    """The plain text of each field, for keys, duplicates and overlap.

    Args:
        form: the form of the record.
        values: its fields.

    Returns:
        One text per field. Of messages: their contents and their calls of tools, joined by newlines. `tools` is empty:
        all rows have the same list of tools, which does not make two rows alike.
    """
    if form.record_type == "messages":
        return _joined(values[0]), ""
    if form.conversational:
        return tuple(map(_joined, values))
    return values


def _joined(messages: str) -> str:
    parts: list[str] = []
    for message in orjson.loads(messages):
        if message["content"]:
            parts.append(message["content"])
        for call in message.get("tool_calls", ()):
            function = call["function"]
            parts.append(f"{function['name']} {orjson.dumps(function['arguments']).decode()}")
    return "\n".join(parts)


def map_texts(form: RecordForm, values: tuple[str, ...], function: Callable[[str], str]) -> tuple[str, ...]:
    """The fields after a function has replaced every text that a model reads.

    Args:
        form: the form of the record.
        values: its fields.
        function: text -> text.

    Returns:
        The fields; `values` itself where nothing changed. Labels, tools and the arguments of calls stay as they are.
    """
    if form.record_type == "messages":
        mapped = (_mapped(values[0], function), *values[1:])
    elif form.labelled:
        mapped = (function(values[0]), *values[1:])
    elif form.conversational:
        mapped = tuple([_mapped(value, function) for value in values])
    else:
        mapped = tuple(map(function, values))
    return values if mapped == values else mapped


def _mapped(messages: str, function: Callable[[str], str]) -> str:
    parsed: list[dict[str, Any]] = orjson.loads(messages)
    changed = False
    for message in parsed:
        content = message["content"]
        message["content"] = function(content)
        changed = changed or message["content"] != content
    return orjson.dumps(parsed).decode() if changed else messages


def placeholders(sources: Sequence[str], values: Sequence[tuple[str, ...]]) -> tuple[int, list[str]]:
    """Unfilled placeholders of templates, such as `{{name}}` or `{name}`.

    Args:
        sources: the source of each record.
        values: the texts of each record, from `texts`.

    Returns:
        The number of records with a placeholder, and the source and placeholder of the first three.
    """
    count = 0
    first: list[str] = []
    for source, fields in zip(sources, values, strict=True):
        for field in fields:
            if "{" in field and (found := _PLACEHOLDER.search(field)):
                count += 1
                if len(first) < _NAMED:
                    first.append(f"{source}: {found.group()}")
                break
    return count, first
