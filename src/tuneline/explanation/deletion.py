"""How faithful an attribution is: words are removed in its order, and the output is watched, against random orders.

The curve is that of ERASER's comprehensiveness (DeYoung et al. 2020): words are taken out of the text, so the measure
does not use the baseline of the attributions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from tuneline.evaluation.intervals import LEVEL
from tuneline.explanation.explained_output import ExplainedOutput
from tuneline.explanation.word_units import Words

FEWEST_WORDS = 3
"""With fewer words there are too few orders to compare with."""

State = Literal["better", "worse", "unsure"]


@dataclass(frozen=True)
class Removal:
    """The deletion curve of one order of words, or the mean of several."""

    output: np.ndarray
    """[shares]: the output after each share of the words was removed."""
    area: float
    """Under the curve, over shares from 0 to 1; the less, the earlier the words come that carry the output."""


@dataclass(frozen=True)
class Versus:
    """An attribution against random orders of the same words."""

    method: str
    removal: Removal
    gain: float
    """The mean area of the random orders minus the area of this order."""
    low: float
    high: float
    """The middle 95 % of the gains."""
    beaten: int
    """Random orders with a larger area."""

    @property
    def state(self) -> State:
        """better: nearly every random order is worse; worse: nearly every one is better."""
        return state_of(self.low, self.high)


@dataclass(frozen=True)
class Deletion:
    """The deletion curves of a text."""

    shares: np.ndarray
    random: Removal
    """The mean of the random orders."""
    random_low: np.ndarray
    random_high: np.ndarray
    """[shares]: the middle 95 % of the random orders."""
    orders: int
    methods: tuple[Versus, ...]


def state_of(low: float, high: float) -> State:
    """What an interval of a gain says."""
    return "better" if low > 0 else "worse" if high < 0 else "unsure"


def area(shares: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The area under curves by the trapezoidal rule.

    Args:
        shares: [shares], from 0 to 1.
        values: [..., shares].
    """
    return np.trapezoid(values, shares, axis=-1)


def order_of(attribution: np.ndarray) -> list[int]:
    """The words, the one with the highest attribution first; of equal ones the first word."""
    return np.argsort(-attribution, kind="stable").tolist()


def random_orders(words: int, count: int, seed: int) -> list[list[int]]:
    """Random orders of words; order number i depends on the seed and i alone."""
    return [np.random.default_rng([seed, number]).permutation(words).tolist() for number in range(count)]


def curves(
    output: ExplainedOutput, words: Words, orders: Sequence[Sequence[int]], points: int
) -> tuple[np.ndarray, np.ndarray]:
    """The deletion curve of each order.

    Args:
        output: what is explained.
        words: the text.
        orders: the words in the order in which they are removed.
        points: shares at which the output is computed, besides the complete text; the last is 1.

    Returns:
        The shares, and the outputs: [orders, shares].
    """
    count = len(words.places)
    steps = sorted({0, *(round(count * point / points) for point in range(1, points + 1))})
    texts: dict[tuple[int, ...], int] = {}
    places = []
    for order in orders:
        for step in steps:
            # The same words are removed in several orders, at the ends in all.
            ids = tuple(words.without(order[:step]))
            places.append(texts.setdefault(ids, len(texts)))
    values = output.shown([list(ids) for ids in texts])
    return np.array(steps) / count, values[places].reshape(len(orders), len(steps))


def measure(
    output: ExplainedOutput,
    words: Words,
    attributions: Mapping[str, np.ndarray],
    *,
    orders: int,
    points: int,
    seed: int,
) -> Deletion | None:
    """Compare attributions of a text with random orders.

    Args:
        output: what is explained.
        words: the text.
        attributions: method -> [words].
        orders: number of random orders.
        points: as for `curves`.
        seed: of the random orders.

    Returns:
        None for a text of fewer than FEWEST_WORDS words.
    """
    count = len(words.places)
    if count < FEWEST_WORDS:
        return None
    drawn = random_orders(count, orders, seed)
    shares, values = curves(output, words, [*map(order_of, attributions.values()), *drawn], points)
    random = values[len(attributions) :]
    areas = area(shares, random)
    found = []
    for method, own in zip(attributions, values, strict=False):
        mine = float(area(shares, own))
        gains = areas - mine
        low, high = _middle(gains).tolist()
        found.append(Versus(method, Removal(own, mine), float(gains.mean()), low, high, int((gains > 0).sum())))
    low, high = _middle(random)
    return Deletion(shares, Removal(random.mean(axis=0), float(areas.mean())), low, high, orders, tuple(found))


def _middle(values: np.ndarray) -> np.ndarray:
    """The bounds between which one more random order would be with probability LEVEL, [2, ...]."""
    return np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0, method="weibull")
