"""Records to examples: documents with supervised tokens, texts with a target, prompts with two answers.

`_ENCODERS` has one entry per record type.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

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
    ExampleTable,
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

Records = Sequence[dict[str, Any]]
LabelNames = Callable[[str], Sequence[str]]
"""Gives the labels that the text of a row's label encodes."""

# Rows that are tokenized together: enough for the tokenizer's threads, and few enough for the memory.
_BATCH = 1024


def encode_records(tokenizer: PreTrainedTokenizerBase, records: Records) -> list[list[Example]]:
    """The examples of each record for a causal language model, of any length.

    Args:
        tokenizer: the model's tokenizer. Without a chat template it gets PLAIN_TEMPLATE for messages.
        records: all with the same fields. Of `text` all tokens are supervised; of `prompt` and `completion` the
            completion and end-of-text; of `messages` and `tools` the assistant's turns.

    Returns:
        One example per record. A conversation gives one example per answer if the chat template changes earlier turns
        when the conversation goes on.
    """
    if not records:
        return []
    if "messages" in records[0]:
        return ChatTemplate(tokenizer).encode([Conversation.from_record(record) for record in records])
    sources = [record.get("source") or "" for record in records]
    bos, eos = token_ids.bos_ids(tokenizer), [token_ids.eos_id(tokenizer)]
    if "text" in records[0]:
        texts = token_ids.text_ids(tokenizer, [record["text"] for record in records])
        return [[_all_supervised(bos + ids + eos, source)] for ids, source in zip(texts, sources, strict=True)]
    prompts = token_ids.text_ids(tokenizer, [record["prompt"] for record in records])
    completions = _answer_ids(tokenizer, prompts, [record["completion"] for record in records])
    examples = []
    for prompt, completion, source in zip(prompts, completions, sources, strict=True):
        before, supervised = bos + prompt, completion + eos
        ids = before + supervised
        labels = [IGNORED] * len(before) + supervised
        examples.append([Example(ids, labels, source) if before else _all_supervised(ids, source)])
    return examples


def _all_supervised(ids: list[int], source: str) -> Example:
    return Example(ids, [IGNORED, *ids[1:]], source)


def _answer_ids(tokenizer: PreTrainedTokenizerBase, prompts: list[list[int]], answers: list[str]) -> list[list[int]]:
    """The ids of each answer as the continuation of its prompt; after an empty prompt the answer begins a document."""
    found = token_ids.continuation_ids(tokenizer, answers)
    if not all(prompts) and token_ids.adds_leading_space(tokenizer):
        for index in [index for index, prompt in enumerate(prompts) if not prompt]:
            found[index] = token_ids.text_ids(tokenizer, [answers[index]])[0]
    return found


def encode_preferences(tokenizer: PreTrainedTokenizerBase, records: Records, mode: str) -> list[Preference]:
    """Each preference as token ids, of any length.

    Args:
        tokenizer: the model's tokenizer.
        records: `prompt`, `chosen` and `rejected`: text in the mode PLAIN, lists of messages (or their JSON) in CHAT.
        mode: PLAIN or CHAT.

    Raises:
        ModelError: the chat template changes the prompt when it is answered.
    """
    if not records:
        return []
    sources = [record.get("source") or "" for record in records]
    if mode == CHAT:
        template = ChatTemplate(tokenizer)
        prompts = template.prompts([_conversation(record, "prompt") for record in records])
        answers = [
            [
                _after_prompt(one, prompt)
                for one, prompt in zip(_answered(template, records, name), prompts, strict=True)
            ]
            for name in ("chosen", "rejected")
        ]
    else:
        bos, eos = token_ids.bos_ids(tokenizer), [token_ids.eos_id(tokenizer)]
        texts = token_ids.text_ids(tokenizer, [record["prompt"] for record in records])
        answers = [
            [ids + eos for ids in _answer_ids(tokenizer, texts, [record[name] for record in records])]
            for name in ("chosen", "rejected")
        ]
        prompts = [bos + ids for ids in texts]
    return [Preference(*row) for row in zip(prompts, *answers, sources, strict=True)]


def _conversation(record: dict[str, Any], *names: str) -> Conversation:
    messages = [message for name in names for message in Conversation.from_record({"messages": record[name]}).messages]
    return Conversation(messages, [], record.get("source") or "")


def _answered(template: ChatTemplate, records: Records, name: str) -> list[Example]:
    """Each prompt with the answer of this name."""
    found = template.encode([_conversation(record, "prompt", name) for record in records])
    for examples, record in zip(found, records, strict=True):
        answer = [message for message in _conversation(record, name).messages if is_assistant(message)]
        if len(examples) > 1 and len(answer) > 1:
            raise ModelError(
                f"{examples[0].source or 'a row'}: the chat template changes earlier turns when the conversation goes "
                f"on, so {name}, an answer of {len(answer)} turns, cannot be compared; keep only the first turn of "
                "such answers, or use a base whose template does not change turns"
            )
    return [examples[-1] for examples in found]


