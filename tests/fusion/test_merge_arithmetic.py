"""Each method against its definition, written out here with NumPy in float64."""

import math
from typing import Any

import numpy as np
import peft
import pytest
import torch
from tiny_models import tiny
from torch import Tensor

from tuneline.fusion.merging import merge_arithmetic, merge_recipe
from tuneline.fusion.merging.merge_recipe import METHODS, RANDOM, SPARSE, Parent, Recipe

SHAPES = [(7, 5), (33,), (1,), (4, 3, 2)]


def recipe(method: str, weights: list[float], density: float | None = None, seed: int | None = None) -> Recipe:
    parents = tuple(Parent(str(number), weight) for number, weight in enumerate(weights, 1))
    return Recipe(method, parents, density, seed)


def tensors(shape: tuple[int, ...], count: int) -> tuple[Tensor, list[Tensor]]:
    generator = torch.Generator().manual_seed(len(shape) * 10 + count)
    base = torch.randn(shape, generator=generator)
    return base, [base + 0.3 * torch.randn(shape, generator=generator) for _ in range(count)]


def trimmed(change: np.ndarray, density: float) -> np.ndarray:
    """The largest numbers of a task vector; the others are 0."""
    kept = np.zeros(change.size)
    order = np.argsort(-np.abs(change.ravel()), kind="stable")[: int(density * change.size)]
    kept[order] = change.ravel()[order]
    return kept.reshape(change.shape)


def agreeing_mean(changes: list[np.ndarray], weights: list[float]) -> np.ndarray:
    """The sum of the weighted numbers that have the sign of their total, divided by how many they are."""
    sign = np.where(sum(changes) >= 0, 1, -1)
    agrees = [np.sign(change) == sign for change in changes]
    total = sum(weight * change * has for weight, change, has in zip(weights, changes, agrees, strict=True))
    return total / np.maximum(sum(has.astype(int) for has in agrees), 1)


def dropped(change: Tensor, density: float) -> Tensor:
    return change * torch.bernoulli(torch.full_like(change, density)) / density


def defined(how: Recipe, name: str, base: Tensor, parents: list[Tensor]) -> np.ndarray:
    weights = [parent.weight for parent in how.parents]
    origin = base.double().numpy()
    full = [parent.double().numpy() for parent in parents]
    if how.method == "linear":
        return np.average(full, axis=0, weights=weights)
    if how.method == "slerp":
        one, other = full
        t = weights[1] / sum(weights)
        angle = math.acos(np.vdot(one, other) / np.linalg.norm(one) / np.linalg.norm(other))
        return (np.sin((1 - t) * angle) * one + np.sin(t * angle) * other) / np.sin(angle)
    changes = [tensor - origin for tensor in full]
    if how.density is not None and how.method == "ties":
        changes = [trimmed(change, how.density) for change in changes]
    elif how.density is not None:
        torch.manual_seed(merge_arithmetic.seed_of(how.seed or 0, name))
        changes = [dropped(parent - base, how.density).double().numpy() for parent in parents]
    if how.method in ("ties", "dare_ties"):
        return origin + agreeing_mean(changes, weights)
    return origin + sum(weight * change for weight, change in zip(weights, changes, strict=True))


# An arc needs two dimensions; another test has tensors without a direction.
CASES = [(method, shape) for method in METHODS for shape in SHAPES if (method, shape) != ("slerp", (1,))]


@pytest.mark.parametrize(("method", "shape"), CASES, ids=str)
@pytest.mark.parametrize("density", [0.3, 1.0])
def test_a_method_equals_its_definition_to_a_millionth(method: str, shape: tuple[int, ...], density: float) -> None:
    weights = [0.7, 0.5] if method == "slerp" else [0.7, 0.5, 1.1]
    base, parents = tensors(shape, len(weights))
    how = recipe(method, weights, density if method in SPARSE else None, 5 if method in RANDOM else None)
    merged = merge_arithmetic.merge("layer.weight", parents, base, how)
    np.testing.assert_allclose(merged.numpy(), defined(how, "layer.weight", base, parents), rtol=0, atol=1e-6)


def test_task_arithmetic_with_equal_shares_is_the_average() -> None:
    base, parents = tensors((7, 5), 3)
    shared = recipe("task_arithmetic", [1 / 3] * 3)
    torch.testing.assert_close(
        merge_arithmetic.merge("a", parents, base, shared),
        merge_arithmetic.merge("a", parents, base, recipe("linear", [1.0] * 3)),
        rtol=0,
        atol=1e-6,
    )


def test_dare_is_right_on_average_draws_by_its_seed_and_leaves_other_random_numbers_alone() -> None:
    base, parents = tensors((7, 5), 2)
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    drawn = [merge_arithmetic.merge("a", parents, base, recipe("dare_linear", [0.5, 0.5], 0.5, 3)) for _ in range(2)]
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(drawn[0], drawn[1])
    other_seed = merge_arithmetic.merge("a", parents, base, recipe("dare_linear", [0.5, 0.5], 0.5, 4))
    other_name = merge_arithmetic.merge("b", parents, base, recipe("dare_linear", [0.5, 0.5], 0.5, 3))
    assert not torch.equal(drawn[0], other_seed)
    assert not torch.equal(drawn[0], other_name)
    many = [
        merge_arithmetic.merge("a", parents, base, recipe("dare_linear", [0.5, 0.5], 0.5, seed)) for seed in range(400)
    ]
    mean = torch.stack(many).mean(dim=0)
    assert (mean - (parents[0] + parents[1]) / 2).abs().max() < 0.1


