"""Packed rows and sparse logits give the losses of single documents."""

import pytest
import torch
from tiny_models import VOCABULARY, documents, tiny
from torch import nn
from torch.nn import functional

from tuneline.encoding.examples import Example
from tuneline.encoding.packing import collate
from tuneline.modeling import forward

FAMILIES = ("llama", "gpt2", "qwen3")


def alone(model: nn.Module, example: Example) -> float:
    """The summed loss of one document, computed without tuneline."""
    logits = model(input_ids=torch.tensor([example.input_ids])).logits[0, :-1]
    return functional.cross_entropy(logits, torch.tensor(example.labels[1:]), reduction="sum").item()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@torch.no_grad()
def test_packed_and_sparse_losses_equal_those_of_single_documents(family: str, attention: str) -> None:
    model = tiny(family, attn_implementation=attention)
    examples = documents(6)
    expected = sum(alone(model, example) for example in examples)
    tokens = sum(label != -100 for example in examples for label in example.labels)
    for sparse in (False, True):
        packed = collate([examples[:4], examples[4:]], pad=1)
        single = collate([[example] for example in examples], pad=1)
        for batch, is_packed in ((packed, True), (single, False)):
            nll, count = forward.nll(model, batch, packed=is_packed, sparse=sparse)
            assert count == tokens
            assert nll.item() / tokens == pytest.approx(expected / tokens, abs=1e-6)
    summed, count = forward.total_nll(model, examples, pad=1, sparse=True, batch_size=4)
    assert count == tokens
    assert summed / tokens == pytest.approx(expected / tokens, abs=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_sparse_loss_has_the_same_gradients(family: str) -> None:
    gradients = []
    for sparse in (False, True):
        model = tiny(family)
        forward.nll(model, collate([documents(4)], pad=1), packed=True, sparse=sparse)[0].backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    for plain, sparse_one in zip(*gradients, strict=True):
        assert plain is not None
        torch.testing.assert_close(plain, sparse_one, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_packed_documents_do_not_see_each_other(family: str) -> None:
    model = tiny(family)
    first, second = documents(2)
    other = Example([(token + 1) % VOCABULARY for token in first.input_ids], first.labels)
    seen = [
        model(**{name: batch[name] for name in ("input_ids", "position_ids")}, use_cache=False).logits[
            0, len(first.input_ids) :
        ]
        for batch in (collate([[first, second]], pad=1), collate([[other, second]], pad=1))
    ]
    torch.testing.assert_close(seen[0], seen[1], atol=1e-6, rtol=0)


@pytest.mark.parametrize(("family", "allowed"), [("llama", True), ("gpt2", True), ("qwen3", True), ("mamba", False)])
def test_packing_is_allowed_if_the_model_separates_documents(family: str, allowed: bool) -> None:
    assert forward.allows_packing(tiny(family), documents(3)) is allowed


@pytest.mark.parametrize("family", [*FAMILIES, "mamba"])
def test_sparse_loss_is_allowed(family: str) -> None:
    assert forward.allows_sparse(tiny(family), documents(3))


class Scaled(nn.Module):
    """An output head that reads all positions of a row."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.head(hidden - hidden.mean(dim=1, keepdim=True))


def test_a_head_that_mixes_positions_forbids_the_sparse_loss() -> None:
    model = tiny("llama")
    head = model.get_output_embeddings()
    assert head is not None
    model.lm_head = Scaled(head)
    assert not forward.allows_sparse(model, documents(3))
