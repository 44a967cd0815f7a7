"""What happens to rows longer than finetune.max_length, and the report that counts what every row loses."""

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
_NAMED_IN_REPORT = 20
_END_TOKENS = 8
"""Last tokens that are compared to see whether an example kept its end."""
_WHOLE_TURNS = 1 << 32
_STEPS = ((1024, 64), (4096, 256), (1 << 20, 1024))
"""Lengths that are tried as a larger `max_length`: below the first number, the multiples of the second."""

Shorten = Callable[[int, int], Row | None]
"""(index of an example, max_length) -> a shorter example; None if the question does not fit."""


@dataclass(frozen=True)
class EncodingReport:
    """What became of the rows of a split. Every row is trained or dropped."""

    rows: int
    examples: int
    """Examples that are trained. A row that is split gives several."""
    rows_truncated: int
    """Rows cut to `max_length`. A pair loses the beginning of its prompt first, a conversation its early turns."""
    rows_without_end: int
    """Truncated rows whose last answer (or text) loses its end."""
    answers_left_out: int
    """Complete answers in the early turns that truncated conversations lose."""
    rows_split: int
    """Rows that continue in further examples."""
    conversations_split_by_answer: int
    """Conversations with one example per answer, because the chat template changes earlier turns."""
    rows_dropped: int
    """Rows that are too long under `overlong: drop`, have no label, or leave no room for their question."""
    rows_without_label: int
    """Dropped rows without a supervised token."""
    rows_without_prompt: int
    """Dropped rows whose answer would lose its question."""
    tokens: int
    supervised_tokens: int
    """Of labelled texts the texts, each with one target; of preferences the tokens of both answers."""
    tokens_left_out: int
    """Tokens that dropped and truncated rows lose."""
    supervised_tokens_left_out: int
    """Supervised tokens that truncated rows lose."""
    truncated: tuple[str, ...] = ()
    """Sources of the first truncated rows."""
    dropped: tuple[str, ...] = ()
    without_label: tuple[str, ...] = ()
    without_prompt: tuple[str, ...] = ()
    at_length: tuple[tuple[int, int, int], ...] = ()
    """Larger values of `max_length`, ascending, each with the rows that it would truncate and the most supervised
    tokens that they would lose."""
    chat_template: str | None = None
    """Of conversations: `own` for the tokenizer's template, `shipped` for PLAIN_TEMPLATE."""

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "EncodingReport":
        """The report whose fields were stored as JSON."""
        fields: dict[str, Any] = {
            name: tuple(tuple(item) if isinstance(item, list) else item for item in value)
            if isinstance(value, list)
            else value
            for name, value in values.items()
        }
        return cls(**fields)

    def as_dict(self) -> dict[str, Any]:
        """The counts by name, with the sources of rows and the chat template if there are any."""
        counts: dict[str, Any] = {name: value for name, value in vars(self).items() if isinstance(value, int)}
        for name in ("truncated", "dropped", "without_label", "without_prompt"):
            if sources := getattr(self, name):
                counts[f"{name}_rows"] = list(sources)
        return counts | ({"chat_template": self.chat_template} if self.chat_template else {})

    @property
    def truncated_fraction(self) -> float:
        """The larger of two shares: truncated rows of all rows, and supervised tokens that they lose of all."""
        return max(self._fractions(self.rows_truncated, self.supervised_tokens_left_out))

    def sufficient_length(self, allowed: float) -> tuple[int, float] | None:
        """The smallest larger `max_length` that truncates no more than is allowed, and the share of truncated rows.

        Args:
            allowed: the largest `truncated_fraction`.
        """
        for max_length, rows, supervised in self.at_length:
            if max(self._fractions(rows, supervised)) <= allowed:
                return max_length, rows / self.rows
        return None

    def truncated_at(self, max_length: int) -> float:
        """The share of rows that a larger `max_length` would truncate at most."""
        rows = [rows for length_, rows, _ in self.at_length if length_ <= max_length]
        return rows[-1] / self.rows if rows else self.rows_truncated / max(self.rows, 1)

    def _fractions(self, rows: int, supervised: int) -> tuple[float, float]:
        return rows / max(self.rows, 1), supervised / max(self.supervised_tokens + self.supervised_tokens_left_out, 1)

    def describe_truncated(self, max_length: int) -> list[str]:
        """Lines for a person about what is cut; nothing if no row is.

        Args:
            max_length: of the examples.
        """
        lines = []
        if self.rows_truncated:
            rows, supervised = self._fractions(self.rows_truncated, self.supervised_tokens_left_out)
            lost = [f"{supervised:.1%} of the tokens to train on"] if self.supervised_tokens_left_out else []
            lost += [f"{self.answers_left_out:,} answers in early turns"] if self.answers_left_out else []
            lost += [f"the end of {_count_rows(self.rows_without_end)}"] if self.rows_without_end else []
            without = f", without {', '.join(lost)}" if lost else ""
            lines.append(
                f"{self.rows_truncated:,} of {self.rows:,} rows ({rows:.1%}) are longer than {max_length} tokens and "
                f"are cut to that length{without}"
            )
        if self.rows_without_prompt:
            lines.append(
                f"{self.rows_without_prompt:,} of {self.rows:,} rows are dropped: {max_length} tokens have no room for "
                "the question in addition to the system's turn or the tools' results"
            )
        return lines


