"""The arithmetic of a merge, one tensor at a time: averaging, SLERP, task arithmetic, TIES and DARE.

What a parent has learned is its task vector, parent - base (Ilharco et al. 2023, "Editing models with task
arithmetic"). peft computes with task vectors; its `density` applies to each tensor by itself.
"""

import hashlib
import math
import warnings
from collections.abc import Sequence

import torch
from peft.utils import merge_utils
from torch import Tensor

from tuneline.fusion.merging.merge_recipe import SHARED, Recipe, shares

_OPPOSITE = 1e-6
"""Radians that vectors may lack of pointing to opposite sides, between which no arc is the shortest."""


def merge(name: str, parents: Sequence[Tensor], base: Tensor | None, recipe: Recipe) -> Tensor:
    """The merged tensor, computed in float32 at least, in the type of the parents.

    Args:
        name: of the tensor; a random method draws for each name anew.
        parents: the tensor of each parent, all of one shape and one floating type.
        base: the tensor of their base; None if it has none of this shape, as of a head that was made for a task. Then
            the parents are averaged.
        recipe: how they are merged.
    """
    dtype = parents[0].dtype
    wide = torch.promote_types(dtype, torch.float32)
    tensors = [tensor.to(wide) for tensor in parents]
    if recipe.method == "slerp":
        merged = spherical(tensors[0], tensors[1], recipe.weights[1])
    elif recipe.method in SHARED or base is None:
        # A parent that is subtracted gives no head.
        positive = [max(weight, 0.0) for weight in recipe.weights]
        merged = average(tensors, positive if any(positive) else [1.0] * len(tensors))
    else:
        origin = base.to(wide)
        merged = origin + _merge_changes([tensor - origin for tensor in tensors], recipe, name)
    return merged.to(dtype)


def average(tensors: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """The weighted mean."""
    total = torch.zeros_like(tensors[0])
    for tensor, share in zip(tensors, shares(weights), strict=True):
        total.add_(tensor, alpha=share)
    return total


def spherical(one: Tensor, other: Tensor, share: float) -> Tensor:
    """The point of the arc from one tensor to another, taken as vectors (Shoemake 1985, "Animating rotation").

    Args:
        one: where the arc begins.
        other: where it ends.
        share: of the way from one to the other.
    """
    lengths = one.double().norm(), other.double().norm()
    if min(lengths) == 0:
        return average([one, other], [1 - share, share])
    units = [tensor.double() / length for tensor, length in zip((one, other), lengths, strict=True)]
    # Exact for small angles too, where the arc cosine of the product is not (Kahan).
    angle = 2 * math.atan2(float((units[0] - units[1]).norm()), float((units[0] + units[1]).norm()))
    if angle == 0 or math.pi - angle < _OPPOSITE:
        return average([one, other], [1 - share, share])
    left, right = (math.sin(part * angle) / math.sin(angle) for part in (1 - share, share))
    return (one.double() * left + other.double() * right).to(one.dtype)


def _merge_changes(changes: list[Tensor], recipe: Recipe, name: str) -> Tensor:
    weights = torch.tensor(recipe.weights, dtype=changes[0].dtype)
    if recipe.density is None:
        return merge_utils.task_arithmetic(changes, weights)
    method = {
        "ties": merge_utils.ties,
        "dare_linear": merge_utils.dare_linear,
        "dare_ties": merge_utils.dare_ties,
    }[recipe.method]
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The density")
        torch.manual_seed(seed_of(recipe.seed or 0, name))
        return method(changes, weights, recipe.density)


def seed_of(seed: int, name: str) -> int:
    """The seed for a tensor: the order in which tensors are merged changes nothing."""
    return int.from_bytes(hashlib.sha256(f"{seed} {name}".encode()).digest()[:6], "big")
