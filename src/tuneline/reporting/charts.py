"""The pictures of the report as coordinates in percent. The template draws the lines as SVG and the labels as HTML.

Text inside a stretched SVG would shrink on a phone.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

# Room at both ends of an axis, as a share of its length.
_AIR = 0.06
# The smoothed curve is the mean of this share of all points, half of them on each side.
_SMOOTHING = 0.1


@dataclass(frozen=True)
class Difference:
    """An improvement with its interval: above zero is better, for every metric."""

    metric: str
    versus: str
    value: float
    low: float
    high: float
    margin: float | None
    """The margin of the rule, which the interval must be above; None without a rule."""
    kind: Literal["base", "champion", "baseline", "value"] = "base"
    """What it is compared with, as a rule calls it."""
    verdict: str = ""
    """Of the rule; empty without a rule."""
    slice: str = ""
    """The slice of the test rows; empty: all of them."""
    confidence: str = ""
    """Of the wider interval by which the rule is decided, where it is not the 95 % interval that is drawn."""


@dataclass(frozen=True)
class Strip:
    """The coordinates of one difference. Zero is at the same place in every strip."""

    difference: Difference
    low: float
    value: float
    high: float
    zero: float
    margin: float | None
    state: Literal["better", "worse", "unsure"]

    @property
    def tone(self) -> str:
        """What decides its colour: the verdict of the rule, which the mark beside it has too; else the state."""
        verdict = self.difference.verdict
        return verdict if verdict in ("passed", "failed", "undecided") else self.state


def strips(differences: Sequence[Difference], *, common_scale: bool = False) -> list[Strip]:
    """The strips of differences, with zero at the same place.

    Args:
        differences: to draw.
        common_scale: whether they have the same unit; otherwise each is scaled by its own largest bound.
    """
    if not differences:
        return []
    scales = [max(abs(item.low), abs(item.high), abs(item.margin or 0.0)) or 1.0 for item in differences]
    if common_scale:
        scales = [max(scales)] * len(scales)
    ends = [
        end / scale
        for item, scale in zip(differences, scales, strict=True)
        for end in (item.low, item.high, item.margin or 0.0)
    ]
    first, last = min(0.0, *ends), max(0.0, *ends)
    if first == last:
        first, last = -1.0, 1.0

    def place(value: float) -> float:
        return _percent(value, first, last)

    return [
        Strip(
            difference=item,
            low=place(item.low / scale),
            value=place(item.value / scale),
            high=place(item.high / scale),
            zero=place(0.0),
            margin=place(item.margin / scale) if item.margin else None,
            state="better" if item.low > 0 else "worse" if item.high < 0 else "unsure",
        )
        for item, scale in zip(differences, scales, strict=True)
    ]


@dataclass(frozen=True)
class Tick:
    """A label on an axis."""

    place: float
    label: str


@dataclass(frozen=True)
class Curve:
    """A loss over steps."""

    raw: str
    """The points of the measured line, as in SVG."""
    smooth: str
    held_out: tuple[tuple[float, float], ...]
    """The points of the losses on the validation split."""
    x: tuple[Tick, ...]
    y: tuple[Tick, ...]
    last: float
    last_held_out: float | None
    mark: Tick | None = None
    """The step from which the losses part."""


def curve(
    points: Sequence[tuple[float, float]], held_out: Sequence[tuple[float, float]] = (), mark: float | None = None
) -> Curve | None:
    """The curve of `(step, loss)` points; None where there are fewer than two points.

    Args:
        points: of the training.
        held_out: of validation.
        mark: the step from which the losses part, if they do.
    """
    if len(points) < 2:
        return None
    steps = [step for step, _ in points]
    losses = [loss for _, loss in (*points, *held_out)]
    across = (min(steps), max(max(steps), *(step for step, _ in held_out)) if held_out else max(steps))
    up = (min(losses), max(losses))
    if up[0] == up[1]:
        up = (up[0] - 0.5, up[1] + 0.5)

    def at(step: float, loss: float) -> tuple[float, float]:
        return round(100 * (step - across[0]) / (across[1] - across[0]), 2), round(100 - _percent(loss, *up), 2)

    smoothed = []
    for index, (step, _) in enumerate(points):
        # As many points on the left as on the right, so that the smoothed line does not lag.
        reach = min(math.ceil(_SMOOTHING * len(points) / 2), index, len(points) - 1 - index)
        around = [loss for _, loss in points[index - reach : index + reach + 1]]
        smoothed.append((step, sum(around) / len(around)))
    return Curve(
        raw=_polyline([at(*point) for point in points]),
        smooth=_polyline([at(*point) for point in smoothed]),
        held_out=tuple(at(*point) for point in held_out),
        # Only whole steps are labelled.
        x=tuple(Tick(at(step, up[0])[0], f"{step:,.0f}") for step in ticks(*across) if step == round(step)),
        y=tuple(Tick(at(across[0], loss)[1], f"{loss:g}") for loss in ticks(*up)),
        last=points[-1][1],
        last_held_out=held_out[-1][1] if held_out else None,
        mark=None if mark is None else Tick(at(mark, up[0])[0], f"{mark:,.0f}"),
    )


def ticks(first: float, last: float, wanted: int = 4) -> list[float]:
    """Round numbers from `first` to `last`, about `wanted` of them."""
    rough = (last - first) / wanted
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(size * factor for factor in (1, 2, 5, 10) if size * factor >= rough)
    begin = math.ceil(first / step - 1e-9)
    end = math.floor(last / step + 1e-9)
    return [round(index * step, 10) for index in range(begin, end + 1)]


def _percent(value: float, first: float, last: float) -> float:
    share = (value - first) / (last - first)
    return round(100 * (_AIR + (1 - 2 * _AIR) * share), 2)


def _polyline(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:g},{y:g}" for x, y in points)
