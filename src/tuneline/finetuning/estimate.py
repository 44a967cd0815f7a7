"""Estimate the memory and the time of a training before it begins.

    python -m tuneline.finetuning.estimate BYTES

runs the trial: a forward and a backward pass of the longest training batch, and a forward pass of the longest
validation batch. It is a separate process, so it does not change the random numbers and the weights of the training.
"""

import json
import math
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tuneline import params, processes
from tuneline.encoding.examples import CHAT, PLAIN, Example, lengths
from tuneline.errors import TrainingError, one_line
from tuneline.finetuning import mixture, tasks
from tuneline.modeling import adapters, models
from tuneline.progress import Progress, duration
from tuneline.training.objectives import Causal
from tuneline.training.training_config import EVAL_BATCH_SIZE, TrainingConfig

LONG = 1e14
"""Operations of a training above which the trial runs: about half an hour of one core. The trial loads torch and the
base again, which takes about ten seconds; the first steps of a shorter training show its speed as well."""
SHARE = 0.5
"""Share of the free memory above which the trial runs: the formula below is seldom wrong by more than a factor of
two."""
_BYTES = 4
# Beginning of an optimizer's name -> numbers per weight in its state; other optimizers: as many as AdamW.
_STATE = {"sgd": 0, "adafactor": 0, "lion": 1, "muon": 1}
_ADAMW = 2


@dataclass(frozen=True)
class Estimate:
    """The estimate of a training from the sizes of model and data."""

    parameters: int
    fixed: int
    """Bytes of weights, gradients and optimizer state in a process."""
    activations: int
    """Approximate bytes of the activations of the largest batch."""
    tokens: int
    """Tokens of the whole training."""

    @property
    def operations(self) -> float:
        """Floating-point operations of all forward and backward passes."""
        return 6.0 * self.parameters * self.tokens


