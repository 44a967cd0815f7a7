"""How much models differ that were trained alike but for the seed: a gain below that may be the luck of a seed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tuneline.evaluation.intervals import Interval, Measures
from tuneline.params import Rule


@dataclass(frozen=True)
class NoiseFloor:
    """The noise floor of each metric."""

    twins: int
    """The number of twins of which it was measured."""
    floors: Mapping[str, float]
    """Metric -> the largest difference between the candidate and a twin, for better or worse, on the same test rows."""


def noise_floor(versus_twins: Sequence[Measures]) -> NoiseFloor:
    """The noise floor; a metric that one of the twins lacks has none.

    Args:
        versus_twins: how the candidate differs from each twin.
    """
    floors: dict[str, float] = {}
    for name in versus_twins[0] if versus_twins else ():
        found = [twin.get(name) for twin in versus_twins]
        differences = [abs(one.difference) for one in found if isinstance(one, Interval)]
        if len(differences) == len(found):
            floors[name] = max(differences)
    return NoiseFloor(len(versus_twins), floors)


def required_floor(rule: Rule, noise: NoiseFloor) -> float | None:
    """What a rule asks for beyond its margin: with beyond_twins the noise floor, None if that lacks."""
    return noise.floors.get(rule.metric) if rule.beyond_twins else 0.0


def in_words(rule: Rule, improvement: float, noise: NoiseFloor, digits: int) -> str:
    """A sentence about how much of a gain exceeds the noise floor; empty where nothing was gained or measured.

    Args:
        rule: the rule.
        improvement: that was measured.
        noise: the noise floor.
        digits: of the metric, after the point.
    """
    floor = noise.floors.get(rule.metric)
    if rule.slice is not None or floor is None or improvement <= 0:
        return ""
    twins = "1 twin" if noise.twins == 1 else f"{noise.twins} twins"
    beyond = improvement - floor
    what = f"{beyond:.{digits}f} exceeds" if beyond > 0 else "nothing exceeds"
    return f" Of this gain, {what} the noise floor of {twins}, {floor:.{digits}f}: the luck of a seed."
