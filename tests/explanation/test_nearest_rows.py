"""The training rows that are most similar to a text."""

import json

import pyarrow as pa
import pytest
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tuneline.explanation import nearest_rows

TEXTS = ["alpha beta gamma", "theta iota kappa", "Where is my parcel?", "lambda mu lambda mu", "eta eta zeta"]


def table(texts: list[str], **more: list[str]) -> pa.Table:
    return pa.table({"text": texts, "source": [f"a.txt:{at}" for at in range(len(texts))], **more})


@pytest.mark.parametrize("family", ["llama", "bert"])
def test_the_same_text_is_the_nearest(
    family: str, heads: dict[str, PreTrainedModel], tokenizer: PreTrainedTokenizerBase
) -> None:
    tables = [table(TEXTS[:3], label=["x", "y", "z"]), table(TEXTS[3:], label=["x", "x"])]
    found = nearest_rows.nearest(heads[family], tokenizer, "Where is my parcel?", tables, 64)
    assert (found.compared, len(found.rows)) == (5, 5)
    first, *others = found.rows
    assert (first.source, first.learned, first.is_same) == ("a.txt:2", "z", True)
    assert first.cosine == pytest.approx(1)
    assert all(one.cosine < 1 and not one.is_same for one in others)
    assert [one.cosine for one in others] == sorted((one.cosine for one in others), reverse=True)


def test_secrets_of_training_rows_are_masked(
    writers: dict[str, PreTrainedModel], tokenizer: PreTrainedTokenizerBase
) -> None:
    rows = pa.table(
        {
            "prompt": ["mail ann.li@lakeside-clinic.de"],
            "completion": ["to bob.wu@lakeside-clinic.de"],
            "source": ["rows.jsonl:1"],
        }
    )
    [found] = nearest_rows.nearest(writers["llama"], tokenizer, "mail", [rows], 64).rows
    assert (found.text, found.learned) == ("mail <EMAIL>", "to <EMAIL>")


def test_of_a_conversation_the_words_before_the_first_answer_are_compared(
    writers: dict[str, PreTrainedModel], tokenizer: PreTrainedTokenizerBase
) -> None:
    turns = [("system", "be kind"), ("user", "alpha"), ("assistant", "beta"), ("user", "gamma")]
    messages = json.dumps([{"role": role, "content": text} for role, text in turns])
    rows = pa.table({"messages": [messages], "tools": [""], "source": ["rows.jsonl:1"]})
    [found] = nearest_rows.nearest(writers["gpt2"], tokenizer, "alpha", [rows], 64).rows
    assert (found.text, found.learned) == ("be kind\nalpha", "beta")
    chosen = pa.table({"prompt": [json.dumps([{"role": "user", "content": "mu"}])], "chosen": ["a"], "source": ["r:1"]})
    [found] = nearest_rows.nearest(writers["gpt2"], tokenizer, "alpha", [chosen], 64).rows
    assert found.text == "mu"


def test_no_rows_and_empty_rows(writers: dict[str, PreTrainedModel], tokenizer: PreTrainedTokenizerBase) -> None:
    assert nearest_rows.nearest(writers["llama"], tokenizer, "a", [], 64) == nearest_rows.Nearest((), 0)
    found = nearest_rows.nearest(writers["llama"], tokenizer, "alpha", [table(["", "x" * 500])], 8)
    assert found.compared == 2