def estimate(ready: tasks.Ready, config: TrainingConfig, lora: bool) -> Estimate:
    """The estimate of a training.

    Args:
        ready: the model and the examples.
        config: how it is trained.
        lora: whether only adapters are trained; their size is not counted.
    """
    sizes = ready.model.config.get_text_config()
    parameters = models.count_parameters(ready.model)
    state = next((count for name, count in _STATE.items() if config.optim.startswith(name)), _ADAMW)
    copies = 2 if ready.has_pairs and not lora else 1
    weights, named = _BYTES * parameters, dict(ready.model.named_parameters())
    trained = 0 if lora else weights - _BYTES * sum(named[name].numel() for name in ready.frozen)
    fixed = weights * copies + trained * (1 + state)
    if config.fsdp:
        # Each process loads the complete base before it keeps its shard.
        fixed = max(weights, fixed // config.nproc_per_node)
    each, size = _lengths(ready), config.per_device_train_batch_size
    mixed = ready.mixture
    of_epoch = sum(each) if mixed is None else int(mixed.lengths[mixed.of_epoch(0)].sum())
    packed = config.packing and ready.mode in (CHAT, PLAIN) and not ready.has_pairs
    in_batch = size * config.max_length if packed else sum(sorted(each)[-size:])
    batches = math.inf if config.max_steps is None else config.max_steps * config.gradient_accumulation_steps
    layers, hidden = getattr(sizes, "num_hidden_layers", 12), getattr(sizes, "hidden_size", 768)
    activations = _BYTES * in_batch * (20 * layers * hidden + 3 * int(sizes.vocab_size))
    return Estimate(
        parameters,
        fixed,
        activations,
        round(min(config.num_train_epochs * of_epoch, in_batch * config.nproc_per_node * batches)),
    )


def free_memory() -> int:
    """Bytes that Linux can still give to this process; sys.maxsize if the system does not say it."""
    found = [sys.maxsize]
    try:
        lines = Path("/proc/meminfo").read_text("utf-8").splitlines()
        found += [1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable")]
        limit, used = (Path("/sys/fs/cgroup") / name for name in ("memory.max", "memory.current"))
        found.append(int(limit.read_text("utf-8")) - int(used.read_text("utf-8")))
    except (OSError, ValueError):
        pass
    return min(found)


def check(ready: tasks.Ready, p: params.Params) -> None:
    """Print what the training will need, and refuse a training that does not fit into the memory.

    Args:
        ready: the model and the examples.
        p: the params.

    Raises:
        TrainingError: out of memory; names the key to lower.
    """
    config = TrainingConfig.from_params(p.finetune, p.compute)
    estimated = estimate(ready, config, p.finetune.lora is not None)
    free = torch.cuda.mem_get_info()[0] if config.device == "cuda" else free_memory()
    needed = config.nproc_per_node * (estimated.fixed + estimated.activations)
    print(
        f"{estimated.parameters:,} parameters, {estimated.tokens:,} tokens in all; weights, gradients and optimizer "
        f"state take {_size(estimated.fixed)}, a batch about {_size(estimated.activations)}",
        flush=True,
    )
    if needed > SHARE * free or estimated.operations > LONG:
        with Progress("trying the longest batches", unit="trials") as progress:
            tried = trial(free // config.nproc_per_node)
            progress.update(1, 1)
        rate = tried["tokens"] * config.nproc_per_node / max(tried["seconds"], 1e-9)
        print(
            f"the longest batches need {_size(tried['training'])} in training and {_size(tried['validation'])} in "
            f"validation, and {_size(free)} are free; the training takes about {duration(estimated.tokens / rate)}",
            flush=True,
        )


def trial(memory: int) -> dict[str, float]:
    """Run the longest batches in a separate process.

    Args:
        memory: bytes that the process may take.

    Returns:
        `training` and `validation`: the most bytes that were in use; `seconds` and `tokens` of one training batch.

    Raises:
        TrainingError: the batches do not fit into the memory.
    """
    command = processes.bound_command([sys.executable, "-m", "tuneline.finetuning.estimate", str(memory)])
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    last = ran.stdout.splitlines()[-1:] or [""]
    if ran.returncode == 0:
        return json.loads(last[0])
    lowering = {
        "training": "lower finetune.per_device_train_batch_size (and raise gradient_accumulation_steps by as much) or "
        "finetune.max_length, or set finetune.activation_checkpointing: true",
        "validation": "set finetune.per_device_eval_batch_size to less than it is",
        "weights": "use a smaller base, or finetune.lora",
    }
    if last[0] in lowering and (ran.returncode < 0 or "MEMORY" in ran.stderr):
        raise TrainingError(
            f"out of memory: {last[0]} does not fit into the {_size(memory)} that are free; {lowering[last[0]]}"
        )
    raise TrainingError(
        f"the trial of the longest batches failed: {(ran.stderr.splitlines() or ['without a message'])[-1]}"
    )


def _lengths(ready: tasks.Ready) -> Sequence[int]:
    """Tokens of each example; for pairs, of both answers, each with the prompt."""
    if not ready.has_pairs:
        return lengths(ready.examples)
    return [2 * len(pair.prompt_ids) + len(pair.chosen_ids) + len(pair.rejected_ids) for pair in ready.examples]


def _try(memory: int) -> None:
    """Run the trial; the last printed line names the part that is running, or is the result."""
    p = params.load()
    config = TrainingConfig.from_params(p.finetune, p.compute)
    print("weights", flush=True)
    if config.device == "cpu":
        used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        # Without a limit the kernel would kill this process, or another one.
        bound = min(memory + used, sys.maxsize)
        resource.setrlimit(resource.RLIMIT_DATA, (bound, bound))
    models.use_threads(p.compute.threads)
    clean, base = Path(p.paths.clean), Path(p.paths.base)
    ready = tasks.prepare(p.task, clean, base, p.finetune, p.compute, others=mixture.find_sources(p))
    state = estimate(ready, config, p.finetune.lora is not None).fixed - _BYTES * models.count_parameters(ready.model)
    kept = torch.empty(max(state, 0), dtype=torch.uint8, device=ready.model.device)
    if p.finetune.lora:
        model: Any = adapters.wrap(ready.model, p.finetune.lora.model_dump(), config.seed)
    else:
        model = ready.model
    if config.activation_checkpointing or config.gradient_checkpointing:
        model.gradient_checkpointing_enable()
    make_objective = tasks.TASKS[ready.task].objective
    if make_objective:
        objective = make_objective(ready, p.finetune, p.compute)
        size, checked = config.per_device_train_batch_size, list(ready.validation)
        examples = ready.examples
    else:
        examples = [
            Example(pair.prompt_ids + ids, pair.prompt_ids + ids)
            for pair in ready.examples
            for ids in (pair.chosen_ids, pair.rejected_ids)
        ]
        objective = Causal.for_model(model, examples, pad=models.pad_token_id(ready.tokenizer), packing=False)
        size, checked = 2 * config.per_device_train_batch_size, examples
    print("training", flush=True)
    began = time.monotonic()
    batch = objective.collate(_longest(examples, size, config.max_length if objective.packed else 0))
    tokens = int(batch["tokens"])
    model.train()
    batch = {name: tensor.to(ready.model.device) for name, tensor in batch.items()}
    kind = torch.bfloat16 if config.precision == "bfloat16" else torch.float32
    with torch.autocast(config.device, dtype=kind, enabled=kind is torch.bfloat16):
        loss, weight = objective.loss(model, batch)
    (loss / weight).backward()
    seconds, training = time.monotonic() - began, _peak(config.device)
    print("validation", flush=True)
    model.eval()
    if checked:
        rows = _longest(checked, config.per_device_eval_batch_size or EVAL_BATCH_SIZE, 0)
        with torch.no_grad():
            objective.measure(
                model, [{name: part.to(ready.model.device) for name, part in objective.collate(rows).items()}]
            )
    del kept
    found = {"training": training, "validation": _peak(config.device), "seconds": seconds, "tokens": tokens}
    print(json.dumps(found))


def _longest(examples: Sequence[Any], size: int, width: int) -> list[list[Any]]:
    """The longest examples as rows of a batch; with a width above 0, packed rows of this width."""
    tokens = lengths(examples)
    order = sorted(range(len(examples)), key=lambda number: -tokens[number])
    if not width:
        return [[examples[number]] for number in order[:size]]
    rows: list[list[Any]] = [[] for _ in range(size)]
    room = [width] * size
    for number in order:
        fitting = next((row for row in range(size) if room[row] >= tokens[number]), None)
        if fitting is None:
            break
        rows[fitting].append(examples[number])
        room[fitting] -= tokens[number]
    return [row for row in rows if row]


def _peak(device: str) -> int:
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _size(count: float) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.0f} MB"


def main() -> None:
    """Run the trial; if memory is missing, the error begins with MEMORY."""
    try:
        _try(int(sys.argv[1]))
    except (RuntimeError, MemoryError) as error:
        is_memory = isinstance(error, MemoryError | torch.OutOfMemoryError) or "alloc" in str(error)
        sys.stderr.write(f"{'MEMORY' if is_memory else type(error).__name__}: {one_line(error)}\n")
        sys.exit(1)


if __name__ == "__main__":
    main()
