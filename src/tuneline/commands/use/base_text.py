"""The pretraining text of a builtin base: the training rows of the raw set, written at the first use of the set.

It holds no held-out text. Later rows do not change it, so that the base is not pretrained anew each month.
`data.frozen_pretraining` makes `prepare` drop held-out rows whose text it contains.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from tuneline.core import files
from tuneline.data.mapping import raw_set
from tuneline.data.mapping.raw_set import RawSet, RawSets
from tuneline.data.preparing import prepare_sets
from tuneline.data.reading import readers
from tuneline.data.reading.raw_rows import Options
from tuneline.data.records.record_form import SplitName
from tuneline.params import Data

MOST_BYTES = 64_000_000
"""Most bytes of training text. A builtin base does not improve with more."""

_MOST_HELD_OUT = 2_000_000
_SPLITS: tuple[tuple[SplitName, int], ...] = (("train", MOST_BYTES), ("validation", _MOST_HELD_OUT))


class Left(NamedTuple):
    """What preparation leaves of a set."""

    rows: dict[SplitName, int]
    """Split -> number of rows."""
    dropped: dict[str, int]
    """Reason -> number of dropped rows, the most frequent reason first."""


class Written(NamedTuple):
    """What was written, and what preparation leaves of the set that it comes from."""

    texts: int
    """Number of texts of the training split that were written."""
    left_out: int
    """Number of texts of the training split that did not fit."""
    bytes: int
    """Size of the training text."""
    left: Left


def write(raw: RawSet, data: Data, folder: Path) -> Written:
    """Write the text of the training rows, and of the validation rows on which the base is measured.

    Args:
        raw: the raw set.
        data: how it is cleaned and split.
        folder: created or replaced; gets train.jsonl and validation.jsonl with one `text` per line.

    Raises:
        DataError: too many rows cannot be used, or a split is empty; nothing was written.
    """
    with _paths(folder) as paths:
        left = _left(prepare_sets.prepare_alone(raw, data, paths))
        texts = size = left_out = 0
        with files.atomic_folder(folder) as temporary:
            for split, most in _SPLITS:
                with (temporary / f"{split}.jsonl").open("wb") as file:
                    free = most
                    for text in _texts(paths.clean / split, raw):
                        # Smaller texts may still fit after one that does not: a book must not exclude all that follow.
                        fits = len(text.encode()) <= free
                        if fits:
                            free -= len(text.encode())
                            file.write(orjson.dumps({"text": text}) + b"\n")
                        texts += fits and split == "train"
                        left_out += not fits and split == "train"
                if split == "train":
                    size = (temporary / f"{split}.jsonl").stat().st_size
    return Written(texts, left_out, size, left)


def count(raw: RawSet, data: Data, text: Path) -> Left:
    """What preparation will leave of a set whose pretraining text an earlier use has written.

    Args:
        raw: the raw set.
        data: how it is cleaned and split.
        text: the folder of the text. Held-out rows that it contains are dropped.

    Raises:
        DataError: too many rows cannot be used, or a split is empty.
    """
    frozen = raw_set.open_set(
        text, readers.plan(text, Options()), columns={}, record_types=("text",), group_by=None, is_mixed=True
    )
    data = data.model_copy(update={"pretraining": text.as_posix(), "frozen_pretraining": True})
    with _paths(text) as paths:
        return _left(prepare_sets.prepare(RawSets(raw, frozen, {}), data, paths)["raw"])


def _left(report: dict[str, Any]) -> Left:
    return Left(report["rows"], dict(Counter(report["dropped"]).most_common()))


@contextmanager
def _paths(folder: Path) -> Iterator[prepare_sets.Paths]:
    """Empty folders for a preparation, which are deleted after the block."""
    with files.work_folder(folder) as work:
        paths = prepare_sets.Paths(*(work / name for name in ("work", "clean", "pretraining", "quarantine.jsonl")))
        for place in (paths.work, paths.clean, paths.pretraining):
            place.mkdir()
        yield paths


def _texts(split: Path, raw: RawSet) -> Iterator[str]:
    """The training text of each row of a clean split, in the order of the ids (hashes, so the order is random)."""
    for row in files.read_parquet(split).sort_by("id").to_pylist():
        yield _text(row, raw)


def _text(row: dict[str, str], raw: RawSet) -> str:
    if raw.form.record_type == "messages":
        return _rendered(row)
    if raw.form.record_type == "preference":
        if raw.form.conversational:
            return _rendered({"messages": orjson.loads(row["prompt"]) + orjson.loads(row["chosen"])})
        return row["prompt"] + row["chosen"]
    if raw.form.record_type == "prompt-completion":
        return row["prompt"] + row["completion"]
    return row["text"]


def _rendered(record: dict[str, Any]) -> str:
    # Importing transformers takes seconds, and only messages need it.
    from tuneline.encoding.chat import render
    from tuneline.encoding.chat.chat_template import PLAIN_TEMPLATE
    from tuneline.encoding.chat.conversation import Conversation

    return render.plain_text(PLAIN_TEMPLATE, Conversation.from_record(record))
