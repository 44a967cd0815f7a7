"""Splits become examples of their record type, and messages name the sources of truncated, dropped and wrong rows."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from chats import encode, encode_split
from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers, trainers
from tokenizers.models import BPE, Unigram
from transformers import PreTrainedTokenizerFast

from tuneline.core import files
from tuneline.encoding.chat.chat_template import ChatTemplate
from tuneline.encoding.chat.conversation import Conversation
from tuneline.encoding.examples import Example, Examples, Labelled, LabelledRows, Preference, Preferences
from tuneline.encoding.token_ids import adds_leading_space
from tuneline.errors import ModelError, TrainingError
from tuneline.params import Finetune

SENTENCES = ["alpha beta gamma", "delta, epsilon: zeta", "1 eta\n2 theta", "iota (kappa) [INST] lambda [/INST] mu"]


def finetune(**more: Any) -> Finetune:
    values = {"max_length": 16, "overlong": "truncate", "max_dropped_fraction": 0.5}
    return Finetune.model_construct(**(values | more))


def split(folder: Path, **columns: list[str]) -> Path:
    """A clean split of two parts, with the sources of its rows."""
    count = len(next(iter(columns.values())))
    table = pa.table({"source": [f"a.csv:{row + 2}" for row in range(count)]} | columns)
    half = (count + 1) // 2
    files.write_parquet(folder / "train/part-00000.parquet", table.slice(0, half))
    files.write_parquet(folder / "train/part-00001.parquet", table.slice(half))
    return folder / "train"


def test_the_parts_of_a_split_are_read_in_order_and_examples_have_their_source(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    path = split(tmp_path, prompt=["alpha ", "beta ", "gamma "], completion=["a", "b", "c"])
    examples, counted = encode_split(tokenizer, path, "prompt-completion", finetune())
    assert [example.source for example in examples] == ["a.csv:2", "a.csv:3", "a.csv:4"]
    assert [tokenizer.decode(example.input_ids) for example in examples][2] == "gamma c<|endoftext|>"
    assert examples.lengths.tolist() == [len(example.input_ids) for example in examples]
    assert (counted.rows, counted.rows_truncated, "chat_template" in counted.as_dict()) == (3, 0, False)


def test_truncated_and_dropped_rows_are_named(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    path = split(tmp_path, text=["alpha", "alpha beta " * 9, "mu"])
    _, counted = encode_split(tokenizer, path, "text", finetune())
    assert counted.as_dict()["truncated_rows"] == ["a.csv:3"]
    _, counted = encode_split(tokenizer, path, "text", finetune(overlong="drop"))
    assert counted.as_dict()["dropped_rows"] == ["a.csv:3"]
    with pytest.raises(TrainingError, match=r"1 of 3 rows are longer than max_length 16: a.csv:3 \(\d+ tokens\);"):
        encode_split(tokenizer, path, "text", finetune(overlong="error"))
    with pytest.raises(TrainingError, match=r"more than finetune.max_dropped_fraction 0 allows: a.csv:3; raise"):
        narrow = finetune(overlong="drop", max_dropped_fraction=0.0)
        encode_split(tokenizer, path, "text", narrow)


def test_a_split_of_conversations(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "alpha"}, {"role": "assistant", "content": "beta"}]
    early = [{"role": "user", "content": "gamma " * 9}, {"role": "assistant", "content": "delta"}]
    backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    own = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|endoftext|>", pad_token="<|pad|>")
    path = split(tmp_path, messages=[json.dumps(turns), json.dumps(early + turns)], tools=["", ""])
    examples, counted = encode_split(own, path, "messages", finetune(max_length=30))
    assert examples[0].input_ids == examples[1].input_ids
    assert counted.as_dict()["truncated_rows"] == ["a.csv:3"]
    assert counted.as_dict()["chat_template"] == "shipped"


def test_the_report_counts_what_long_conversations_lose(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    own = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|endoftext|>", pad_token="<|pad|>")
    turns = [{"role": ("user", "assistant")[at % 2], "content": f"alpha beta {at}"} for at in range(12)]
    long_answer = [turns[0], turns[1] | {"content": "gamma " * 99}]
    long_system = [{"role": "system", "content": "delta " * 99}, *turns[:2]]
    rows = [json.dumps(one) for one in (turns[:2], turns, long_answer, long_system)]
    path = split(tmp_path, messages=rows, tools=[""] * 4)
    examples, counted = encode_split(own, path, "messages", finetune(max_length=64))
    texts = [str(own.decode(example.input_ids)) for example in examples]
    assert all("alpha beta" in text.split("Assistant:")[0] for text in texts)
    assert (counted.rows_truncated, counted.rows_without_end, counted.rows_without_prompt) == (2, 1, 1)
    assert counted.answers_left_out == 6 - texts[1].count("Assistant:")
    assert counted.without_prompt == ("a.csv:5",)
    supervised = {True: 0, False: 0}
    for row in (turns[:2], turns, long_answer):
        for example in encode(own, {"messages": row, "tools": []}):
            supervised[len(example.input_ids) > 64] += sum(label != -100 for label in example.labels)
    assert counted.supervised_tokens + counted.supervised_tokens_left_out == sum(supervised.values())
    said = counted.describe_truncated(64)
    assert said[0].startswith("2 of 4 rows (50.0%) are longer than 64 tokens and are cut to that length, without ")
    assert f"{counted.answers_left_out} answers in early turns, the end of 1 row" in said[0]
    assert said[1].startswith("1 of 4 rows are dropped: 64 tokens have no room for the question")
    # The token cache keeps the report.
    kept = [encode_split(own, path, "messages", finetune(max_length=64), folder=tmp_path / "kept")[1] for _ in "12"]
    assert kept == [counted, counted]
    with pytest.raises(TrainingError, match=r"1 of 4 rows .* 1 without room for their question\), more .*: a.csv:5;"):
        encode_split(own, path, "messages", finetune(max_length=64, max_dropped_fraction=0.0))


def test_labels_become_the_indices_of_outputs(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    path = split(tmp_path / "one", text=["alpha", "beta"], label=["sad", "glad"])
    rows, counted = encode_split(tokenizer, path, "classification", finetune(), labels=["glad", "sad"])
    assert [row.target for row in rows] == [1, 0]
    assert counted.supervised_tokens == 2
    with pytest.raises(TrainingError, match=r"label: the label of 1 rows is not one of 'glad': a.csv:2 \('sad'\);"):
        encode_split(tokenizer, path, "classification", finetune(), labels=["glad"])
    several = split(tmp_path / "several", text=["alpha", "beta"], label=['["glad", "sad"]', '["sad"]'])
    several_labels = {"labels": ["glad", "sad"], "multi_label": True}
    rows, _ = encode_split(tokenizer, several, "classification", finetune(), **several_labels)
    assert [row.target for row in rows] == [[1.0, 1.0], [0.0, 1.0]]


def test_a_split_of_numbers_is_encoded_with_its_targets(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    path = split(tmp_path, text=["alpha " * 30, "beta"], label=["-0.5", "3"])
    rows, counted = encode_split(tokenizer, path, "regression", finetune())
    assert [row.target for row in rows] == [-0.5, 3.0]
    assert (len(rows[0].input_ids), counted.truncated) == (16, ("a.csv:2",))
    wrong = split(tmp_path / "wrong", text=["alpha"], label=["many"])
    with pytest.raises(TrainingError, match=r"not a number: a.csv:2 \('many'\)"):
        encode_split(tokenizer, wrong, "regression", finetune())


def test_a_split_of_preferences(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    path = split(tmp_path, prompt=["alpha ", "beta " * 40], chosen=["good", "good"], rejected=["bad bad", "bad"])
    rows, counted = encode_split(tokenizer, path, "preference", finetune())
    assert [tokenizer.decode(ids) for ids in rows[0][:3]] == ["alpha ", "good<|endoftext|>", "bad bad<|endoftext|>"]
    assert rows[1].chosen_ids == rows[0].chosen_ids
    assert rows.lengths.tolist()[1] == 16
    assert counted.truncated == ("a.csv:3",)


def test_a_split_of_conversational_preferences(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    asked = json.dumps([{"role": "system", "content": "mu"}, {"role": "user", "content": "alpha"}])
    said = [json.dumps([{"role": "assistant", "content": content}]) for content in ("good", "bad")]
    backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    own = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|endoftext|>", pad_token="<|pad|>")
    path = split(tmp_path, prompt=[asked], chosen=said[:1], rejected=said[1:])
    [row], _ = encode_split(own, path, "preference", finetune(max_length=64), conversational=True)
    assert own.decode(row.prompt_ids) == "System:\nmu\n\nUser:\nalpha\n\nAssistant:\n"
    assert [own.decode(ids) for ids in row[1:3]] == ["good<|endoftext|>", "bad<|endoftext|>"]
    own.chat_template = "{{ messages | length }}{% for m in messages %}{{ m.role + m.content + eos_token }}{% endfor %}"
    with pytest.raises(ModelError, match=r"^a.csv:2: the chat template changes the text before turn"):
        encode_split(own, path, "preference", finetune(max_length=64), conversational=True)


def test_a_table_of_examples_gives_back_its_rows(tmp_path: Path) -> None:
    documents = [Example([1, 2, 3], [-100, 2, 3], "a:1"), Example([4], [-100], "ä:2"), Example([5, 6], [-100, 6])]
    kept = Examples(documents)
    assert list(kept) == documents
    assert kept[-1] == documents[-1]
    assert kept[1:] == documents[1:]
    assert kept.lengths.tolist() == [3, 1, 2]
    for targets in ([1, 0], [0.5, -1.0], [[0.0, 1.0], [1.0, 1.0]]):
        labelled = [Labelled([7, 8], target, "b:1") for target in targets]
        assert list(LabelledRows(labelled)) == labelled
    preferences = [Preference([1], [2, 3], [4], "c:1"), Preference([1, 2], [3], [4, 5, 6], "c:2")]
    assert list(Preferences(preferences)) == preferences
    assert Preferences(preferences).lengths.tolist() == [3, 5]
    with pytest.raises(IndexError):
        kept[3]
    # All rows of a batch may be dropped.
    Examples.write(tmp_path / "examples.arrow", [[], documents[:1], [], documents[1:]])
    assert list(Examples.open(tmp_path / "examples.arrow")) == documents


def prefixing(kind: str) -> PreTrainedTokenizerFast:
    """A tokenizer that puts a space before every text, as sentencepiece does."""
    special = ["<unk>", "<s>", "</s>", "[INST]"]
    if kind == "legacy":
        # Llama 2: the space is added before the text is split into words.
        backend = Tokenizer(BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
        backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        backend.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
        backend.decoder = decoders.Metaspace()
        byte_tokens = [f"<0x{byte:02X}>" for byte in range(256)]
        trainer = trainers.BpeTrainer(vocab_size=420, special_tokens=special + byte_tokens, show_progress=False)
    elif kind == "unigram":
        backend = Tokenizer(Unigram())
        backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
        backend.decoder = decoders.Metaspace()
        trainer = trainers.UnigramTrainer(vocab_size=60, special_tokens=special, unk_token="<unk>", show_progress=False)
    else:
        backend = Tokenizer(BPE(unk_token="<unk>"))
        backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=kind)
        backend.decoder = decoders.Metaspace()
        trainer = trainers.BpeTrainer(vocab_size=120, special_tokens=special, show_progress=False)
    backend.train_from_iterator(SENTENCES * 3, trainer)
    if kind == "legacy":
        backend.pre_tokenizer = None  # pyright: ignore[reportAttributeAccessIssue]
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        extra_special_tokens=["[INST]"],
    )


@pytest.mark.parametrize("kind", ["always", "first", "legacy", "unigram"])
def test_a_completion_has_the_tokens_of_a_continuation(kind: str) -> None:
    tokenizer = prefixing(kind)
    assert adds_leading_space(tokenizer)
    for prompt, completion in (("alpha", " beta"), ("delta:", " zeta"), ("eta\n", "theta")):
        [example] = encode(tokenizer, {"prompt": prompt, "completion": completion})
        whole = tokenizer(prompt + completion, add_special_tokens=False)["input_ids"]
        assert example.input_ids == [*whole, tokenizer.eos_token_id], (kind, prompt, completion)
    [begun] = encode(tokenizer, {"prompt": "", "completion": "alpha"})
    assert begun.input_ids == [*tokenizer("alpha", add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]


@pytest.mark.parametrize("kind", ["always", "first", "legacy", "unigram"])
def test_a_chat_with_a_tokenizer_that_adds_spaces_equals_that_of_transformers(kind: str) -> None:
    tokenizer = prefixing(kind)
    tokenizer.chat_template = (
        "{{ bos_token }}{% for message in messages %}{% if message.role == 'user' %}{{ '[INST] ' + message.content }}"
        "{{ ' [/INST]' }}{% else %}{{ ' ' + message.content + eos_token }}{% endif %}{% endfor %}"
    )
    turns = [{"role": ("user", "assistant")[n % 2], "content": ("alpha beta", "gamma")[n % 2]} for n in range(4)]
    [[example]] = ChatTemplate(tokenizer).encode([Conversation(turns, [])])
    whole: Any = tokenizer.apply_chat_template(turns)
    assert example.input_ids == whole["input_ids"]
    [prompt] = ChatTemplate(tokenizer).prompts([Conversation(turns[:3], [])])
    assert example.input_ids[: len(prompt)] == prompt
    supervised = [label for label in example.labels if label != -100]
    assert tokenizer.convert_ids_to_tokens(supervised).count("</s>") == 2


def test_a_byte_level_tokenizer_adds_no_leading_space(tokenizer: PreTrainedTokenizerFast) -> None:
    assert not adds_leading_space(tokenizer)
