"""The text that a chat template makes of a conversation, and the spans of the text that the assistant says.

A template comes with a model and is untrusted. transformers renders it in the sandbox of jinja, and an exception there
is an error of the template. The date that some templates ask for is fixed: the same conversation gives the same text.
"""

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from jinja2 import Environment, TemplateError
from transformers import PreTrainedTokenizerBase
from transformers.utils.chat_template_utils import render_jinja_template

from tuneline.encoding.chat.conversation import Conversation, Message, answer_indices, check_complete
from tuneline.encoding.token_ids import BREAK
from tuneline.errors import ModelError, first_line

_MARKS = re.compile(r"\{%-?\s*generation\s*-?%\}")
_FIXED_DATE = "{%- macro strftime_now(format) -%}26 July 2024{%- endmacro -%}"
# What a hostile or broken template can raise; its `raise_exception` raises TemplateError.
_FAILURES = (
    TemplateError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)


class Rendered(NamedTuple):
    """A conversation as text."""

    text: str
    spans: list[tuple[int, int]]
    """Start and end of each turn of the assistant, in order."""
    only_last: bool = False
    """Whether only the last span is supervised; by default all are."""

    @property
    def supervised_text(self) -> str:
        """The text of the supervised spans."""
        return "".join(self.text[start:end] for start, end in self.spans[-1 if self.only_last else 0 :])


def plain_text(template: str, conversation: Conversation) -> str:
    """The text of a conversation without special tokens.

    Args:
        template: a chat template that renders every conversation, such as PLAIN_TEMPLATE.
        conversation: the conversation.
    """
    rendered, _ = render_jinja_template(
        [conversation.messages],
        tools=conversation.tools or None,  # pyright: ignore[reportArgumentType]
        chat_template=template,
        bos_token="",
        eos_token="",
    )
    return rendered[0].strip()


class _Answer(NamedTuple):
    turn: int
    """The number of the message, counted from 1."""
    before: str
    """The prompt of the answer."""
    after: str
    """The prompt with the answer."""


