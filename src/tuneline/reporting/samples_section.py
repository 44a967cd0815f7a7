"""Test rows for people to read: the prompt, the right answer, and the answer of each model."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from tuneline.data.records.label_codec import decode
from tuneline.data.secrets import screening
from tuneline.evaluation.comparison import MODELS
from tuneline.evaluation.score_table import split_columns
from tuneline.evaluation.tasks import preference
from tuneline.reporting.filters import LONGEST_TEXT

_NOT_PICKED = "Test rows spread evenly over the split, none picked by hand."
# Of a section, and of the tags around one sample.
_MOST_BYTES, _FRAME_BYTES = 500_000, 600
_LIKELIEST = "its likeliest token at each step."


@dataclass(frozen=True)
class Line:
    """The right answer, or the answer of one model."""

    name: str
    text: str
    note: str = ""
    is_own: bool = False
    """Whether it is the candidate's."""


@dataclass(frozen=True)
class Sample:
    """One test row."""

    source: str
    prompt: str
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Section:
    """Some test rows under a title."""

    title: str
    lead: str
    samples: tuple[Sample, ...]
    more: int = 0
    """The number of further samples, for which the page has no room."""
    masked: bool = False
    """Whether something that looks like a secret is hidden in them."""


MakeSections = Callable[[pa.Table, int, Mapping[str, str]], list[Section]]
"""rows.parquet, rows per section at most, row id -> the champion's answer; at least one row."""


def sections(table: pa.Table, make: MakeSections, wanted: int, champion: Mapping[str, str]) -> list[Section]:
    """The sections of the page, without secrets.

    Args:
        table: rows.parquet.
        make: makes the sections of the task.
        wanted: rows per section at most.
        champion: row id -> the champion's answer.
    """
    if not wanted or not table.num_rows:
        return []
    return [_masked(_with_room(section)) for section in make(table, wanted, champion) if section.samples]


def _with_room(section: Section) -> Section:
    """The first samples of a section that fit on the page, as far as the page shows their texts."""
    room = _MOST_BYTES
    for kept, sample in enumerate(section.samples):
        texts = (sample.source, sample.prompt, *(line.text for line in sample.lines))
        room -= _FRAME_BYTES + sum(len(text[:LONGEST_TEXT].encode(errors="replace")) for text in texts)
        if room < 0:
            return replace(section, samples=section.samples[:kept], more=len(section.samples) - kept)
    return section


def _masked(section: Section) -> Section:
    """The page is sent to people who must not see the secrets that `data.secrets` keeps in the rows."""
    samples = tuple(
        replace(
            sample,
            prompt=screening.hidden(sample.prompt),
            lines=tuple(replace(line, text=screening.hidden(line.text)) for line in sample.lines),
        )
        for sample in section.samples
    )
    if samples == section.samples:
        return section
    return replace(section, samples=samples, masked=True)


def answers(table: pa.Table, wanted: int, champion: Mapping[str, str]) -> list[Section]:
    """The answers to prompts."""
    return _side_by_side(table, wanted, champion, "Reference", f"{_NOT_PICKED} Each model writes {_LIKELIEST}")


def continuations(table: pa.Table, wanted: int, champion: Mapping[str, str]) -> list[Section]:
    """The second halves of texts."""
    lead = (
        "The first half of a test text, its second half, and how each model continues the first half. Each model "
        "writes " + _LIKELIEST
    )
    return _side_by_side(table, wanted, champion, "The text", lead)


def _side_by_side(
    table: pa.Table, wanted: int, champion: Mapping[str, str], reference: str, lead: str
) -> list[Section]:
    answered = [row for row in table.to_pylist() if row["candidate_text"] is not None]
    samples = []
    for row in _spread(answered, wanted):
        texts = {"base": row.get("base_text"), "champion": champion.get(row["id"]), "candidate": row["candidate_text"]}
        lines = [Line(reference, row["reference"])]
        for name, text in texts.items():
            chrf = row.get(f"{name}_chrf")
            if text is not None:
                lines.append(Line(_name(name), text, "" if chrf is None else f"chrF {chrf:.0f}", name == "candidate"))
        samples.append(Sample(row["source"], row["prompt"], tuple(lines)))
    return [Section("Answers side by side", lead, tuple(samples))]


