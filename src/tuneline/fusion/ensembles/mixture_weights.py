"""Weights of the members of an ensemble, fitted on rows that no member was trained on; and the mixture of members.

The weights are at least 0 and sum to 1. Both losses are convex functions of the weights, so there is one lowest loss,
and how far weights are from it is known without knowing it: by the Frank-Wolfe gap (Jaggi 2013, "Revisiting
Frank-Wolfe", ICML). scipy's SLSQP (Kraft 1988) finds the weights.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import optimize, special

_EQUAL = 1e-12
# A weight of 0 would be infinitely wrong about a token that only this member expects.
_LEAST = 1e-9
_ROUNDS = 500


@dataclass(frozen=True)
class Fitted:
    """Weights, and how good they are on the rows by which they were fitted."""

    weights: tuple[float, ...]
    loss: float
    """The mean negative log-likelihood in nats, or the mean squared error."""
    uniform_loss: float
    """Of equal weights."""
    gap: float
    """No other weights have a loss that is lower by more than this."""
    items: int
    """The tokens, labels or numbers by which they were fitted."""


def mix(log_probabilities: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The logarithm of the weighted mean of probabilities.

    Args:
        log_probabilities: [members, ...].
        weights: [members].
    """
    shape = (-1, *[1] * (log_probabilities.ndim - 1))
    return np.asarray(special.logsumexp(log_probabilities, axis=0, b=weights.reshape(shape)))


def fit_likelihood(log_probabilities: np.ndarray) -> Fitted:
    """The weights with which the mixture gives the lowest negative log-likelihood.

    Args:
        log_probabilities: of what was right, by each member: [members, items], finite.
    """
    highest = log_probabilities.max(axis=0)
    # Neither the weights nor the gap depend on how an item is scaled.
    likelihoods = np.exp(log_probabilities - highest)

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        mixed = weights @ likelihoods
        return float(-(np.log(mixed) + highest).mean()), -(likelihoods / mixed).mean(axis=1)

    return _lowest(loss, *log_probabilities.shape)


def fit_numbers(values: np.ndarray, targets: np.ndarray) -> Fitted:
    """The weights with which the weighted mean of numbers has the lowest mean squared error.

    As in "Stacked regressions" (Breiman 1996, Machine Learning 24), with weights that sum to 1.

    Args:
        values: by each member: [members, items], finite.
        targets: [items].
    """
    # The weights sum to 1, so the error of the mean is the mean of the errors.
    errors = values - targets
    products = errors @ errors.T / len(targets)

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        slope = products @ weights
        return float(weights @ slope), 2 * slope

    return _lowest(loss, *values.shape)


def _lowest(loss: Callable[[np.ndarray], tuple[float, np.ndarray]], members: int, items: int) -> Fitted:
    uniform = np.full(members, 1 / members)
    before, slope = loss(uniform)
    steepest = float(np.ptp(slope))
    if steepest <= _EQUAL:
        # The members do not differ.
        return Fitted(tuple(uniform.tolist()), before, before, _gap(uniform, slope), items)

    def scaled(weights: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = loss(weights)
        return (value - before) / steepest, gradient / steepest

    found = optimize.minimize(
        scaled,
        uniform,
        jac=True,
        method="SLSQP",
        bounds=[(_LEAST, 1)] * members,
        constraints={"type": "eq", "fun": lambda one: one.sum() - 1, "jac": np.ones_like},
        options={"ftol": 1e-14, "maxiter": _ROUNDS},
    )
    weights = np.clip(found.x, _LEAST, 1)
    weights /= weights.sum()
    value, slope = loss(weights)
    if value > before:
        weights, value, slope = uniform, *loss(uniform)
    return Fitted(tuple(weights.tolist()), value, before, _gap(weights, slope), items)


def _gap(weights: np.ndarray, slope: np.ndarray) -> float:
    return max(0.0, float(weights @ slope - slope.min()))
