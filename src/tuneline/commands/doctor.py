"""What this machine has, how fast it computes, and which values of `compute` it recommends; and what is broken.

DVC's own files, which a kill in the middle of a write leaves broken, are mended.

Measured here and written down by a person: a pipeline that measured by itself would give other models on other days.
"""

import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from dotenv import dotenv_values

from tuneline import params
from tuneline.core import files
from tuneline.environment import ENV_FILE
from tuneline.errors import BusyError, PipelineError
from tuneline.pipeline import repro
from tuneline.progress import duration
from tuneline.registry import addresses

_SPINNING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
_NEARLY_FULL = 2 * 10**9
_GAIN = 1.1
"""More threads are recommended only where they are this much faster than fewer."""
_STEP = """
import sys, time, torch
torch.set_num_threads(int(sys.argv[1]))
torch.manual_seed(0)
layers = torch.nn.Sequential(*(torch.nn.Linear(512, 512) for _ in range(4)))
rows = torch.randn(512, 512)
def seconds():
    began = time.perf_counter()
    layers(rows).square().mean().backward()
    return time.perf_counter() - began
print(min(seconds() for _ in range(8)))
"""


@dataclass(frozen=True)
class Finding:
    """A line for a person."""

    text: str
    is_broken: bool = False


def facts() -> list[Finding]:
    """The machine: cores, memory, instruction sets, GPUs, disk, and the settings of threads that are in force."""
    from tuneline.finetuning import estimate
    from tuneline.modeling import hardware

    sets = [name for name in hardware.BFLOAT16_SETS if name in hardware.instruction_sets()]
    free = shutil.disk_usage(Path.cwd()).free
    found = [
        Finding(f"python {platform.python_version()}, {platform.machine()}, {hardware.cores()} cores"),
        Finding(f"memory that is free: {estimate.free_memory() / 1e9:.1f} GB"),
        Finding(f"instruction sets for bfloat16: {', '.join(sets) or 'none'}"),
        Finding(f"GPUs: {hardware.gpus()}"),
        Finding(f"disk that is free: {free / 1e9:.1f} GB"),
    ]
    if free < _NEARLY_FULL:
        found.append(Finding(f"the disk is nearly full: less than {_NEARLY_FULL // 10**9} GB; free some", True))
    return found


def settings() -> list[Finding]:
    """Whether the env file is there and in force, and the MLflow store where it says."""
    root = Path.cwd()
    if not (root / ENV_FILE).is_file():
        return [Finding(f"{root / ENV_FILE}: is missing; restore it with: git checkout -- {ENV_FILE}", True)]
    wanted = dotenv_values(root / ENV_FILE)
    found = []
    for name in _SPINNING:
        inside, asked = os.environ.get(name), wanted.get(name)
        if inside != asked:
            found.append(Finding(f"{name} is {inside} and {ENV_FILE} says {asked}; unset it in your shell", True))
        else:
            found.append(Finding(f"{name}={inside}, in force"))
    address = os.environ.get("MLFLOW_TRACKING_URI", "")
    store = addresses.database_of(address)
    if store and root not in store.parents:
        found.append(Finding(f"MLFLOW_TRACKING_URI: {address} lies outside this project; was it moved?", True))
    else:
        found.append(Finding(f"MLflow: {address}"))
    return found


def mended() -> list[Finding]:
    """What a killed dvc had left of its own files, and has been mended; looked at where no run holds the project."""
    if not ENV_FILE.is_file():
        return []
    told: list[str] = []
    try:
        with repro.hold_project(told.append):
            return [Finding(f"mended: {line}") for line in told]
    except BusyError:
        return []
    except PipelineError as error:
        return [Finding(problem, True) for problem in error.problems]


def seconds_by_threads(most: int) -> dict[int, float]:
    """Seconds of a short training step on 1, 2, 4 … threads, each in a process of its own; the best of eight."""
    counts = sorted({1, most, *(2**power for power in range(1, 12) if 2**power < most)})
    times = {}
    for count in counts:
        ran = subprocess.run([sys.executable, "-c", _STEP, str(count)], capture_output=True, text=True, check=True)
        times[count] = float(ran.stdout)
    return times


def recommended(times: dict[int, float], sets: set[str], gpus: int) -> dict[str, tuple[str, str]]:
    """Values of `compute`, each with its reason.

    Args:
        times: threads -> seconds of a step.
        sets: the processor's instruction sets.
        gpus: how many there are.
    """
    from tuneline.modeling import hardware

    threads = min(times)
    for count in sorted(times):
        if times[count] * _GAIN <= times[threads]:
            threads = count
    gain = times[min(times)] / times[threads]
    fast = bool(gpus) or hardware.computes_bfloat16(sets)
    return {
        "compute.threads": (str(threads), f"a step is {gain:.2f} times as fast as on one thread"),
        "compute.device": ("cuda", f"there are {gpus} GPUs") if gpus else ("cpu", "there is no GPU"),
        "compute.precision": (
            ("bfloat16", "the hardware multiplies it") if fast else ("float32", "nothing here multiplies bfloat16")
        ),
        "compute.torch_compile": ("true", "a GPU gains by it") if gpus else ("false", "only a GPU gains by it"),
    }


def answers() -> list[Finding]:
    """How long the answers of an evaluation take here, and how many of them fit into a few minutes.

    Timed on the model and the test rows that are there; nothing where the task has no answers that are counted.
    """
    if not (Path(params.PARAMS_FILE).is_file() and ENV_FILE.is_file()):
        return []
    p = params.load()
    if p.task != "sft":
        return []
    clean, folders = Path(p.paths.clean), [Path(p.paths.finetuned), Path(p.paths.base)]
    folder = next((one for one in folders if (one / "config.json").is_file()), None)
    if folder is None or not (clean / "test").is_dir():
        return [Finding("evaluate.generation_rows: can be recommended when `make run` has made data and a base")]
    from tuneline.evaluation import timing
    from tuneline.evaluation.score_table import ModelToScore
    from tuneline.evaluation.tasks import causal
    from tuneline.modeling import models

    models.use_threads(p.compute.threads)
    test = causal.test_rows(files.read_parquet(clean / "test"), p.evaluate)
    model = ModelToScore(folder, folder.name, p.finetune.max_length, models=2)
    work, found = causal.estimate_time(model, test, p.evaluate)
    rows = min(found.generation_rows, test.num_rows)
    return [
        Finding(
            f"answers of base and candidate to {work.rows:,} rows (evaluate.generation_rows): at most "
            f"{duration(found.answers)}"
        ),
        Finding(
            f"recommended: evaluate.generation_rows: {rows} (the most whose answers take {duration(timing.FIT)} here)"
            if rows < test.num_rows
            else f"recommended: evaluate.generation_rows: {rows} (all test rows are answered in a few minutes)"
        ),
    ]


def examine() -> list[Finding]:
    """Everything, in the order in which a person should read it."""
    from tuneline.modeling import hardware

    times = seconds_by_threads(hardware.cores())
    found = [*facts(), *settings(), *mended()]
    found += [Finding(f"a training step on {count} threads: {1000 * time:.1f} ms") for count, time in times.items()]
    values = recommended(times, hardware.instruction_sets(), hardware.gpus())
    found += [Finding(f"recommended: {key}: {value} ({reason})") for key, (value, reason) in values.items()]
    return found + answers()
