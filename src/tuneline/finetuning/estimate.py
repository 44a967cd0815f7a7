"""What a training will need, before it begins: memory for the longest batches, and hours.

    python -m tuneline.finetuning.estimate

is that trial: one forward and backward of the longest batch of training, one forward of the longest of validation, in a
process of its own, which neither draws from the training's random numbers nor touches its weights.
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
from tuneline.encoding.examples import Example, lengths
from tuneline.errors import TrainingError, one_line
from tuneline.finetuning import mixing, tasks
from tuneline.modeling import adapters, models
from tuneline.progress import Progress, duration
from tuneline.training.objectives import Causal, Objective
from tuneline.training.training_config import EVAL_BATCH_SIZE, Recipe

LONG = 1e14
"""Operations above which a training is tried out: some half an hour of one core. The trial loads torch and the base
again, some ten seconds, which a shorter training would feel and its first steps tell as well."""
SHARE = 0.5
"""Of the free memory; a training that may need more is tried out. The formula below knows no family's own habits, and
is seldom off by more than a factor of two."""
_BYTES = 4
# Numbers a weight that an optimizer keeps, by its name's beginning; of an unknown one as many as of AdamW.
_STATE = {"sgd": 0, "adafactor": 0, "lion": 1, "muon": 1}
_ADAMW = 2


@dataclass(frozen=True)
class Estimate:
    """What can be said without computing."""

    parameters: int
    fixed: int
    """Bytes of weights, gradients and optimizer in a process."""
    activations: int
    """Bytes of the largest batch, roughly."""
    tokens: int
    """Of the whole training."""

    @property
    def operations(self) -> float:
        """Forward and backward."""
        return 6.0 * self.parameters * self.tokens


def of(ready: tasks.Ready, recipe: Recipe, lora: bool) -> Estimate:
    """The estimate of a training.

    Args:
        ready: what is trained, and on what.
        recipe: how.
        lora: whether only adapters are trained; they are some per cent of the weights.
    """
    config = ready.model.config.get_text_config()
    parameters = models.count_parameters(ready.model)
    state = next((count for name, count in _STATE.items() if recipe.optim.startswith(name)), _ADAMW)
    copies = 2 if ready.task == "preference" and not lora else 1
    weights = _BYTES * parameters
    fixed = weights * (copies + (0 if lora else 1 + state))
    if recipe.fsdp:
        # Each process loads the base as a whole before it keeps its part.
        fixed = max(weights, fixed // recipe.processes)
    each, size = _lengths(ready), recipe.per_device_train_batch_size
    mixture = ready.mixture
    of_epoch = sum(each) if mixture is None else int(mixture.lengths[mixture.of_epoch(0)].sum())
    packed = recipe.packing and ready.task in ("sft", "language-modeling")
    in_batch = size * recipe.max_length if packed else sum(sorted(each)[-size:])
    steps = math.inf if recipe.max_steps is None else recipe.max_steps * recipe.gradient_accumulation_steps
    layers, hidden = getattr(config, "num_hidden_layers", 12), getattr(config, "hidden_size", 768)
    activations = _BYTES * in_batch * (20 * layers * hidden + 3 * int(config.vocab_size))
    return Estimate(
        parameters,
        fixed,
        activations,
        round(min(recipe.num_train_epochs * of_epoch, in_batch * recipe.processes * steps)),
    )


def free_memory() -> int:
    """Bytes that this process can still have, as Linux says; without bounds where nothing says it."""
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
    """Say what the training will need, and refuse one that does not fit into the memory.

    Args:
        ready: what is trained, and on what.
        p: the params.

    Raises:
        TrainingError: out of memory; names the key to lower.
    """
    recipe = Recipe.of(p.finetune, p.compute)
    made = of(ready, recipe, p.finetune.lora is not None)
    free = torch.cuda.mem_get_info()[0] if recipe.device == "cuda" else free_memory()
    needed = recipe.processes * (made.fixed + made.activations)
    print(
        f"{made.parameters:,} parameters, {made.tokens:,} tokens in all; weights, gradients and optimizer "
        f"{_size(made.fixed)}, a batch about {_size(made.activations)}",
        flush=True,
    )
    if needed > SHARE * free or made.operations > LONG:
        with Progress("trying out the longest batches", unit="trials") as progress:
            tried = trial(free // recipe.processes)
            progress.update(1, 1)
        rate = tried["tokens"] * recipe.processes / max(tried["seconds"], 1e-9)
        print(
            f"the longest batches need {_size(tried['training'])} in training and {_size(tried['validation'])} in "
            f"validation, of {_size(free)} that are free; about {duration(made.tokens / rate)}",
            flush=True,
        )


def trial(memory: int) -> dict[str, float]:
    """Run the longest batches in a process of its own.

    Args:
        memory: bytes that it may take.

    Returns:
        `training` and `validation`: bytes at most; `seconds` and `tokens` of one batch of training.

    Raises:
        TrainingError: it does not fit.
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
    raise TrainingError(f"the trial of the longest batches failed: {(ran.stderr.splitlines() or ['no word'])[-1]}")


