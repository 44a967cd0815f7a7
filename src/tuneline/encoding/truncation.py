"""What happens to rows that are longer than a model is shown, and the account of it: nothing is cut in silence."""

from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from tuneline.encoding.examples import IGNORED, Example, Labelled, Preference, Row
from tuneline.errors import TrainingError

Overlong = Literal["error", "drop", "truncate", "split"]

_NAMED = 5
"""Rows that a message names."""
_NAMED_IN_ACCOUNT = 20
_ENOUGH_TO_TELL = 8
"""Last tokens by which two ends are told apart."""
_WHOLE = 1 << 32
_STEPS = ((1024, 64), (4096, 256), (1 << 20, 1024))
"""Lengths that are tried as a better `max_length`: up to the first number multiples of the second."""


@dataclass(frozen=True)
class EncodingReport:
    """What became of the rows of a split: `rows` equals what is trained plus what was dropped, each counted once."""

    rows: int
    examples: int
    """What is trained; more than the rows that stay where some are split."""
    rows_truncated: int
    """Cut to `max_length`; of a pair the prompt's beginning first, of a conversation its early turns."""
    rows_without_end: int
    """The truncated ones whose last answer (or text) loses its end."""
    answers_left_out: int
    """Whole answers in the turns that truncated conversations lose."""
    rows_split: int
    """Continued in further examples."""
    conversations_split_by_answer: int
    """One example an answer: the chat template writes earlier turns in another way once the conversation goes on."""
    rows_dropped: int
    """Too long under `overlong: drop`, with nothing to learn, or with no room for their question."""
    rows_without_label: int
    """The dropped ones that had nothing to learn."""
    rows_without_prompt: int
    """The dropped ones of which `truncate` would leave an answer without its question."""
    tokens: int
    supervised_tokens: int
    """Tokens that are learnt; of labelled texts the texts, each with one target; of preferences the answers' tokens."""
    tokens_left_out: int
    """Of dropped and truncated rows."""
    supervised_tokens_left_out: int
    """Those of truncated rows that would have been learnt."""
    truncated: tuple[str, ...] = ()
    """Where the first of these rows stand in the raw set."""
    dropped: tuple[str, ...] = ()
    without_label: tuple[str, ...] = ()
    without_prompt: tuple[str, ...] = ()
    at_length: tuple[tuple[int, int, int], ...] = ()
    """Larger values of `max_length`, ascending; with each the rows that it would truncate, and the tokens to be learnt
    that it would leave out at most."""
    chat_template: str | None = None
    """Of conversations: `own`, the tokenizer's; `shipped`, ours, where it has none."""

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "EncodingReport":
        """The account whose fields, by their names, have been through JSON."""
        fields: dict[str, Any] = {
            name: tuple(tuple(one) if isinstance(one, list) else one for one in value)
            if isinstance(value, list)
            else value
            for name, value in values.items()
        }
        return cls(**fields)

    def as_dict(self) -> dict[str, Any]:
        """The counts by name; rows are named, and a template is, only where there is something to name."""
        counts: dict[str, Any] = {name: value for name, value in vars(self).items() if isinstance(value, int)}
        counts |= {f"{name}_rows": list(sources) for name, sources in self._named() if sources}
        return counts | ({"chat_template": self.chat_template} if self.chat_template else {})

    def _named(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        names = ("truncated", "dropped", "without_label", "without_prompt")
        return tuple((name, getattr(self, name)) for name in names)

    @property
    def truncated_fraction(self) -> float:
        """The share of the rows that are truncated, or of the tokens to be learnt that they lose, if that is larger."""
        return max(*self._fractions(self.rows_truncated, self.supervised_tokens_left_out))

    def enough(self, allowed: float) -> tuple[int, float] | None:
        """The smallest `max_length` known to truncate no more than is allowed, and the share of rows that it truncates.

        Args:
            allowed: share of the rows, and of the tokens to be learnt.
        """
        for length_, rows, learnt in self.at_length:
            if max(*self._fractions(rows, learnt)) <= allowed:
                return length_, rows / self.rows
        return None

    def truncated_at(self, max_length: int) -> float:
        """The share of rows that another `max_length`, a larger one, would truncate at most."""
        rows = [rows for length_, rows, _ in self.at_length if length_ <= max_length]
        return rows[-1] / self.rows if rows else self.rows_truncated / max(self.rows, 1)

    def _fractions(self, rows: int, learnt: int) -> tuple[float, float]:
        return rows / max(self.rows, 1), learnt / max(self.supervised_tokens + self.supervised_tokens_left_out, 1)

    def describe_truncated(self, max_length: int) -> list[str]:
        """What is cut, for a person; nothing where nothing is.

        Args:
            max_length: to which the rows were brought.
        """
        lines = []
        if self.rows_truncated:
            rows, learnt = self._fractions(self.rows_truncated, self.supervised_tokens_left_out)
            lost = [f"{learnt:.1%} of the tokens to be learnt"] if self.supervised_tokens_left_out else []
            lost += [f"{self.answers_left_out:,} answers in early turns"] if self.answers_left_out else []
            lost += [f"the end of {_counted(self.rows_without_end)}"] if self.rows_without_end else []
            without = f", without {', '.join(lost)}" if lost else ""
            lines.append(
                f"{self.rows_truncated:,} of {self.rows:,} rows ({rows:.1%}) are longer than {max_length} tokens and "
                f"are cut to that length{without}"
            )
        if self.rows_without_prompt:
            lines.append(
                f"{self.rows_without_prompt:,} of {self.rows:,} rows are dropped: in {max_length} tokens there is no "
                "room for their question beside the system's turn or what the tools returned"
            )
        return lines


class LengthPolicy:
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
        self._counts = {"truncated": 0, "split": 0, "dropped": 0, "without_label": 0, "without_prompt": 0}
        self._without_end = self._answers_left_out = self._supervised_left_out = 0
        # Of rows that are too long: the tokens, those to be learnt, and how many of these each token too many costs.
        self._long_lengths, self._long_learnable, self._long_cost = array("q"), array("q"), array("q")
        self._sources: dict[str, list[str]] = {name: [] for name in self._counts}

    def apply(
        self,
        examples: Sequence[Row],
        shorten: Callable[[int, int], Row | None] | None = None,
        *,
        by_turns: bool = False,
    ) -> list[Row]:
        """What is trained of a row.

        Args:
            examples: of any length; more than one of a conversation that is split by answer. If one is too long, the
                whole row counts as too long.
            shorten: under `truncate` makes one of them, by its number, again with at most so many tokens, or None
                where no room is left for its question; by default its tokens are cut.
            by_turns: whether `shorten` leaves out whole turns.

        Returns:
            As many, none, or under `split` more.
        """
        self.rows += 1
        self._tokens_before += sum(map(length, examples))
        pieces = list(examples)
        if max(map(length, examples)) > self._max_length:
            pieces = self._fitted(examples, shorten, by_turns)
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

    def _fitted(
        self, examples: Sequence[Row], shorten: Callable[[int, int], Row | None] | None, by_turns: bool
    ) -> list[Row]:
        row, limit = examples[0], self._max_length
        self._long_lengths.append(max(map(length, examples)))
        self._long_learnable.append(0 if isinstance(row, Labelled) else sum(map(learnable, examples)))
        # Of a preference both answers may be cut; whole turns take any number with them.
        self._long_cost.append(_WHOLE if by_turns else 2 if isinstance(row, Preference) else 1)
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
        made = [
            one if length(one) <= limit else shorten(number, limit) if shorten else truncate(one, limit)
            for number, one in enumerate(examples)
        ]
        if all(one is None for one in made):
            self._count("without_prompt", row.source)
            return []
        self._count("truncated", row.source)
        self._measure(examples, made, by_turns)
        return [one for one in made if one is not None]

    def _measure(self, examples: Sequence[Row], made: Sequence[Row | None], by_turns: bool) -> None:
        """Count what a truncated row loses."""
        kept = [one for one in made if one is not None]
        before, after = (sum(map(learnable, ones)) for ones in (examples, kept))
        self._supervised_left_out += before - after
        self._answers_left_out += sum(map(_answers, examples)) - sum(map(_answers, kept)) if by_turns else 0
        self._without_end += made[-1] is None or _lacks_end(examples[-1], made[-1])

    def _at_length(self) -> list[tuple[int, int, int]]:
        """As `EncodingReport.at_length`."""
        longest, limit, made = max(self._long_lengths, default=0), self._max_length, []
        found = (self._long_lengths, self._long_learnable, self._long_cost)
        lengths, learnt, cost = (np.asarray(one, np.int64) for one in found)
        while limit < longest and limit < _STEPS[-1][0]:
            step = next(step for most, step in _STEPS if limit < most)
            limit = (limit // step + 1) * step
            longer = lengths > limit
            lost = np.minimum(learnt, cost * (lengths - limit))
            made.append((limit, int(longer.sum()), int(lost[longer].sum())))
        return made

    def _count(self, what: str, source: str) -> None:
        self._counts[what] += 1
        if len(self._sources[what]) < _NAMED_IN_ACCOUNT:
            self._sources[what].append(source or f"row {self.rows}")

    def report(self, chat_template: str | None = None) -> EncodingReport:
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
                f"raise max_length (the longest row has {max(self._long_lengths):,} tokens), or set overlong to "
                "truncate or drop"
            )
        if self._unsplittable:
            raise TrainingError(
                "finetune.overlong: only plain text can be split, and not a pair of prompt and completion, a "
                "conversation, a labelled text or a preference; set it to truncate, drop or error"
            )
        counts = self._counts
        without_label, without_prompt = counts["without_label"], counts["without_prompt"]
        dropped = counts["dropped"] + without_label + without_prompt
        if dropped > self._max_dropped_fraction * self.rows:
            reasons = ("without_label", "without_prompt", "dropped")
            sources = [source for reason in reasons for source in self._sources[reason]][:_NAMED]
            no_room = f", {without_prompt} without room for their question in it" if without_prompt else ""
            others, at_length = dropped - counts["dropped"], self._at_length()
            allowed = self._max_dropped_fraction * self.rows
            enough = next((at for at, rows, _ in at_length if rows + others <= allowed), None)
            to = f" to {enough:,}" if enough else ""
            raise TrainingError(
                f"{dropped} of {self.rows} rows are dropped ({without_label} with nothing to learn, "
                f"{counts['dropped']} longer than max_length {self._max_length}{no_room}), more than "
                f"finetune.max_dropped_fraction {self._max_dropped_fraction:g} allows: {', '.join(sources)}"
                f"{', …' if dropped > len(sources) else ''}; raise max_length{to} or mend the data"
            )
        return EncodingReport(
            rows=self.rows,
            examples=self._examples,
            rows_truncated=counts["truncated"],
            rows_without_end=self._without_end,
            answers_left_out=self._answers_left_out,
            rows_split=counts["split"],
            conversations_split_by_answer=self._by_answer,
            rows_dropped=dropped,
            rows_without_label=without_label,
            rows_without_prompt=without_prompt,
            tokens=self._tokens,
            supervised_tokens=self._supervised,
            tokens_left_out=self._tokens_before - self._tokens,
            supervised_tokens_left_out=self._supervised_left_out,
            truncated=tuple(self._sources["truncated"]),
            dropped=tuple(self._sources["dropped"]),
            without_label=tuple(self._sources["without_label"]),
            without_prompt=tuple(self._sources["without_prompt"]),
            at_length=tuple(self._at_length()),
            chat_template=chat_template,
        )


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


def truncate(row: Row, max_length: int, start: int = 0) -> Row:
    """Cut the beginning of the prompt, and only where half of the room does not suffice the end of what is learnt.

    A prompt keeps its end: all that the answer leaves free, at least half of `max_length`. So no answer is learnt
    without what it answers.

    Args:
        row: that is longer.
        max_length: tokens; of a preference, of the prompt with either answer.
        start: tokens at the very beginning that stay, as the one that opens every text of some models.
    """
    if isinstance(row, Labelled):
        return row._replace(input_ids=row.input_ids[:max_length])
    if isinstance(row, Preference):
        longest = max(len(row.chosen_ids), len(row.rejected_ids))
        prompt = _end_of(row.prompt_ids, max(max_length - longest, max_length // 2), start)
        room = max_length - len(prompt)
        return Preference(prompt, row.chosen_ids[:room], row.rejected_ids[:room], row.source)
    ids, labels, source = row
    unlearnt = next((index for index, label in enumerate(labels) if label != IGNORED), len(labels))
    # One token must stay before the first that is learnt.
    room = max(max_length - (len(ids) - unlearnt), max_length // 2, 1)
    before = _end_of(ids[:unlearnt], room, start)
    ids, labels = before + ids[unlearnt:], [IGNORED] * len(before) + labels[unlearnt:]
    return Example(ids[:max_length], labels[:max_length], source)


def _end_of(ids: list[int], room: int, start: int) -> list[int]:
    """The end of a prompt in so many tokens, behind the tokens at its beginning that stay."""
    if len(ids) <= room:
        return ids
    start = min(start, room - 1)
    return ids[:start] + ids[len(ids) - (room - start) :]


def _answers(row: Row) -> int:
    """Answers in an example: the parts that are learnt, with something that is not between them."""
    if not isinstance(row, Example):
        return 1
    before = [IGNORED, *row.labels[:-1]]
    return sum(label != IGNORED and last == IGNORED for last, label in zip(before, row.labels, strict=True))


def _lacks_end(row: Row, shorter: Row | None) -> bool:
    """Whether an answer does not end as it did."""
    if isinstance(row, Example) and isinstance(shorter, Example):
        return row.input_ids[-_ENOUGH_TO_TELL:] != shorter.input_ids[-_ENOUGH_TO_TELL:]
    if isinstance(row, Preference) and isinstance(shorter, Preference):
        return (len(row.chosen_ids), len(row.rejected_ids)) != (len(shorter.chosen_ids), len(shorter.rejected_ids))
    return False


def _counted(rows: int) -> str:
    return "1 row" if rows == 1 else f"{rows:,} rows"


def _split(example: Example, max_length: int) -> list[Example]:
    ids, labels, source = example
    pieces = []
    for start in range(0, len(ids), max_length):
        part = slice(start, start + max_length)
        pieces.append(Example(ids[part], [IGNORED, *labels[part][1:]], source))
    return pieces


def refusal(
    account: EncodingReport, max_length: int, allowed: float, base: int | None, *, is_builtin: bool = False
) -> str:
    """Why training rows are not trained as they would be truncated, and what to do.

    Args:
        account: of the rows.
        max_length: to which they were brought.
        allowed: share of the rows, and of the tokens to be learnt.
        base: tokens that the base can see at once; None where it has no bound.
        is_builtin: whether the base is made here, so that it can be made to see more.
    """
    what = account.describe_truncated(max_length)[0]
    sources = account.truncated[:_NAMED]
    more = ", …" if account.rows_truncated > len(sources) else ""
    named = f": {', '.join(sources)}{more}" if any(sources) else ""
    return (
        f"finetune.max_length: {what}; finetune.max_truncated_fraction allows {allowed:.1%}{named}; "
        f"{_remedy(account, max_length, allowed, base, is_builtin=is_builtin)}, or set finetune.overlong to drop (or "
        "split, of plain text), or raise finetune.max_truncated_fraction"
    )


def _remedy(account: EncodingReport, max_length: int, allowed: float, base: int | None, *, is_builtin: bool) -> str:
    enough = account.enough(allowed)
    if enough is None:
        return "shorten the rows"
    length_, share = enough
    to = f"to {length_:,}, which cuts {share:.1%} of the rows"
    if base is None or length_ <= base:
        return f"set finetune.max_length {to}"
    if is_builtin:
        return f"set finetune.max_length and base.builtin.max_length {to}"
    at_most = f", with which {account.truncated_at(base):.1%} are still cut" if base > max_length else ""
    return f"the base sees {base:,} tokens at most{at_most}: use a base that sees {length_:,}"
