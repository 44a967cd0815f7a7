"""Reading YAML within limits: a few bytes of aliases can stand for billions of values, or nest until Python fails."""

from typing import Any, Literal

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent, ScalarEvent

_MAX_DEPTH = 40
_MAX_VALUES = 50_000
"""In one file, values repeated by aliases included; reading them takes seconds."""
_TYPES = ("str", "int", "float", "bool", "null", "map", "seq")
_OWN_TAGS = {"!", *(f"tag:yaml.org,2002:{name}" for name in _TYPES)}


class UnreadableError(YAMLError):
    """The text follows the grammar of YAML, but passes a limit or holds a value that does not exist."""


def load(text: str, typ: Literal["rt", "safe", "base"]) -> Any:
    """The value of a YAML document.

    Args:
        text: the document.
        typ: the loader of ruamel.yaml: rt keeps line numbers and comments, safe gives plain values, base gives strings.

    Raises:
        YAMLError: the text is not YAML, nests too deep, has too many values, or holds an impossible number or date.
    """
    _check(text)
    try:
        return YAML(typ=typ).load(text)
    except (ValueError, OverflowError, TypeError, LookupError, AttributeError) as error:
        # For example of the date 2024-13-01, of an integer of thousands of digits, or of !!bool x.
        raise UnreadableError(f"{type(error).__name__}: {error}") from None


def foreign_tags(text: str) -> list[tuple[int, str]]:
    """The tags of a document that are not of YAML's own types, such as those that call code.

    Args:
        text: the document.

    Returns:
        Line (from 1) and tag as %TAG resolves it, of each.

    Raises:
        YAMLError: the text is not YAML.
    """
    return [
        (event.start_mark.line + 1, tag)
        for event in YAML(typ="rt").parse(text)
        if (tag := getattr(event, "tag", None)) is not None and str(tag) not in _OWN_TAGS
    ]


def _check(text: str) -> None:
    values = 0
    sizes: dict[str, int] = {}
    opened: list[tuple[str | None, int]] = []
    for event in YAML(typ="rt").parse(text):
        match event:
            case CollectionStartEvent():
                opened.append((event.anchor, values))
                values += 1
            case CollectionEndEvent():
                anchor, before = opened.pop()
                if anchor:
                    sizes[anchor] = values - before
            case ScalarEvent():
                values += 1
                if event.anchor:
                    sizes[event.anchor] = 1
            case AliasEvent():
                if any(anchor == event.anchor for anchor, _ in opened):
                    raise _refusal(event, f"the alias *{event.anchor} is inside the value that it repeats")
                values += sizes.get(str(event.anchor), 0)
        if len(opened) > _MAX_DEPTH:
            raise _refusal(event, f"nests deeper than {_MAX_DEPTH} levels")
        if values > _MAX_VALUES:
            raise _refusal(event, f"has more than {_MAX_VALUES:,} values, those that aliases repeat included")


def _refusal(event: Any, problem: str) -> UnreadableError:
    return UnreadableError(f"line {event.start_mark.line + 1}: {problem}")
