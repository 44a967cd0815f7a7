"""Conversations as the text that a chat template makes of them, and where in it the assistant's part lies.

A template comes with a model from somewhere. transformers renders it in jinja's sandbox; whatever it raises there is an
error of the template, said in a line. Today's date, which some templates ask for, is a fixed day: the same conversation
gives the same text tomorrow.
"""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from jinja2 import Environment, TemplateError
from transformers import PreTrainedTokenizerBase
from transformers.utils.chat_template_utils import render_jinja_template

from tuneline.encoding.chat.conversation import Conversation, Message, answered_at, refuse_left_out
from tuneline.encoding.token_ids import BREAK
from tuneline.errors import ModelError, first_line

_MARKS = re.compile(r"\{%-?\s*generation\s*-?%\}")
_FIXED_DATE = "{%- macro strftime_now(format) -%}26 July 2024{%- endmacro -%}"
# What a hostile or broken template can raise; `raise_exception` in it is a TemplateError too.
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


class Draft(NamedTuple):
    """The text of a conversation."""

    text: str
    spans: list[tuple[int, int]]
    """Start and end of each part that the assistant has said, in order."""
    only_last: bool = False
    """Whether only the last part is learnt, or every one."""

    @property
    def said(self) -> str:
        """The parts that are learnt."""
        return "".join(self.text[start:end] for start, end in self.spans[-1 if self.only_last else 0 :])