def _after_prompt(example: Example, prompt: list[int]) -> list[int]:
    """The tokens after the prompt, up to the end of the last turn."""
    if example.input_ids[: len(prompt)] != prompt:
        raise ModelError(
            f"{example.source or 'a row'}: the chat template changes the prompt when it is answered, so the two "
            "answers cannot be compared; use a base whose template does not change the prompt"
        )
    last = max(index for index, label in enumerate(example.labels) if label != IGNORED)
    return example.input_ids[len(prompt) : last + 1]


def encode_labelled(
    tokenizer: PreTrainedTokenizerBase,
    records: Records,
    *,
    labels: Sequence[str] | None = None,
    names_of: LabelNames | None = None,
) -> list[Labelled]:
    """Each labelled text, of any length, with the special tokens that the tokenizer puts around a text.

    Args:
        tokenizer: the model's tokenizer.
        records: `text` and `label`.
        labels: of a classifier, in the order of its outputs; None for a regression.
        names_of: gives the labels of a row with several labels; None: a row has one label.

    Raises:
        TrainingError: rows have a label that the model does not have, or a label that is not a number.
    """
    targets = [_target(record["label"], labels, names_of) for record in records]
    unknown = [record for record, target in zip(records, targets, strict=True) if target is None]
    if unknown:
        expected = "a number" if labels is None else f"one of {', '.join(map(repr, list(labels)[:10]))}"
        named = ", ".join(f"{record.get('source') or 'a row'} ({record['label']!r})" for record in unknown[:5])
        raise TrainingError(
            f"label: the label of {len(unknown)} rows is not {expected}: {named}; correct the rows, or give every "
            "label rows for training"
        )
    texts = token_ids.with_special_tokens(tokenizer, [record["text"] for record in records])
    return [
        Labelled(ids, target, record.get("source") or "")
        for ids, target, record in zip(texts, targets, records, strict=True)
        if target is not None
    ]


def _target(label: str, labels: Sequence[str] | None, names_of: LabelNames | None) -> Target | None:
    if labels is None:
        try:
            return float(label)
        except ValueError:
            return None
    if names_of is None:
        return list(labels).index(label) if label in labels else None
    chosen = set(names_of(label))
    return [float(name in chosen) for name in labels] if chosen <= set(labels) else None


class _Job(NamedTuple):
    """How the rows of one split are encoded."""

    tokenizer: PreTrainedTokenizerBase
    template: ChatTemplate | None
    """None for fields that are text."""
    labels: Sequence[str] | None
    names_of: LabelNames | None


class _Encoder(NamedTuple):
    """How the records of one type become examples."""

    table: type[ExampleTable[Any]]
    encode: Callable[[_Job, Records], list[list[Any]]]
    """Gives the examples of each record."""
    shorten: Callable[[_Job, dict[str, Any], Sequence[Any]], Callable[[int, int], Any]]
    """Job, record and its examples -> a function (index of an example, max_length) -> a shorter example, or None."""
    by_turns: bool = False
    """Whether `shorten` leaves out whole turns."""


def _cut_prompt(job: _Job, _: dict[str, Any], examples: Sequence[Any]) -> Callable[[int, int], Any]:
    bos = len(token_ids.bos_ids(job.tokenizer))
    return lambda index, max_length: truncate(examples[index], max_length, bos)


def _leave_out_turns(job: _Job, record: dict[str, Any], examples: Sequence[Any]) -> Callable[[int, int], Any]:
    template, conversation = job.template, Conversation.from_record(record)
    assert template is not None
    if len(examples) == 1:
        return lambda _, max_length: template.shorten(conversation, max_length)
    return lambda index, max_length: template.shorten(conversation.up_to_answer(index), max_length, only_last=True)


