"""Finds secrets and personal data in texts, and masks them.

The search is precise rather than greedy: a number counts only if its check digit, its prefix, its separators or the
words before it show what it is. It does not look for names, postal addresses, passwords in prose, public numbers of
companies, and phone numbers outside China and North America that have no country code, no groups of digits and no word
such as `phone` before them.
"""

import re
from bisect import bisect
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from tuneline.data.secrets import named_numbers, patterns

Kind = Literal["email", "phone", "id_number", "card", "key"]
KINDS: tuple[Kind, ...] = ("email", "phone", "id_number", "card", "key")

ZERO_WIDTH = "\u200b\u200c\u200d\u2060\ufeff\u00ad\u180e"
"""Characters without a width. They hide an address from a search, but not from a reader."""

# Digits and signs of Chinese text, as wide as a character.
_FULL_WIDTH = tuple((chr(ord(plain) + 0xFEE0), plain) for plain in "0123456789@+-()")


@dataclass(frozen=True, slots=True)
class Found:
    """Secrets of one kind in one text."""

    row: int
    """Index of the text."""
    kind: Kind
    count: int


class Span(NamedTuple):
    """One secret in a text."""

    kind: Kind
    start: int
    stop: int


def screen(texts: Sequence[str]) -> list[Found]:
    """Return which texts contain secrets of which kinds. The secrets themselves are not returned.

    Args:
        texts: any number of texts. A batch of some hundred kilobytes is scanned fastest.

    Returns:
        One item for each text and kind, in the order of the texts.
    """
    if not texts:
        return []
    # Encode each text by itself: one character beyond ASCII would make a joined text wider, and slower to scan.
    data = b"\0".join([text.encode() if text.isascii() else _bytes(_without_zero_width(text)) for text in texts])
    if data.count(b"\0") != len(texts) - 1:
        return screen([text.replace("\0", " ") for text in texts])
    spans = _spans(data)
    if not spans:
        return []
    ends = np.flatnonzero(np.frombuffer(data, np.uint8) == 0)
    rows = np.searchsorted(ends, [span.start for span in spans])
    counts: Counter[tuple[int, Kind]] = Counter()
    counts.update((int(row), span.kind) for row, span in zip(rows, spans, strict=True))
    return [Found(row, kind, counts[row, kind]) for row, kind in sorted(counts)]


def mask(text: str, kinds: Collection[str]) -> str:
    """Return a text in which a mark such as <EMAIL> replaces every secret of some kinds.

    Args:
        text: any text. What is not a secret stays as it is, zero-width characters included.
        kinds: kinds that are masked.
    """
    parts: list[str] = []
    done = 0
    for span in find_spans(text):
        if span.kind in kinds:
            parts += [text[done : span.start], mark(span.kind)]
            done = span.stop
    return "".join([*parts, text[done:]])


def mark(kind: Kind) -> str:
    """Return the mark that replaces a secret."""
    return f"<{kind.upper()}>"


def hidden(text: str) -> str:
    """Return a text for people to read: all its secrets are masked, whatever the params do with them in the data."""
    return mask(text, KINDS)


def find_spans(text: str) -> list[Span]:
    """Return the secrets of a text in their order, with offsets in characters."""
    plain = _without_zero_width(text)
    data = _bytes(plain)
    spans = _spans(data)
    if not spans:
        return []
    kept = range(len(text)) if plain == text else [i for i, char in enumerate(text) if char not in ZERO_WIDTH]
    found: list[Span] = []
    for span in spans:
        start, stop = (len(data[:end].decode("utf-8", "surrogatepass")) for end in (span.start, span.stop))
        found.append(Span(span.kind, kept[start], kept[stop - 1] + 1))
    return found