class LengthPolicy:
    """Brings the examples of one row after another to at most `max_length` tokens, and counts what they lose.

    Args:
        max_length: tokens of an example.
        overlong: what happens to a longer row.
        max_dropped_fraction: of the rows; a larger share is an error.
    """

    def __init__(self, max_length: int, overlong: Overlong, max_dropped_fraction: float) -> None:
        self._max_length, self._overlong, self._max_dropped_fraction = max_length, overlong, max_dropped_fraction
        self.rows = 0
        """Rows so far."""
        self._tokens_before = self._tokens = self._supervised = 0
        self._longer: list[tuple[str, int]] = []
        self._too_long = self._unsplittable = self._examples = self._by_answer = 0
        self._counts = {"truncated": 0, "split": 0, "dropped": 0, "without_label": 0, "without_prompt": 0}
        self._without_end = self._answers_left_out = self._supervised_left_out = 0
        # Of each row that is too long: tokens, supervised tokens, and supervised tokens lost per token too many.
        self._long_lengths, self._long_supervised, self._long_cost = array("q"), array("q"), array("q")
        self._sources: dict[str, list[str]] = {name: [] for name in self._counts}

    def apply(
        self, examples: Sequence[Row], shorten: Shorten[Row] | None = None, *, by_turns: bool = False
    ) -> list[Row]:
        """The examples of a row that are trained.

        Args:
            examples: of one row, of any length. If one example is too long, the row counts as too long.
            shorten: how `truncate` shortens an example; None: by `truncate`.
            by_turns: whether `shorten` leaves out whole turns.
        """
        self.rows += 1
        self._tokens_before += sum(map(length, examples))
        fitting = list(examples)
        if max(map(length, examples)) > self._max_length:
            fitting = self._fit(examples, shorten, by_turns)
            if not fitting:
                return []
        kept = [example for example in fitting if supervised_tokens(example)]
        if not kept:
            self._count("without_label", examples[0].source)
        self._examples += len(kept)
        self._by_answer += len(examples) > 1 and bool(kept)
        self._tokens += sum(map(length, kept))
        self._supervised += sum(map(supervised_tokens, kept))
        return kept

    def _fit(self, examples: Sequence[Row], shorten: Shorten[Row] | None, by_turns: bool) -> list[Row]:
        row, limit = examples[0], self._max_length
        self._long_lengths.append(max(map(length, examples)))
        self._long_supervised.append(0 if isinstance(row, Labelled) else sum(map(supervised_tokens, examples)))
        # A preference can lose a token of both answers, a conversation any number of tokens with a turn.
        self._long_cost.append(_WHOLE_TURNS if by_turns else 2 if isinstance(row, Preference) else 1)
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
        shorter = [
            example if length(example) <= limit else shorten(index, limit) if shorten else truncate(example, limit)
            for index, example in enumerate(examples)
        ]
        if all(example is None for example in shorter):
            self._count("without_prompt", row.source)
            return []
        self._count("truncated", row.source)
        self._count_losses(examples, shorter, by_turns)
        return [example for example in shorter if example is not None]

    def _count_losses(self, examples: Sequence[Row], shorter: Sequence[Row | None], by_turns: bool) -> None:
        kept = [example for example in shorter if example is not None]
        before, after = (sum(map(supervised_tokens, rows)) for rows in (examples, kept))
        self._supervised_left_out += before - after
        self._answers_left_out += sum(map(_answers, examples)) - sum(map(_answers, kept)) if by_turns else 0
        self._without_end += shorter[-1] is None or _lost_end(examples[-1], shorter[-1])

    def _at_length(self) -> list[tuple[int, int, int]]:
        """The value of `EncodingReport.at_length`."""
        longest, limit, found = max(self._long_lengths, default=0), self._max_length, []
        arrays = (self._long_lengths, self._long_supervised, self._long_cost)
        lengths, supervised, cost = (np.asarray(values, np.int64) for values in arrays)
        while limit < longest and limit < _STEPS[-1][0]:
            step = next(step for most, step in _STEPS if limit < most)
            limit = (limit // step + 1) * step
            longer = lengths > limit
            lost = np.minimum(supervised, cost * (lengths - limit))
            found.append((limit, int(longer.sum()), int(lost[longer].sum())))
        return found

    def _count(self, what: str, source: str) -> None:
        self._counts[what] += 1
        if len(self._sources[what]) < _NAMED_IN_REPORT:
            self._sources[what].append(source or f"row {self.rows}")

    def report(self, chat_template: str | None = None) -> EncodingReport:
        """The report about all rows so far.

        Args:
            chat_template: of conversations, the origin of the template.

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
                "finetune.overlong: split is only for plain text, and not for pairs of prompt and completion, "
                "conversations, labelled texts or preferences; set it to truncate, drop or error"
            )
        counts = self._counts
        without_label, without_prompt = counts["without_label"], counts["without_prompt"]
        dropped = counts["dropped"] + without_label + without_prompt
        if dropped > self._max_dropped_fraction * self.rows:
            reasons = ("without_label", "without_prompt", "dropped")
            sources = [source for reason in reasons for source in self._sources[reason]][:_NAMED]
            no_room = f", {without_prompt} without room for their question" if without_prompt else ""
            others, at_length = dropped - counts["dropped"], self._at_length()
            allowed = self._max_dropped_fraction * self.rows
            sufficient = next((at for at, rows, _ in at_length if rows + others <= allowed), None)
            to = f" to {sufficient:,}" if sufficient else ""
            raise TrainingError(
                f"{dropped} of {self.rows} rows are dropped ({without_label} with nothing to train on, "
                f"{counts['dropped']} longer than max_length {self._max_length}{no_room}), more than "
                f"finetune.max_dropped_fraction {self._max_dropped_fraction:g} allows: {', '.join(sources)}"
                f"{', …' if dropped > len(sources) else ''}; raise max_length{to} or correct the rows"
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
    """Tokens of an example; of a preference the prompt with the longer answer."""
    if isinstance(row, Preference):
        return len(row.prompt_ids) + max(len(row.chosen_ids), len(row.rejected_ids))
    return len(row.input_ids)


def supervised_tokens(row: Row) -> int:
    """Supervised tokens of a document, or of two answers that differ; 1 for a labelled text."""
    if isinstance(row, Preference):
        differ = row.prompt_ids and row.chosen_ids != row.rejected_ids
        return len(row.chosen_ids) + len(row.rejected_ids) if differ else 0
    if isinstance(row, Labelled):
        return int(bool(row.input_ids))
    return sum(label != IGNORED for label in row.labels)


def truncate(row: Row, max_length: int, start: int = 0) -> Row:
    """The example without the beginning of its prompt and, if necessary, without the end of its answer.

    The prompt gets the tokens that the answer leaves free, and at least half of `max_length`. So no answer is trained
    without its question.

    Args:
        row: an example that is longer.
        max_length: tokens; of a preference, of the prompt with either answer.
        start: tokens at the beginning of the prompt that stay, such as the beginning-of-text token.
    """
    if isinstance(row, Labelled):
        return row._replace(input_ids=row.input_ids[:max_length])
    if isinstance(row, Preference):
        longest = max(len(row.chosen_ids), len(row.rejected_ids))
        prompt = _end_of(row.prompt_ids, max(max_length - longest, max_length // 2), start)
        room = max_length - len(prompt)
        return Preference(prompt, row.chosen_ids[:room], row.rejected_ids[:room], row.source)
    ids, labels, source = row
    prompt_length = next((index for index, label in enumerate(labels) if label != IGNORED), len(labels))
    # The first supervised token needs a token before it.
    room = max(max_length - (len(ids) - prompt_length), max_length // 2, 1)
    before = _end_of(ids[:prompt_length], room, start)
    ids, labels = before + ids[prompt_length:], [IGNORED] * len(before) + labels[prompt_length:]
    return Example(ids[:max_length], labels[:max_length], source)


def _end_of(ids: list[int], room: int, start: int) -> list[int]:
    """The first `start` tokens of a prompt and its last tokens, `room` tokens together."""
    if len(ids) <= room:
        return ids
    start = min(start, room - 1)
    return ids[:start] + ids[len(ids) - (room - start) :]


def _answers(row: Row) -> int:
    """Answers in an example: runs of supervised tokens."""
    if not isinstance(row, Example):
        return 1
    before = [IGNORED, *row.labels[:-1]]
    return sum(label != IGNORED and last == IGNORED for last, label in zip(before, row.labels, strict=True))


def _lost_end(row: Row, shorter: Row | None) -> bool:
    """Whether an answer ends differently in the shorter example."""
    if isinstance(row, Example) and isinstance(shorter, Example):
        return row.input_ids[-_END_TOKENS:] != shorter.input_ids[-_END_TOKENS:]
    if isinstance(row, Preference) and isinstance(shorter, Preference):
        return (len(row.chosen_ids), len(row.rejected_ids)) != (len(shorter.chosen_ids), len(shorter.rejected_ids))
    return False


def _count_rows(rows: int) -> str:
    return "1 row" if rows == 1 else f"{rows:,} rows"


def _split(example: Example, max_length: int) -> list[Example]:
    ids, labels, source = example
    parts = [slice(start, start + max_length) for start in range(0, len(ids), max_length)]
    return [Example(ids[part], [IGNORED, *labels[part][1:]], source) for part in parts]


def refusal(
    report: EncodingReport, max_length: int, allowed: float, base: int | None, *, is_builtin: bool = False
) -> str:
    """The message for training rows of which too much is cut.

    Args:
        report: about the rows.
        max_length: of the examples.
        allowed: the largest `truncated_fraction`.
        base: tokens of the base's context; None without a limit.
        is_builtin: whether the base is the built-in one, whose context params.yaml sets.
    """
    what = report.describe_truncated(max_length)[0]
    sources = report.truncated[:_NAMED]
    more = ", …" if report.rows_truncated > len(sources) else ""
    named = f": {', '.join(sources)}{more}" if any(sources) else ""
    return (
        f"finetune.max_length: {what}; finetune.max_truncated_fraction allows {allowed:.1%}{named}; "
        f"{_remedy(report, max_length, allowed, base, is_builtin=is_builtin)}, or set finetune.overlong to drop (or "
        "split, for plain text), or raise finetune.max_truncated_fraction"
    )


def _remedy(report: EncodingReport, max_length: int, allowed: float, base: int | None, *, is_builtin: bool) -> str:
    sufficient = report.sufficient_length(allowed)
    if sufficient is None:
        return "shorten the rows"
    length_, share = sufficient
    to = f"to {length_:,}, which cuts {share:.1%} of the rows"
    if base is None or length_ <= base:
        return f"set finetune.max_length {to}"
    if is_builtin:
        return f"set finetune.max_length and base.builtin.max_length {to}"
    at_most = f", with which {report.truncated_at(base):.1%} are still cut" if base > max_length else ""
    return f"the base sees {base:,} tokens at most{at_most}: use a base that sees {length_:,}"
