"""transformers' Trainer as its manual shows it, on packed rows that were made before.

python benchmarks/peers/plain_trainer.py BASE BATCHES MODEL LEARNING_RATE THREADS
"""

import sys
from typing import Any

import torch
from torch.utils.data import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments

_IGNORED = -100


class Rows(Dataset[dict[str, Any]]):
    """The rows of the batches, one by one."""

    def __init__(self, batches: list[dict[str, torch.Tensor]]) -> None:
        width = max(batch["input_ids"].shape[1] for batch in batches)
        self._rows = []
        for batch in batches:
            room = (0, width - batch["input_ids"].shape[1])
            ids = torch.nn.functional.pad(batch["input_ids"], room)
            targets = torch.nn.functional.pad(batch["targets"], room, value=_IGNORED)
            positions = torch.nn.functional.pad(batch["position_ids"], room)
            # The model moves labels by one itself: a target belongs to the position after it.
            labels = torch.nn.functional.pad(targets, (1, 0), value=_IGNORED)[:, :-1]
            self._rows += [
                {"input_ids": row, "position_ids": places, "labels": wanted}
                for row, places, wanted in zip(ids, positions, labels, strict=True)
            ]

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self._rows[index]


def main(base: str, batches: str, target: str, learning_rate: str, threads: str) -> None:
    torch.set_num_threads(int(threads))
    made = torch.load(batches)
    arguments = TrainingArguments(
        output_dir=target,
        learning_rate=float(learning_rate),
        num_train_epochs=1,
        per_device_train_batch_size=len(made[0]["input_ids"]),
        report_to=[],
        use_cpu=True,
    )
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    # A cache would switch the borders of packed documents off.
    model.config.use_cache = False
    trainer = Trainer(model=model, args=arguments, train_dataset=Rows(made))
    trainer.train()
    trainer.save_model(target)
    AutoTokenizer.from_pretrained(base).save_pretrained(target)


if __name__ == "__main__":
    main(*sys.argv[1:])
