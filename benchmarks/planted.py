"""Makes a raw set with planted duplicates and leaks, from the built-in corpus, as a stream; the truth is known.

The texts are the docstrings that resemble no earlier docstring. They are repeated until the set is large enough,
each time with every word renamed: the same word in the same way within one round, and in another way in the next
round. So unplanted rows share only words and short phrases, as unrelated rows of one language do.
"""

import heapq
import json
import math
import random
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence, Set
from pathlib import Path
from typing import Any, NamedTuple

import orjson
from renaming import WORD, Renaming, fresh

SHARES = {
    "exact": 0.02, "near": 0.03, "reformatted": 0.01, "short": 0.005, "leak": 0.0095, "spread": 0.004,
    "boilerplate": 0.02,
}  # fmt: skip
"""Of all rows. Of the leaks, 200 in 100 MB are of rows that are held out, at the shares of params.yaml."""

DUPLICATES = ("exact", "near", "reformatted", "short")
"""Kinds of plants of which one row should stay; of leaks and spread pieces all should go, of boilerplate none."""

NEAR = (0.75, 0.95)
"""Jaccard similarity of character 5-grams of near duplicates, between which it is drawn evenly."""

FILES = 4

_GRAM = 8
_SHORTEST = 20  # words
_LEAKED = (0.6, 0.95)
_SPREAD_ROWS, _SPREAD_SHARE = 3, 0.3
_FAMILY = (12, 60)
"""Rows that have one disclaimer in common."""
_DISCLAIMER, _BESIDE_IT = 40, 30  # words
_WIDE = {code: code + 0xFEE0 for code in range(0x21, 0x7F)}


class Plant(NamedTuple):
    """A row that was planted."""

    kind: str
    how: str
    place: str
    """`file:line` of the planted row."""
    of: str
    """`file:line` of the row that it repeats, or of which it holds most."""
    measure: float
    """Jaccard similarity of character 5-grams; of a leak, the share of the other row's words that it holds."""
    by_words: float
    """Jaccard similarity of runs of five words."""


class Made(NamedTuple):
    rows: int
    bytes: int
    plants: dict[str, int]


class _Due(NamedTuple):
    """A planted row that waits for its turn."""

    row: int
    kind: str
    how: str
    text: str
    of: str
    measure: float
    by_words: float
    then: tuple[str, str] | None = None
    """How this row, which is not planted, is repeated later, and as which kind."""


def distinct(texts: Sequence[str]) -> list[str]:
    """The texts of at least 20 words that are like none before them.

    Two are alike that share 8 words in a row, or a fifth of their runs of three words: so none is a near duplicate.
    """
    seen: set[int] = set()
    with_run: defaultdict[int, list[int]] = defaultdict(list)
    kept = []
    for text in texts:
        found = plain_words(text)
        grams, runs = _runs(found, _GRAM), _runs(found, 3)
        if len(found) >= _SHORTEST and seen.isdisjoint(grams):
            shared = Counter(other for run in runs for other in with_run[run])
            if not shared or shared.most_common(1)[0][1] < len(runs) / 5:
                for run in runs:
                    with_run[run].append(len(kept))
                kept.append(text)
        seen |= grams
    return kept


def plain_words(text: str) -> list[str]:
    """The words of a text without regard to case and to the width of letters."""
    return WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def _runs(words: Sequence[str], length: int) -> set[int]:
    return {hash(tuple(words[at : at + length])) for at in range(len(words) - length + 1)}


def make(texts: Sequence[str], folder: Path, truth: Path, *, size: int, seed: int) -> Made:
    """Write a set of about `size` bytes and the truth about it.

    Args:
        texts: that share nothing, as `distinct` gives them.
        folder: of the set, which is made; four files of JSON lines.
        truth: file of JSON lines, a `Plant` each.
        size: bytes.
        seed: another one gives another set.

    Returns:
        What was written.
    """
    folder.mkdir(parents=True)
    rng = random.Random(f"plants {seed}")
    # A leak is as long as three texts, and words of one letter grow.
    average = 1.1 * sum(len(json.dumps({"text": text})) for text in texts) / len(texts)
    expected_rows = int(size / average / (1 + 2 * SHARES["leak"]))
    writer = _Writer(folder, size)
    planter = _Planter(rng, texts, seed)
    waiting: list[tuple[int, int, _Due]] = []
    waiting_bytes = 0
    counts = dict.fromkeys(SHARES, 0)
    with truth.open("wb") as file:

        def write(due: _Due) -> None:
            nonlocal waiting_bytes
            if due.then:
                how, text = due.then
                row = rng.randint(writer.rows + 1, max(expected_rows, writer.rows + 2))
                again = _Due(row, "short", how, text, writer.write(due.text), 1.0, 1.0)
                heapq.heappush(waiting, (row, -writer.rows, again))
                waiting_bytes += len(text.encode())
                return
            plant = Plant(due.kind, due.how, writer.write(due.text), due.of, due.measure, due.by_words)
            file.write(orjson.dumps(plant._asdict()) + b"\n")
            counts[due.kind] += 1

        for number, text in enumerate(_rounds(texts, rng, seed)):
            place = writer.write(text)
            last = max(expected_rows, writer.rows + 1)
            for piece, due in enumerate(planter.draw(text, place)):
                row = rng.randint(writer.rows + 1, last)
                heapq.heappush(waiting, (row, number * _SPREAD_ROWS + piece, due))
                waiting_bytes += len(due.text.encode())
            while waiting and waiting[0][0] <= writer.rows:
                due = heapq.heappop(waiting)[2]
                waiting_bytes -= len(due.text.encode())
                write(due)
            if writer.bytes + waiting_bytes >= size:
                break
        while waiting:
            write(heapq.heappop(waiting)[2])
    writer.close()
    return Made(writer.rows, writer.bytes, counts)


