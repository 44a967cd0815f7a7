"""From records to tokens with their loss mask, and what happens to documents that are too long."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from transformers import PreTrainedTokenizerBase

from tuneline import files
from tuneline.errors import TrainingError
from tuneline.params import Finetune
from tuneline.training.models import PLAIN

IGNORED = -100
"""The label of a token that is not learnt."""

FIELDS = {"sft": ["prompt", "completion"], "language-modeling": ["text"]}
"""Of a task, the columns of a clean split that become tokens."""

Overlong = Literal["error", "drop", "truncate", "split"]


class Example(NamedTuple):
    """One document as the model sees it."""

    input_ids: list[int]
    labels: list[int]
    """The token itself where it is learnt, IGNORED elsewhere; never the first, which nothing stands before."""


@dataclass(frozen=True)
class Account:
    """What became of the rows of a split: `rows` equals what is trained plus what was dropped."""

    rows: int
    rows_truncated: int
    """Cut to `max_length`; of a pair the prompt's beginning first."""
    rows_split: int
    """Continued in further rows."""
    rows_dropped: int
    """Too long under `overlong: drop`, or with nothing to learn."""
    rows_without_label: int
    """The dropped ones that had nothing to learn."""
    tokens: int
    supervised_tokens: int
    tokens_left_out: int
    """Of dropped and truncated rows."""

    def as_dict(self) -> dict[str, int]:
        """The counts by name."""
        return asdict(self)


def encode(tokenizer: PreTrainedTokenizerBase, record: dict[str, Any], mode: str) -> Example:
    """One record as tokens and labels.

    Args:
        tokenizer: the model's tokenizer.
        record: `prompt` and `completion` (the completion and end-of-text are learnt), or `text` (all is learnt).
        mode: how a record becomes tokens, as stored with the model.

    Returns:
        The example, of any length.
    """
    return encode_all(tokenizer, [record], mode)[0]


def encode_all(tokenizer: PreTrainedTokenizerBase, records: Sequence[dict[str, Any]], mode: str) -> list[Example]:
    """Every record as `encode` gives it, many times as fast."""
    assert mode == PLAIN, mode
    if not records:
        return []
    start, end = _beginning(tokenizer), [_end(tokenizer)]
    if "text" in records[0]:
        return [_all_learnt(start + ids + end) for ids in _ids(tokenizer, [record["text"] for record in records])]
    prompts = _ids(tokenizer, [record["prompt"] for record in records])
    completions = _ids(tokenizer, [record["completion"] for record in records])
    examples = []
    for prompt, completion in zip(prompts, completions, strict=True):
        before, learnt = start + prompt, completion + end
        ids = before + learnt
        labels = [IGNORED] * len(before) + learnt
        examples.append(Example(ids, labels) if before else _all_learnt(ids))
    return examples


def _all_learnt(ids: list[int]) -> Example:
    return Example(ids, [IGNORED, *ids[1:]])


