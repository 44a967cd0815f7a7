"""How far the probabilities of a classifier can be trusted: its reliability curve, for the report."""

from dataclasses import dataclass

import pyarrow as pa

from tuneline.evaluation.metrics import BINS, Bin
from tuneline.evaluation.score_table import split_columns
from tuneline.evaluation.tasks import classification
from tuneline.reporting import charts

# Smaller differences of mean probability and accuracy are not worth a sentence.
_NOTABLE = 0.02
_LARGEST, _SMALLEST = 22.0, 5.0


@dataclass(frozen=True)
class Point:
    """A bin of probabilities as a dot; its area grows with the rows."""

    x: float
    """The mean probability, in percent of the width."""
    y: float
    """The share of right labels, in percent of the height from the top."""
    width: float
    """In pixels."""


@dataclass(frozen=True)
class Calibration:
    """What the page shows of the calibration."""

    points: tuple[Point, ...]
    ticks: tuple[charts.Tick, ...]
    """Of both axes, in percent."""
    bins: tuple[Bin, ...]
    number: int
    """Of all bins, also of those without rows."""
    error: float
    """The expected calibration error."""
    sentence: str


def calibration_of(table: pa.Table) -> Calibration | None:
    """The calibration of the candidate in rows.parquet; None where rows may have several labels."""
    rows, scores = split_columns(table)
    bins = classification.reliability(rows, scores["candidate"])
    if not bins:
        return None
    total = sum(one.rows for one in bins)
    most = max(one.rows for one in bins)
    probability = sum(one.rows * one.probability for one in bins) / total
    accuracy = sum(one.rows * one.accuracy for one in bins) / total
    return Calibration(
        points=tuple(
            Point(
                round(100 * one.probability, 2),
                round(100 - 100 * one.accuracy, 2),
                round(max(_SMALLEST, _LARGEST * (one.rows / most) ** 0.5), 1),
            )
            for one in bins
        ),
        ticks=tuple(charts.Tick(100 * value, f"{value:g}") for value in charts.ticks(0.0, 1.0)),
        bins=tuple(bins),
        number=BINS,
        error=sum(one.rows * abs(one.probability - one.accuracy) for one in bins) / total,
        sentence=_sentence(probability, accuracy),
    )


def _sentence(probability: float, accuracy: float) -> str:
    told = f"The candidate gives its labels a probability of {probability:.1%} on average, and {accuracy:.1%} are right"
    if probability - accuracy > _NOTABLE:
        return f"{told}: it is too sure of itself."
    if accuracy - probability > _NOTABLE:
        return f"{told}: it may be surer of itself."
    return f"{told}."
