"""Conversations are rendered by the tokenizer's chat template, and only the assistant's turns are supervised."""

import json
import os
import resource
import time
from pathlib import Path
from typing import Any

import pytest
from chats import CHATML, encode, fresh, record, supervised_runs, text_of
from transformers import PreTrainedTokenizerFast

from tuneline.encoding.chat import chat_template
from tuneline.encoding.chat.chat_template import PLAIN_TEMPLATE, ChatTemplate
from tuneline.encoding.chat.conversation import Conversation, shorten
from tuneline.encoding.examples import IGNORED
from tuneline.errors import ModelError, TrainingError

MARKED = (
    "{% for message in messages %}{{ '<|im_start|>' + message.role + '\\n' }}{% if message.role == 'assistant' %}"
    "{% generation %}{{ message.content }}{% endgeneration %}{% else %}{{ message.content }}{% endif %}"
    "{{ '<|im_end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
TURNS = [
    {"role": "system", "content": "alpha beta"},
    {"role": "user", "content": "gamma?"},
    {"role": "assistant", "content": "delta"},
    {"role": "user", "content": "and epsilon?"},
    {"role": "assistant", "content": "zeta."},
]
TOOLS = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}]


def theirs(tokenizer: PreTrainedTokenizerFast, **more: Any) -> Any:
    """The result of transformers for the turns."""
    return tokenizer.apply_chat_template(TURNS, **more)


@pytest.mark.parametrize("template", [CHATML, MARKED])
def test_only_the_assistant_s_turns_with_their_end_token_are_supervised(
    chatty: PreTrainedTokenizerFast, template: str
) -> None:
    chatty.chat_template = template
    [example] = encode(chatty, record(TURNS))
    assert supervised_runs(chatty, example) == ["delta<|im_end|>", "zeta.<|im_end|>"]
    assert example.input_ids == theirs(chatty)["input_ids"]


def test_the_assistant_mask_of_transformers_has_the_same_tokens(chatty: PreTrainedTokenizerFast) -> None:
    chatty.chat_template = MARKED.replace(
        "{% endgeneration %}{% else %}", "{{ '<|im_end|>' }}{% endgeneration %}{% else %}"
    ).replace("{% endif %}{{ '<|im_end|>\\n' }}", "{{ '<|im_end|>' }}{% endif %}{{ '\\n' }}")
    [example] = encode(chatty, record(TURNS))
    assert example.input_ids == theirs(chatty, return_assistant_tokens_mask=True)["input_ids"]
    assert [int(label != IGNORED) for label in example.labels] == theirs(chatty, return_assistant_tokens_mask=True)[
        "assistant_masks"
    ]


def test_a_prompt_is_the_beginning_of_its_trained_example(chatty: PreTrainedTokenizerFast) -> None:
    for template in (CHATML, MARKED, PLAIN_TEMPLATE):
        chatty.chat_template = template
        conversation = Conversation.from_record(record(TURNS, TOOLS if template == PLAIN_TEMPLATE else None))
        [prompt] = ChatTemplate(chatty).prompts([conversation.prompt])
        [[example]] = ChatTemplate(chatty).encode([conversation])
        assert example.input_ids[: len(prompt)] == prompt
        assert example.labels[len(prompt)] != IGNORED
        assert all(label == IGNORED for label in example.labels[len(prompt) - 1 : len(prompt)])
        assert conversation.answer == "zeta."


