"""The loss of a batch at its supervised positions, and checks of what a model allows: sparse logits and packing."""

import heapq
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from tuneline.encoding.examples import IGNORED, Example, lengths
from tuneline.encoding.packing import collate

TOLERANCE = 1e-5
"""Two losses per token are equal if they differ by less: float32 sums in another order do."""

_PROBE_TOKENS = 48
_PROBE_DOCUMENTS = 3


def nll(
    model: nn.Module, batch: dict[str, Tensor], *, packed: bool, sparse: bool, smoothing: float = 0.0
) -> tuple[Tensor, Tensor]:
    """The summed negative log-likelihood of the targets of a batch.

    Args:
        model: a causal language model.
        batch: of `packing.collate`.
        packed: whether rows may have several documents; else the model makes its own position_ids.
        sparse: send only positions with a target through the output head.
        smoothing: label smoothing.

    Returns:
        The sum in nats, and the number of targets.
    """
    targets = batch["targets"]
    inputs: dict[str, Any] = {"input_ids": batch["input_ids"], "use_cache": False}
    if packed:
        inputs["position_ids"] = batch["position_ids"]
    supervised = (targets.flatten() != IGNORED).nonzero().squeeze(1)
    logits = logits_at(supervised, model, inputs, sparse=sparse)
    wanted = targets.flatten()[supervised]
    loss = functional.cross_entropy(logits.float(), wanted, reduction="sum", label_smoothing=smoothing)
    return loss, torch.tensor(len(supervised))


def logits_at(positions: Tensor, model: nn.Module, inputs: dict[str, Any], *, sparse: bool) -> Tensor:
    """Logits of some positions of a batch, [positions, vocabulary].

    Args:
        positions: indices into the flattened batch, int64.
        model: a causal language model.
        inputs: of its forward call.
        sparse: send only these positions through the output head. A hook selects the input of the head, so that the
            model's own scaling and soft-capping after it stay; `allows_sparse` checks the result.
    """
    if not sparse:
        return model(**inputs).logits.flatten(0, 1)[positions]
    head = _head(model)
    assert head is not None
    hook = head.register_forward_pre_hook(
        lambda _, arguments: (arguments[0].flatten(0, 1).index_select(0, positions).unsqueeze(0), *arguments[1:])
    )
    try:
        return model(**inputs).logits.squeeze(0)
    finally:
        hook.remove()


def to_device(model: PreTrainedModel, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """The batch on the model's device."""
    return {name: tensor.to(model.device) for name, tensor in batch.items()}


def _head(model: nn.Module) -> nn.Module | None:
    # With several processes the model is in a wrapper.
    find = getattr(getattr(model, "module", model), "get_output_embeddings", None)
    head = find() if callable(find) else None
    return head if isinstance(head, nn.Module) else None


@torch.no_grad()
def total_nll(
    model: PreTrainedModel, examples: Sequence[Example], *, pad: int, sparse: bool, batch_size: int
) -> tuple[float, int]:
    """The summed negative log-likelihood of many examples, one document per row.

    Args:
        model: a causal language model.
        examples: none longer than the model's context.
        pad: the padding token.
        sparse: as for `nll`.
        batch_size: rows per batch.

    Returns:
        The sum in nats, and the number of targets.
    """
    model.eval()
    summed, count = 0.0, 0
    # Rows of similar length need the least padding.
    ordered = sorted(examples, key=lambda example: len(example.input_ids))
    for start in range(0, len(ordered), batch_size):
        batch = collate([[example] for example in ordered[start : start + batch_size]], pad)
        loss, targets = nll(model, batch, packed=False, sparse=sparse)
        summed += loss.item()
        count += int(targets)
    return summed, count


def probe(examples: Sequence[Example]) -> list[Example]:
    """The beginnings of the longest examples, all supervised, for `allows_sparse` and `allows_packing`."""
    tokens = lengths(examples)
    longest = heapq.nlargest(_PROBE_DOCUMENTS, range(len(tokens)), key=tokens.__getitem__)
    beginnings = [examples[index].input_ids[:_PROBE_TOKENS] for index in longest]
    return [Example(ids, ids) for ids in beginnings]


@torch.no_grad()
def allows_sparse(model: PreTrainedModel, examples: list[Example]) -> bool:
    """Whether the loss stays the same if only the supervised positions go through the output head."""
    if _head(model) is None:
        return False
    model.eval()
    batch = to_device(model, collate([[example] for example in examples], pad=0))
    plain, count = nll(model, batch, packed=False, sparse=False)
    try:
        sparse, _ = nll(model, batch, packed=False, sparse=True)
    except (RuntimeError, ValueError, IndexError):
        return False
    return bool((plain - sparse).abs() / count < TOLERANCE)


@torch.no_grad()
def allows_packing(model: PreTrainedModel, examples: list[Example]) -> bool:
    """Whether documents have the same loss in one row as in rows of their own."""
    model.eval()
    alone, count = nll(
        model, to_device(model, collate([[example] for example in examples], pad=0)), packed=False, sparse=False
    )
    try:
        together, _ = nll(model, to_device(model, collate([examples], pad=0)), packed=True, sparse=False)
    except (TypeError, RuntimeError, ValueError, IndexError):
        # Models without position_ids refuse the argument.
        return False
    return bool((alone - together).abs() / count < TOLERANCE)
