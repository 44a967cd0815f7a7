"""Conversations as token ids, by the tokenizer's chat template. Only the assistant's turns are supervised."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from transformers import PreTrainedTokenizerBase

from tuneline.core import limits
from tuneline.encoding import token_ids
from tuneline.encoding.chat.conversation import Conversation, answer_indices, has_question, last_exchange, shorten
from tuneline.encoding.chat.render import Rendered, Renderer, uses_powers
from tuneline.encoding.examples import IGNORED, Example
from tuneline.encoding.token_ids import LossSpan, span_ids
from tuneline.errors import ModelError, TrainingError

PLAIN_TEMPLATE = (Path(__file__).parent / "plain.jinja").read_text("utf-8")
"""The template for a base without a chat template."""

_NAMED = 5
# Limits for one conversation. Ordinary templates take milliseconds and megabytes.
_SECONDS = 20
_MEMORY = 1 << 30
_OTHER_TEMPLATE = "use another base, or put another chat template into its folder"
# For a template in a single call that never returns, such as a product of numbers with millions of digits.
_LAST_SECONDS = 2 * _SECONDS
_NEVER_ENDS = (
    f"the chat template did not finish a conversation in {_LAST_SECONDS} s, and only the end of this process stops it; "
    f"{_OTHER_TEMPLATE}"
)
_Result = TypeVar("_Result")


class ChatTemplate:
    """Encodes conversations by a tokenizer's chat template. A tokenizer without a template gets PLAIN_TEMPLATE.

    Args:
        tokenizer: the model's tokenizer.

    Raises:
        ModelError: the template uses an operator that can take any time.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        if not tokenizer.chat_template:
            tokenizer.chat_template = PLAIN_TEMPLATE
        own: Any = tokenizer.chat_template
        if any(map(uses_powers, own.values() if isinstance(own, dict) else [own])):
            raise ModelError(
                "the chat template uses the operator **, whose numbers can keep a processor busy for days; "
                f"{_OTHER_TEMPLATE}"
            )
        self._tokenizer = tokenizer
        self._special_tokens = token_ids.special_tokens(tokenizer)
        self._adds_leading_space = token_ids.adds_leading_space(tokenizer)
        self._special = re.compile("|".join(map(re.escape, self._special_tokens)) or "(?!)")
        self._renderer = Renderer(tokenizer, self._special)

    @property
    def origin(self) -> str:
        """`own`, or `shipped` for PLAIN_TEMPLATE."""
        return "shipped" if self._tokenizer.chat_template == PLAIN_TEMPLATE else "own"

    def end_of_turn(self) -> int | None:
        """The special token that ends an answer; None if the template writes none."""
        messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
        [[example]] = self.encode([Conversation(messages, [])])
        last = [label for label in example.labels if label != IGNORED][-1]
        return last if self._special.fullmatch(str(self._tokenizer.convert_ids_to_tokens(last))) else None

    def encode(self, conversations: Sequence[Conversation]) -> list[list[Example]]:
        """The examples of each conversation; the assistant's turns, each with its end token, are supervised.

        Returns:
            One example per conversation. If the template changes earlier turns when the conversation goes on, one
            example per answer: the prompt of that answer, with the answer, which alone is supervised.

        Raises:
            ModelError: the template refuses a conversation or does not show which part is the assistant's.
            TrainingError: the template marks no token as the assistant's.
        """
        rendered = self._each(conversations, self._renderer.render)
        examples = iter(self._encode_rendered([text for texts in rendered for text in texts]))
        found = [
            [next(examples)._replace(source=conversation.source) for _ in texts]
            for conversation, texts in zip(conversations, rendered, strict=True)
        ]
        empty = [one.source for one, own in zip(conversations, found, strict=True) if _lacks_supervision(one, own)]
        if empty:
            raise TrainingError(
                f"the chat template marks no token of {len(empty)} conversations as the assistant's: "
                f"{_listed(empty)}; put {{% generation %}} and {{% endgeneration %}} around what the assistant says in "
                "the base's chat template"
            )
        return found

    def prompts(self, conversations: Sequence[Conversation], room: int | None = None) -> list[list[int]]:
        """The token ids of each conversation as the prompt of the next answer, exactly as in training.

        Args:
            conversations: the messages before the answer.
            room: tokens; a longer prompt loses early turns. None: no limit.

        Raises:
            ModelError: the template refuses a conversation.
        """
        rendered = self._each(conversations, self._renderer.render_prompt)
        found = [example.input_ids for example in self._encode_rendered(rendered)]
        if room is None:
            return found

        def fits(shorter: Conversation) -> bool:
            return len(self.prompts([shorter])[0]) <= room

        for index, conversation in enumerate(conversations):
            if len(found[index]) > room:
                found[index] = self.prompts([shorten(conversation, fits)])[0][-room:]
        return found

    def shorten(self, conversation: Conversation, max_length: int, *, only_last: bool = False) -> Example | None:
        """The example of a conversation without early turns and, if necessary, without the beginning of its question.

        The system's turns stay. If both question and answer are too long, the question gets half of the tokens, and the
        end of the answer is cut off.

        Args:
            conversation: of any length.
            max_length: tokens of the example.
            only_last: whether only the last answer is supervised; by default all that stay are.

        Returns:
            The example. None if the system's turns and the tools' results leave less than an eighth of `max_length`.
        """
        last = len(conversation.prompt.messages)
        complete = conversation._replace(messages=conversation.messages[: last + 1])

        def encode(shorter: Conversation) -> Example:
            [texts] = self._each([shorter], self._renderer.render)
            text = texts[-1]._replace(only_last=only_last or texts[-1].only_last)
            return self._encode_rendered([text])[0]._replace(source=shorter.source)

        def fits(shorter: Conversation) -> bool:
            return len(encode(shorter).input_ids) <= max_length

        def fits_alone(shorter: Conversation) -> bool:
            example = encode(shorter)
            before, half = _prompt_length(example), room // 2
            is_long_answer = len(example.input_ids) - before > room - half
            return len(example.input_ids) <= max_length or (is_long_answer and before <= taken + half)

        taken = _prompt_length(encode(last_exchange(complete, 0)))
        room = max_length - taken
        kept = shorten(complete, fits, fits_alone)
        example = encode(kept)
        is_cut = len(example.input_ids) > max_length
        if (is_cut and room < max(max_length // 8, 2)) or (has_question(complete) and not has_question(kept)):
            return None
        example = Example(example.input_ids[:max_length], example.labels[:max_length], example.source)
        return example if any(label != IGNORED for label in example.labels) else None

    def _each(self, conversations: Sequence[Conversation], render: Callable[[Conversation], _Result]) -> list[_Result]:
        """Every conversation rendered, within the limits; one error names all conversations that are refused."""
        found, problems = [], []
        with limits.exit_after(_LAST_SECONDS, _NEVER_ENDS) as restart:
            for conversation in conversations:
                restart()
                where = f"{conversation.source}: " if conversation.source else ""
                try:
                    with limits.within(_SECONDS, _MEMORY):
                        found.append(self._render(conversation, render))
                except TimeoutError:
                    # The other conversations would take as long.
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
        return found

    @staticmethod
    def _render(conversation: Conversation, render: Callable[[Conversation], _Result]) -> _Result:
        try:
            return render(conversation)
        except ModelError:
            other = conversation.with_arguments_as_text()
            if other == conversation:
                raise
            # Some templates expect the arguments of a call as JSON text.
            try:
                return render(other)
            except ModelError:
                pass
            raise

    def _loss_spans(self, rendered: Rendered) -> list[LossSpan]:
        """The text in spans that are supervised or not, in order."""
        found, done = [], 0
        supervised = rendered.spans[-1:] if rendered.only_last else rendered.spans
        for start, end in [*rendered.spans, (len(rendered.text), len(rendered.text))]:
            for begin, stop, is_supervised in ((done, start, False), (start, end, (start, end) in supervised)):
                if begin < stop:
                    before = self._special_before(rendered.text, begin)
                    found.append(LossSpan(rendered.text[begin:stop], is_supervised, before, begin > 0))
                    done = stop
        return found

    def _special_before(self, text: str, end: int) -> str:
        if not self._adds_leading_space:
            return ""
        return next((token for token in self._special_tokens if text.endswith(token, 0, end)), "")

    def _encode_rendered(self, texts: Sequence[Rendered]) -> list[Example]:
        spans_of_texts = [self._loss_spans(rendered) for rendered in texts]
        ids_of_spans = iter(
            span_ids(self._tokenizer, [span for spans in spans_of_texts for span in spans], self._special)
        )
        examples = []
        for spans in spans_of_texts:
            example = Example([], [])
            for span in spans:
                ids = next(ids_of_spans)
                example.input_ids.extend(ids)
                example.labels.extend(ids if span.is_supervised else [IGNORED] * len(ids))
            if example.labels:
                example.labels[0] = IGNORED
            examples.append(example)
        return examples


def _prompt_length(example: Example) -> int:
    """Tokens before the first supervised token."""
    return next((index for index, label in enumerate(example.labels) if label != IGNORED), len(example.labels))


def _lacks_supervision(conversation: Conversation, examples: Sequence[Example]) -> bool:
    """Whether no answer of a conversation with answers is supervised."""
    is_supervised = any(label != IGNORED for example in examples for label in example.labels)
    return not is_supervised and bool(answer_indices(conversation.messages))


def _listed(sources: Sequence[str]) -> str:
    named = [source for source in sources if source][:_NAMED]
    return ", ".join([*named, *(["…"] if len(sources) > len(named) else [])])