def test_a_tokenizer_without_a_template_gets_the_plain_one_and_is_saved_with_it(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    bare = fresh(tokenizer)
    [example] = encode(bare, record(TURNS))
    assert supervised_runs(bare, example) == ["delta<|endoftext|>", "zeta.<|endoftext|>"]
    bare.save_pretrained(tmp_path)
    again = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    assert ChatTemplate(again).origin == "shipped"
    assert encode(again, record(TURNS)) == [example]
    assert text_of(bare, example.input_ids) == (
        "System:\nalpha beta\n\nUser:\ngamma?\n\nAssistant:\ndelta<|endoftext|>\n\n"
        "User:\nand epsilon?\n\nAssistant:\nzeta.<|endoftext|>\n\n"
    )


def test_tools_are_written_and_calls_are_supervised(tokenizer: PreTrainedTokenizerFast) -> None:
    call = {"type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
    turns = [
        {"role": "user", "content": "1 + 1?"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "name": "add", "content": "2"},
        {"role": "assistant", "content": "2"},
    ]
    bare = fresh(tokenizer)
    [example] = encode(bare, record(turns, TOOLS))
    called = '<tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call><|endoftext|>'
    assert supervised_runs(bare, example) == [called, "2<|endoftext|>"]
    text = text_of(bare, example.input_ids)
    assert text.startswith(f"Tools:\n{json.dumps(TOOLS[0])}\n\nUser:\n")
    assert "Tool add:\n2\n\n" in text


def test_a_special_token_that_a_message_spells_stays_text(chatty: PreTrainedTokenizerFast) -> None:
    turns = [
        {"role": "user", "content": "a<|im_end|>\n<|im_start|>assistant\nb"},
        {"role": "assistant", "content": "c<|endoftext|>d"},
    ]
    [example] = encode(chatty, record(turns))
    assert text_of(chatty, example.input_ids) == (
        "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n"
        "<|im_start|>assistant\nc<|endoftext|>d<|im_end|>\n"
    )
    special = [token for token in example.input_ids if token in chatty.added_tokens_decoder]
    start, end = (chatty.convert_tokens_to_ids(token) for token in ("<|im_start|>", "<|im_end|>"))
    assert special == [start, end, start, end]
    assert supervised_runs(chatty, example) == ["c<|endoftext|>d<|im_end|>"]


def test_the_end_of_turn_token_is_the_template_s(chatty: PreTrainedTokenizerFast) -> None:
    assert ChatTemplate(chatty).end_of_turn() == chatty.convert_tokens_to_ids("<|im_end|>")
    chatty.chat_template = "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}"
    with pytest.raises(ModelError, match="changes the text before turn 2"):
        chatty.chat_template += "{{ messages | length }}"
        ChatTemplate(chatty).end_of_turn()


def test_the_date_in_a_template_is_fixed(chatty: PreTrainedTokenizerFast) -> None:
    chatty.chat_template = "{{ strftime_now('%Y') }}" + CHATML
    assert text_of(chatty, encode(chatty, record(TURNS))[0].input_ids).startswith("26 July 2024<|im_start|>system")


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ 1 // 0 }}", "the chat template fails: ZeroDivisionError: "),
        ("{% for", "the chat template fails: TemplateSyntaxError: "),
        ("{{ raise_exception('no system\nturns') }}", "the chat template fails: TemplateError: no system"),
        ("{{ messages[99].content.x }}", "the chat template fails: UndefinedError: "),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "the chat template fails: SecurityError: "),
        ("{% for n in range(1000000000) %}{% endfor %}", "the chat template fails: OverflowError: "),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "the chat template fails: RecursionError: "),
        ("{{ messages.append(1) }}", "the chat template fails: SecurityError: "),
        ("{{ messages | length }}" + CHATML, "the chat template changes the text before turn 3"),
    ],
)
def test_the_error_of_a_failing_template_is_one_line_with_the_row(
    chatty: PreTrainedTokenizerFast, template: str, message: str
) -> None:
    chatty.chat_template = template
    with pytest.raises(ModelError) as caught:
        encode(chatty, record(TURNS, source="a.jsonl:7"))
    assert str(caught.value).startswith(f"a.jsonl:7: {message}")
    assert "\n" not in str(caught.value)


CALL = [
    {"role": "user", "content": "1 + 1?"},
    {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "add", "arguments": {"a": 1}}}]},
]


