"""YAML read within bounds: few bytes can otherwise stand for values without end, or nest until Python gives up."""

from typing import Any, Literal

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent, ScalarEvent

_DEPTH = 40
_VALUES = 50_000
"""Of one file, those that aliases repeat included; some seconds of reading."""


class UnreadableError(YAMLError):
    """What is YAML by its grammar, and cannot be read all the same."""


def load(text: str, typ: Literal["rt", "safe", "base"]) -> Any:
    """The value of a YAML document.

    Args:
        text: the document.
        typ: ruamel's: rt keeps places and comments, safe gives plain values, base gives texts only.

    Raises:
        YAMLError: it is no YAML, nests too deep, stands for too many values, or holds a number or date that cannot be.
    """
    _check(text)
    try:
        return YAML(typ=typ).load(text)
    except (ValueError, OverflowError, TypeError) as error:
        # As of a date like 2024-13-01, or an integer of thousands of digits.
        raise UnreadableError(str(error)) from None


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
                    raise _refusal(event, f"*{event.anchor} stands in what it repeats")
                values += sizes.get(str(event.anchor), 0)
        if len(opened) > _DEPTH:
            raise _refusal(event, f"nests deeper than {_DEPTH} levels")
        if values > _VALUES:
            raise _refusal(event, f"stands for more than {_VALUES:,} values, those that aliases repeat included")


def _refusal(event: Any, what: str) -> UnreadableError:
    return UnreadableError(f"line {event.start_mark.line + 1}: {what}")
