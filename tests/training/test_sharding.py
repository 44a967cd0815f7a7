"""Processes that share out the weights learn what one process with all of them does."""

from pathlib import Path

from test_distributed import hold_equal

from tuneline.params import editing

SHARDED = {"finetune.nproc_per_node": 2, "finetune.fsdp": "full_shard", "finetune.per_device_train_batch_size": 8}


def test_two_processes_with_half_the_weights_each_learn_what_one_with_all_does(workplace: Path) -> None:
    editing.set_values(workplace / "params.yaml", SHARDED)
    hold_equal(workplace, 2)