@pytest.mark.parametrize(
    ("template", "said"),
    [
        (
            "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
            "has not written this conversation after 0.2 s: it may never end",
        ),
        (
            "{% set n = namespace(x='xxxxxxxx') %}{% for a in range(40) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
            "needs more than 1 GB of memory for this conversation",
        ),
        ("{{ 'x' * 9999999999 }}", "needs more than 1 GB of memory for this conversation"),
        ("{{ '%9999999999d' | format(1) }}", "needs more than 1 GB of memory for this conversation"),
        ("{{ 9 ** 9 ** 9 }}", "uses the operator **, whose numbers can keep a processor busy for days"),
    ],
)
def test_an_endless_template_is_refused_at_the_first_conversation(
    chatty: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch, template: str, said: str
) -> None:
    if "0.2 s" in said:
        monkeypatch.setattr(chat_template, "_SECONDS", 0.2)
    chatty.chat_template = template + CHATML
    before = resource.getrlimit(resource.RLIMIT_AS)
    with pytest.raises(ModelError) as caught:
        ChatTemplate(chatty).encode(
            [Conversation.from_record(record(TURNS, source=f"rows.jsonl:{row}")) for row in (1, 2)]
        )
    (problem,) = caught.value.problems
    assert problem.startswith("the chat template " if "**" in said else "rows.jsonl:1: the chat template ")
    assert said in problem
    # The limit of the memory is lifted again.
    assert resource.getrlimit(resource.RLIMIT_AS) == before


def test_a_template_that_passes_named_arguments_is_not_refused(chatty: PreTrainedTokenizerFast) -> None:
    chatty.chat_template = "{% set n = namespace(**{'a': 1}) %}{% set m = dict({'b': 2}, **{'c': 3}) %}" + CHATML
    assert ChatTemplate(chatty).encode([Conversation.from_record(record(TURNS))])


@pytest.mark.parametrize(
    "template",
    [
        # The product of numbers with millions of digits.
        "{% set n = namespace(x=7) %}{% for a in range(60) %}{% set n.x = n.x * n.x %}{% endfor %}",
        # Two lists of lists of lists, equal and not the same, are compared in 2 ** 60 steps.
        "{% set n = namespace(x=[], y=[]) %}{% for a in range(60) %}"
        "{% set n.x = [n.x, n.x] %}{% set n.y = [n.y, n.y] %}{% endfor %}{{ n.x == n.y }}",
    ],
)
def test_a_template_that_cannot_be_interrupted_ends_the_process_with_a_message(
    chatty: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, template: str
) -> None:
    monkeypatch.setattr(chat_template, "_LAST_SECONDS", 0.5)
    chatty.chat_template = template + CHATML
    said = tmp_path / "stderr"
    child = os.fork()
    if not child:
        try:
            os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT), 2)
            encode(chatty, record(TURNS))
        finally:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
    while not said.read_text("utf-8").endswith("\n"):
        time.sleep(0.01)
    assert said.read_text("utf-8").startswith("error: the chat template did not finish a conversation in 40 s, and")


@pytest.mark.parametrize(
    ("template", "turns", "tools", "message"),
    [
        (CHATML.replace("message.tool_calls", "message.none"), CALL, None, r"says in turn 2: 'add'"),
        (
            CHATML.replace("{{ message.content }}", "{{ message.content.text }}"),
            TURNS,
            None,
            r"says in turn 3: 'delta'",
        ),
        (CHATML, TURNS, TOOLS, r"does not write the tools, 'add' first"),
    ],
)
def test_a_template_that_leaves_out_answers_calls_or_tools_is_refused(
    chatty: PreTrainedTokenizerFast, template: str, turns: list[Any], tools: list[Any] | None, message: str
) -> None:
    chatty.chat_template = template
    with pytest.raises(ModelError, match=rf"^a.jsonl:7: the chat template .*{message}"):
        encode(chatty, record(turns, tools, "a.jsonl:7"))


def test_a_template_may_expect_arguments_of_calls_as_text(chatty: PreTrainedTokenizerFast) -> None:
    chatty.chat_template = CHATML.replace("call.function | tojson", "call.function.name + call.function.arguments")
    assert supervised_runs(chatty, encode(chatty, record(CALL))[0]) == ['<call>add{"a":1}<|im_end|>']


def test_a_template_whose_generation_marks_are_empty_is_refused(chatty: PreTrainedTokenizerFast) -> None:
    chatty.chat_template = CHATML + "{% if false %}{% generation %}{% endgeneration %}{% endif %}"
    with pytest.raises(TrainingError, match=r"marks no token of 1 conversations as the assistant's: a.jsonl:7; put"):
        encode(chatty, record(TURNS, source="a.jsonl:7"))


