"""Conversations as tokens, through the tokenizer's chat template: what the assistant has said is learnt, no more."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from transformers import PreTrainedTokenizerBase

from tuneline.core import limits
from tuneline.encoding import token_ids
from tuneline.encoding.chat.conversation import Conversation, answered_at, is_asked, last_exchange, shortened
from tuneline.encoding.chat.render import Draft, Renderer, raises_to_powers
from tuneline.encoding.examples import IGNORED, Example
from tuneline.encoding.token_ids import LossSpan, span_ids
from tuneline.errors import ModelError, TrainingError

PLAIN_TEMPLATE = (Path(__file__).parent / "plain.jinja").read_text("utf-8")
"""The template of a base that has none."""

_NAMED = 5
# For one conversation; with ordinary templates it is milliseconds and megabytes.
_SECONDS = 20
_MEMORY = 1 << 30
_OTHER_TEMPLATE = "use another base, or put another chat template into its folder"
# Where the template is in a single call that never comes back, such as the product of numbers with millions of digits.
_LAST_SECONDS = 2 * _SECONDS
_NEVER_ENDS = (
    f"the chat template has not written a conversation after {_LAST_SECONDS} s, and cannot be stopped in any other way "
    f"than this; {_OTHER_TEMPLATE}"
)
_Made = TypeVar("_Made")


class ChatTemplate:
    """A tokenizer's chat template at work; a tokenizer without one gets ours, and keeps it when it is saved.

    Args:
        tokenizer: the model's tokenizer.

    Raises:
        ModelError: the template computes what may take any time.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        if not tokenizer.chat_template:
            tokenizer.chat_template = PLAIN_TEMPLATE
        own: Any = tokenizer.chat_template
        if any(map(raises_to_powers, own.values() if isinstance(own, dict) else [own])):
            raise ModelError(
                "the chat template uses the operator **, whose numbers can keep a processor busy for days; "
                f"{_OTHER_TEMPLATE}"
            )
        self._tokenizer = tokenizer
        self._special_tokens = token_ids.special_tokens(tokenizer)
        self._puts_blank_before = token_ids.adds_leading_space(tokenizer)
        self._special = re.compile("|".join(map(re.escape, self._special_tokens)) or "(?!)")
        self._renderer = Renderer(tokenizer, self._special)

    @property
    def origin(self) -> str:
        """`own`, or `shipped` where the tokenizer had none."""
        return "shipped" if self._tokenizer.chat_template == PLAIN_TEMPLATE else "own"

    def end_of_turn(self) -> int | None:
        """The special token with which an answer ends; None where the template writes none."""
        messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
        [[example]] = self.encode([Conversation(messages, [])])
        last = [label for label in example.labels if label != IGNORED][-1]
        return last if self._special.fullmatch(str(self._tokenizer.convert_ids_to_tokens(last))) else None

    def encode(self, conversations: Sequence[Conversation]) -> list[list[Example]]:
        """Every conversation as tokens, of which the assistant's turns, each with its end, are learnt.

        Returns:
            Of each conversation one example; or, where the template writes earlier turns in another way once the
            conversation goes on, one for each answer: all before it as the model is shown it then, and only it is
            learnt.

        Raises:
            ModelError: the template refuses a conversation or cannot say what the assistant's part of it is.
            TrainingError: the template marks nothing as the assistant's.
        """
        drafts = self._each(conversations, self._renderer.drafts)
        made = iter(self._tokenised([draft for of_one in drafts for draft in of_one]))
        examples = [
            [next(made)._replace(source=one.source) for _ in of_one]
            for one, of_one in zip(conversations, drafts, strict=True)
        ]
        empty = [one.source for one, own in zip(conversations, examples, strict=True) if _is_empty(one, own)]
        if empty:
            raise TrainingError(
                f"the chat template marks no token of {len(empty)} conversations as the assistant's: "
                f"{_listed(empty)}; put {{% generation %}} and {{% endgeneration %}} around what the assistant says in "
                "the base's chat template"
            )
        return examples

    def prompts(self, conversations: Sequence[Conversation], room: int | None = None) -> list[list[int]]:
        """Every conversation as it stands before an answer of the assistant, exactly as in training.

        Args:
            conversations: up to the answer.
            room: tokens at most; where it does not suffice early turns are left out.

        Raises:
            ModelError: the template refuses a conversation.
        """
        drafts = self._each(conversations, self._renderer.prompt)
        made = [example.input_ids for example in self._tokenised(drafts)]
        if room is None:
            return made

        def fits(shorter: Conversation) -> bool:
            return len(self.prompts([shorter])[0]) <= room

        for place, one in enumerate(conversations):
            if len(made[place]) > room:
                made[place] = self.prompts([shortened(one, fits)])[0][-room:]
        return made

    def shorten(self, conversation: Conversation, max_length: int, *, only_last: bool = False) -> Example | None:
        """A conversation without its early turns, or the beginning of its question, as far as that is needed.

        The system's turns stay. Of a question and an answer that are both too long, the question keeps half of the
        room, and the end of the answer is cut off.

        Args:
            conversation: of any length.
            max_length: tokens at most.
            only_last: whether only the last answer is learnt, or all that stay.

        Returns:
            The example, or None where question and answer do not fit and the system's turns, with the tools' after the
            question, leave them less than an eighth of `max_length`.
        """
        last = len(conversation.prompt.messages)
        whole = conversation._replace(messages=conversation.messages[: last + 1])

        def made(one: Conversation) -> Example:
            [drafts] = self._each([one], self._renderer.drafts)
            draft = drafts[-1]._replace(only_last=only_last or drafts[-1].only_last)
            return self._tokenised([draft])[0]._replace(source=one.source)

        def fits(one: Conversation) -> bool:
            return len(made(one).input_ids) <= max_length

        def fits_alone(one: Conversation) -> bool:
            example = made(one)
            before, half = _unlearnt(example), room // 2
            is_long_answer = len(example.input_ids) - before > room - half
            return len(example.input_ids) <= max_length or (is_long_answer and before <= taken + half)

        taken = _unlearnt(made(last_exchange(whole, 0)))
        room = max_length - taken
        kept = shortened(whole, fits, fits_alone)
        example = made(kept)
        is_cut = len(example.input_ids) > max_length
        if (is_cut and room < max(max_length // 8, 2)) or (is_asked(whole) and not is_asked(kept)):
            return None
        example = Example(example.input_ids[:max_length], example.labels[:max_length], example.source)
        return example if any(label != IGNORED for label in example.labels) else None

    def _each(self, conversations: Sequence[Conversation], make: Callable[[Conversation], _Made]) -> list[_Made]:
        """Every conversation rendered, or all that the template refuses named together."""
        made, problems = [], []
        with limits.exit_after(_LAST_SECONDS, _NEVER_ENDS) as again:
            for one in conversations:
                again()
                where = f"{one.source}: " if one.source else ""
                try:
                    with limits.within(_SECONDS, _MEMORY):
                        made.append(self._made(one, make))
                except TimeoutError:
                    # No other conversation is tried: each would take as long.
                    raise ModelError(
                        f"{where}the chat template has not written this conversation after {_SECONDS} s: it may never "
                        f"end; {_OTHER_TEMPLATE}"
                    ) from None
                except MemoryError:
                    raise ModelError(
                        f"{where}the chat template needs more than {_MEMORY >> 30} GB of memory for this conversation; "
                        f"{_OTHER_TEMPLATE}"
                    ) from None
                except ModelError as error:
                    problems.append(f"{where}{error}")
        if problems:
            more = [f"and {len(problems) - _NAMED} more conversations"] if len(problems) > _NAMED else []
            raise ModelError(*problems[:_NAMED], *more)
        return made

    @staticmethod
    def _made(conversation: Conversation, make: Callable[[Conversation], _Made]) -> _Made:
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

    def _pieces(self, draft: Draft) -> list[LossSpan]:
        """A text in pieces, each learnt as a whole or not at all, with the special token that stands before it."""
        pieces, done = [], 0
        learnt = draft.spans[-1:] if draft.only_last else draft.spans
        for start, end in [*draft.spans, (len(draft.text), len(draft.text))]:
            for begin, stop, is_learnt in ((done, start, False), (start, end, (start, end) in learnt)):
                if begin < stop:
                    pieces.append(
                        LossSpan(draft.text[begin:stop], is_learnt, self._special_before(draft.text, begin), begin > 0)
                    )
                    done = stop
        return pieces

    def _special_before(self, text: str, place: int) -> str:
        if not self._puts_blank_before:
            return ""
        return next((token for token in self._special_tokens if text.endswith(token, 0, place)), "")

    def _tokenised(self, drafts: Sequence[Draft]) -> list[Example]:
        whole = [self._pieces(draft) for draft in drafts]
        made = iter(span_ids(self._tokenizer, [piece for one in whole for piece in one], self._special))
        examples = []
        for one in whole:
            example = Example([], [])
            for piece in one:
                ids = next(made)
                example.input_ids.extend(ids)
                example.labels.extend(ids if piece.is_learnt else [IGNORED] * len(ids))
            if example.labels:
                example.labels[0] = IGNORED
            examples.append(example)
        return examples


def _unlearnt(example: Example) -> int:
    """Tokens before the first that is learnt."""
    return next((at for at, label in enumerate(example.labels) if label != IGNORED), len(example.labels))


def _is_empty(conversation: Conversation, examples: Sequence[Example]) -> bool:
    learns = any(label != IGNORED for example in examples for label in example.labels)
    return not learns and bool(answered_at(conversation.messages))


def _listed(sources: Sequence[str]) -> str:
    named = [source for source in sources if source][:_NAMED]
    return ", ".join([*named, *(["…"] if len(sources) > len(named) else [])])
