"""From records to examples: tokens with their loss mask, texts with their label, prompts with two answers."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from transformers import PreTrainedTokenizerBase

from tuneline.core import files
from tuneline.encoding import token_cache, token_ids
from tuneline.encoding.chat.chat_template import ChatTemplate
from tuneline.encoding.chat.conversation import Conversation, is_assistant
from tuneline.encoding.examples import (
    CHAT,
    IGNORED,
    PLAIN,
    Example,
    Examples,
    Labelled,
    LabelledRows,
    Preference,
    Preferences,
    Target,
)
from tuneline.encoding.truncation import EncodingReport, LengthPolicy, Overlong, length, truncate
from tuneline.errors import ModelError, TrainingError
from tuneline.params import Finetune
from tuneline.progress import Progress

FIELDS = {
    "sft": ["prompt", "completion"],
    "language-modeling": ["text"],
    "classification": ["text", "label"],
    "regression": ["text", "label"],
    "preference": ["prompt", "chosen", "rejected"],
}
"""Of a task, the columns of a clean split that become tokens; of conversations `messages` and `tools`."""

_CHAT_FIELDS = ["messages", "tools"]
# Rows that are tokenised together: enough for the tokenizer's threads, little enough for the memory.
_BATCH = 1024


def encode_records(
    tokenizer: PreTrainedTokenizerBase, records: Sequence[dict[str, Any]], mode: str
) -> list[list[Example]]:
    """Every record as `encode` gives it, many times as fast."""
    if not records:
        return []
    if "messages" in records[0]:
        assert mode == CHAT, mode
        return ChatTemplate(tokenizer).encode([Conversation.from_record(record) for record in records])
    assert mode in (PLAIN, CHAT), mode
    sources = [record.get("source") or "" for record in records]
    start, end = token_ids.bos_ids(tokenizer), [token_ids.eos_id(tokenizer)]
    if "text" in records[0]:
        ids = token_ids.text_ids(tokenizer, [record["text"] for record in records])
        return [[_all_learnt(start + one + end, source)] for one, source in zip(ids, sources, strict=True)]
    prompts = token_ids.text_ids(tokenizer, [record["prompt"] for record in records])
    completions = _behind(tokenizer, prompts, [record["completion"] for record in records])
    examples = []
    for prompt, completion, source in zip(prompts, completions, sources, strict=True):
        before, learnt = start + prompt, completion + end
        ids = before + learnt
        labels = [IGNORED] * len(before) + learnt
        examples.append([Example(ids, labels, source) if before else _all_learnt(ids, source)])
    return examples


def _all_learnt(ids: list[int], source: str) -> Example:
    return Example(ids, [IGNORED, *ids[1:]], source)


def _behind(tokenizer: PreTrainedTokenizerBase, prompts: list[list[int]], answers: list[str]) -> list[list[int]]:
    """The ids of every answer as it goes on after its prompt; behind an empty prompt a text begins."""
    made = token_ids.continuation_ids(tokenizer, answers)
    if not all(prompts) and token_ids.adds_leading_space(tokenizer):
        for place in [place for place, prompt in enumerate(prompts) if not prompt]:
            made[place] = token_ids.text_ids(tokenizer, [answers[place]])[0]
    return made


def encode_preferences(
    tokenizer: PreTrainedTokenizerBase, records: Sequence[dict[str, Any]], mode: str
) -> list[Preference]:
    """Every preference as tokens.

    Args:
        tokenizer: the model's tokenizer.
        records: `prompt`, `chosen` and `rejected`: text under `plain`, lists of messages (or their JSON) under `chat`.
        mode: how a record becomes tokens, as stored with the model.

    Returns:
        The preferences, of any length.
    """
    if not records:
        return []
    sources = [record.get("source") or "" for record in records]
    if mode == CHAT:
        template = ChatTemplate(tokenizer)
        prompts = template.prompts([_conversation(record, "prompt") for record in records])
        answers = [
            [_answer(one, prompt) for one, prompt in zip(_answered(template, records, name), prompts, strict=True)]
            for name in ("chosen", "rejected")
        ]
    else:
        start, end = token_ids.bos_ids(tokenizer), [token_ids.eos_id(tokenizer)]
        before = token_ids.text_ids(tokenizer, [record["prompt"] for record in records])
        answers = [
            [ids + end for ids in _behind(tokenizer, before, [record[name] for record in records])]
            for name in ("chosen", "rejected")
        ]
        prompts = [start + ids for ids in before]
    return [Preference(*row) for row in zip(prompts, *answers, sources, strict=True)]


def _conversation(record: dict[str, Any], *names: str) -> Conversation:
    turns = [message for name in names for message in Conversation.from_record({"messages": record[name]}).messages]
    return Conversation(turns, [], record.get("source") or "")


def _answered(template: ChatTemplate, records: Sequence[dict[str, Any]], name: str) -> list[Example]:
    """Every prompt with one of its two answers behind it."""
    made = template.encode([_conversation(record, "prompt", name) for record in records])
    for examples, record in zip(made, records, strict=True):
        answer = [message for message in _conversation(record, name).messages if is_assistant(message)]
        if len(examples) > 1 and len(answer) > 1:
            raise ModelError(
                f"{examples[0].source or 'a row'}: the chat template writes earlier turns in another way once the "
                f"conversation goes on, so {name}, an answer of {len(answer)} turns, cannot be compared as a whole; "
                "leave of such answers only the first turn, or use a base with a template that does not"
            )
    return [examples[-1] for examples in made]


def _answer(whole: Example, prompt: list[int]) -> list[int]:
    """What stands behind the prompt, up to the end of the last turn."""
    if whole.input_ids[: len(prompt)] != prompt:
        raise ModelError(
            f"{whole.source or 'a row'}: the chat template writes the prompt in another way once it is answered, so "
            "the two answers cannot be compared; use a base with a template that does not"
        )
    last = max(place for place, label in enumerate(whole.labels) if label != IGNORED)
    return whole.input_ids[len(prompt) : last + 1]


def encode_split(
    tokenizer: PreTrainedTokenizerBase,
    path: Path,
    task: str,
    mode: str,
    finetune: Finetune,
    *,
    labels: Sequence[str] | None = None,
    names_of: Callable[[str], Sequence[str]] | None = None,
    conversational: bool = False,
    folder: Path | None = None,
) -> tuple[Any, EncodingReport]:
    """The examples of one split as they are trained, and what became of its rows.

    Args:
        tokenizer: the model's tokenizer; without a chat template it gets ours where there are conversations.
        path: the split's parquet file, or the folder of its parts.
        task: what is learnt of a row.
        mode: how a record becomes tokens, as stored with the model.
        finetune: the length policy.
        labels: of a classifier, in the order of its outputs.
        names_of: gives the labels of a row that may have several; None: a row has one.
        conversational: whether the fields of a preference are lists of messages.
        folder: where they are kept on disk, and found again when the same is asked for; None: in memory.

    Returns:
        `Examples`, `LabelledRows` or `Preferences`, in the order of the rows, and the account.

    Raises:
        TrainingError: the split is empty, too long or has too little to learn.
        ModelError: the chat template refuses a conversation.
    """
    is_labelled, is_preference = task in ("classification", "regression"), task == "preference"
    is_chat = conversational if is_preference else mode == CHAT and not is_labelled
    template = ChatTemplate(tokenizer) if is_chat else None
    kind = LabelledRows if is_labelled else Preferences if is_preference else Examples
    policy = {"max_length": finetune.max_length, "overlong": finetune.overlong}
    policy |= {"max_dropped_fraction": finetune.max_dropped_fraction}
    limiter = LengthPolicy(**policy)

    def portions() -> Iterator[list[Any]]:
        for records in _batches(path, _CHAT_FIELDS if is_chat and not is_preference else FIELDS[task]):
            rows: list[Any]
            if is_labelled:
                rows = [[row] for row in encode_labelled(tokenizer, records, labels=labels, names_of=names_of)]
            elif is_preference:
                rows = [[row] for row in encode_preferences(tokenizer, records, CHAT if is_chat else PLAIN)]
            else:
                rows = encode_records(tokenizer, records, mode)
            portion: list[Any] = []
            for made, record in zip(rows, records, strict=True):
                is_longer = max(map(length, made)) > finetune.max_length
                shorten = _shortening(tokenizer, template, record, made) if is_longer else None
                portion += limiter.apply(made, shorten, by_turns=template is not None and not is_preference)
            yield portion

    def account() -> EncodingReport:
        if not limiter.rows:
            raise TrainingError(
                f"{path}: no rows; the raw set is too small for data.split, or its groups are too large"
            )
        return limiter.report(template.origin if template else None)

    if folder is None:
        return kind(row for portion in portions() for row in portion), account()
    decisive = {"task": task, "mode": mode, "labels": labels, "multi_label": names_of is not None, "is_chat": is_chat}
    key = token_cache.cache_key(tokenizer, split=files.sha256_path(path), policy=policy, **decisive)
    return token_cache.read_or_write(token_cache.split_folder(path, folder), key, kind, portions(), account)


def encode_texts(
    tokenizer: PreTrainedTokenizerBase, written: Sequence[str], max_length: int, overlong: Overlong
) -> tuple[Examples, EncodingReport]:
    """Plain texts as they are trained, however many are dropped; arguments as in `lengths.fit`."""
    limiter = LengthPolicy(max_length, overlong, max_dropped_fraction=1.0)
    kept: list[Example] = []
    with Progress("tokenizing", unit="texts") as progress:
        for start in range(0, len(written), _BATCH):
            progress.update(start, len(written))
            batch = [{"text": text} for text in written[start : start + _BATCH]]
            for examples in encode_records(tokenizer, batch, PLAIN):
                kept.extend(limiter.apply(examples))
    return Examples(kept), limiter.report()


def _batches(path: Path, fields: Sequence[str]) -> Iterator[list[dict[str, Any]]]:
    """The rows of a split in their order, so many at a time as are tokenised together."""
    parts = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    done, total = 0, sum(pq.read_metadata(part).num_rows for part in parts)
    with Progress(f"tokenizing {path}") as progress:
        for part in parts:
            with pq.ParquetFile(part) as file:
                columns = [*fields, *({"source"} & set(file.schema_arrow.names))]
                for batch in file.iter_batches(_BATCH, columns=columns):
                    progress.update(done, total)
                    yield batch.to_pylist()
                    done += batch.num_rows


def encode_labelled(
    tokenizer: PreTrainedTokenizerBase,
    records: Sequence[dict[str, Any]],
    *,
    labels: Sequence[str] | None = None,
    names_of: Callable[[str], Sequence[str]] | None = None,
) -> list[Labelled]:
    """Every labelled text as a classifier sees it, with the special tokens that its tokenizer puts around a text.

    Args:
        tokenizer: the model's tokenizer.
        records: `text` and `label`.
        labels: of a classifier, in the order of its outputs; None for a regression.
        names_of: gives the labels of a row that may have several; None: a row has one.

    Returns:
        The texts, of any length.

    Raises:
        TrainingError: rows have a label that the model does not know, or one that is no number; all of them counted.
    """
    targets: list[Target | None] = [_target(record["label"], labels, names_of) for record in records]
    unknown = [record for record, target in zip(records, targets, strict=True) if target is None]
    if unknown:
        known = "a number" if labels is None else f"one of {', '.join(map(repr, list(labels)[:10]))}"
        places = ", ".join(f"{record.get('source') or 'a row'} ({record['label']!r})" for record in unknown[:5])
        raise TrainingError(
            f"label: {len(unknown)} rows have one that is not {known}: {places}; mend the rows, or give every label "
            "rows for training"
        )
    made = token_ids.with_special_tokens(tokenizer, [record["text"] for record in records])
    return [
        Labelled(ids, target, record.get("source") or "")
        for ids, target, record in zip(made, targets, records, strict=True)
        if target is not None
    ]


def _target(label: str, labels: Sequence[str] | None, names_of: Callable[[str], Sequence[str]] | None) -> Target | None:
    if labels is None:
        try:
            return float(label)
        except ValueError:
            return None
    if names_of is None:
        return list(labels).index(label) if label in labels else None
    chosen = set(names_of(label))
    return [float(name in chosen) for name in labels] if chosen <= set(labels) else None


def _shortening(
    tokenizer: PreTrainedTokenizerBase, template: ChatTemplate | None, record: dict[str, Any], made: Sequence[Any]
) -> Callable[[int, int], Any] | None:
    """How what is too long is made again shorter, where cutting its tokens would tear what holds it together."""
    row = made[0]
    if isinstance(row, Labelled):
        return lambda _, limit: row._replace(
            input_ids=token_ids.with_special_tokens(tokenizer, [record["text"]], limit)[0]
        )
    if template is None:
        start = len(token_ids.bos_ids(tokenizer))
        return lambda number, limit: truncate(made[number], limit, start)
    if isinstance(row, Preference):
        longest = max(len(row.chosen_ids), len(row.rejected_ids))
        asked = _conversation(record, "prompt")

        def with_end_of_prompt(_: int, limit: int) -> Preference:
            [prompt] = template.prompts([asked], max(limit - longest, limit // 2))
            return truncate(row._replace(prompt_ids=prompt), limit)

        return with_end_of_prompt
    conversation = Conversation.from_record(record)
    if len(made) == 1:
        return lambda _, limit: template.shorten(conversation, limit)
    return lambda number, limit: template.shorten(conversation.up_to_answer(number), limit, only_last=True)