def test_a_long_conversation_loses_early_turns_and_keeps_the_system_s(chatty: PreTrainedTokenizerFast) -> None:
    turns = [*TURNS[:-2], TURNS[-2] | {"content": "0123456789 and epsilon?"}, TURNS[-1]]
    template, conversation = ChatTemplate(chatty), Conversation.from_record(record(turns, source="a:1"))
    whole = len(template.encode([conversation])[0][0].input_ids)
    shorter = template.shorten(conversation, whole - 1)
    assert shorter is not None
    assert text_of(chatty, shorter.input_ids) == (
        "<|im_start|>system\nalpha beta<|im_end|>\n<|im_start|>user\n0123456789 and epsilon?<|im_end|>\n"
        "<|im_start|>assistant\nzeta.<|im_end|>\n"
    )
    shortest = template.shorten(conversation, len(shorter.input_ids) - 3)
    assert shortest is not None
    text = text_of(chatty, shortest.input_ids)
    assert text.startswith("<|im_start|>system\nalpha beta<|im_end|>\n<|im_start|>user\n")
    assert text.endswith("user\n3456789 and epsilon?<|im_end|>\n<|im_start|>assistant\nzeta.<|im_end|>\n")
    assert supervised_runs(chatty, shortest) == ["zeta.<|im_end|>"]
    assert shortest.source == "a:1"


def test_an_answer_that_is_too_long_alone_loses_its_end(chatty: PreTrainedTokenizerFast) -> None:
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "12345678" * 9}]
    example = ChatTemplate(chatty).shorten(Conversation(turns, []), 24)
    assert example is not None
    assert len(example.input_ids) == 24
    assert supervised_runs(chatty, example)[0].startswith("12")
    assert "user\na<|im_end|>" in text_of(chatty, example.input_ids)


def test_a_question_keeps_half_of_max_length_before_a_long_answer(chatty: PreTrainedTokenizerFast) -> None:
    template = ChatTemplate(chatty)
    turns = [{"role": "user", "content": "0123456789" * 30}, {"role": "assistant", "content": "abcdefghij" * 30}]
    example = template.shorten(Conversation(turns, []), 100)
    assert example is not None
    bare = template.shorten(Conversation([turns[0] | {"content": ""}, turns[1]], []), 100)
    assert bare is not None
    room, said = sum(label != -100 for label in bare.labels), sum(label != -100 for label in example.labels)
    assert said == room - room // 2
    assert supervised_runs(chatty, example)[0].startswith("abcdefghij")
    assert "56789<|im_end|>" in text_of(chatty, example.input_ids)


def test_a_conversation_without_room_for_its_question_is_dropped(chatty: PreTrainedTokenizerFast) -> None:
    template = ChatTemplate(chatty)
    system = {"role": "system", "content": "0123456789" * 30}
    turns = [system, {"role": "user", "content": "alpha beta"}, {"role": "assistant", "content": "gamma " * 20}]
    assert template.shorten(Conversation(turns, []), 100) is None
    # The results of tools are between a question and its last answer, and are not cut.
    returned = {"role": "tool", "content": "9876543210" * 30}
    called = [{"role": "user", "content": "alpha beta"}, {"role": "user", "content": "gamma"}, returned, turns[-1]]
    assert template.shorten(Conversation(called, []), 100) is None


def test_shorten_leaves_out_early_turns_then_the_beginning_of_the_question() -> None:
    said = [
        {"role": role, "content": content}
        for role, content in (
            ("system", "s"),
            ("user", "u1"),
            ("assistant", "a1"),
            ("tool", "t1"),
            ("user", "u2 long"),
            ("assistant", "a2"),
        )
    ]
    conversation = Conversation(said, [])

    def within(characters: int) -> str:
        def fits(one: Conversation) -> bool:
            return sum(len(message["content"]) for message in one.messages) <= characters

        return "|".join(message["content"] for message in shorten(conversation, fits).messages)

    assert within(99) == "s|u1|a1|t1|u2 long|a2"
    assert within(12) == "s|u2 long|a2"
    assert within(7) == "s|long|a2"
    assert within(1) == "s||a2"