def test_slerp_keeps_the_length_and_is_the_average_where_there_is_no_arc() -> None:
    one, other = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    half = merge_arithmetic.spherical(one, other, 0.5)
    assert half.norm() == pytest.approx(1.0)
    assert (one + other).div(2).norm() < 0.71
    zeros, ones = torch.zeros(3), torch.ones(3)
    for start, end in ((zeros, ones), (ones, ones), (ones, -ones)):
        assert torch.equal(merge_arithmetic.spherical(start, end, 0.25), 0.75 * start + 0.25 * end)
    # 1 - 1e-7 and 1 have the cosine 1 in float32.
    near = merge_arithmetic.spherical(one, torch.tensor([1.0, 1e-4]), 0.5)
    torch.testing.assert_close(near, torch.tensor([1.0, 0.5e-4]), rtol=0, atol=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_a_head_that_the_base_does_not_have_is_averaged(method: str) -> None:
    _, parents = tensors((4, 3), 2)
    how = recipe(method, [1.0, 3.0], 0.2 if method in SPARSE else None, 0 if method in RANDOM else None)
    merged = merge_arithmetic.merge("score.weight", parents, None, how)
    if method == "slerp":
        assert torch.equal(merged, merge_arithmetic.spherical(parents[0], parents[1], 0.75))
    else:
        torch.testing.assert_close(merged, 0.25 * parents[0] + 0.75 * parents[1], rtol=0, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_bfloat16_is_computed_in_float32_and_rounded_once(method: str) -> None:
    base, parents = tensors((7, 5), 2)
    half, halves = base.bfloat16(), [parent.bfloat16() for parent in parents]
    how = recipe(method, [0.3, 0.7], 0.5 if method in SPARSE else None, 0 if method in RANDOM else None)
    merged = merge_arithmetic.merge("a", halves, half, how)
    assert merged.dtype == torch.bfloat16
    wide = merge_arithmetic.merge("a", [parent.float() for parent in halves], half.float(), how)
    assert torch.equal(merged, wide.bfloat16())


def test_of_the_ways_to_merge_adapters_only_cat_averages_the_merged_weights() -> None:
    """Why a merge works on whole weights: the mean of B A is not the mean of B times the mean of A."""
    config = peft.LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj"], task_type="CAUSAL_LM")
    names = ("one", "two")

    def adapted() -> Any:
        model: Any = peft.get_peft_model(tiny("llama"), config, adapter_name="one")
        model.add_adapter("two", config)
        torch.manual_seed(0)
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                torch.nn.init.normal_(parameter, std=0.1)
        return model

    def weight(model: Any) -> Tensor:
        return model.merge_and_unload().model.layers[0].self_attn.q_proj.weight.detach()

    parents = []
    for name in names:
        model = adapted()
        model.set_adapter(name)
        parents.append(weight(model))
    average = merge_arithmetic.merge("a", parents, None, recipe("linear", [0.5, 0.5]))
    differences = {}
    for kind in ("cat", "linear", "svd", "ties", "dare_linear"):
        model = adapted()
        sparse = {"density": 1.0} if kind in ("ties", "dare_linear") else {}
        model.add_weighted_adapter(list(names), [0.5, 0.5], "merged", combination_type=kind, **sparse)
        model.set_adapter("merged")
        differences[kind] = float((weight(model) - average).abs().max())
    assert differences.pop("cat") < 1e-6
    assert min(differences.values()) > 1e-3, differences


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (("mean", [1.0, 1.0], None, None), "method 'mean' is unknown; use one of linear, slerp, task_arithmetic, ties"),
        (("linear", [1.0], None, None), "needs two versions, and 1 is given"),
        (("slerp", [1.0] * 3, None, None), "slerp is defined between two versions, and 3 are given"),
        (("linear", [1.0, math.nan], None, None), "a weight must be a number"),
        (("linear", [1.0, 0.0], None, None), "would not be in the result; leave the version out"),
        (("ties", [1.0, -1.0], 0.5, None), "use task_arithmetic to subtract"),
        (("ties", [1.0, 1.0], 0.0, None), "density is 0; it is a share above 0"),
        (("dare_ties", [1.0, 1.0], 1.01, 0), "density is 1.01"),
        (("dare_ties", [1.0, 1.0], math.nan, 0), "density is nan"),
        (("linear", [1.0, 1.0], 0.5, None), "density has no meaning for linear"),
        (("ties", [1.0, 1.0], 0.5, 0), "seed has no meaning for ties"),
        (("dare_linear", [1.0, 1.0], 0.5, -1), "seed is -1"),
    ],
)
def test_impossible_values_are_told(values: tuple[Any, ...], said: str) -> None:
    (found,) = merge_recipe.problems(*values)
    assert said in found


def test_values_that_fit_are_no_problem_and_several_problems_are_told_at_once() -> None:
    assert merge_recipe.problems("task_arithmetic", [1.0, -0.5], None, None) == []
    assert merge_recipe.problems("dare_ties", [1.0, 1.0, 1.0], 1.0, 2**32 - 1) == []
    assert len(merge_recipe.problems("slerp", [1.0, 0.0, 1.0], 2.0, 5)) == 4


def test_a_merge_is_described_in_words() -> None:
    assert recipe("linear", [1.0, 3.0]).describe() == "versions 1 and 2 merged by linear, weights 0.25, 0.75"
    assert recipe("dare_ties", [1.0] * 3, 0.5, 0).describe() == (
        "versions 1, 2 and 3 merged by dare_ties, weights 1, 1, 1, density 0.5, seed 0"
    )
