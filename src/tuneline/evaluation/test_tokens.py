"""Rows as tokens: of a conversation that is several examples, one an answer, all of them."""

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
from transformers import PreTrainedTokenizerBase

from tuneline.encoding import token_cache
from tuneline.encoding.encode import Example, Examples, encode_all
from tuneline.encoding.truncation import Fitting
from tuneline.evaluation.tasks import causal
from tuneline.params import Task

# Rows that are tokenised together.
_BATCH = 1024


def of_rows(
    tokenizer: PreTrainedTokenizerBase, rows: pa.Table, task: Task, mode: str, place: Path | None = None
) -> tuple[Examples, np.ndarray]:
    """What there is to learn of rows, nothing of it cut off.

    Args:
        tokenizer: a model's tokenizer.
        rows: of `causal.rows_of`.
        task: what is learnt.
        mode: how a record becomes tokens, as stored with the model.
        place: the folder where the tokens are kept, and found again when the same is asked for; None: in memory.

    Returns:
        The examples, and the number of the row that each is of.
    """
    records = causal.records(rows, task)
    fitting = Fitting(max_length=sys.maxsize, overlong="error", max_dropped_fraction=1.0)

    def portions() -> Iterator[list[Example]]:
        for start in range(0, len(records), _BATCH):
            batch = records[start : start + _BATCH]
            batch = [record | {"source": f"row {start + at}"} for at, record in enumerate(batch)]
            yield [one for row in encode_all(tokenizer, batch, mode) for one in fitting.take(row)]

    if place is None:
        examples = Examples(one for portion in portions() for one in portion)
    else:
        digest = hashlib.sha256()
        for record in records:
            digest.update(orjson.dumps(record))
        key = token_cache.identity(tokenizer, rows=digest.hexdigest(), mode=mode)
        examples, _ = token_cache.kept(place, key, Examples, portions(), fitting.account)
    row_of = [int(source.removeprefix("row ")) for source in examples.sources()]
    return examples, np.array(row_of, np.int64)
