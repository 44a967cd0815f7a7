"""Which texts of the erased rows are searched for at the end: those by which no other row could be meant."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuneline.data.reading.raw_rows import Options
from tuneline.data.removing import found_rows
from tuneline.data.removing.found_rows import Selection

_LEAST = 16
"""Characters of a text that is searched for anywhere: shorter texts occur by chance."""
_MOST = 20
_BEGINNING = 400
"""Characters of a longer text that are enough, if no other row begins with them."""


@dataclass(frozen=True)
class Sought:
    """What is searched for."""

    long: list[str]
    """Texts that no other row contains, the longest first; at most one of each row."""
    short: list[str]
    """Shorter texts that are no value of another row."""
    unsearched: int
    """The rows of which none of these is a part."""


def choose(
    rows: Sequence[dict[str, Any]], options: dict[str, Options], selection: Selection, text: str | None
) -> Sought:
    """What is searched for.

    Args:
        rows: that are meant.
        options: path of a set -> how it is read.
        selection: the rows that are meant.
        text: the path of the pretraining text.
    """
    candidates = [_candidates(row) for row in rows]
    values = [{one.strip() for one in found_rows.texts_of(row) if len(one.strip()) < _LEAST} for row in rows]
    own, short = _only_theirs(
        [one for of_row in candidates for one in of_row], set().union(*values), options, selection, text
    )
    long = {one for of_row in candidates for one in [one for one in of_row if one in own][:1]}
    chosen = sorted(long, key=lambda one: (-len(one), one))[:_MOST]
    is_searched = [
        not short.isdisjoint(of_row) or any(one in chosen for one in texts)
        for of_row, texts in zip(values, candidates, strict=True)
    ]
    return Sought(chosen, sorted(short), is_searched.count(False))


def _candidates(row: dict[str, Any]) -> list[str]:
    """The texts of a row, the longest first: its beginning, and the whole; those that occur by chance are left out."""
    texts = sorted(found_rows.texts_of(row), key=len, reverse=True)
    forms = [form.strip() for one in texts for form in (one[:_BEGINNING], one)]
    return [one for one in dict.fromkeys(forms) if len(one) >= _LEAST]


def _only_theirs(
    texts: Sequence[str], short: set[str], options: dict[str, Options], selection: Selection, text: str | None
) -> tuple[set[str], set[str]]:
    """The texts that no other row of the sets contains, and the short texts that are no value of another row."""
    found = list(texts)
    for path, how in options.items():
        if not found and not short:
            break
        for _, row in found_rows.rows(Path(path), how):
            own = row.values.get("text") if path == text else None
            if selection.means(row.values) or (isinstance(own, str) and selection.means_text(own)):
                continue
            values = found_rows.texts_of(row.values)
            short = short.difference(map(str.strip, values))
            whole = "\n".join(values)
            found = [one for one in found if one not in whole]
    return set(found), short
