"""Copied text: which share of the answers is in spans that occur in a training row.

A span is at least SPAN units long, which are words, or characters of a script without spaces; upper case, spaces and
punctuation do not count. Eight of them are what `prepare` compares training rows with held-out rows by. The memory
depends on the answers and not on the training rows, which are read once.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from tuneline.data.records.scripts import character_class
from tuneline.evaluation import metrics
from tuneline.evaluation.intervals import Statistic

SPAN = 8

_UNIT = re.compile(rf"{character_class()}|(?:(?!{character_class()})\w)+")


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
    spans = [[(found.start(), found.end()) for found in _UNIT.finditer(answer)] for answer in answers]
    units = [_units(answer) for answer in answers]
    places: dict[tuple[str, ...], list[tuple[int, int]]] = {}
    for number, of_answer in enumerate(units):
        for place in range(len(of_answer) - SPAN + 1):
            places.setdefault(tuple(of_answer[place : place + SPAN]), []).append((number, place))
    # Most spans of training rows begin with a unit that no answer's span begins with.
    first = {gram[0] for gram in places}
    found = [Copy(len(of_answer), np.zeros(len(of_answer), bool)) for of_answer in units]
    for source, text in trained:
        of_row = _units(text)
        # A span of a row and an answer continues on a diagonal: place in the answer minus place in the row.
        began: dict[tuple[int, int], tuple[int, int]] = {}
        for at in range(len(of_row) - SPAN + 1):
            if of_row[at] not in first:
                continue
            for number, place in places.get(tuple(of_row[at : at + SPAN]), ()):
                start, last = began.get((number, place - at), (place, place - 1))
                start = start if last == place - 1 else place
                began[number, place - at] = start, place
                one, length = found[number], place + SPAN - start
                one.copied[place : place + SPAN] = True
                if length > one.longest:
                    text_span = answers[number][spans[number][start][0] : spans[number][place + SPAN - 1][1]]
                    one.longest, one.text, one.source = length, text_span, source
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
