"""FSDP2: each process has a shard of the weights, gradients and optimizer state, and not all of them.

The weights of a layer are gathered when the layer runs, and released after it. Files are complete: a checkpoint looks
like any other checkpoint, and the model gets its weights back at the end.
"""

import copy
from typing import Any, cast

from torch import Tensor, zeros_like
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer
from transformers import PreTrainedModel

from tuneline.modeling import layers
from tuneline.training import distributed


class Shards:
    """A sharded copy of a model.

    Args:
        model: has the same weights in all processes, and no weights from now until `gather`.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self._original = model
        # New modules around the same tensors: the changes of fully_shard to classes and hooks cannot be undone.
        same = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
        self.model = copy.deepcopy(model, cast(dict[int, Any], same))
        mesh = init_device_mesh(model.device.type, (distributed.world(),))
        for module in (*layers.layers(self.model), self.model):
            # Without reshard_after_forward the weights of the root stay gathered during an evaluation.
            fully_shard(module, mesh=mesh, reshard_after_forward=True)
        self.release()

    def gather(self, *, everywhere: bool) -> PreTrainedModel:
        """The original model with the current weights in main memory. All processes must call this.

        Args:
            everywhere: in all processes; else in the first process only.
        """
        for original, sharded in zip(self._original.parameters(), self.model.parameters(), strict=True):
            full = _full(sharded.detach())
            if everywhere or not distributed.rank():
                original.data = full.cpu()
        return self._original

    def release(self) -> None:
        """Remove the weights of the original model."""
        for parameter in self._original.parameters():
            parameter.data = parameter.data.new_empty(0)


def full_state(optimizer: Optimizer) -> dict[str, Any]:
    """The optimizer state for weights that are not sharded. All processes must call this.

    Returns:
        In the first process the state, in main memory; in the others None instead of each sharded tensor.
    """

    def full(value: Any) -> Any:
        if not isinstance(value, DTensor):
            return value
        gathered = _full(value)
        return None if distributed.rank() else gathered.cpu()

    state = optimizer.state_dict()
    numbers = state["state"].items()
    return state | {"state": {number: {name: full(kept[name]) for name in kept} for number, kept in numbers}}


def own_state(full: dict[str, Any], optimizer: Optimizer) -> dict[str, Any]:
    """This process's shard of an optimizer state.

    Args:
        full: the state that `full_state` gave.
        optimizer: of this process's shards of the weights.
    """

    def own(value: Any, parameter: Tensor) -> Any:
        if not isinstance(value, Tensor) or value.shape != parameter.shape:
            return value
        assert isinstance(parameter, DTensor)
        shard = distribute_tensor(value, parameter.device_mesh, parameter.placements, src_data_rank=None)
        # A copy, because the shard is a view of the full tensor.
        return zeros_like(parameter, dtype=value.dtype).copy_(shard)

    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    numbers = full["state"].items()
    state = {number: {name: own(kept[name], parameters[number]) for name in kept} for number, kept in numbers}
    return full | {"state": state}


def _full(shard: Tensor) -> Tensor:
    assert isinstance(shard, DTensor)
    return shard.full_tensor()
