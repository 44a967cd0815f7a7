"""Estimates, from bytes, how many rows are longer than finetune.max_length, before a tokenizer is known."""

from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tuneline.data.records.record_form import RecordForm
from tuneline.params import Params

BYTES_PER_TOKEN = 4
"""About, in UTF-8, for a vocabulary of 30,000 or more tokens: 4.2 for English, 3 to 4.5 for Chinese."""
_BYTES_PER_BUILTIN_TOKEN = 2.5
"""About, for a vocabulary of 2,048 tokens: 2.6 for English with code."""
# Suggested lengths are multiples of it.
_STEP = 64
_NOT_READ = ("label", "tools")
_ANSWERS = ("chosen", "rejected")


def bytes_per_token(p: Params) -> float:
    """Return the average number of bytes per token, estimated from the size of the base's vocabulary."""
    return _BYTES_PER_BUILTIN_TOKEN if p.base.source == "builtin" else BYTES_PER_TOKEN


def bytes_of_rows(split: Path, form: RecordForm) -> np.ndarray:
    """Return the bytes of each row of a clean split, int64. A preference counts its prompt and its longer answer.

    Args:
        split: the folder of its parts.
        form: of its rows.
    """
    columns = [name for name in form.fields if name not in _NOT_READ]
    found = [np.zeros(0, np.int64)]
    for part in sorted(split.glob("*.parquet")):
        table = pq.read_table(part, columns=columns)
        sizes: dict[str, np.ndarray] = {
            name: np.asarray(pc.call_function("binary_length", [table[name]]), np.int64) for name in columns
        }
        answers = [sizes.pop(name) for name in _ANSWERS if name in sizes]
        found.append(np.sum([*sizes.values(), *([np.maximum(*answers)] if answers else [])], axis=0))
    return np.concatenate(found)


def describe(tokens: np.ndarray, how: str, p: Params) -> list[str]:
    """Return the lines that tell what finetune.overlong will do with long rows; empty without long rows.

    Args:
        tokens: [rows] number of tokens.
        how: how these numbers were found.
        p: the params.
    """
    finetune = p.finetune
    over = float(np.mean(tokens > finetune.max_length)) if len(tokens) else 0.0
    if not over or finetune.overlong == "split":
        return []
    median, longest = int(np.quantile(tokens, 0.5, method="higher")), int(tokens.max())
    done = {"truncate": "cut", "drop": "dropped", "error": "refused"}[finetune.overlong]
    lines = [
        f"rows in tokens ({how}): median {median:,}, longest {longest:,}; {over:.1%} are longer than "
        f"finetune.max_length {finetune.max_length:,} and would be {done} (finetune.overlong: {finetune.overlong})"
    ]
    allowed = {"truncate": finetune.max_truncated_fraction, "drop": finetune.max_dropped_fraction, "error": 0.0}
    limit = allowed[finetune.overlong]
    if over > limit:
        enough = int(np.quantile(tokens, 1.0 - limit, method="higher"))
        enough = -(-enough // _STEP) * _STEP
        is_builtin = p.base.source == "builtin"
        keys = "finetune.max_length and base.builtin.max_length" if is_builtin else "finetune.max_length"
        unless = "" if is_builtin else ", if the base can read so many tokens"
        lines.append(
            f"  warning: finetune counts exactly, and stops if they are more than {limit:.0%}; set {keys} to about "
            f"{enough:,}{unless}, or see finetune.overlong in params.yaml"
        )
    return lines
