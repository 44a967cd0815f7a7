"""The texts in the fields of a record are read and replaced, and unfilled placeholders are found."""

import orjson
import pytest

from tuneline.data.records import field_texts
from tuneline.data.records.record_form import RecordForm

CHAT = (
    '[{"role":"user","content":"Ａ"},'
    '{"role":"assistant","content":"","tool_calls":[{"function":{"name":"f","arguments":{"x":"Ａ"}}}]}]'
)


def test_the_texts_of_a_record() -> None:
    assert field_texts.texts(RecordForm("prompt-completion"), ("q", "a")) == ("q", "a")
    assert field_texts.texts(RecordForm("messages", True), (CHAT, "[{}]")) == ('Ａ\nf {"x":"Ａ"}', "")
    answers = ('[{"role":"user","content":"q"}]', '[{"role":"assistant","content":"a"}]')
    assert field_texts.texts(RecordForm("preference", True), (*answers, answers[1])) == ("q", "a", "a")


def test_every_text_that_a_model_reads_can_be_replaced() -> None:
    def lower(text: str) -> str:
        return text.replace("Ａ", "a")

    assert field_texts.map_texts(RecordForm("prompt-completion"), ("Ａ", "b"), lower) == ("a", "b")
    assert field_texts.map_texts(RecordForm("classification"), ("Ａ", "Ａ"), lower) == ("a", "Ａ")
    mapped = field_texts.map_texts(RecordForm("messages", True), (CHAT, ""), lower)
    assert [message["content"] for message in orjson.loads(mapped[0])] == ["a", ""]
    assert orjson.loads(mapped[0])[1]["tool_calls"] == orjson.loads(CHAT)[1]["tool_calls"]
    same = ('[{"role":"user","content":"b"}]', "")
    assert field_texts.map_texts(RecordForm("messages", True), same, lower) is same


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Dear {{name}}, hello", "{{name}}"),
        ("Dear {{ first name }}", "{{ first name }}"),
        ("Dear {name},", "{name}"),
        ("你好，{姓名}！", "{姓名}"),
        (r"\frac{ab}{cd} and x^{ab} and \text{word}", None),
        ("${HOME} and {1, 2} and {'a': 1} and {x}", None),
        ("no braces", None),
    ],
)
def test_placeholders_left_in_a_text(text: str, found: str | None) -> None:
    count, first = field_texts.placeholders(["a.jsonl:7"], [("q", text)])
    assert (count, first) == ((1, [f"a.jsonl:7: {found}"]) if found else (0, []))


def test_placeholders_are_counted_and_the_first_three_named() -> None:
    sources = [f"a.jsonl:{line}" for line in range(1, 9)]
    assert field_texts.placeholders(sources, [("{name}", "{name}")] * 8) == (
        8,
        [f"{one}: {{name}}" for one in sources[:3]],
    )
