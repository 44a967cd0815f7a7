"""Copied text: which share of the answers is in spans that occur in a training row.

A span is at least SPAN units long, which are words, or characters of a script without spaces; upper case, spaces and
punctuation do not count. Eight of them are what `prepare` compares training rows with held-out rows by. The memory
depends on the answers and not on the training rows, which are read once; the time grows with the units of both.
"""

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import regex

from tuneline.data.records.scripts import character_class
from tuneline.evaluation import metrics
from tuneline.evaluation.intervals import Statistic
from tuneline.evaluation.probes.shared_spans import Shared, SharedSpans

SPAN = 8

# In `re`, a mark such as a vowel sign of Hindi ends a word.
_UNIT = regex.compile(rf"{character_class()}|(?:(?!{character_class()})\w)+")


@dataclass
class Copy:
    """What of an answer occurs in training rows."""

    units: int
    """Of the answer."""
    copied: np.ndarray
    """[units], bool."""
    longest: int = 0
    """Units of the longest span that is in one training row."""
    text: str = ""
    """This span, as the answer writes it."""
    source: str = ""
    """The training row of this span."""


def find_copies(answers: Sequence[str], trained: Iterable[tuple[str, str]]) -> list[Copy]:
    """Search answers in training rows.

    Args:
        answers: of a model.
        trained: source and text of each training row.

    Returns:
        One result per answer.
    """
    units = [_units(answer) for answer in answers]
    shared, sources = SharedSpans(units), []
    for number, (source, text) in enumerate(trained):
        shared.read(_units(text), number)
        sources.append(source)
    return [_copy(answer, ends, sources) for answer, ends in zip(answers, shared.ends(), strict=True)]


def _copy(answer: str, ends: Sequence[Shared], sources: Sequence[str]) -> Copy:
    """What of an answer is copied.

    Args:
        answer: the text.
        ends: of each of its units, the longest span that ends there and occurs in a training row.
        sources: of the training rows.
    """
    found = Copy(len(ends), np.zeros(len(ends), bool))
    begins = len(ends)
    for place in range(len(ends) - 1, -1, -1):
        if ends[place].length >= SPAN:
            begins = min(begins, place + 1 - ends[place].length)
        found.copied[place] = begins <= place
    longest = max(range(len(ends)), key=lambda place: (ends[place].length, -ends[place].origin, -place), default=None)
    if longest is not None and ends[longest].length >= SPAN:
        places = list(_UNIT.finditer(answer))
        found.longest = ends[longest].length
        found.text = answer[places[longest + 1 - found.longest].start() : places[longest].end()]
        found.source = sources[ends[longest].origin]
    return found


def score_table(copies: Sequence[Copy]) -> pa.Table:
    """The score table of one model: units written and copied, and the longest span with its source."""
    return pa.table(
        {
            "units": pa.array([one.units for one in copies], pa.int64()),
            "copied": pa.array([int(one.copied.sum()) for one in copies], pa.int64()),
            "longest": pa.array([one.longest for one in copies], pa.int64()),
            "span": pa.array([one.text for one in copies], pa.string()),
            "origin": pa.array([one.source for one in copies], pa.string()),
        }
    )


def statistics(_: pa.Table, model: pa.Table) -> list[Statistic]:
    """`copied_share` of one model."""
    return [metrics.ratio("copied_share", model["copied"].to_numpy(), model["units"].to_numpy())]


def _units(text: str) -> list[str]:
    return [unicodedata.normalize("NFKC", unit).casefold() for unit in _UNIT.findall(text)]
