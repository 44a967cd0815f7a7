"""The text of a set's own training rows, on which a builtin base is pretrained: written once, then kept as it is.

It holds no held-out text: it is what `prepare` would train on. Later rows change nothing in it, so that the base is not
pretrained anew each month; `data.frozen_pretraining` makes `prepare` drop the held-out rows that it gives away.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from tuneline.core import files
from tuneline.data.mapping.raw_set import RawSet
from tuneline.data.preparing import prepare_sets
from tuneline.data.records.splits import SplitName
from tuneline.params import Data

SUFFIX = "-pretraining"
"""Of the folder of the text, after the name of the set."""

MOST_BYTES = 64_000_000
"""Of training text; a builtin base has learnt what it can before it has read as much."""

_MOST_HELD_OUT = 2_000_000
_SPLITS: tuple[tuple[SplitName, int], ...] = (("train", MOST_BYTES), ("validation", _MOST_HELD_OUT))


class Written(NamedTuple):
    """What was written, and the splits of the set that it was taken from."""

    texts: int
    """Of the training split."""
    left_out: int
    """Texts of the training split that did not fit any more."""
    bytes: int
    rows: dict[SplitName, int]
    dropped: dict[str, int]
    """Reason -> the rows of the set that are in no split, the most first."""


def write(one: RawSet, data: Data, folder: Path) -> Written:
    """Write the text of the training rows, and that of the validation rows on which the base is measured.

    Args:
        one: the set.
        data: how it will be cleaned and split.
        folder: gets train.jsonl and validation.jsonl, rows of `text`; made or replaced.

    Raises:
        DataError: too many rows cannot be used, or a split is empty; nothing was written.
    """
    with files.work_folder(folder) as work:
        places = prepare_sets.Places(*(work / name for name in ("work", "clean", "pretraining", "quarantine.jsonl")))
        for place in (places.work, places.clean, places.pretraining):
            place.mkdir()
        rows = prepare_sets.prepare_alone(one, data, places)
        with places.quarantine.open("rb") as lines:
            dropped = Counter(orjson.loads(line)["reason"] for line in lines)
        count = size = left_out = 0
        with files.atomic_folder(folder) as beside:
            for split, most in _SPLITS:
                with (beside / f"{split}.jsonl").open("wb") as file:
                    left = most
                    for text in _texts(places.clean / split, one):
                        # One that does not fit makes room for others: a book must not keep out all that comes after it.
                        fits = len(text.encode()) <= left
                        if fits:
                            left -= len(text.encode())
                            file.write(orjson.dumps({"text": text}) + b"\n")
                        count += fits and split == "train"
                        left_out += not fits and split == "train"
                if split == "train":
                    size = (beside / f"{split}.jsonl").stat().st_size
    return Written(count, left_out, size, rows, dict(dropped.most_common()))


def _texts(split: Path, one: RawSet) -> Iterator[str]:
    """The rows of a clean split as they are trained, in the order of their ids, which says nothing of them."""
    for row in files.read_parquet(split).sort_by("id").to_pylist():
        yield _text(row, one)


def _text(row: dict[str, str], one: RawSet) -> str:
    if one.record_type == "messages":
        return _rendered(row)
    if one.record_type == "preference":
        if one.conversational:
            return _rendered({"messages": orjson.loads(row["prompt"]) + orjson.loads(row["chosen"])})
        return row["prompt"] + row["chosen"]
    if one.record_type == "prompt-completion":
        return row["prompt"] + row["completion"]
    return row["text"]


def _rendered(record: dict[str, Any]) -> str:
    # Loads transformers, seconds that sets of other kinds need not spend.
    from tuneline.encoding.chat import render
    from tuneline.encoding.chat.chat_template import PLAIN_TEMPLATE
    from tuneline.encoding.chat.conversation import Conversation

    return render.plain(PLAIN_TEMPLATE, Conversation.of(record))
