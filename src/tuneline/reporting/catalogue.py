"""The words of the page in another language: one gettext catalogue (.po) per language, next to this file.

Templates mark their texts with `{% trans %}`, as Jinja's extension for gettext asks. Sentences that arrive finished,
from a section or from a file such as gate.json, are translated by `say`: an entry of the catalogue with `{name}` in it
fits every text that has something else there.
"""

import gettext
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import orjson

from tuneline import params

_SOURCE: params.Language = "en"
_HOLE = re.compile(r"\{(\w+)\}")
_MEET = re.compile(r"[\u3400-\u9fff][A-Za-z0-9]|[A-Za-z0-9][\u3400-\u9fff]")
_LINE = re.compile(r'(msgctxt|msgid|msgid_plural|msgstr|msgstr\[0\])? ?(".*")')
# The longest text that is compared with entries that have holes.
_LONGEST = 4_000
# The most holes in holes.
_DEEPEST = 6


@dataclass(frozen=True)
class Entry:
    """A text and its translation."""

    text: str
    translation: str
    context: str = ""
    """Empty, or the name of a hole that the text fits into."""
    plural: str = ""


def read_entries(path: Path) -> list[Entry]:
    """The entries of a .po file, without its header.

    Raises:
        ValueError: a line is not in the form of a .po file.
    """
    entries, found = [], {}
    key = ""
    for line in [*path.read_text("utf-8").splitlines(), ""]:
        if line.startswith("#"):
            continue
        if not line:
            if found.get("msgid"):
                translation = found.get("msgstr") or found.get("msgstr[0]", "")
                plural = found.get("msgid_plural", "")
                entries.append(Entry(found["msgid"], translation, found.get("msgctxt", ""), plural))
            found = {}
            continue
        matched = _LINE.fullmatch(line)
        if not matched:
            raise ValueError(f"{path}: not a line of a .po file: {line}")
        key = matched[1] or key
        found[key] = found.get(key, "") + orjson.loads(matched[2])
    return entries


class Catalogue(gettext.NullTranslations):
    """The translations of one language. A text without a translation stays as it is."""

    def __init__(self, entries: list[Entry]) -> None:
        super().__init__()
        self._texts = {(entry.context, entry.text): entry.translation for entry in entries if entry.translation}
        with_holes = [entry for entry in entries if _HOLE.search(entry.text) and entry.translation]
        # The entry that leaves the least open fits best.
        with_holes.sort(key=lambda entry: -len(_HOLE.sub("", entry.text)))
        self._contexts = {entry.context for entry in entries if entry.context}
        self._patterns: dict[str, list[tuple[list[str], Entry]]] = {}
        for entry in with_holes:
            self._patterns.setdefault(entry.context, []).append((_HOLE.split(entry.text), entry))

    def gettext(self, message: str) -> str:
        """See gettext."""
        return self._texts.get(("", message), message)

    def ngettext(self, msgid1: str, msgid2: str, n: int) -> str:
        """See gettext."""
        # Chinese has no plural; English is the language of the sources.
        return self._texts.get(("", msgid1)) or (msgid1 if n == 1 else msgid2)

    def say(self, text: str, context: str = "") -> str:
        """A finished text of the project in the language of the page.

        Args:
            text: as the project writes it in English. What stands in a hole named `versus` or `versus2` is translated
                by the entries of the context `versus`. It stays as it is if none fits, and another entry that fits the
                whole text and leaves no such hole is better.
            context: see Entry.
        """
        return self._say(text, context, 0)[0]

    def _say(self, text: str, context: str, depth: int) -> tuple[str, bool]:
        """The text in the language of the page, and whether nothing of it is left in English."""
        if whole := self._texts.get((context, text)):
            return whole, True
        if len(text) > _LONGEST or depth > _DEEPEST:
            return text, False
        best = text
        for parts, entry in self._patterns.get(context, ()):
            for values in _fills(parts, text):
                said = {name: self._say(value, _context(name), depth + 1) for name, value in values.items()}
                sentence = _filled(entry.translation, {name: value for name, (value, _) in said.items()})
                if all(is_whole for name, (_, is_whole) in said.items() if _context(name) in self._contexts):
                    return sentence, True
                best = sentence if best == text else best
        return best, False


def _filled(translation: str, values: Mapping[str, str]) -> str:
    """The translation with its holes filled; a space is put between Chinese and Latin letters or digits there."""
    sentence = ""
    # Text, name of a hole, text, name of a hole, …
    for place, part in enumerate(_HOLE.split(translation)):
        text = values[part] if place % 2 else part
        gap = " " if _MEET.fullmatch(f"{sentence[-1:]}{text[:1]}") else ""
        sentence += gap + text
    return sentence


def _context(hole: str) -> str:
    return hole.rstrip("0123456789")


def _fills(parts: list[str], text: str) -> list[Mapping[str, str]]:
    """What may stand in the holes of an entry, if the rest of it is this text.

    A hole ends where the text after it is found first from the left, or from the right, so that the time is bounded for
    any text.

    Args:
        parts: text, name of a hole, text, name of a hole, …, text.
        text: to compare.
    """
    first, last, names, between = parts[0], parts[-1], parts[1::2], parts[2:-1:2]
    begin, end = len(first), len(text) - len(last)
    if not text.startswith(first) or not text.endswith(last) or begin >= end:
        return []
    found = []
    for is_reversed in (False, True):
        at, stop, places = begin, end, []
        for part in reversed(between) if is_reversed else between:
            place = text.rfind(part, begin, stop - 1) if is_reversed else text.find(part, at + 1, end)
            if place < 0:
                return []
            at, stop = place + len(part), place
            places.append((place, at))
        places.sort()
        starts, ends = [begin, *(after for _, after in places)], [*(place for place, _ in places), end]
        values = {name: text[a:b] for name, a, b in zip(names, starts, ends, strict=True)}
        if all(values.values()) and values not in found:
            found.append(values)
    return found


@cache
def read(language: params.Language) -> Catalogue:
    """The catalogue of a language; that of English is empty."""
    return Catalogue([] if language == _SOURCE else read_entries(path_of(language)))


def path_of(language: params.Language) -> Path:
    """The .po file of a language."""
    return Path(__file__).with_name(f"{language}.po")
