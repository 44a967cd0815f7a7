"""The rows that a probe reads: drawn by a seed, and bounded by their number and by their characters."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tuneline.params.evaluate import FEWEST_GROUPS

MOST_READ = 1_000_000
"""Characters that a model reads of one split in a probe, about 250,000 tokens: 5,000 characters of each of 200 rows.
Rows may be books, and their number alone would not bound the time of the forward passes."""

MOST_SEARCHED = 100_000_000
"""Characters of the training rows in which answers are searched: half a minute of one core, and below 400 MB."""

_CONVERSATION = ("messages", "tools")
_WRITTEN = ("text", "completion")


def characters(split: pa.Table, *, only_written: bool = False) -> np.ndarray:
    """The number of characters of each row of a clean split; of a conversation, those of its JSON.

    Args:
        split: the table.
        only_written: leave out the prompts of pairs, which the model does not learn to write.
    """
    found = np.zeros(split.num_rows, np.int64)
    fields = _CONVERSATION if "messages" in split.column_names else _WRITTEN if only_written else ("prompt", *_WRITTEN)
    for name in fields:
        if name in split.column_names:
            found += pc.fill_null(pc.utf8_length(split[name]), 0).to_numpy().astype(np.int64)  # pyright: ignore[reportAttributeAccessIssue]
    return found


def count_within(lengths: Sequence[int] | np.ndarray, limit: int) -> int:
    """How many of the first rows have no more characters than the limit together; at least FEWEST_GROUPS rows.

    With fewer rows there would be no interval.

    Args:
        lengths: of the rows, in the order in which they are drawn.
        limit: the number of characters.
    """
    within = int(np.searchsorted(np.cumsum(lengths), limit, side="right"))
    return min(len(lengths), max(within, FEWEST_GROUPS))