def plain_text(template: str, conversation: Conversation) -> str:
    """The text of a conversation without any special token.

    Args:
        template: that fails on no conversation, such as ours.
        conversation: the turns.
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
    """From 1."""
    before: str
    """What the model is shown when it is to answer."""
    after: str
    """That with the answer."""


class Renderer:
    """A tokenizer's chat template at work.

    Args:
        tokenizer: the model's, with a template.
        special: any special token as it is spelt.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, special: re.Pattern[str]) -> None:
        self._tokenizer = tokenizer
        self._special = special
        self._end_of_turn = re.compile(rf"\s*({special.pattern})")

    def drafts(self, conversation: Conversation) -> list[Draft]:
        """What is learnt of a conversation.

        Returns:
            One text in which all answers are learnt; or, where the template writes an earlier turn in another way once
            the conversation goes on (Qwen3 takes out what was thought), a text for each answer: the conversation up to
            it, as the model is shown it when it is to say just this.

        Raises:
            ModelError: the template fails, leaves something out, or cannot say what the assistant's part is.
        """
        messages, tools = self._texts_of(conversation)
        template = self._template(tools)
        if _MARKS.search(template):
            text, spans = self._rendered(template, messages, tools, marks=True)
            drafts = [Draft(text, self._whole(text, spans))]
        else:
            text, _ = self._rendered(template, messages, tools)
            said = self._answers(template, messages, tools)
            if _is_kept(text, said):
                drafts = [Draft(text, self._spans(text, said))]
            else:
                drafts = [self._draft_of(said[: place + 1]) for place in range(len(said))]
        if any(draft.spans for draft in drafts):
            refuse_left_out(messages, tools, text, "".join(draft.said for draft in drafts))
        return drafts

    def prompt(self, conversation: Conversation) -> Draft:
        """A conversation as it stands before an answer of the assistant; its spans are those of training.

        Args:
            conversation: up to the answer.

        Raises:
            ModelError: the template fails or leaves something out.
        """
        messages, tools = self._texts_of(conversation)
        template = self._template(tools)
        if _MARKS.search(template):
            text, spans = self._rendered(template, messages, tools, answering=True, marks=True)
            draft = Draft(text, self._whole(text, spans))
        else:
            text, _ = self._rendered(template, messages, tools, answering=True)
            said = self._answers(template, messages, tools)
            draft = Draft(text, self._spans(text, said) if _is_kept(text, said) else [])
        if draft.spans:
            refuse_left_out(messages, tools, text, draft.said)
        return draft

    def _answers(self, template: str, messages: list[Message], tools: list[dict[str, Any]]) -> list[_Answer]:
        return [
            _Answer(
                place + 1,
                self._rendered(template, messages[:place], tools, answering=True)[0],
                self._rendered(template, messages[: place + 1], tools)[0],
            )
            for place in answered_at(messages)
        ]

    def _draft_of(self, said: Sequence[_Answer]) -> Draft:
        """The text up to the last of these answers."""
        *earlier, last = said
        if not last.after.startswith(last.before):
            raise ModelError(
                f"the chat template writes what stands before turn {last.turn} in another way once that turn is there, "
                "so what the assistant said cannot be told apart; put {% generation %} and {% endgeneration %} around "
                "what the assistant says in the base's chat template"
            )
        own = self._spans(last.after, [last])
        before = self._spans(last.after, earlier) if own and _is_kept(last.before, earlier) else []
        return Draft(last.after, [*before, *own], only_last=True)

    def _texts_of(self, conversation: Conversation) -> tuple[list[Message], list[dict[str, Any]]]:
        messages, tools = conversation.messages, conversation.tools
        # Only where a message spells a special token: what has been said is text, whatever it spells.
        if self._special.search(repr((messages, tools))):
            messages, tools = self._broken(messages), self._broken(tools)
        return messages, tools

    def _broken(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._special.sub(lambda found: found[0][0] + BREAK + found[0][1:], value)
        if isinstance(value, dict):
            # Roles are the template's words, not text.
            return {key: inner if key == "role" else self._broken(inner) for key, inner in value.items()}
        return [self._broken(inner) for inner in value] if isinstance(value, list) else value

    def _template(self, tools: list[dict[str, Any]]) -> str:
        try:
            return self._tokenizer.get_chat_template(tools=tools or None)
        except ValueError as error:
            raise ModelError(f"chat template: {type(error).__name__}: {first_line(error)}") from None

    def _rendered(
        self,
        template: str,
        messages: list[Message],
        tools: list[dict[str, Any]],
        *,
        answering: bool = False,
        marks: bool = False,
    ) -> tuple[str, list[tuple[int, int]]]:
        if "strftime_now" in template:
            template = _FIXED_DATE + template
        words: dict[str, Any] = dict(self._tokenizer.special_tokens_map)
        try:
            rendered, spans = render_jinja_template(  # pyright: ignore[reportAssignmentType]
                [messages],
                tools=tools or None,  # pyright: ignore[reportArgumentType]
                chat_template=template,
                return_assistant_tokens_mask=marks,
                add_generation_prompt=answering,
                **words,
            )
        except _FAILURES as error:
            raise ModelError(f"the chat template fails: {type(error).__name__}: {first_line(error)}") from None
        return rendered[0], spans[0] if spans else []  # pyright: ignore[reportReturnType]

    def _spans(self, text: str, said: Sequence[_Answer]) -> list[tuple[int, int]]:
        return self._whole(text, [(len(one.before), len(one.after)) for one in said])

    def _whole(self, text: str, spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
        return [self._to_the_end_of_turn(text, *span) for span in spans if span[0] < span[1]]

    def _to_the_end_of_turn(self, text: str, start: int, end: int) -> tuple[int, int]:
        """The span with its end-of-turn token, and nothing behind that."""
        said = text[start:end].rstrip()
        ends = [found.end() for found in self._special.finditer(said)]
        if ends and ends[-1] == len(said):
            return start, start + len(said)
        behind = self._end_of_turn.match(text, end)
        return (start, behind.end()) if behind else (start, end)


def raises_to_powers(template: str) -> bool:
    """Whether a single step of a template could take any time, during which Python hears no clock."""
    try:
        return any(kind == "operator" and value == "**" for _, kind, value in Environment().lex(template))
    except TemplateError:
        # Said where it is rendered.
        return False


def _is_kept(text: str, said: Sequence[_Answer]) -> bool:
    """Whether every answer stands in the text as it was said."""
    return all(text.startswith(one.after) and one.after.startswith(one.before) for one in said)