def _shorten_preference(job: _Job, record: dict[str, Any], examples: Sequence[Any]) -> Callable[[int, int], Any]:
    template = job.template
    if template is None:
        return _cut_prompt(job, record, examples)
    row: Preference = examples[0]
    longest = max(len(row.chosen_ids), len(row.rejected_ids))
    prompt = _conversation(record, "prompt")

    def shorten(_: int, max_length: int) -> Preference:
        [prompt_ids] = template.prompts([prompt], max(max_length - longest, max_length // 2))
        return truncate(row._replace(prompt_ids=prompt_ids), max_length)

    return shorten


def _cut_text(job: _Job, record: dict[str, Any], examples: Sequence[Any]) -> Callable[[int, int], Any]:
    """Encodes the text again, because the tokenizer's special tokens stay around the shorter text."""
    return lambda _, max_length: examples[0]._replace(
        input_ids=token_ids.with_special_tokens(job.tokenizer, [record["text"]], max_length)[0]
    )


def _encode_causal(job: _Job, records: Records) -> list[list[Any]]:
    return encode_records(job.tokenizer, records)


def _encode_pairs(job: _Job, records: Records) -> list[list[Any]]:
    return [[row] for row in encode_preferences(job.tokenizer, records, CHAT if job.template else PLAIN)]


def _encode_labels(job: _Job, records: Records) -> list[list[Any]]:
    return [[row] for row in encode_labelled(job.tokenizer, records, labels=job.labels, names_of=job.names_of)]


_ENCODERS = {
    "text": _Encoder(Examples, _encode_causal, _cut_prompt),
    "prompt-completion": _Encoder(Examples, _encode_causal, _cut_prompt),
    "messages": _Encoder(Examples, _encode_causal, _leave_out_turns, by_turns=True),
    "preference": _Encoder(Preferences, _encode_pairs, _shorten_preference),
    "classification": _Encoder(LabelledRows, _encode_labels, _cut_text),
    "regression": _Encoder(LabelledRows, _encode_labels, _cut_text),
}


def encode_split(
    tokenizer: PreTrainedTokenizerBase,
    path: Path,
    record_type: str,
    fields: Sequence[str],
    finetune: Finetune,
    *,
    conversational: bool = False,
    labels: Sequence[str] | None = None,
    names_of: LabelNames | None = None,
    folder: Path | None = None,
) -> tuple[Any, EncodingReport]:
    """The examples of one split as they are trained, in the order of the rows, and the report about them.

    Args:
        tokenizer: the model's tokenizer. Without a chat template it gets PLAIN_TEMPLATE for conversations.
        path: the split's parquet file, or the folder of its parts.
        record_type: the type of the records.
        fields: the columns with the fields of the records.
        finetune: max_length, overlong and max_dropped_fraction.
        conversational: whether the fields are lists of messages.
        labels: of a classifier, in the order of its outputs.
        names_of: gives the labels of a row with several labels; None: a row has one label.
        folder: the token cache; None: the examples stay in memory.

    Returns:
        `Examples`, `LabelledRows` or `Preferences`, and the report.

    Raises:
        TrainingError: the split is empty, rows are too long, or too many rows are dropped.
        ModelError: the chat template refuses a conversation.
    """
    encoder = _ENCODERS[record_type]
    job = _Job(tokenizer, ChatTemplate(tokenizer) if conversational else None, labels, names_of)
    limits: dict[str, Any] = {"max_length": finetune.max_length, "overlong": finetune.overlong}
    limits |= {"max_dropped_fraction": finetune.max_dropped_fraction}
    policy = LengthPolicy(**limits)

    def batches() -> Iterator[list[Any]]:
        for records in _read(path, fields):
            kept: list[Any] = []
            for examples, record in zip(encoder.encode(job, records), records, strict=True):
                is_longer = max(map(length, examples)) > finetune.max_length
                shorten = encoder.shorten(job, record, examples) if is_longer else None
                kept += policy.apply(examples, shorten, by_turns=encoder.by_turns)
            yield kept

    def report() -> EncodingReport:
        if not policy.rows:
            raise TrainingError(
                f"{path}: no rows; the raw set is too small for data.split, or its groups are too large"
            )
        return policy.report(job.template.origin if job.template else None)

    if folder is None:
        return encoder.table(row for batch in batches() for row in batch), report()
    decisive = {"record_type": record_type, "conversational": conversational, "labels": labels}
    decisive |= {"multi_label": names_of is not None, "policy": limits}
    key = token_cache.cache_key(tokenizer, split=files.sha256_path(path), **decisive)
    return token_cache.read_or_write(token_cache.split_folder(path, folder), key, encoder.table, batches(), report)


def encode_texts(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], max_length: int, overlong: Overlong
) -> tuple[Examples, EncodingReport]:
    """Plain texts as they are trained, and the report about them; any number of texts may be dropped."""
    policy = LengthPolicy(max_length, overlong, max_dropped_fraction=1.0)

    def kept() -> Iterator[Example]:
        with Progress("tokenizing", unit="texts") as progress:
            for start in range(0, len(texts), _BATCH):
                progress.update(start, len(texts))
                batch = [{"text": text} for text in texts[start : start + _BATCH]]
                for examples in encode_records(tokenizer, batch):
                    yield from policy.apply(examples)

    return Examples(kept()), policy.report()


def _read(path: Path, fields: Sequence[str]) -> Iterator[list[dict[str, Any]]]:
    """The rows of a split in their order, in batches."""
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