def _rounds(texts: Sequence[str], rng: random.Random, seed: int) -> Iterator[str]:
    number = 0
    while True:
        rename = Renaming(f"round {seed} {number}")
        for index in rng.sample(range(len(texts)), len(texts)):
            yield rename(texts[index])
        number += 1


class _Writer:
    """JSON lines, in four files of like size."""

    def __init__(self, folder: Path, size: int) -> None:
        self._folder = folder
        self._of_file = size / FILES
        self._files = 0
        self._line = 0
        self._next_file()
        self.rows = 0
        self.bytes = 0

    def _next_file(self) -> None:
        self._name = f"part-{self._files}.jsonl"
        self._file = (self._folder / self._name).open("wb")
        self._files += 1
        self._line = 0

    def write(self, text: str) -> str:
        if self.bytes >= self._files * self._of_file and self._files < FILES:
            self._file.close()
            self._next_file()
        line = orjson.dumps({"text": text}) + b"\n"
        self._file.write(line)
        self.bytes += len(line)
        self.rows += 1
        self._line += 1
        return f"{self._name}:{self._line}"

    def close(self) -> None:
        self._file.close()


class _Planter:
    """Draws what is planted after a row, and makes it."""

    def __init__(self, rng: random.Random, texts: Sequence[str], seed: int) -> None:
        self._rng = rng
        self._texts = texts
        self._seed = seed
        self._leaks = 0
        self._disclaimer, self._left = "", 0
        own = 1 - sum(SHARES.values())
        self._rates = {kind: share / own for kind, share in SHARES.items()}
        self._owed = dict.fromkeys(SHARES, 0)

    def draw(self, text: str, place: str) -> list[_Due]:
        """What repeats `text` later; nothing for most texts."""
        drawn = self._rng.random()
        kind = next((kind for kind, owed in self._owed.items() if owed), "")
        for name, rate in self._rates.items():
            if 0 <= drawn < rate:
                kind = name
                self._owed[kind] += 1
            drawn -= rate
        # A text that is too short for what was drawn leaves it to one of the next.
        made = getattr(self, f"_{kind}")(text) if kind else None
        if not made:
            return []
        self._owed[kind] -= 1
        if kind == "short":
            original, how, repeated = made
            return [_Due(0, "", "", original, place, 0.0, 0.0, (how, repeated))]
        found: list[_Due] = []
        for how, repeated, measure in made if kind == "spread" else [made]:
            by_words = jaccard(_runs(plain_words(text), 5), _runs(plain_words(repeated), 5))
            found.append(_Due(0, kind, how, repeated, place, measure, by_words))
        return found

    def _short(self, text: str) -> tuple[str, str, str]:
        """A few words, and the same with other punctuation, spaces or width."""
        self._leaks += 1
        words = WORD.findall(Renaming(f"short {self._seed} {self._leaks}")(text))
        words = words[: self._rng.randint(3, 7)]
        how = self._rng.choice(("punctuation", "spaces", "width"))
        original = " ".join(words)
        if how == "punctuation":
            return original, how, ", ".join(words).capitalize() + self._rng.choice(".!?…")
        if how == "spaces":
            return original, how, "-".join(words) if self._rng.random() < 0.5 else "\n".join(words)
        return original, how, original.translate(_WIDE) + "。"

    def _boilerplate(self, text: str) -> tuple[str, str, float] | None:
        """A row of its own words with a disclaimer that some dozens of rows have."""
        if len(WORD.findall(text)) < _DISCLAIMER:
            return None
        self._leaks += 1
        words = WORD.findall(Renaming(f"boilerplate {self._seed} {self._leaks}")(text))
        if not self._left:
            self._left = self._rng.randint(*_FAMILY)
            self._disclaimer = " ".join(words[:_DISCLAIMER])
            words = WORD.findall(Renaming(f"first {self._seed} {self._leaks}")(text))
        self._left -= 1
        own = " ".join(words[:_BESIDE_IT])
        return "", f"{own}\n\n{self._disclaimer}", _DISCLAIMER / (_DISCLAIMER + _BESIDE_IT)

    def _spread(self, text: str) -> list[tuple[str, str, float]] | None:
        """Rows that hold a piece of a text each, and most of it together."""
        words = list(WORD.finditer(text))
        if len(words) < 40:
            return None
        part, length = len(words) // _SPREAD_ROWS, math.ceil(_SPREAD_SHARE * len(words))
        found: list[tuple[str, str, float]] = []
        for n in range(_SPREAD_ROWS):
            piece = text[words[n * part].start() : words[min(n * part + length, len(words)) - 1].end()]
            found.append((f"piece {n}", self._around([piece], 2 * length), length / len(words)))
        return found

    def _exact(self, text: str) -> tuple[str, str, float]:
        return "", text, 1.0

    def _reformatted(self, text: str) -> tuple[str, str, float]:
        how = self._rng.choice(("case", "spaces", "wraps", "width"))
        if how == "case":
            return how, text.upper() if self._rng.random() < 0.5 else text.lower(), 1.0
        if how == "spaces":
            return how, re.sub(r"\s", lambda match: match[0] + " " * self._rng.randint(0, 2), text) + "\n", 1.0
        if how == "wraps":
            return how, re.sub(r"\s+", lambda _: self._rng.choice((" ", " ", " ", "\n")), text), 1.0
        return how, text.translate(_WIDE), 1.0

    def _near(self, text: str) -> tuple[str, str, float] | None:
        target = self._rng.uniform(*NEAR)
        grams = character_grams(text)
        how = self._rng.choice(("words", "words", "cut"))
        variant = self._words_replaced(text) if how == "words" else self._cut(text)
        # The similarity falls with the number of changes; the smallest number that reaches the target is looked for.
        low, high = 0, len(WORD.findall(text)) // 2
        while low < high:
            middle = (low + high) // 2
            if jaccard(grams, character_grams(variant(middle))) <= target:
                high = middle
            else:
                low = middle + 1
        changed = variant(low)
        similarity = jaccard(grams, character_grams(changed))
        return (how, changed, similarity) if NEAR[0] <= similarity <= NEAR[1] else None

    def _words_replaced(self, text: str) -> Any:
        words = list(WORD.finditer(text))
        order = self._rng.sample(range(len(words)), len(words))
        new = [fresh(self._rng, len(word[0])) for word in words]

        def variant(count: int) -> str:
            chosen = set(order[:count])
            numbers = iter(range(len(words)))
            return WORD.sub(lambda match: new[n] if (n := next(numbers)) in chosen else match[0], text)

        return variant

    def _cut(self, text: str) -> Any:
        """Without its last words, or with as many new ones behind it."""
        words = list(WORD.finditer(text))
        if self._rng.random() < 0.5:
            return lambda count: text[: words[len(words) - count - 1].end()] if count else text
        new = [fresh(self._rng, len(word[0])) for word in words]
        return lambda count: " ".join([text, *new[:count]])

    def _leak(self, text: str) -> tuple[str, str, float] | None:
        words = list(WORD.finditer(text))
        if len(words) < 40:
            return None
        pieces = min(self._rng.randint(1, 3), len(words) // 40)
        share = self._rng.uniform(*_LEAKED)
        # Each piece lies in its own part of the text, so that pieces are whole and do not touch.
        part, length = len(words) // pieces, math.ceil(share * len(words) / pieces)
        starts = [n * part + self._rng.randint(0, part - length) for n in range(pieces)]
        cut = [text[words[start].start() : words[start + length - 1].end()] for start in starts]
        return f"{pieces} pieces", self._around(cut, 2 * pieces * length), pieces * length / len(words)

    def _around(self, pieces: Sequence[str], length: int) -> str:
        """Pieces of a text within one of at least `length` words.

        Its own text is longer than what it holds, so that the two are no near duplicates, and neither is given away by
        the other where the leak is what is held out.
        """
        self._leaks += 1
        rename = Renaming(f"leak {self._seed} {self._leaks}")
        own: list[str] = []
        while sum(len(WORD.findall(one)) for one in own) < length:
            own.append(rename(self._rng.choice(self._texts)))
        halves = "\n\n".join(own).split("\n")
        for piece in pieces:
            halves.insert(self._rng.randint(0, len(halves)), piece)
        return "\n".join(halves)


def character_grams(text: str) -> set[str]:
    """The character 5-grams of a text without regard to case and spaces."""
    text = " ".join(text.casefold().split())
    return {text[at : at + 5] for at in range(len(text) - 4)}


def jaccard(one: Set[Any], other: Set[Any]) -> float:
    """Shared share of two sets."""
    return len(one & other) / max(len(one | other), 1)
