"""Test rows that people read: what was asked, what is right, and what each model says."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from tuneline.data.records.label_codec import decode
from tuneline.data.secrets import screening
from tuneline.evaluation.comparison import MODELS
from tuneline.evaluation.score_table import split_columns
from tuneline.evaluation.tasks import preference


@dataclass(frozen=True)
class Line:
    """What is right, or what one model says."""

    name: str
    text: str
    note: str = ""
    is_own: bool = False
    """The candidate's."""


@dataclass(frozen=True)
class Sample:
    """One row."""

    source: str
    prompt: str
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Section:
    """Some rows under a title."""

    title: str
    lead: str
    samples: tuple[Sample, ...]


def sections(table: pa.Table, task: str, wanted: int, champion: Mapping[str, str]) -> list[Section]:
    """Rows spread evenly over the test split, so that nobody has picked the good ones.

    Args:
        table: rows.parquet.
        task: what was learnt.
        wanted: rows under a title at most.
        champion: what the champion says, by row id.
    """
    if not wanted or not table.num_rows:
        return []
    if task == "classification":
        made = _labels(table, wanted, champion)
    elif task == "regression":
        made = _numbers(table, wanted, champion)
    elif task == "preference":
        made = _preferences(table, wanted)
    else:
        made = _answers(table, task, wanted, champion)
    return [_hidden(section) for section in made if section.samples]


def _hidden(section: Section) -> Section:
    """Without secrets: the page is sent to people who need not see what `data.secrets` keeps in the rows."""
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
    return replace(section, samples=samples, lead=f"{section.lead} What looks like a secret is masked on this page.")


def _answers(table: pa.Table, task: str, wanted: int, champion: Mapping[str, str]) -> list[Section]:
    lead = (
        "Test rows spread evenly over the split, none picked by hand. Every model writes its likeliest token at each "
        "step."
        if task == "sft"
        else "The first half of a test text, the second half as it is written, and how each model continues it by its "
        "likeliest token at each step."
    )
    answered = [row for row in table.to_pylist() if row["candidate_text"] is not None]
    samples = []
    for row in (answered[place] for place in _spread(len(answered), wanted)):
        said = {"base": row.get("base_text"), "champion": champion.get(row["id"]), "candidate": row["candidate_text"]}
        lines = [Line("Reference" if task == "sft" else "The text", row["reference"])]
        for name, text in said.items():
            mark = row.get(f"{name}_chrf")
            if text is not None:
                note = "" if mark is None else f"chrF {mark:.0f}"
                lines.append(Line(name.capitalize(), text, note, name == "candidate"))
        samples.append(Sample(row["source"], row["prompt"], tuple(lines)))
    return [Section("Answers side by side", lead, tuple(samples))]


def _labels(table: pa.Table, wanted: int, champion: Mapping[str, str]) -> list[Section]:
    _, scores = split_columns(table)
    rows = table.to_pylist()

    def sample(row: dict[str, Any]) -> Sample:
        lines = [Line("True label", _label(row["label"], row))]
        for name in (*(model for model in scores if model != "candidate"), "champion", "candidate"):
            text = champion.get(row["id"]) if name == "champion" else row[f"{name}_label"]
            if text is None:
                continue
            chance = row.get(f"{name}_probability")
            right = "right" if _is_right(text, row) else "wrong"
            note = right if chance is None or name == "majority" else f"{right}, {100 * chance:.0f} % sure"
            lines.append(Line(_name(name), _label(text, row), note, name == "candidate"))
        return Sample(row["source"], row["text"], tuple(lines))

    wrong = [row for row in rows if not _is_right(row["candidate_label"], row)]
    wrong.sort(key=lambda row: -row["candidate_probability"])
    return [
        Section(
            "The surest mistakes",
            "Test rows to which the candidate gives another label than the data, the surest first. Either the "
            "candidate has learnt something wrong, or the label in the data is wrong.",
            tuple(sample(row) for row in wrong[:wanted]),
        ),
        Section(
            "Some texts and their labels",
            "Test rows spread evenly over the split, none picked by hand.",
            tuple(sample(rows[place]) for place in _spread(len(rows), wanted)),
        ),
    ]


def _is_right(label: str, row: Mapping[str, Any]) -> bool:
    given, true = (set(decode(text, multi_label=row["multilabel"])) for text in (label, row["label"]))
    return given == true


def _numbers(table: pa.Table, wanted: int, champion: Mapping[str, str]) -> list[Section]:
    _, scores = split_columns(table)
    rows = table.to_pylist()

    def sample(row: dict[str, Any]) -> Sample:
        lines = [Line("True number", _value(row["label"]))]
        lines += [
            Line(_name(name), _value(row[f"{name}_value"]), f"off by {abs(row[f'{name}_value'] - row['label']):.3g}")
            for name in scores
            if name != "candidate"
        ]
        if row["id"] in champion:
            lines.append(Line("Champion", champion[row["id"]].replace("-", "−")))
        off = abs(row["candidate_value"] - row["label"])
        lines.append(Line("Candidate", _value(row["candidate_value"]), f"off by {off:.3g}", True))
        return Sample(row["source"], row["text"], tuple(lines))

    furthest = sorted(rows, key=lambda row: -abs(row["candidate_value"] - row["label"]))
    return [
        Section(
            "Furthest off",
            "The test rows on which the candidate errs most. Either it has learnt something wrong, or the number in "
            "the data is wrong.",
            tuple(sample(row) for row in furthest[:wanted]),
        ),
        Section(
            "Some texts and their numbers",
            "Test rows spread evenly over the split, none picked by hand.",
            tuple(sample(rows[place]) for place in _spread(len(rows), wanted)),
        ),
    ]


def _preferences(table: pa.Table, wanted: int) -> list[Section]:
    rows = table.to_pylist()
    samples = []
    for row in (rows[place] for place in _spread(len(rows), wanted)):
        prompt, chosen, rejected = (
            preference.readable(row[name], row["conversational"]) for name in ("prompt", "chosen", "rejected")
        )
        gained = [
            f"likelihood {row[f'base_{name}'] - row[f'candidate_{name}']:+.1f}".replace("-", "−")
            for name in ("nll", "rejected_nll")
        ]
        margin = row["candidate_margin"]
        verdict = (
            "right: the better answer gained more than the worse one"
            if margin > 0
            else "wrong: the better answer did not gain more than the worse one"
        )
        samples.append(
            Sample(
                row["source"],
                prompt,
                (
                    Line("Better", chosen, gained[0]),
                    Line("Worse", rejected, gained[1]),
                    Line("Candidate", f"{verdict} ({margin:+.1f})".replace("-", "−"), "", True),
                ),
            )
        )
    lead = (
        "Test rows spread evenly over the split, none picked by hand. Beside each answer stands how much more likely "
        "training made it than it was under the base, as a natural logarithm: +1 is 2.7 times as likely."
    )
    return [Section("Better and worse answers", lead, tuple(samples))]


def _spread(rows: int, wanted: int) -> Sequence[int]:
    if not rows:
        return []
    return np.unique(np.linspace(0, rows - 1, min(wanted, rows)).round().astype(int)).tolist()


def _label(label: str, row: Mapping[str, Any]) -> str:
    """Several labels as a person writes them."""
    return ", ".join(decode(label, multi_label=row["multilabel"])) or "none"


def _value(number: float) -> str:
    return f"{number:.4g}".replace("-", "−")


def _name(model: str) -> str:
    return MODELS[model][0] if model in MODELS else model.capitalize()
