"""What the loop of transformers lacks against overfitting: L1, learning rates by layer, and noise per document."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from transformers import PreTrainedModel

from tuneline.errors import TrainingError
from tuneline.modeling import layers


def shrink_after_steps(optimizer: Optimizer, parameters: Sequence[Tensor], strength: float) -> None:
    """Move weights towards 0 after each step by the learning rate times `strength`; what passes 0 stays 0.

    This is the proximal step of an L1 penalty (soft thresholding), apart from the gradient of the loss as the decay of
    AdamW is: added to the gradient, Adam would divide the penalty by the size of the gradients
    (https://arxiv.org/abs/1711.05101 on L2).

    Args:
        optimizer: its groups have the learning rates.
        parameters: the weights that are moved.
        strength: of the penalty.

    Raises:
        TrainingError: the optimizer keeps weights that its groups do not show.
    """
    moved = {id(parameter) for parameter in parameters}
    if moved - {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}:
        raise TrainingError(_hides("l1_decay", optimizer))

    @torch.no_grad()
    def shrink(stepped: Optimizer, *_: Any) -> None:
        for group in stepped.param_groups:
            most = group["lr"] * strength
            for parameter in group["params"]:
                if id(parameter) in moved:
                    parameter.sub_(parameter.clamp(-most, most))

    optimizer.register_step_post_hook(shrink)


def split_by_layer(optimizer: Optimizer, model: nn.Module, decay: float) -> float:
    """Give each layer its learning rate (`layers.rate_factors`); call this before the first step.

    Args:
        optimizer: of the model; its groups are divided.
        model: a model, also one with adapters.
        decay: the factor from each layer to the layer below it.

    Returns:
        The factor of the first group, whose rate the loop logs.

    Raises:
        TrainingError: the model has no layers, or the optimizer keeps weights that its groups do not show.
    """
    factors, named = layers.rate_factors(model, decay), dict(model.named_parameters())
    factor_of = {id(named[name]): factors[part] for part, names in layers.parts(model).items() for name in names}
    groups: list[dict[str, Any]] = []
    for group in optimizer.param_groups:
        together: dict[float, list[Tensor]] = {}
        for parameter in group["params"]:
            if id(parameter) not in factor_of:
                raise TrainingError(_hides("layerwise_lr_decay", optimizer))
            together.setdefault(factor_of[id(parameter)], []).append(parameter)
        groups += [
            group | {"params": together[factor], "lr": group["lr"] * factor, "factor": factor}
            for factor in sorted(together, reverse=True)
        ]
    optimizer.param_groups[:] = groups
    return groups[0]["factor"]


def _hides(key: str, optimizer: Optimizer) -> str:
    return (
        f"finetune.{key}: does not fit optim {type(optimizer).__name__}, which has no rate for each weight; remove it, "
        "or set optim to adamw_torch"
    )


@contextmanager
def embedding_noise(model: nn.Module, alpha: float) -> Iterator[Callable[[dict[str, Tensor]], None]]:
    """NEFTune (Jain et al. 2024, https://arxiv.org/abs/2310.05914): noise on the embeddings while weights are learned.

    The noise of a document of L tokens is uniform between -alpha / sqrt(L * d) and alpha / sqrt(L * d), where d is the
    size of an embedding. L is the length of the document itself: with the width of the row, as transformers takes it,
    a document would get less noise in a packed row, or in a batch with a longer one. Nothing is added where no gradient
    is taken: in an evaluation, and to the reference of preferences.

    Args:
        model: the model, also one with adapters.
        alpha: the strength.

    Yields:
        A function to call with each batch before the model sees it.
    """
    lengths: dict[str, Tensor] = {}

    def see(batch: dict[str, Tensor]) -> None:
        lengths["now"] = document_lengths(batch)

    def add(module: nn.Module, _: Any, output: Tensor) -> Tensor:
        if not (module.training and torch.is_grad_enabled()):
            return output
        scale = alpha / (lengths["now"].to(output.device) * output.shape[-1]).sqrt()
        return output + torch.zeros_like(output).uniform_(-1, 1) * scale.unsqueeze(-1).to(output.dtype)

    hook = cast(PreTrainedModel, model).get_input_embeddings().register_forward_hook(add)
    try:
        yield see
    finally:
        hook.remove()


def document_lengths(batch: dict[str, Tensor]) -> Tensor:
    """[rows, tokens] how long the document of each token is; padding is not counted, or is a document of its own."""
    if "position_ids" not in batch:
        return batch["attention_mask"].sum(dim=1, keepdim=True).expand_as(batch["attention_mask"]).float()
    number = (batch["position_ids"] == 0).cumsum(dim=1) - 1
    counts = torch.zeros(number.shape, device=number.device)
    counts.scatter_add_(1, number, torch.ones_like(counts))
    return counts.gather(1, number)
