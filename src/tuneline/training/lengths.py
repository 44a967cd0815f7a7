"""What happens to rows that are longer than a model is shown, and the account of it: nothing is cut in silence."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tuneline.errors import TrainingError
from tuneline.training.examples import IGNORED, Example, Examples, Labelled, Preference, Row

Overlong = Literal["error", "drop", "truncate", "split"]

_NAMED = 5
"""Rows that a message names."""
_NAMED_IN_ACCOUNT = 20


@dataclass(frozen=True)
class Account:
    """What became of the rows of a split: `rows` equals what is trained plus what was dropped, each counted once."""

    rows: int
    examples: int
    """What is trained; more than the rows that stay where some are split."""
    rows_truncated: int
    """Cut to `max_length`; of a pair the prompt's beginning first, of a conversation its early turns."""
    rows_split: int
    """Continued in further examples."""
    conversations_split_by_answer: int
    """One example an answer: the chat template writes earlier turns in another way once the conversation goes on."""
    rows_dropped: int
    """Too long under `overlong: drop`, or with nothing to learn."""
    rows_without_label: int
    """The dropped ones that had nothing to learn."""
    tokens: int
    supervised_tokens: int
    """Tokens that are learnt; of labelled texts the texts, each with one target; of preferences the answers' tokens."""
    tokens_left_out: int
    """Of dropped and truncated rows."""
    truncated: tuple[str, ...] = ()
    """Where the first of these rows stand in the raw set."""
    dropped: tuple[str, ...] = ()
    without_label: tuple[str, ...] = ()
    chat_template: str | None = None
    """Of conversations: `own`, the tokenizer's; `shipped`, ours, where it has none."""

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "Account":
        """The account whose fields, by their names, have been through JSON."""
        fields: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
        }
        return cls(**fields)

    def as_dict(self) -> dict[str, Any]:
        """The counts by name; rows are named, and a template is, only where there is something to name."""
        counts: dict[str, Any] = {name: value for name, value in vars(self).items() if isinstance(value, int)}
        counts |= {f"{name}_rows": list(sources) for name, sources in self._named() if sources}
        return counts | ({"chat_template": self.chat_template} if self.chat_template else {})

    def _named(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        return ("truncated", self.truncated), ("dropped", self.dropped), ("without_label", self.without_label)


class Fitting:
    """Brings rows to at most `max_length` tokens, one after the other, and counts what that takes.

    Args:
        max_length: tokens in a row.
        overlong: what happens to a longer one.
        max_dropped_fraction: of the rows; more is an error.
    """

    def __init__(self, max_length: int, overlong: Overlong, max_dropped_fraction: float) -> None:
        self._max_length, self._overlong, self._max_dropped_fraction = max_length, overlong, max_dropped_fraction
        self.rows = 0
        """That were taken."""
        self._tokens_before = self._tokens = self._supervised = 0
        self._longer: list[tuple[str, int]] = []
        self._too_long = self._unsplittable = self._examples = self._by_answer = 0
        self._counts = {"truncated": 0, "split": 0, "dropped": 0, "without_label": 0}
        self._sources: dict[str, list[str]] = {name: [] for name in self._counts}

    def take(self, examples: Sequence[Row], shorten: Callable[[int, int], Row] | None = None) -> list[Row]:
        """What is trained of a row.

        Args:
            examples: of any length; more than one of a conversation that is split by answer. If one is too long, the
                whole row counts as too long.
            shorten: under `truncate` makes one of them, by its number, again with at most so many tokens; by default
                its tokens are cut.

        Returns:
            As many, none, or under `split` more.
        """
        self.rows += 1
        self._tokens_before += sum(map(length, examples))
        pieces = list(examples)
        if max(map(length, examples)) > self._max_length:
            pieces = self._fitted(examples, shorten)
            if not pieces:
                return []
        kept = [piece for piece in pieces if learnable(piece)]
        if not kept:
            self._count("without_label", examples[0].source)
        self._examples += len(kept)
        self._by_answer += len(examples) > 1 and bool(kept)
        self._tokens += sum(map(length, kept))
        self._supervised += sum(map(learnable, kept))
        return kept

    def _fitted(self, examples: Sequence[Row], shorten: Callable[[int, int], Row] | None) -> list[Row]:
        row, limit = examples[0], self._max_length
        if self._overlong == "error":
            self._too_long += 1
            if len(self._longer) < _NAMED:
                self._longer.append((row.source or f"row {self.rows}", max(map(length, examples))))
            return []
        if self._overlong == "drop":
            self._count("dropped", row.source)
            return []
        if self._overlong == "split":
            if not isinstance(row, Example) or len(examples) > 1 or row.labels[1] == IGNORED:
                self._unsplittable += 1
                return []
            self._count("split", row.source)
            return _split(row, limit)  # pyright: ignore[reportReturnType]
        self._count("truncated", row.source)
        return [
            one if length(one) <= limit else shorten(number, limit) if shorten else truncate(one, limit)
            for number, one in enumerate(examples)
        ]

    def _count(self, what: str, source: str) -> None:
        self._counts[what] += 1
        if len(self._sources[what]) < _NAMED_IN_ACCOUNT:
            self._sources[what].append(source or f"row {self.rows}")

    def account(self, chat_template: str | None = None) -> Account:
        """What became of all rows that were taken.

        Args:
            chat_template: of conversations, whose template it is.

        Raises:
            TrainingError: a row is too long under `error`, cannot be split under `split`, or too many are dropped.
        """
        if self._too_long:
            named = ", ".join(f"{source} ({tokens} tokens)" for source, tokens in self._longer)
            raise TrainingError(
                f"finetune.overlong: {self._too_long} of {self.rows} rows are longer than max_length "
                f"{self._max_length}: {named}{', …' if self._too_long > len(self._longer) else ''}; "
                "raise max_length, or set overlong to truncate or drop"
            )
        if self._unsplittable:
            raise TrainingError(
                "finetune.overlong: only plain text can be split, and not a pair of prompt and completion, a "
                "conversation, a labelled text or a preference; set it to truncate, drop or error"
            )
        counts = self._counts
        without_label = counts["without_label"]
        dropped = counts["dropped"] + without_label
        if dropped > self._max_dropped_fraction * self.rows:
            sources = (self._sources["without_label"] + self._sources["dropped"])[:_NAMED]
            raise TrainingError(
                f"{dropped} of {self.rows} rows are dropped ({without_label} with nothing to learn, "
                f"{counts['dropped']} longer than max_length {self._max_length}), more than "
                f"finetune.max_dropped_fraction {self._max_dropped_fraction:g} allows: {', '.join(sources)}"
                f"{', …' if dropped > len(sources) else ''}; raise max_length or mend the data"
            )
        return Account(
            rows=self.rows,
            examples=self._examples,
            rows_truncated=counts["truncated"],
            rows_split=counts["split"],
            conversations_split_by_answer=self._by_answer,
            rows_dropped=dropped,
            rows_without_label=without_label,
            tokens=self._tokens,
            supervised_tokens=self._supervised,
            tokens_left_out=self._tokens_before - self._tokens,
            truncated=tuple(self._sources["truncated"]),
            dropped=tuple(self._sources["dropped"]),
            without_label=tuple(self._sources["without_label"]),
            chat_template=chat_template,
        )


def fit(
    examples: Iterable[Example], max_length: int, overlong: Overlong, max_dropped_fraction: float
) -> tuple[Examples, Account]:
    """Bring every example to at most `max_length` tokens, and count what that took.

    Args:
        examples: of any length.
        max_length: tokens in a row.
        overlong: what happens to a longer one.
        max_dropped_fraction: of the rows; more is an error.

    Returns:
        Examples that have something to learn, in their order, and the account.

    Raises:
        TrainingError: an example is too long under `error`, or too many are dropped.
    """
    fitting = Fitting(max_length, overlong, max_dropped_fraction)
    kept = Examples()
    for example in examples:
        kept.extend(fitting.take([example]))
    return kept, fitting.account()


def length(row: Row) -> int:
    """Tokens of a row; of a preference, of its prompt with the longer answer."""
    if isinstance(row, Preference):
        return len(row.prompt_ids) + max(len(row.chosen_ids), len(row.rejected_ids))
    return len(row.input_ids)


def learnable(row: Row) -> int:
    """How much there is to learn: tokens of an example or of two answers that differ, one of a labelled text."""
    if isinstance(row, Preference):
        differ = row.prompt_ids and row.chosen_ids != row.rejected_ids
        return len(row.chosen_ids) + len(row.rejected_ids) if differ else 0
    if isinstance(row, Labelled):
        return int(bool(row.input_ids))
    return sum(label != IGNORED for label in row.labels)


def truncate(row: Row, max_length: int) -> Row:
    """Cut the beginning of what is not learnt, and only where that does not suffice the end of what is."""
    if isinstance(row, Labelled):
        return row._replace(input_ids=row.input_ids[:max_length])
    if isinstance(row, Preference):
        cut = max(0, min(length(row) - max_length, len(row.prompt_ids) - 1))
        prompt = row.prompt_ids[cut:]
        room = max(0, max_length - len(prompt))
        return Preference(prompt, row.chosen_ids[:room], row.rejected_ids[:room], row.source)
    ids, labels, source = row
    unlearnt = next((index for index, label in enumerate(labels) if label != IGNORED), len(labels))
    # One token must stay before the first that is learnt.
    cut = max(0, min(len(ids) - max_length, unlearnt - 1))
    return Example(ids[cut : cut + max_length], labels[cut : cut + max_length], source)


def _split(example: Example, max_length: int) -> list[Example]:
    ids, labels, source = example
    pieces = []
    for start in range(0, len(ids), max_length):
        part = slice(start, start + max_length)
        pieces.append(Example(ids[part], [IGNORED, *labels[part][1:]], source))
    return pieces
