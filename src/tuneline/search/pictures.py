"""The pictures of the page of a search, as coordinates: parallel coordinates, and the objective."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tuneline.search.result import Result
from tuneline.search.space import Dimension, Value

# Of the stretched picture.
WIDTH, HEIGHT = 1000.0, 300.0
_MOST_LABELS = 8


@dataclass(frozen=True)
class Label:
    """A value on an axis, and its place from the top in percent."""

    place: float
    text: str


@dataclass(frozen=True)
class Axis:
    """The values of a key, or the objective."""

    key: str
    x: float
    """From the left, in percent."""
    labels: tuple[Label, ...]


@dataclass(frozen=True)
class Line:
    """A trial through all axes."""

    number: int
    points: str
    """As in SVG."""
    shade: float
    """1: the best of the finished trials; 0: the worst, or one that did not end."""
    kind: str
    """best, default, done or pruned."""


@dataclass(frozen=True)
class Parallel:
    """One axis per key, and the objective at the right; one line per trial."""

    axes: tuple[Axis, ...]
    lines: tuple[Line, ...]


def parallel(space: Mapping[str, Dimension], results: Sequence[Result], best: int | None) -> Parallel | None:
    """The picture of all trials with a loss; None where there are fewer than two.

    Args:
        space: key -> its values.
        results: the trials.
        best: the number of the best trial.
    """
    shown = [result for result in results if result.loss is not None and result.state in ("done", "pruned")]
    done = [result.loss for result in shown if result.state == "done" and result.loss is not None]
    if len(shown) < 2 or not done:
        return None
    low, high = min(done), max(done)
    count = len(space)
    axes = [
        Axis(key, _percent(index, 0, count), _labels(dimension)) for index, (key, dimension) in enumerate(space.items())
    ]
    axes.append(Axis("loss", 100.0, (Label(100.0, f"{low:.4g}"), Label(0.0, f"{high:.4g}"))))
    lines = []
    for result in shown:
        loss = min(max(result.loss or high, low), high)
        heights = [_height(dimension, result.values[key]) for key, dimension in space.items()]
        heights.append(_percent(loss, low, high) if high > low else 50.0)
        points = " ".join(
            f"{axis.x * WIDTH / 100:.1f},{(100 - height) * HEIGHT / 100:.1f}"
            for axis, height in zip(axes, heights, strict=True)
        )
        shade = 1 - (loss - low) / (high - low) if high > low and result.state == "done" else 0.0
        own = {best: "best", 0: "default"}
        lines.append(Line(result.number, points, round(shade, 3), own.get(result.number, result.state)))
    # The best is drawn above all others.
    order = {"pruned": 0, "done": 1, "default": 2, "best": 3}
    return Parallel(tuple(axes), tuple(sorted(lines, key=lambda line: (order[line.kind], line.shade))))


def _labels(dimension: Dimension) -> tuple[Label, ...]:
    if dimension.values is not None and len(dimension.values) > _MOST_LABELS:
        ends = (dimension.values[0], dimension.values[-1])
    else:
        ends = tuple(dimension.ends)
    return tuple(Label(100 - _height(dimension, value), shown(value)) for value in ends)


def _height(dimension: Dimension, value: Value) -> float:
    if dimension.values is not None:
        place = next(index for index, one in enumerate(dimension.values) if one == value)
        return _percent(place, 0, len(dimension.values) - 1)
    low, high = dimension.ends
    assert isinstance(low, int | float) and isinstance(high, int | float) and isinstance(value, int | float)
    if dimension.log:
        return _percent(math.log(value), math.log(low), math.log(high))
    return _percent(value, low, high)


def _percent(value: float, low: float, high: float) -> float:
    return round(100 * (value - low) / (high - low), 2)


def shown(value: Value) -> str:
    """A value as a person reads it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"{value:.4g}" if isinstance(value, float) else str(value)
