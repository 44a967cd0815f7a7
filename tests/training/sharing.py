"""Trainings in several processes, in a module that torchrun's processes can run.

python -m torch.distributed.run --nproc_per_node 2 sharing.py FOLDER TASK PROCESSES
"""

import sys
from pathlib import Path

from tuneline import files, params
from tuneline.training import distributed, models, tasks


def train(place: Path, processes: int) -> None:
    """What the stage does, less the tracker."""
    p = params.load(place / "params.yaml")
    models.use_threads(1)
    shared = p.finetune.per_device_train_batch_size // processes
    how = {"nproc_per_node": processes, "per_device_train_batch_size": shared}
    section = p.finetune.model_copy(update=how if processes > 1 else how | {"fsdp": None})
    ready = tasks.prepare(p.task, place / "data/clean", place / "models/base", section, p.compute)
    folder = place / f"work/{processes}"
    made = tasks.train(ready, section, p.compute, folder=folder)
    if distributed.rank() == 0:
        models.save(made.model, ready.tokenizer, place / f"made-{processes}", ready.mode)
        files.write_json(place / f"made-{processes}.json", made.history.lines)


if __name__ == "__main__":
    count = int(sys.argv[2])
    with distributed.together(count, "cpu"):
        train(Path(sys.argv[1]), count)
