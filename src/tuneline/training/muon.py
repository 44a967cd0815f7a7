"""Muon for the matrices of the layers and AdamW for all other weights, as one torch Optimizer."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.adamw import adamw

# The quintic iteration of https://kellerjordan.github.io/posts/muon/, with the numbers of torch.optim.Muon.
_A, _B, _C = 3.4445, -4.7750, 2.0315
_ITERATIONS = 5
_MOMENTUM = 0.95
_ADAM_BETAS = (0.9, 0.95)


class MuonAdamW(Optimizer):
    """Muon for the matrices of the layers; AdamW for embeddings, head, norms and biases.

    torch.optim.Muon orthogonalises in bfloat16, which is 20 to 40 times slower than float32 on a processor without
    bfloat16 arithmetic, and it takes only matrices. This optimizer works in the precision of the weights.

    Args:
        model: its trainable parameters are optimized.
        learning_rate: for the matrices.
        weight_decay: for the matrices, decoupled.
        adam_learning_rate: for all other weights, which have no weight decay.
    """

    def __init__(
        self, model: nn.Module, *, learning_rate: float, weight_decay: float, adam_learning_rate: float
    ) -> None:
        ends = {id(parameter) for module in _ends(model) for parameter in module.parameters()}
        trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
        matrices = [parameter for parameter in trainable if parameter.ndim == 2 and id(parameter) not in ends]
        rest = [parameter for parameter in trainable if parameter.ndim != 2 or id(parameter) in ends]
        groups: list[dict[str, Any]] = [
            {"params": matrices, "lr": learning_rate, "weight_decay": weight_decay, "matrices": True},
            {"params": rest, "lr": adam_learning_rate, "weight_decay": 0.0, "matrices": False},
        ]
        # Some schedulers of transformers read the rate from the defaults.
        super().__init__([group for group in groups if group["params"]], {"lr": learning_rate})

    @property
    def matrices(self) -> list[Tensor]:
        """The weights that Muon moves, and that `weight_decay` is for."""
        return [matrix for group in self.param_groups if group["matrices"] for matrix in group["params"]]

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Take one step with the current gradients."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            moved = [parameter for parameter in group["params"] if parameter.grad is not None]
            if group["matrices"]:
                self._muon(group, moved)
            else:
                self._adamw(group, moved)
        return loss

    def _muon(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        rate = group["lr"]
        for parameter in parameters:
            gradient = parameter.grad
            assert gradient is not None
            state = self.state[parameter]
            if not state:
                state["momentum_buffer"] = torch.zeros_like(parameter)
            buffer = state["momentum_buffer"].lerp_(gradient, 1 - _MOMENTUM)
            update = orthogonal(gradient.lerp(buffer, _MOMENTUM))
            parameter.mul_(1 - rate * group["weight_decay"])
            rows, columns = parameter.shape
            parameter.add_(update, alpha=-rate * math.sqrt(max(1.0, rows / columns)))

    def _adamw(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        gradients, averages, squares, steps = [], [], [], []
        for parameter in parameters:
            state = self.state[parameter]
            if not state:
                state["step"] = torch.zeros(())
                state["exp_avg"] = torch.zeros_like(parameter)
                state["exp_avg_sq"] = torch.zeros_like(parameter)
            gradients.append(parameter.grad)
            averages.append(state["exp_avg"])
            squares.append(state["exp_avg_sq"])
            steps.append(state["step"])
        adamw(
            parameters,
            gradients,
            averages,
            squares,
            [],
            steps,
            foreach=False,
            amsgrad=False,
            beta1=_ADAM_BETAS[0],
            beta2=_ADAM_BETAS[1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=1e-8,
            maximize=False,
        )


def _ends(model: nn.Module) -> list[nn.Module]:
    """The embeddings and the output head."""
    found = [module for module in model.modules() if isinstance(module, nn.Embedding)]
    head = getattr(model, "get_output_embeddings", lambda: None)()
    return [*found, head] if isinstance(head, nn.Module) else list(found)


def orthogonal(matrix: Tensor) -> Tensor:
    """An approximation of the orthogonal factor of the polar decomposition; its singular values are around 1.

    Args:
        matrix: a tensor with two dimensions.

    Returns:
        A matrix of the same shape.
    """
    rows, columns = matrix.shape
    x = matrix.T if rows > columns else matrix
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(_ITERATIONS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=_B, alpha=_C), x, beta=_A)
    return x.T if rows > columns else x