def shown(text: str, kind: Kind) -> str:
    """Return the first secret of a kind, shortened: its owner recognises it, and no one else can use it.

    Args:
        text: any text.
        kind: of the secret.

    Returns:
        `j…@e…` for an email, else some of the first characters and at most two of the last. Empty if the text has no
        secret of this kind.
    """
    data = _bytes(_without_zero_width(text))
    value = next((data[span.start : span.stop] for span in _spans(data) if span.kind == kind), b"").decode(
        "utf-8", "replace"
    )
    if kind == "email":
        name, _, host = value.partition("@")
        return f"{name[:1]}…@{host[:1]}…" if value else ""
    first = _SHOWN[kind] if len(value) >= _LONG_ENOUGH else 1
    last = 0 if kind == "key" or len(value) < _LONG_ENOUGH else 2
    return f"{value[:first]}…{value[len(value) - last :] if last else ''}" if value else ""


_LONG_ENOUGH = 10
_SHOWN = {"phone": 3, "id_number": 2, "card": 4, "key": 4}


def _without_zero_width(text: str) -> str:
    for char in ZERO_WIDTH:
        if char in text:
            text = text.replace(char, "")
    return text


def _bytes(text: str) -> bytes:
    """Return the text as UTF-8, with full-width digits and signs replaced one by one."""
    if not text.isascii():
        for wide, plain in _FULL_WIDTH:
            if wide in text:
                text = text.replace(wide, plain)
    return text.encode("utf-8", "surrogatepass")


def _spans(data: bytes) -> list[Span]:
    """Return all secrets in their order. Where two overlap, the finder that comes first wins."""
    taken: list[tuple[int, int, Kind]] = []
    for finder in (_keys, _addresses, _lettered, _numbers):
        for kind, start, stop in finder(data):
            place = bisect(taken, (start, stop, kind))
            behind = place == 0 or taken[place - 1][1] <= start
            before = place == len(taken) or stop <= taken[place][0]
            if behind and before:
                taken.insert(place, (start, stop, kind))
    return [Span(kind, start, stop) for start, stop, kind in taken]


# Maps every byte to one of a few classes, so that `bytes.find` can scan: characters of a token, digits, and signs that
# may be between digits.
_TOKEN = bytes.maketrans(
    bytes(range(256)),
    bytes(ord("a") if chr(code).isascii() and (chr(code).isalnum() or chr(code) in "_-") else 0 for code in range(256)),
)
_DIGIT = bytes.maketrans(
    bytes(range(256)), bytes(ord("0") if 48 <= code < 58 else code if code in b"+ -.()/" else 0 for code in range(256))
)
_SMALL = (b"sk-", b"secret", b"_key", b"token", b"password")
_SHORTEST_TOKEN = b"a" * patterns.SHORTEST_TOKEN


def _keys(data: bytes) -> Iterator[Span]:
    if b"PRIVATE KEY" in data:
        for match in patterns.PRIVATE_KEY.finditer(data):
            yield Span("key", *match.span())
    tokens = data.translate(_TOKEN)
    start = tokens.find(_SHORTEST_TOKEN)
    while start >= 0:
        stop = tokens.find(b"\0", start)
        stop = len(tokens) if stop < 0 else stop
        run = data[start:stop]
        # A run of lowercase letters is a long name in code, unless it is a model's key or follows a telling name.
        if not run.islower() or not run.translate(None, b"_-").isalpha() or any(word in run for word in _SMALL):
            for first, last in patterns.tokens(data, start, stop):
                yield Span("key", first, last)
            for first, last in patterns.parted(data, start, stop):
                yield Span("key", first, last)
        start = tokens.find(_SHORTEST_TOKEN, stop)


def _addresses(data: bytes) -> Iterator[Span]:
    """Yield emails, and passwords in URLs."""
    for match in re.finditer(rb"@(?=[A-Za-z0-9\[])", data):
        place = match.start()
        found = patterns.address(data, place)
        if found:
            yield Span(*found)


def _lettered(data: bytes) -> Iterator[Span]:
    for start, stop in named_numbers.lettered(data):
        yield Span("id_number", start, stop)


def _numbers(data: bytes) -> Iterator[Span]:
    digits = data.translate(_DIGIT)
    for pattern in (patterns.DIGIT_RUN, patterns.DOTTED):
        for match in pattern.finditer(digits):
            for found in patterns.numbers(data, *match.span()):
                yield Span(*found)
