"""Labelled texts as a classifier or a regression sees them, and what labels there are."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
from transformers import PreTrainedTokenizerBase

from tuneline.core import files
from tuneline.encoding import token_ids
from tuneline.encoding.examples import Labelled, Target
from tuneline.errors import TrainingError


def encode_labelled(
    tokenizer: PreTrainedTokenizerBase,
    records: Sequence[dict[str, Any]],
    *,
    labels: Sequence[str] | None = None,
    multi_label: bool = False,
) -> list[Labelled]:
    """Every labelled text as a classifier sees it, with the special tokens that its tokenizer puts around a text.

    Args:
        tokenizer: the model's tokenizer.
        records: `text` and `label`.
        labels: of a classifier, in the order of its outputs; None for a regression.
        multi_label: whether a label is a JSON list of labels.

    Returns:
        The texts, of any length.

    Raises:
        TrainingError: rows have a label that the model does not know, or one that is no number; all of them counted.
    """
    targets: list[Target | None] = [_target(record["label"], labels, multi_label) for record in records]
    unknown = [record for record, target in zip(records, targets, strict=True) if target is None]
    if unknown:
        known = "a number" if labels is None else f"one of {', '.join(map(repr, list(labels)[:10]))}"
        places = ", ".join(f"{record.get('source') or 'a row'} ({record['label']!r})" for record in unknown[:5])
        raise TrainingError(
            f"label: {len(unknown)} rows have one that is not {known}: {places}; mend the rows, or give every label "
            "rows for training"
        )
    made = with_own_special(tokenizer, [record["text"] for record in records])
    return [
        Labelled(ids, target, record.get("source") or "")
        for ids, target, record in zip(made, targets, records, strict=True)
        if target is not None
    ]


def _target(label: str, labels: Sequence[str] | None, multi_label: bool) -> Target | None:
    if labels is None:
        try:
            return float(label)
        except ValueError:
            return None
    if not multi_label:
        return list(labels).index(label) if label in labels else None
    chosen = set(orjson.loads(label))
    return [float(name in chosen) for name in labels] if chosen <= set(labels) else None


def with_own_special(
    tokenizer: PreTrainedTokenizerBase, whole: Sequence[str], max_length: int | None = None
) -> list[list[int]]:
    """The ids of every text with the special tokens that the tokenizer puts around it, its end cut off if need be."""
    cut: dict[str, Any] = {} if max_length is None else {"truncation": True, "max_length": max_length}
    return token_ids.tokenised(tokenizer, whole, split_special_tokens=True, **cut)


def labels_of(path: Path) -> tuple[list[str], bool]:
    """The labels of a clean split, sorted, and whether a row has several.

    Args:
        path: the split's parquet file or folder.
    """
    written = set(files.read_parquet(path, ["label"]).column("label").unique().to_pylist())
    # Whoever writes several labels writes every row as a list.
    if written and all(label.startswith("[") and label.endswith("]") for label in written):
        try:
            return sorted({name for label in written for name in orjson.loads(label)}), True
        except orjson.JSONDecodeError:
            pass
    return sorted(written), False