class Renderer:
    """Renders conversations with a tokenizer's chat template.

    Args:
        tokenizer: the model's, with a template.
        special: matches every special token.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, special: re.Pattern[str]) -> None:
        self._tokenizer = tokenizer
        self._special = special
        self._end_of_turn = re.compile(rf"\s*({special.pattern})")

    def render(self, conversation: Conversation) -> list[Rendered]:
        """The texts that a conversation is trained as.

        Returns:
            One text in which all answers are supervised. If the template changes earlier turns when the conversation
            goes on (Qwen3 removes thoughts), one text for each answer: the prompt of that answer, with the answer.

        Raises:
            ModelError: the template fails, leaves something out, or does not show which part is the assistant's.
        """
        messages, tools = self._with_broken_tokens(conversation)
        template = self._template(tools)
        if _MARKS.search(template):
            text, spans = self._render(template, messages, tools, marks=True)
            found = [Rendered(text, self._extend_all(text, spans))]
        else:
            text, _ = self._render(template, messages, tools)
            answers = self._answers(template, messages, tools)
            if _is_unchanged(text, answers):
                found = [Rendered(text, self._spans(text, answers))]
            else:
                found = [self._up_to_last(answers[: number + 1]) for number in range(len(answers))]
        if any(rendered.spans for rendered in found):
            check_complete(messages, tools, text, "".join(rendered.supervised_text for rendered in found))
        return found

    def render_prompt(self, conversation: Conversation) -> Rendered:
        """A conversation as the prompt of the assistant's next answer; the spans are those of `render`.

        Args:
            conversation: the messages before the answer.

        Raises:
            ModelError: the template fails or leaves something out.
        """
        messages, tools = self._with_broken_tokens(conversation)
        template = self._template(tools)
        if _MARKS.search(template):
            text, spans = self._render(template, messages, tools, is_prompt=True, marks=True)
            rendered = Rendered(text, self._extend_all(text, spans))
        else:
            text, _ = self._render(template, messages, tools, is_prompt=True)
            answers = self._answers(template, messages, tools)
            rendered = Rendered(text, self._spans(text, answers) if _is_unchanged(text, answers) else [])
        if rendered.spans:
            check_complete(messages, tools, text, rendered.supervised_text)
        return rendered

    def _answers(self, template: str, messages: list[Message], tools: list[dict[str, Any]]) -> list[_Answer]:
        return [
            _Answer(
                index + 1,
                self._render(template, messages[:index], tools, is_prompt=True)[0],
                self._render(template, messages[: index + 1], tools)[0],
            )
            for index in answer_indices(messages)
        ]

    def _up_to_last(self, answers: Sequence[_Answer]) -> Rendered:
        """The text up to the last of these answers, which alone is supervised."""
        *earlier, last = answers
        if not last.after.startswith(last.before):
            raise ModelError(
                f"the chat template changes the text before turn {last.turn} when that turn is added, so the text of "
                "the assistant cannot be found; put {% generation %} and {% endgeneration %} around what the assistant "
                "says in the base's chat template"
            )
        own = self._spans(last.after, [last])
        before = self._spans(last.after, earlier) if own and _is_unchanged(last.before, earlier) else []
        return Rendered(last.after, [*before, *own], only_last=True)

    def _with_broken_tokens(self, conversation: Conversation) -> tuple[list[Message], list[dict[str, Any]]]:
        """Messages and tools with a BREAK in each special token that they spell, because such a token is text."""
        messages, tools = conversation.messages, conversation.tools
        if self._special.search(repr((messages, tools))):
            messages, tools = self._break_tokens(messages), self._break_tokens(tools)
        return messages, tools

    def _break_tokens(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._special.sub(lambda found: found[0][0] + BREAK + found[0][1:], value)
        if isinstance(value, dict):
            # The template compares roles with its own words.
            return {key: inner if key == "role" else self._break_tokens(inner) for key, inner in value.items()}
        return [self._break_tokens(inner) for inner in value] if isinstance(value, list) else value

    def _template(self, tools: list[dict[str, Any]]) -> str:
        try:
            return self._tokenizer.get_chat_template(tools=tools or None)
        except ValueError as error:
            raise ModelError(f"chat template: {type(error).__name__}: {first_line(error)}") from None

    def _render(
        self,
        template: str,
        messages: list[Message],
        tools: list[dict[str, Any]],
        *,
        is_prompt: bool = False,
        marks: bool = False,
    ) -> tuple[str, list[tuple[int, int]]]:
        if "strftime_now" in template:
            template = _FIXED_DATE + template
        special_tokens: dict[str, Any] = dict(self._tokenizer.special_tokens_map)
        try:
            rendered, spans = render_jinja_template(  # pyright: ignore[reportAssignmentType]
                [messages],
                tools=tools or None,  # pyright: ignore[reportArgumentType]
                chat_template=template,
                return_assistant_tokens_mask=marks,
                add_generation_prompt=is_prompt,
                **special_tokens,
            )
        except _FAILURES as error:
            raise ModelError(f"the chat template fails: {type(error).__name__}: {first_line(error)}") from None
        return rendered[0], spans[0] if spans else []  # pyright: ignore[reportReturnType]

    def _spans(self, text: str, answers: Sequence[_Answer]) -> list[tuple[int, int]]:
        return self._extend_all(text, [(len(answer.before), len(answer.after)) for answer in answers])

    def _extend_all(self, text: str, spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
        return [self._extend(text, *span) for span in spans if span[0] < span[1]]

    def _extend(self, text: str, start: int, end: int) -> tuple[int, int]:
        """The span up to and including its end-of-turn token."""
        answer = text[start:end].rstrip()
        ends = [found.end() for found in self._special.finditer(answer)]
        if ends and ends[-1] == len(answer):
            return start, start + len(answer)
        end_of_turn = self._end_of_turn.match(text, end)
        return (start, end_of_turn.end()) if end_of_turn else (start, end)


def uses_powers(template: str) -> bool:
    """Whether a template uses the operator **. A single power can take any time, and no signal interrupts it."""
    try:
        tokens = [(kind, value) for _, kind, value in Environment().lex(template) if kind != "whitespace"]
    except TemplateError:
        # Rendering the template reports it.
        return False
    # After a bracket or a comma, ** passes named arguments, as in namespace(**values).
    return any(token == ("operator", "**") and before not in ("(", ",") for (_, before), token in pairwise(tokens))


def _is_unchanged(text: str, answers: Sequence[_Answer]) -> bool:
    """Whether the text contains every answer and its prompt unchanged."""
    return all(text.startswith(answer.after) and answer.after.startswith(answer.before) for answer in answers)
