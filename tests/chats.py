"""ChatML, a copy of a tokenizer, and helpers that encode conversations and splits."""

import json
from functools import partial
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from tuneline.data.records import label_codec
from tuneline.data.records.record_form import RecordForm, RecordType
from tuneline.encoding import encode as encode_module
from tuneline.encoding.encode import encode_records
from tuneline.encoding.examples import IGNORED, Example
from tuneline.encoding.truncation import EncodingReport
from tuneline.params import Finetune

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message.role + '\\n' }}{{ message.content }}"
    "{% for call in message.tool_calls or [] %}{{ '<call>' + call.function | tojson }}{% endfor %}"
    "{{ '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def fresh(tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    """A copy of the tokenizer that a test may change."""
    backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|endoftext|>", pad_token="<|pad|>")


def record(turns: list[dict[str, Any]], tools: list[Any] | None = None, source: str = "") -> dict[str, Any]:
    return {"messages": json.dumps(turns), "tools": json.dumps(tools) if tools else "", "source": source}


def text_of(tokenizer: PreTrainedTokenizerFast, ids: list[int]) -> str:
    return str(tokenizer.decode(ids))


def supervised_runs(tokenizer: PreTrainedTokenizerFast, example: Example) -> list[str]:
    """The runs of supervised tokens, as text."""
    runs: list[list[int]] = [[]]
    for label in example.labels:
        if label != IGNORED:
            runs[-1].append(label)
        elif runs[-1]:
            runs.append([])
    return [text_of(tokenizer, run) for run in runs if run]


def encode(tokenizer: PreTrainedTokenizerFast, row: dict[str, Any]) -> list[Example]:
    """The examples of one record."""
    return encode_records(tokenizer, [row])[0]


def encode_split(
    tokenizer: PreTrainedTokenizerBase,
    path: Path,
    record_type: RecordType,
    finetune: Finetune,
    *,
    conversational: bool | None = None,
    multi_label: bool = False,
    **more: Any,
) -> tuple[Any, EncodingReport]:
    """The examples of a split of this type, and the report about them."""
    is_chat = record_type == "messages" if conversational is None else conversational
    names_of = partial(label_codec.decode, multi_label=True) if multi_label else None
    return encode_module.encode_split(
        tokenizer,
        path,
        record_type,
        RecordForm(record_type).fields,
        finetune,
        conversational=is_chat,
        names_of=names_of,
        **more,
    )
