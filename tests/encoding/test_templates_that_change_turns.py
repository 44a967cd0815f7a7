"""Chat templates that change earlier turns, as Qwen3's: every answer is an example with its own prompt."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from chats import CHATML, encode, encode_split, record, supervised_runs, text_of
from evaluate_params import evaluate
from tiny_models import VOCABULARY, tiny
from transformers import PreTrainedTokenizerFast

from tuneline.core import files
from tuneline.encoding.chat.chat_template import ChatTemplate
from tuneline.encoding.chat.conversation import Conversation
from tuneline.encoding.encode import encode_preferences
from tuneline.encoding.examples import Example
from tuneline.errors import ModelError, TrainingError
from tuneline.evaluation import likelihood
from tuneline.evaluation.score_table import ModelToScore
from tuneline.evaluation.tasks import causal
from tuneline.modeling import models
from tuneline.params import Finetune

# The logic of Qwen3: thoughts before the last question are removed. After it the last turn and turns with thoughts are
# written with their thoughts, empty ones too.
QWEN3 = r"""
{%- set ns = namespace(searching=true, last_query=messages | length - 1) %}
{%- for message in messages[::-1] %}
    {%- if ns.searching and message.role == 'user' and not message.content.startswith('<tool_response>') %}
        {%- set ns.searching = false %}
        {%- set ns.last_query = messages | length - 1 - loop.index0 %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- set content = message.content or '' %}
    {%- if message.role == 'assistant' %}
        {%- set thought = message.reasoning_content or '' %}
        {%- if '</think>' in content %}
            {%- set thought = content.split('</think>')[0].split('<think>')[-1].strip('\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\n') %}
        {%- endif %}
        {{- '<|im_start|>assistant\n' }}
        {%- if loop.index0 > ns.last_query and (loop.last or thought) %}
            {{- '<think>\n' + thought.strip('\n') + '\n</think>\n\n' }}
        {%- endif %}
        {{- content }}
        {%- for call in message.tool_calls or [] %}
            {{- '<tool_call>' + call.function.name + (call.function.arguments | tojson) + '</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\n' }}
    {%- elif message.role == 'tool' %}
        {{- '<|im_start|>user\n<tool_response>' + content + '</tool_response><|im_end|>\n' }}
    {%- else %}
        {{- '<|im_start|>' + message.role + '\n' + content + '<|im_end|>\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}
"""
THINKING = [
    {"role": "system", "content": "alpha"},
    {"role": "user", "content": "beta?"},
    {"role": "assistant", "content": "<think>\ngamma\n</think>\n\ndelta"},
    {"role": "user", "content": "and epsilon?"},
    {"role": "assistant", "content": "<think>\nzeta\n</think>\n\neta."},
]
CALLING = [
    {"role": "user", "content": "1 + 1?"},
    {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "add", "arguments": {"a": 1}}}]},
    {"role": "tool", "content": "2"},
    {"role": "assistant", "content": "It is 2."},
]


@pytest.fixture
def qwen(chatty: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    chatty.chat_template = QWEN3
    return chatty


def inference(tokenizer: PreTrainedTokenizerFast, turns: list[Any]) -> str:
    """The prompt that transformers makes."""
    return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))


@pytest.mark.parametrize(
    ("turns", "said"),
    [
        (THINKING, ["<think>\ngamma\n</think>\n\ndelta<|im_end|>", "<think>\nzeta\n</think>\n\neta.<|im_end|>"]),
        (
            CALLING,
            [
                '<think>\n\n</think>\n\n<tool_call>add{"a": 1}</tool_call><|im_end|>',
                "<think>\n\n</think>\n\nIt is 2.<|im_end|>",
            ],
        ),
        (
            [*THINKING[:4], {"role": "assistant", "reasoning_content": "zeta", "content": "eta."}],
            ["<think>\ngamma\n</think>\n\ndelta<|im_end|>", "<think>\nzeta\n</think>\n\neta.<|im_end|>"],
        ),
        # The last question is not answered.
        (THINKING[:4], ["<think>\ngamma\n</think>\n\ndelta<|im_end|>"]),
    ],
)
def test_every_answer_is_trained_after_its_prompt_at_inference(
    qwen: PreTrainedTokenizerFast, turns: list[Any], said: list[str]
) -> None:
    examples = encode(qwen, record(turns, source="a.jsonl:7"))
    places = [place for place, turn in enumerate(turns) if turn["role"] == "assistant"]
    assert [supervised_runs(qwen, example) for example in examples] == [[one] for one in said]
    for example, place, one in zip(examples, places, said, strict=True):
        assert text_of(qwen, example.input_ids).rstrip("\n") == inference(qwen, turns[:place]) + one
        assert example.source == "a.jsonl:7"
        [prompt] = ChatTemplate(qwen).prompts([Conversation.from_record(record(turns[:place]))])
        assert example.input_ids[: len(prompt)] == prompt
        assert [label != -100 for label in example.labels].index(True) == len(prompt)


def test_a_conversation_without_changed_turns_is_one_example(qwen: PreTrainedTokenizerFast) -> None:
    [once] = encode(qwen, record(THINKING[:3]))
    assert supervised_runs(qwen, once) == ["<think>\ngamma\n</think>\n\ndelta<|im_end|>"]
    qwen.chat_template = CHATML
    [example] = encode(qwen, record(THINKING))
    assert len(supervised_runs(qwen, example)) == 2
    # A call between question and answer keeps its thought, so that nothing changes.
    qwen.chat_template = QWEN3
    thinking = [CALLING[0], CALLING[1] | {"reasoning_content": "alpha"}, *CALLING[2:]]
    [example] = encode(qwen, record(thinking))
    assert len(supervised_runs(qwen, example)) == 2


def test_a_template_that_changes_only_the_last_turn(qwen: PreTrainedTokenizerFast) -> None:
    """Unchanged answers have the same tokens as in a prompt."""
    qwen.chat_template = CHATML.replace(
        "{{ message.content }}",
        "{% if loop.last and message.role == 'user' %}{{ 'mu ' }}{% endif %}{{ message.content }}"
        "{% if loop.index0 == 2 and messages | length > 5 %}{{ '!' }}{% endif %}",
    )
    turns = [*THINKING, {"role": "user", "content": "alpha"}, {"role": "assistant", "content": "mu"}]
    with pytest.raises(ModelError, match="changes the text before turn 3 when that turn is added, so"):
        encode(qwen, record(turns))
    qwen.chat_template = qwen.chat_template.replace("{{ 'mu ' }}", "")
    examples = encode(qwen, record(turns))
    for example, place in zip(examples, (2, 4, 6), strict=True):
        assert len(supervised_runs(qwen, example)) == 1
        [prompt] = ChatTemplate(qwen).prompts([Conversation.from_record(record(turns[:place]))])
        assert example.input_ids[: len(prompt)] == prompt


def finetune(**more: Any) -> Finetune:
    values = {"max_length": 64, "overlong": "truncate", "max_dropped_fraction": 1.0}
    return Finetune.model_construct(**(values | more))


def split(folder: Path, *conversations: list[Any]) -> Path:
    rows = [record(turns, source=f"a.jsonl:{row + 1}") for row, turns in enumerate(conversations)]
    files.write_parquet(folder / "train/part-00000.parquet", pa.Table.from_pylist(rows))
    return folder / "train"


def test_the_report_counts_rows_once_and_all_examples(qwen: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    path = split(tmp_path, THINKING, THINKING[:3], CALLING)
    examples, report = encode_split(qwen, path, "messages", finetune(max_length=200))
    assert [example.source for example in examples] == [f"a.jsonl:{row}" for row in (1, 1, 2, 3, 3)]
    counts = report.as_dict()
    assert (counts["rows"], counts["examples"], counts["conversations_split_by_answer"]) == (3, 5, 2)
    assert counts["tokens"] == sum(len(example.input_ids) for example in examples)
    assert counts["rows_truncated"] == counts["rows_dropped"] == counts["tokens_left_out"] == 0


def test_a_long_example_loses_early_turns_and_drop_drops_all_examples_of_its_row(
    qwen: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    short = [{"role": role, "content": "mu"} for role in ("user", "assistant") * 2]
    path = split(tmp_path, THINKING, short)
    whole = encode(qwen, record(THINKING))
    limit = len(whole[1].input_ids) - 1
    assert len(whole[0].input_ids) <= limit < len(whole[1].input_ids)
    examples, report = encode_split(qwen, path, "messages", finetune(max_length=limit))
    assert examples[0] == whole[0]._replace(source="a.jsonl:1")
    assert text_of(qwen, examples[1].input_ids) == (
        "<|im_start|>system\nalpha<|im_end|>\n<|im_start|>user\nand epsilon?<|im_end|>\n"
        "<|im_start|>assistant\n<think>\nzeta\n</think>\n\neta.<|im_end|>\n"
    )
    assert (report.rows_truncated, report.truncated, report.examples) == (1, ("a.jsonl:1",), 4)
    examples, report = encode_split(qwen, path, "messages", finetune(max_length=limit, overlong="drop"))
    assert {example.source for example in examples} == {"a.jsonl:2"}
    assert (report.rows_dropped, report.examples, report.conversations_split_by_answer) == (1, 2, 1)
    with pytest.raises(TrainingError, match=r"1 of 2 rows are longer .*: a.jsonl:1 \(\d+ tokens\)"):
        encode_split(qwen, path, "messages", finetune(max_length=limit, overlong="error"))


def test_of_a_shortened_example_only_the_last_answer_is_supervised(qwen: PreTrainedTokenizerFast) -> None:
    """The earlier answers are examples of their own, even if the template does not change the shorter text."""
    template = ChatTemplate(qwen)
    conversation = Conversation.from_record(record([*THINKING[1:3], *CALLING]))
    [*_, last] = template.encode([conversation])[0]
    shorter = template.shorten(conversation.up_to_answer(2), len(last.input_ids) - 1, only_last=True)
    assert shorter is not None
    assert supervised_runs(qwen, shorter) == ["<think>\n\n</think>\n\nIt is 2.<|im_end|>"]
    thoughtful = [*THINKING[1:3], CALLING[0], CALLING[1] | {"reasoning_content": "alpha"}, *CALLING[2:]]
    conversation = Conversation.from_record(record(thoughtful))
    [*_, last] = template.encode([conversation])[0]
    shorter = template.shorten(conversation.up_to_answer(2), len(last.input_ids) - 1, only_last=True)
    assert shorter is not None
    assert "alpha" in text_of(qwen, shorter.input_ids)
    assert supervised_runs(qwen, shorter) == ["<think>\n\n</think>\n\nIt is 2.<|im_end|>"]


def test_a_preference_after_earlier_turns(qwen: PreTrainedTokenizerFast) -> None:
    asked = json.dumps(THINKING[:4])
    good, bad = (json.dumps([{"role": "assistant", "content": content}]) for content in ("good", "bad"))
    pair = {"prompt": asked, "chosen": good, "rejected": bad, "source": "a.jsonl:7"}
    [row] = encode_preferences(qwen, [pair], "chat")
    assert text_of(qwen, row.prompt_ids) == inference(qwen, THINKING[:4])
    assert [text_of(qwen, ids) for ids in row[1:3]] == [
        f"<think>\n\n</think>\n\n{one}<|im_end|>" for one in ("good", "bad")
    ]
    longer = pair | {"chosen": json.dumps([THINKING[4], {"role": "user", "content": "mu?"}, *json.loads(good)])}
    with pytest.raises(ModelError, match=r"^a.jsonl:7: .* so chosen, an answer of 2 turns, cannot be compared"):
        encode_preferences(qwen, [longer], "chat")


def test_the_score_of_a_conversation_sums_all_its_answers(qwen: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    model = tiny("qwen3", vocab_size=VOCABULARY + 20)
    model.generation_config.eos_token_id = qwen.eos_token_id  # pyright: ignore[reportOptionalMemberAccess]
    models.save(model, qwen, tmp_path / "model", "chat")
    rows = [record(turns) | {"id": str(row), "cluster": str(row)} for row, turns in enumerate((CALLING, THINKING))]
    section = evaluate(seed=1, batch_size=4, generation_rows=1, max_new_tokens=4, samples=1, bootstrap_resamples=200)
    test = causal.test_rows(pa.Table.from_pylist(rows), section)
    found = causal.measure(ModelToScore(tmp_path / "model", "candidate", 128), test, section, is_text=False)
    for row, turns in enumerate((CALLING, THINKING)):
        examples: list[Example] = encode(qwen, record(turns))
        alone = likelihood.score(model, examples, max_length=128, batch_size=1)
        assert found["tokens"][row].as_py() == sum(one.tokens for one in alone)
        assert found["nll"][row].as_py() == pytest.approx(sum(one.nll for one in alone), rel=1e-5)
