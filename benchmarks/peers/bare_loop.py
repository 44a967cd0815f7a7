"""The floor: a loop in PyTorch over batches that were made before, and nothing else.

    python benchmarks/peers/bare_loop.py BASE BATCHES MODEL LEARNING_RATE THREADS

All logits are computed, as a plain forward call does; the rate falls to nothing in a straight line.
"""

import sys

import torch
from torch.nn import functional
from transformers import AutoModelForCausalLM, AutoTokenizer


def main(base: str, batches: str, target: str, learning_rate: str, threads: str) -> None:
    torch.set_num_threads(int(threads))
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).train()
    steps = torch.load(batches)
    optimizer = torch.optim.AdamW(model.parameters(), lr=float(learning_rate), weight_decay=0.0, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / len(steps))
    for batch in steps:
        logits = model(input_ids=batch["input_ids"], position_ids=batch["position_ids"], use_cache=False).logits
        loss = functional.cross_entropy(logits.flatten(0, 1), batch["targets"].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    model.save_pretrained(target)
    AutoTokenizer.from_pretrained(base).save_pretrained(target)


if __name__ == "__main__":
    main(*sys.argv[1:])
