"""The mixture is the weighted mean of probabilities, and its fitted weights are the best of all."""

import itertools

import numpy as np
import pytest

from tuneline.fusion.ensembles import mixture_weights

ITEMS = 400


def drawn(*quality: float, seed: int = 0) -> np.ndarray:
    """Log-probabilities of what was right, by a member of each quality."""
    random = np.random.default_rng(seed)
    common = -random.gamma(1, 2, ITEMS)
    return np.stack([np.minimum(common + good + random.normal(0, 1, ITEMS), 0) for good in quality])


def grid(members: int, steps: int) -> np.ndarray:
    """Every combination of weights that are multiples of 1 / `steps`."""
    found = [one for one in itertools.product(range(steps + 1), repeat=members) if sum(one) == steps]
    return np.array(found) / steps


def loss_of(found: np.ndarray, weights: np.ndarray) -> float:
    return -float(np.log(weights @ np.exp(found)).mean())


def test_the_mixture_is_the_logarithm_of_the_weighted_mean_of_probabilities() -> None:
    found = drawn(0, 0.3, -1).reshape(3, 20, 20)
    weights = np.array([0.2, 0.5, 0.3])
    expected = np.log(sum(weight * np.exp(one) for weight, one in zip(weights, found, strict=True)))
    np.testing.assert_allclose(mixture_weights.mix(found, weights), expected, atol=1e-12)
    # Probabilities that a float64 cannot hold.
    tiny = np.array([[-2000.0], [-2001.0]])
    expected = -2000 + np.log((1 + np.exp(-1)) / 2)
    assert mixture_weights.mix(tiny, np.array([0.5, 0.5]))[0] == pytest.approx(expected)


@pytest.mark.parametrize(("quality", "steps"), [((0, 0.5), 1000), ((0.4, 0), 1000), ((0, 0.2, -0.3), 60)])
def test_the_weights_are_the_best_of_a_fine_grid(quality: tuple[float, ...], steps: int) -> None:
    found = drawn(*quality)
    fitted = mixture_weights.fit_likelihood(found)
    candidates = grid(len(quality), steps)
    losses = [loss_of(found, weights) for weights in candidates]
    best = int(np.argmin(losses))
    assert fitted.loss == pytest.approx(loss_of(found, np.array(fitted.weights)), abs=1e-12)
    assert fitted.loss <= losses[best] + 1e-9
    assert losses[best] - fitted.loss < 1e-4
    np.testing.assert_allclose(fitted.weights, candidates[best], atol=1 / steps)
    assert sum(fitted.weights) == pytest.approx(1)
    assert fitted.gap < 1e-6
    assert fitted.uniform_loss == pytest.approx(loss_of(found, np.full(len(quality), 1 / len(quality))))


def test_the_better_member_gets_the_weight() -> None:
    first, second = mixture_weights.fit_likelihood(drawn(0.8, 0)).weights
    assert first > 0.6 > second
    worthless = drawn(0, 0)
    worthless[1] = worthless[0] - 3
    assert mixture_weights.fit_likelihood(worthless).weights == pytest.approx((1, 0), abs=1e-6)


def test_identical_members_get_equal_weights() -> None:
    found = np.repeat(drawn(0), 3, axis=0)
    fitted = mixture_weights.fit_likelihood(found)
    assert fitted.weights == pytest.approx((1 / 3, 1 / 3, 1 / 3))
    assert fitted.loss == fitted.uniform_loss
    assert mixture_weights.fit_numbers(found, np.zeros(ITEMS)).weights == pytest.approx((1 / 3, 1 / 3, 1 / 3))


def test_a_token_that_only_one_member_expects_keeps_it_in_the_mixture() -> None:
    found = drawn(0, -1)
    found[0, 0] = -5000
    fitted = mixture_weights.fit_likelihood(found)
    assert fitted.weights[1] > 0.5 / ITEMS
    assert np.isfinite(fitted.loss)
    assert fitted.gap < 1e-4


@pytest.mark.parametrize("scale", [1.0, 1e-3])
def test_nearly_equal_members_are_told_apart(scale: float) -> None:
    first = drawn(0)[0]
    difference = scale * np.random.default_rng(1).normal(0, 1, ITEMS)
    found = np.stack([first, first + difference - difference.mean() + scale])
    fitted = mixture_weights.fit_likelihood(found)
    losses = [loss_of(found, weights) for weights in grid(2, 1000)]
    assert fitted.loss <= min(losses) + 1e-9 * scale
    assert fitted.gap < 1e-6 * scale


def test_numbers_are_stacked_by_squared_error() -> None:
    random = np.random.default_rng(0)
    target = random.normal(1e6, 100, ITEMS)
    values = np.stack([target + random.normal(0, 20, ITEMS), target + random.normal(0, 40, ITEMS)])
    fitted = mixture_weights.fit_numbers(values, target)
    losses = [float(((weights @ values - target) ** 2).mean()) for weights in grid(2, 1000)]
    assert fitted.loss == pytest.approx(min(losses), rel=1e-4)
    np.testing.assert_allclose(fitted.weights, grid(2, 1000)[int(np.argmin(losses))], atol=1e-3)
    # Weights that are inverse to the variances: 0.8 and 0.2.
    assert fitted.weights == pytest.approx((0.8, 0.2), abs=0.05)
