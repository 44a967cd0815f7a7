"""The deletion curve: an attribution that is right is better than random orders, one that is wrong is not."""

from collections.abc import Sequence

import numpy as np
import pytest
from torch import Tensor

from tuneline.explanation import deletion
from tuneline.explanation.explained_output import ExplainedOutput
from tuneline.explanation.word_units import Words


class Sum:
    """An output that is the sum of known effects of its tokens."""

    kind, after = "number", ()

    def __init__(self, effects: Sequence[float]) -> None:
        self.effects = np.array(effects)

    def scores(self, ids: Tensor) -> Tensor:
        raise NotImplementedError

    def shown(self, rows: Sequence[list[int]]) -> np.ndarray:
        return np.array([self.effects[ids].sum() for ids in rows])

    def rows_at_once(self, tokens: int) -> int:
        return 8


def text(count: int) -> Words:
    return Words(tuple(range(count)), tuple((place,) for place in range(count)), tuple("abcdefghijklmnop"[:count]))


def output(effects: Sequence[float]) -> ExplainedOutput:
    return Sum(effects)  # type: ignore[return-value]


def test_the_area_is_that_of_trapezoids() -> None:
    assert deletion.area(np.array([0, 0.5, 1]), np.array([1.0, 0.5, 0.0])) == pytest.approx(0.5)
    assert deletion.area(np.array([0, 0.5, 1]), np.array([[1.0, 0.0, 0.0]])).tolist() == [0.25]


def test_the_highest_attribution_comes_first() -> None:
    assert deletion.order_of(np.array([0.1, 3.0, -2.0, 3.0])) == [1, 3, 0, 2]


def test_the_curve_is_the_output_without_the_first_words() -> None:
    effects = [1.0, 2.0, 4.0, 8.0]
    shares, values = deletion.curves(output(effects), text(4), [[3, 2, 1, 0], [0, 1, 2, 3]], points=10)
    assert shares.tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert values.tolist() == [[15, 7, 3, 1, 0], [15, 14, 12, 8, 0]]


def test_right_is_better_than_random_wrong_is_worse_and_noise_is_neither() -> None:
    effects = np.array([4.0, 0.1, -0.2, 2.0, 0.0, -3.0, 0.3, 1.0, 0.2, -1.0])
    noise = np.random.default_rng(4).normal(size=10)
    found = deletion.measure(
        output(effects.tolist()),
        text(10),
        {"right": effects, "wrong": -effects, "noise": noise},
        orders=40,
        points=10,
        seed=0,
    )
    assert found is not None
    right, wrong, other = found.methods
    assert (right.state, wrong.state, other.state) == ("better", "worse", "unsure")
    assert right.removal.area < found.random.area < wrong.removal.area
    assert (right.beaten, wrong.beaten) == (40, 0)
    assert right.low <= right.gain <= right.high
    assert found.random.area == pytest.approx(right.removal.area + right.gain)
    assert (found.random_low <= found.random_high).all()


def test_noise_is_seldom_called_better() -> None:
    effects = np.random.default_rng(0).normal(size=8)
    called = []
    for seed in range(200):
        noise = np.random.default_rng([1, seed]).normal(size=8)
        measured = deletion.measure(
            output(effects.tolist()), text(8), {"noise": noise}, orders=40, points=10, seed=seed
        )
        assert measured is not None
        called.append(measured.methods[0].state)
    # By its definition 2.5 % of random orders are: 5 of 200.
    assert called.count("better") <= 12
    assert called.count("worse") <= 12


def test_a_text_of_two_words_is_not_measured() -> None:
    assert deletion.measure(output([1.0, 2.0]), text(2), {"any": np.ones(2)}, orders=5, points=5, seed=0) is None


def test_orders_depend_on_the_seed_and_their_number_alone() -> None:
    assert deletion.random_orders(9, 5, 3)[:2] == deletion.random_orders(9, 2, 3)
    assert deletion.random_orders(9, 2, 3) != deletion.random_orders(9, 2, 4)