def labels(table: pa.Table, wanted: int, champion: Mapping[str, str]) -> list[Section]:
    """The labels of texts."""
    _, scores = split_columns(table)
    rows = table.to_pylist()

    def sample(row: dict[str, Any]) -> Sample:
        lines = [Line("True label", _label(row["label"], row))]
        for name in (*(model for model in scores if model != "candidate"), "champion", "candidate"):
            label = champion.get(row["id"]) if name == "champion" else row[f"{name}_label"]
            if label is None:
                continue
            probability = row.get(f"{name}_probability")
            note = "right" if _is_right(label, row) else "wrong"
            if probability is not None and name != "majority":
                note += f", {100 * probability:.0f} % sure"
            lines.append(Line(_name(name), _label(label, row), note, name == "candidate"))
        return Sample(row["source"], row["text"], tuple(lines))

    wrong = [row for row in rows if not _is_right(row["candidate_label"], row)]
    wrong.sort(key=lambda row: -row["candidate_probability"])
    return [
        Section(
            "The surest mistakes",
            "Test rows for which the candidate gives another label than the data, the surest first. Either the "
            "candidate has learned something wrong, or the label in the data is wrong.",
            tuple(sample(row) for row in wrong[:wanted]),
        ),
        Section("Some texts and their labels", _NOT_PICKED, tuple(sample(row) for row in _spread(rows, wanted))),
    ]


def _is_right(label: str, row: Mapping[str, Any]) -> bool:
    given, true = (set(decode(text, multi_label=row["multilabel"])) for text in (label, row["label"]))
    return given == true


def numbers(table: pa.Table, wanted: int, champion: Mapping[str, str]) -> list[Section]:
    """The numbers of texts."""
    _, scores = split_columns(table)
    rows = table.to_pylist()

    def line(name: str, row: dict[str, Any]) -> Line:
        value = row[f"{name}_value"]
        return Line(_name(name), _value(value), f"off by {abs(value - row['label']):.3g}", name == "candidate")

    def sample(row: dict[str, Any]) -> Sample:
        lines = [Line("True number", _value(row["label"]))]
        lines += [line(name, row) for name in scores if name != "candidate"]
        if row["id"] in champion:
            lines.append(Line("Champion", champion[row["id"]].replace("-", "−")))
        return Sample(row["source"], row["text"], (*lines, line("candidate", row)))

    furthest = sorted(rows, key=lambda row: -abs(row["candidate_value"] - row["label"]))
    return [
        Section(
            "The largest errors",
            "The test rows on which the candidate's error is largest. Either it has learned something wrong, or the "
            "number in the data is wrong.",
            tuple(sample(row) for row in furthest[:wanted]),
        ),
        Section("Some texts and their numbers", _NOT_PICKED, tuple(sample(row) for row in _spread(rows, wanted))),
    ]


def preferences(table: pa.Table, wanted: int, champion: Mapping[str, str]) -> list[Section]:
    """The chosen and rejected answers of prompts."""
    samples = []
    for row in _spread(table.to_pylist(), wanted):
        prompt, chosen, rejected = (
            preference.readable(row[name], row["conversational"]) for name in ("prompt", "chosen", "rejected")
        )
        gained = [
            f"likelihood {row[f'base_{name}'] - row[f'candidate_{name}']:+.1f}".replace("-", "−")
            for name in ("nll", "rejected_nll")
        ]
        margin = row["candidate_margin"]
        verdict = (
            "right: the chosen answer gained more than the rejected answer"
            if margin > 0
            else "wrong: the chosen answer did not gain more than the rejected answer"
        )
        lines = (
            Line("Chosen", chosen, gained[0]),
            Line("Rejected", rejected, gained[1]),
            Line("Candidate", f"{verdict} ({margin:+.1f})".replace("-", "−"), "", True),
        )
        samples.append(Sample(row["source"], prompt, lines))
    lead = (
        f"{_NOT_PICKED} The number at each answer says how much likelier the candidate finds it than the base does, "
        "as a natural logarithm: +1 is 2.7 times as likely."
    )
    return [Section("Chosen and rejected answers", lead, tuple(samples))]


def _spread(rows: Sequence[dict[str, Any]], wanted: int) -> list[dict[str, Any]]:
    """Rows at equal distances."""
    if not rows:
        return []
    places = np.unique(np.linspace(0, len(rows) - 1, min(wanted, len(rows))).round().astype(int))
    return [rows[place] for place in places.tolist()]


def _label(label: str, row: Mapping[str, Any]) -> str:
    """The labels of a row, with commas between them."""
    return ", ".join(decode(label, multi_label=row["multilabel"])) or "none"


def _value(number: float) -> str:
    return f"{number:.4g}".replace("-", "−")


def _name(model: str) -> str:
    return MODELS[model][0] if model in MODELS else model.capitalize()
