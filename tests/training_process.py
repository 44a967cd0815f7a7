"""A training that torchrun runs in several processes.

python -m torch.distributed.run --nproc_per_node 2 training_process.py FOLDER TASK PROCESSES
"""

import gc
import sys
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from tuneline import params
from tuneline.core import files
from tuneline.finetuning import mixture, tasks
from tuneline.modeling import models
from tuneline.training import distributed


def bytes_of_weights() -> int:
    """The bytes of all weights in this process, of any model."""
    tensors: list[Any] = [found for found in gc.get_objects() if issubclass(type(found), Tensor)]
    weights = [tensor for tensor in tensors if isinstance(tensor, nn.Parameter)]
    parts = [weight.to_local() if isinstance(weight, DTensor) else weight for weight in weights]
    storages = {part.untyped_storage().data_ptr(): part.untyped_storage() for part in parts}
    return sum(storage.nbytes() for storage in storages.values())


def train(place: Path, processes: int) -> None:
    """Do the same as the stage, without MLflow."""
    p = params.load(place / "params.yaml")
    models.use_threads(1)
    shared = p.finetune.per_device_train_batch_size // processes
    how = {"nproc_per_node": processes, "per_device_train_batch_size": shared}
    section = p.finetune.model_copy(update=how if processes > 1 else how | {"fsdp": None})
    sets = mixture.find_sources(p)
    ready = tasks.prepare(p.task, place / "data/clean", place / "models/base", section, p.compute, others=sets)
    folder = place / f"work/{processes}"
    held: list[int] = []
    made = tasks.train(ready, section, p.compute, folder=folder, log=lambda *_: held.append(bytes_of_weights()))
    files.write_json(place / f"held-{processes}-{distributed.rank()}.json", held)
    if distributed.rank() == 0:
        models.save(made.model, ready.tokenizer, place / f"made-{processes}", ready.mode)
        files.write_json(place / f"made-{processes}.json", made.history.lines)


if __name__ == "__main__":
    count = int(sys.argv[2])
    with distributed.together(count, "cpu"):
        train(Path(sys.argv[1]), count)