def _lengths(ready: tasks.Ready) -> Sequence[int]:
    """Tokens of each example; of a preference of both its answers, each with the prompt."""
    if ready.task != "preference":
        return lengths(ready.examples)
    return [2 * len(one.prompt_ids) + len(one.chosen_ids) + len(one.rejected_ids) for one in ready.examples]


def _try(memory: int) -> None:
    """The trial itself; its last line says what it was at."""
    p = params.load()
    recipe = Recipe.of(p.finetune, p.compute)
    print("weights", flush=True)
    if recipe.device == "cpu":
        held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        # What is refused by a limit can be told; the kernel would kill this process, or another one.
        bound = min(memory + held, sys.maxsize)
        resource.setrlimit(resource.RLIMIT_DATA, (bound, bound))
    models.use_threads(p.compute.threads)
    clean, base = Path(p.paths.clean), Path(p.paths.base)
    ready = tasks.prepare(p.task, clean, base, p.finetune, p.compute, others=mixing.wanted(p))
    state = of(ready, recipe, p.finetune.lora is not None).fixed - _BYTES * models.count_parameters(ready.model)
    kept = torch.empty(max(state, 0), dtype=torch.uint8, device=ready.model.device)
    if p.finetune.lora:
        model: Any = adapters.wrap(ready.model, p.finetune.lora.model_dump(), recipe.seed)
    else:
        model = ready.model
    if p.finetune.model_dump().get("activation_checkpointing") or p.finetune.model_dump().get("gradient_checkpointing"):
        model.gradient_checkpointing_enable()
    pad = models.pad_token_id(ready.tokenizer)
    if ready.task == "preference":
        examples = [
            Example(one.prompt_ids + ids, one.prompt_ids + ids)
            for one in ready.examples
            for ids in (one.chosen_ids, one.rejected_ids)
        ]
        objective: Objective = Causal.of(model, examples, pad=pad, packing=False)
        size, checked = 2 * recipe.per_device_train_batch_size, examples
    else:
        objective = tasks.objective(ready, p.finetune, pad, p.compute)
        size, checked = recipe.per_device_train_batch_size, list(ready.validation)
        examples = ready.examples
    print("training", flush=True)
    began = time.monotonic()
    batch = objective.collate(_longest(examples, size, recipe.max_length if objective.packed else 0))
    tokens = int(batch["tokens"])
    model.train()
    batch = {name: tensor.to(ready.model.device) for name, tensor in batch.items()}
    kind = torch.bfloat16 if recipe.precision == "bfloat16" else torch.float32
    with torch.autocast(recipe.device, dtype=kind, enabled=kind is torch.bfloat16):
        loss, weight = objective.loss(model, batch)
    (loss / weight).backward()
    seconds, training = time.monotonic() - began, _peak(recipe.device)
    print("validation", flush=True)
    model.eval()
    if checked:
        rows = _longest(checked, p.finetune.model_dump().get("per_device_eval_batch_size") or EVAL_BATCH_SIZE, 0)
        with torch.no_grad():
            objective.measure(
                model, [{name: part.to(ready.model.device) for name, part in objective.collate(rows).items()}]
            )
    del kept
    found = {"training": training, "validation": _peak(recipe.device), "seconds": seconds, "tokens": tokens}
    print(json.dumps(found))


def _longest(examples: Sequence[Any], size: int, width: int) -> list[list[Any]]:
    """The longest examples as rows of a batch; packed ones fill a width."""
    tokens = lengths(examples)
    order = sorted(range(len(examples)), key=lambda place: -tokens[place])
    if not width:
        return [[examples[place]] for place in order[:size]]
    rows: list[list[Any]] = [[] for _ in range(size)]
    room = [width] * size
    for place in order:
        fitting = next((row for row in range(size) if room[row] >= tokens[place]), None)
        if fitting is None:
            break
        rows[fitting].append(examples[place])
        room[fitting] -= tokens[place]
    return [row for row in rows if row]


def _peak(device: str) -> int:
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _size(count: float) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.0f} MB"


def main() -> None:
    """The trial, which ends with a word that names memory where it is what lacks."""
    try:
        _try(int(sys.argv[1]))
    except (RuntimeError, MemoryError) as error:
        lacks = isinstance(error, MemoryError | torch.OutOfMemoryError) or "alloc" in str(error)
        sys.stderr.write(f"{'MEMORY' if lacks else type(error).__name__}: {one_line(error)}\n")
        sys.exit(1)


if __name__ == "__main__":
    main()
