"""Conversations as tokens, through the tokenizer's chat template: which of them the assistant has said, and no others.

A template comes with a model from somewhere. transformers renders it in jinja's sandbox; whatever it raises there is an
error of the template, said in a line. Today's date, which some templates ask for, is a fixed day: the same conversation
gives the same tokens tomorrow.
"""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase
from transformers.utils.chat_template_utils import render_jinja_template

from tuneline.errors import ModelError, TrainingError
from tuneline.training import texts
from tuneline.training.dialogues import Conversation, Message, is_said, refuse_left_out, shortened
from tuneline.training.examples import IGNORED, Example
from tuneline.training.lengths import truncate
from tuneline.training.pieces import BREAK, Piece, ids_of

PLAIN_TEMPLATE = (Path(__file__).parent / "templates/plain.jinja").read_text("utf-8")
"""The template of a base that has none."""

_MARKS = re.compile(r"\{%-?\s*generation\s*-?%\}")
_FIXED_DATE = "{%- macro strftime_now(format) -%}26 July 2024{%- endmacro -%}"
# What a hostile or broken template can raise; `raise_exception` in it is a TemplateError too.
_FAILURES = (
    TemplateError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
    ValueError,
)
_NAMED = 5


class ChatTemplate:
    """A tokenizer's chat template at work; a tokenizer without one gets ours, and keeps it when it is saved.

    Args:
        tokenizer: the model's tokenizer.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        if not tokenizer.chat_template:
            tokenizer.chat_template = PLAIN_TEMPLATE
        self._tokenizer = tokenizer
        self._special_tokens = texts.special_tokens(tokenizer)
        self._puts_blank_before = texts.puts_blank_before(tokenizer)
        self._special = re.compile("|".join(map(re.escape, self._special_tokens)) or "(?!)")
        self._end_of_turn = re.compile(rf"\s*({self._special.pattern})")

    @property
    def origin(self) -> str:
        """`own`, or `shipped` where the tokenizer had none."""
        return "shipped" if self._tokenizer.chat_template == PLAIN_TEMPLATE else "own"

    def end_of_turn(self) -> int | None:
        """The special token with which an answer ends; None where the template writes none."""
        messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
        [example] = self.encode([Conversation(messages, [])])
        last = [label for label in example.labels if label != IGNORED][-1]
        return last if self._special.fullmatch(str(self._tokenizer.convert_ids_to_tokens(last))) else None

    def encode(self, conversations: Sequence[Conversation]) -> list[Example]:
        """Every conversation as tokens, of which the assistant's turns, each with its end, are learnt.

        Raises:
            ModelError: the template refuses a conversation or cannot say what the assistant's part of it is.
            TrainingError: the template marks nothing as the assistant's.
        """
        examples = self._tokenised([self._pieces(one) for one in self._each(conversations, self._learnt)])
        empty = [one.source for one, example in zip(conversations, examples, strict=True) if _is_empty(one, example)]
        if empty:
            raise TrainingError(
                f"the chat template marks no token of {len(empty)} conversations as the assistant's: "
                f"{_listed(empty)}; put {{% generation %}} and {{% endgeneration %}} around what the assistant says in "
                "the base's chat template"
            )
        return [example._replace(source=one.source) for one, example in zip(conversations, examples, strict=True)]

    def prompts(self, conversations: Sequence[Conversation], room: int | None = None) -> list[list[int]]:
        """Every conversation as it stands before an answer of the assistant, exactly as in training.

        Args:
            conversations: up to the answer.
            room: tokens at most; where it does not suffice early turns are left out.

        Raises:
            ModelError: the template refuses a conversation.
        """
        drafts = self._each(conversations, lambda one: self._learnt(one, answering=True))
        made = [example.input_ids for example in self._tokenised([self._pieces(draft) for draft in drafts])]
        if room is None:
            return made

        def fits(shorter: Conversation) -> bool:
            return len(self.prompts([shorter])[0]) <= room

        for place, one in enumerate(conversations):
            if len(made[place]) > room:
                made[place] = self.prompts([shortened(one, fits)])[0][-room:]
        return made

    def shorten(self, conversation: Conversation, max_length: int) -> Example:
        """A conversation without its early turns, or the beginning of its question, as far as that is needed.

        The system's turns stay. Where the last answer is too long by itself, its end is cut off.
        """
        last = len(conversation.prompt.messages)
        whole = conversation._replace(messages=conversation.messages[: last + 1])
        shorter = shortened(whole, lambda one: len(self.encode([one])[0].input_ids) <= max_length)
        [example] = self.encode([shorter])
        kept = Example(example.input_ids[:max_length], example.labels[:max_length], example.source)
        return kept if any(label != IGNORED for label in kept.labels) else truncate(example, max_length)

    def _each(self, conversations: Sequence[Conversation], make: Callable[[Conversation], "_Draft"]) -> list["_Draft"]:
        """Every conversation rendered, or all that the template refuses named together."""
        made, problems = [], []
        for one in conversations:
            try:
                made.append(self._made(one, make))
            except ModelError as error:
                problems.append(f"{one.source}: {error}" if one.source else str(error))
        if problems:
            more = [f"and {len(problems) - _NAMED} more conversations"] if len(problems) > _NAMED else []
            raise ModelError(*problems[:_NAMED], *more)
        return made

    @staticmethod
    def _made(conversation: Conversation, make: Callable[[Conversation], "_Draft"]) -> "_Draft":
        try:
            return make(conversation)
        except ModelError:
            other = conversation.with_arguments_as_text()
            if other == conversation:
                raise
            # Some templates write a call's arguments out themselves, and want them as JSON text.
            try:
                return make(other)
            except ModelError:
                pass
            raise

    def _learnt(self, conversation: Conversation, *, answering: bool = False) -> "_Draft":
        """The text of a conversation, and where in it the assistant's part lies."""
        messages, tools = conversation.messages, conversation.tools
        # Only where a message spells a special token: what has been said is text, whatever it spells.
        if self._special.search(repr((messages, tools))):
            messages, tools = self._broken(messages), self._broken(tools)
        try:
            template = self._tokenizer.get_chat_template(tools=tools or None)
        except ValueError as error:
            raise ModelError(f"chat template: {_first_line(error)}") from None
        if _MARKS.search(template):
            text, spans = self._rendered(template, messages, tools, answering=answering, marks=True)
        else:
            text, _ = self._rendered(template, messages, tools, answering=answering)
            spans = [
                self._span(template, text, messages[: at + 1], tools)
                # What opens a conversation answers nothing.
                for at in range(1, len(messages))
                if is_said(messages[at])
            ]
        spans = [self._to_the_end_of_turn(text, *span) for span in spans if span[0] < span[1]]
        if spans:
            refuse_left_out(messages, tools, text, "".join(text[start:end] for start, end in spans))
        return _Draft(text, spans)

    def _span(self, template: str, text: str, messages: list[Message], tools: list[dict[str, Any]]) -> tuple[int, int]:
        """Where the last of `messages` lies in the text of the whole conversation."""
        before, _ = self._rendered(template, messages[:-1], tools, answering=True)
        after, _ = self._rendered(template, messages, tools)
        if not (text.startswith(after) and after.startswith(before)):
            raise ModelError(
                f"the chat template writes turn {len(messages)} in another way once the conversation goes on, so what "
                "the assistant said cannot be told apart; put {% generation %} and {% endgeneration %} around what "
                "the assistant says in the base's chat template, or give it conversations of one answer"
            )
        return len(before), len(after)

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
            raise ModelError(f"the chat template fails: {_first_line(error)}") from None
        return rendered[0], spans[0] if spans else []  # pyright: ignore[reportReturnType]

    def _to_the_end_of_turn(self, text: str, start: int, end: int) -> tuple[int, int]:
        """The span with its end-of-turn token, and nothing behind that."""
        said = text[start:end].rstrip()
        ends = [found.end() for found in self._special.finditer(said)]
        if ends and ends[-1] == len(said):
            return start, start + len(said)
        behind = self._end_of_turn.match(text, end)
        return (start, behind.end()) if behind else (start, end)

    def _broken(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._special.sub(lambda found: found[0][0] + BREAK + found[0][1:], value)
        if isinstance(value, dict):
            # Roles are the template's words, not text.
            return {key: inner if key == "role" else self._broken(inner) for key, inner in value.items()}
        return [self._broken(inner) for inner in value] if isinstance(value, list) else value

    def _pieces(self, draft: "_Draft") -> list[Piece]:
        """A text in pieces, each learnt as a whole or not at all, with the special token that stands before it."""
        pieces, done = [], 0
        for start, end in [*draft.spans, (len(draft.text), len(draft.text))]:
            for begin, stop, is_learnt in ((done, start, False), (start, end, True)):
                if begin < stop:
                    pieces.append(
                        Piece(draft.text[begin:stop], is_learnt, self._special_before(draft.text, begin), begin > 0)
                    )
                    done = stop
        return pieces

    def _special_before(self, text: str, place: int) -> str:
        if not self._puts_blank_before:
            return ""
        return next((token for token in self._special_tokens if text.endswith(token, 0, place)), "")

    def _tokenised(self, conversations: list[list[Piece]]) -> list[Example]:
        made = iter(ids_of(self._tokenizer, [piece for one in conversations for piece in one], self._special))
        examples = []
        for one in conversations:
            example = Example([], [])
            for piece in one:
                ids = next(made)
                example.input_ids.extend(ids)
                example.labels.extend(ids if piece.is_learnt else [IGNORED] * len(ids))
            if example.labels:
                example.labels[0] = IGNORED
            examples.append(example)
        return examples


class _Draft(NamedTuple):
    text: str
    spans: list[tuple[int, int]]
    """Start and end of each part that is learnt, in order."""


def _is_empty(conversation: Conversation, example: Example) -> bool:
    learns = any(label != IGNORED for label in example.labels)
    return not learns and any(is_said(message) for message in conversation.messages[1:])


def _listed(sources: Sequence[str]) -> str:
    named = [source for source in sources if source][:_NAMED]
    return ", ".join([*named, *(["…"] if len(sources) > len(named) else [])])


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    kind = type(error).__name__
    return f"{kind}: {lines[0]}" if lines else kind
