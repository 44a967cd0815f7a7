"""Processes that share out weights, gradients and the optimizer's state, where each would else hold all: FSDP2.

The weights of a layer are gathered when it is run, and let go after it. What is written is whole: a checkpoint looks
like any other, and the model comes back as it was handed in.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer
from transformers import PreTrainedModel
from transformers.trainer import OPTIMIZER_NAME, SCHEDULER_NAME

from tuneline.training import checkpoints, distributed, loop


class Shards:
    """A model whose weights lie in all processes, each a part of every one.

    Args:
        model: with the same weights in all processes; until `gather` it has none.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self._handed_in = model
        # Modules of its own around the same tensors: what fully_shard does to a class and its hooks is never undone.
        same = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
        self.model = copy.deepcopy(model, cast(dict[int, Any], same))
        mesh = init_device_mesh(model.device.type, (distributed.world(),))
        for module in (*_blocks(self.model), self.model):
            # Said of the root too, whose weights would else stay gathered through an evaluation.
            fully_shard(module, mesh=mesh, reshard_after_forward=True)
        self.let_go()

    def gather(self, *, everywhere: bool) -> PreTrainedModel:
        """The model that was handed in, with its weights as they are now, in main memory. All processes call this.

        Args:
            everywhere: in all processes; else in the first, and in the others it has none.
        """
        for handed_in, sharded in zip(self._handed_in.parameters(), self.model.parameters(), strict=True):
            whole = _whole(sharded.detach())
            if everywhere or not distributed.rank():
                handed_in.data = whole.cpu()
        return self._handed_in

    def let_go(self) -> None:
        """Have no weights in the model that was handed in."""
        for parameter in self._handed_in.parameters():
            parameter.data = parameter.data.new_empty(0)


class ShardedTrainer(loop.ObjectiveTrainer):
    """The loop with a model that is sharded while it runs."""

    def _inner_training_loop(self, *arguments: Any, **more: Any) -> Any:
        assert self.model is not None
        self._shards = Shards(cast(PreTrainedModel, self.model))
        self.model = self.model_wrapped = self._shards.model
        # transformers' word for a model that needs no wrapper of accelerate's, which would be DDP.
        self.is_distributed_loading_by_transformers = True
        made = super()._inner_training_loop(*arguments, **more)
        self.model = self.model_wrapped = self._shards.gather(everywhere=True)
        return made

    def _has_mixed_mesh_grads(self, model: nn.Module) -> bool:
        # transformers' way for these is the one whose norm is that of all processes, not of this one's part.
        return True

    @contextmanager
    def _defer_fsdp_gradient_reduction(self) -> Iterator[None]:
        # Gradients that wait for the last batch of a step would be those of whole weights.
        yield

    def lend_to_checkpoint(self) -> None:
        """Give the first process this one's parts, in the order in which it writes them."""
        self._shards.gather(everywhere=False)
        whole_state(cast(Optimizer, self.optimizer))

    def save_weights(self, checkpoint: Path) -> None:
        """Write the weights, and only them, while the other processes lend their parts."""
        checkpoints.save_weights(self._shards.gather(everywhere=False), checkpoint)
        self._shards.let_go()

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        torch.save(whole_state(cast(Optimizer, self.optimizer)), Path(output_dir) / OPTIMIZER_NAME)
        torch.save(cast(Any, self.lr_scheduler).state_dict(), Path(output_dir) / SCHEDULER_NAME)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None:
            return
        # Mapped, as each process reads only its part.
        state = torch.load(Path(checkpoint) / OPTIMIZER_NAME, map_location="cpu", mmap=True, weights_only=True)
        optimizer = cast(Optimizer, self.optimizer)
        optimizer.load_state_dict(own_state(state, optimizer))
        cast(Any, self.lr_scheduler).load_state_dict(torch.load(Path(checkpoint) / SCHEDULER_NAME, weights_only=True))


def whole_state(optimizer: Optimizer) -> dict[str, Any]:
    """An optimizer's state as it would be of weights that are not sharded. All processes call this.

    Returns:
        In the first process the state, in main memory; in the others it lacks what was sharded.
    """

    def whole(value: Any) -> Any:
        if not isinstance(value, DTensor):
            return value
        gathered = _whole(value)
        return None if distributed.rank() else gathered.cpu()

    state = optimizer.state_dict()
    numbers = state["state"].items()
    return state | {"state": {number: {name: whole(kept[name]) for name in kept} for number, kept in numbers}}


def own_state(whole: dict[str, Any], optimizer: Optimizer) -> dict[str, Any]:
    """This process's part of what `whole_state` gave.

    Args:
        whole: the state of all processes.
        optimizer: of this process's parts of the weights.
    """

    def own(value: Any, parameter: Tensor) -> Any:
        if not isinstance(value, Tensor) or value.shape != parameter.shape:
            return value
        assert isinstance(parameter, DTensor)
        part = distribute_tensor(value, parameter.device_mesh, parameter.placements, src_data_rank=None)
        # A copy: the part is a view of the whole.
        return torch.zeros_like(parameter, dtype=value.dtype).copy_(part)

    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    numbers = whole["state"].items()
    state = {number: {name: own(kept[name], parameters[number]) for name in kept} for number, kept in numbers}
    return whole | {"state": state}


def _whole(part: Tensor) -> Tensor:
    assert isinstance(part, DTensor)
    return part.full_tensor()


def _blocks(module: nn.Module) -> Iterator[nn.Module]:
    """The layers of a model: what stands in its outermost lists, which every batch goes through."""
    for child in module.children():
        if isinstance(child, nn.ModuleList):
            yield from child
        else:
            yield from _blocks(child)