def _ids(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[list[int]]:
    # A text that spells a special token is text: it must not end a document or change a role.
    return tokenizer(texts, add_special_tokens=False, split_special_tokens=True, verbose=False)["input_ids"]  # pyright: ignore[reportReturnType]


def _beginning(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The beginning-of-text token of a tokenizer that writes one before every text, as its model has always seen."""
    written: list[int] = tokenizer("")["input_ids"]  # pyright: ignore[reportAssignmentType]
    return written[:1] if written and written[0] == tokenizer.bos_token_id else []


def _end(tokenizer: PreTrainedTokenizerBase) -> int:
    end = tokenizer.eos_token_id
    assert isinstance(end, int)
    return end


def fit_split(
    tokenizer: PreTrainedTokenizerBase, path: Path, task: str, mode: str, finetune: Finetune
) -> tuple[list[Example], Account]:
    """The examples of one split as they are trained, and what became of its rows.

    Args:
        tokenizer: the model's tokenizer.
        path: the split's parquet file.
        task: what is learnt of a row.
        mode: how a record becomes tokens, as stored with the model.
        finetune: the length policy.

    Raises:
        TrainingError: the split is empty, too long or has too little to learn.
    """
    table = files.read_parquet(path, FIELDS[task])
    if not table.num_rows:
        raise TrainingError(f"{path}: no rows; the raw set is too small for data.split, or its groups are too large")
    examples = encode_all(tokenizer, table.to_pylist(), mode)
    return fit(examples, finetune.max_length, finetune.overlong, finetune.max_dropped_fraction)


def fit(
    examples: Sequence[Example], max_length: int, overlong: Overlong, max_dropped_fraction: float
) -> tuple[list[Example], Account]:
    """Bring every example to at most `max_length` tokens, and count what that took.

    Args:
        examples: of any length.
        max_length: tokens in a row.
        overlong: what happens to a longer one.
        max_dropped_fraction: of the rows; more is an error.

    Returns:
        Examples that have something to learn, in their order, and the account.

    Raises:
        TrainingError: an example is too long under `error`, or too many are dropped.
    """
    kept: list[Example] = []
    longer = [index for index, example in enumerate(examples) if len(example.input_ids) > max_length]
    if longer and overlong == "error":
        raise TrainingError(
            f"finetune.overlong: {len(longer)} of {len(examples)} rows are longer than max_length {max_length}, "
            f"row {longer[0] + 1} first with {len(examples[longer[0]].input_ids)} tokens; "
            "raise max_length, or set overlong to truncate or drop"
        )
    if longer and overlong == "split" and any(examples[index].labels[1] == IGNORED for index in longer):
        raise TrainingError(
            "finetune.overlong: a pair of prompt and completion cannot be split; set it to truncate, drop or error"
        )
    truncated = split = dropped = without_label = 0
    for example in examples:
        pieces = [example]
        if len(example.input_ids) > max_length:
            if overlong == "drop":
                dropped += 1
                continue
            if overlong == "split":
                pieces = _split(example, max_length)
                split += 1
            else:
                pieces = [_truncate(example, max_length)]
                truncated += 1
        pieces = [piece for piece in pieces if any(label != IGNORED for label in piece.labels)]
        if not pieces:
            dropped += 1
            without_label += 1
        kept += pieces
    if dropped > max_dropped_fraction * len(examples):
        raise TrainingError(
            f"{dropped} of {len(examples)} rows are dropped ({without_label} with nothing to learn, "
            f"{dropped - without_label} longer than max_length {max_length}), more than "
            f"finetune.max_dropped_fraction {max_dropped_fraction:g} allows; raise max_length or mend the data"
        )
    before = sum(len(example.input_ids) for example in examples)
    tokens = sum(len(example.input_ids) for example in kept)
    account = Account(
        rows=len(examples),
        rows_truncated=truncated,
        rows_split=split,
        rows_dropped=dropped,
        rows_without_label=without_label,
        tokens=tokens,
        supervised_tokens=sum(label != IGNORED for example in kept for label in example.labels),
        tokens_left_out=before - tokens,
    )
    return kept, account


def _truncate(example: Example, max_length: int) -> Example:
    """Cut the beginning of what is not learnt, and only where that does not suffice the end of what is."""
    ids, labels = example
    unlearnt = next((index for index, label in enumerate(labels) if label != IGNORED), len(labels))
    # One token must stay before the first that is learnt.
    cut = max(0, min(len(ids) - max_length, unlearnt - 1))
    return Example(ids[cut : cut + max_length], labels[cut : cut + max_length])


def _split(example: Example, max_length: int) -> list[Example]:
    ids, labels = example
    pieces = []
    for start in range(0, len(ids), max_length):
        part = slice(start, start + max_length)
        pieces.append(Example(ids[part], [IGNORED, *labels[part][1:]]))
    return pieces
