"""Report the machine, its speed, the values of `compute` that suit it, and what is broken, in the registry too.

DVC's own files are repaired if a kill has damaged them. A person copies the recommended values into params.yaml: a
pipeline that measured by itself would make different models on different days.
"""

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dotenv import dotenv_values

from tuneline import params
from tuneline.core import files
from tuneline.data.records.record_form import read_form
from tuneline.environment import ENV_FILE
from tuneline.errors import BusyError, DataError, GitError, PipelineError
from tuneline.pipeline import repro
from tuneline.progress import duration
from tuneline.registry import addresses

_SPINNING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
_NEARLY_FULL = 2 * 10**9
_GAIN = 1.1
"""More threads are recommended only if they are faster by this factor."""
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
    """A line of the report."""

    text: str
    is_broken: bool = False


def facts() -> list[Finding]:
    """Findings about cores, memory, instruction sets, GPUs and disk."""
    from tuneline.finetuning import estimate
    from tuneline.modeling import hardware

    sets = [name for name in hardware.BFLOAT16_SETS if name in hardware.instruction_sets()]
    free = shutil.disk_usage(Path.cwd()).free
    found = [
        Finding(f"python {platform.python_version()}, {platform.machine()}, {hardware.cores()} cores"),
        Finding(f"free memory: {estimate.free_memory() / 1e9:.1f} GB"),
        Finding(f"instruction sets for bfloat16: {', '.join(sets) or 'none'}"),
        Finding(f"GPUs: {hardware.gpus()}"),
        Finding(f"free disk: {free / 1e9:.1f} GB"),
    ]
    if free < _NEARLY_FULL:
        found.append(
            Finding(f"the disk is nearly full: less than {_NEARLY_FULL // 10**9} GB are free; delete files", True)
        )
    return found


def settings() -> list[Finding]:
    """Findings about the env file: are its settings in force, and is the MLflow store in the project?"""
    root = Path.cwd()
    if not (root / ENV_FILE).is_file():
        return [Finding(f"{root / ENV_FILE}: does not exist; restore it with: git checkout -- {ENV_FILE}", True)]
    wanted = dotenv_values(root / ENV_FILE)
    found = []
    for name in _SPINNING:
        actual, expected = os.environ.get(name), wanted.get(name)
        if actual != expected:
            found.append(Finding(f"{name} is {actual}, but {ENV_FILE} sets {expected}; unset it in your shell", True))
        else:
            found.append(Finding(f"{name}={actual}, in force"))
    address = os.environ.get("MLFLOW_TRACKING_URI", "")
    store = addresses.database_of(address)
    if store and root not in store.parents:
        found.append(Finding(f"MLFLOW_TRACKING_URI: {address} is outside this project; was the project moved?", True))
    else:
        found.append(Finding(f"MLflow: {address}"))
    return found


def instructions(portable: bool) -> list[Finding]:
    """Findings about the instruction set that decides over the bits of a training.

    Args:
        portable: compute.portable.
    """
    from tuneline.modeling import hardware

    problem = hardware.portable_problem(platform.machine(), hardware.instruction_sets())
    if portable:
        shown = Finding("compute.portable: true: every x86 processor with AVX2 ends in the same bytes")
        return [Finding(problem, True) if problem else shown]
    (_, *own) = hardware.on_processor()
    found = [Finding(f"bytes of a training: those of {', '.join(own)}; other processors may end in other bytes")]
    if not problem:
        found.append(
            Finding("this processor can also compute portable results: compute.portable: true; it takes longer")
        )
    return found


def repaired() -> list[Finding]:
    """Repair DVC's own files that a kill has damaged, unless a run holds the project. Returns what was repaired."""
    if not ENV_FILE.is_file():
        return []
    messages: list[str] = []
    try:
        with repro.hold_project(messages.append):
            return [Finding(f"repaired: {line}") for line in messages]
    except BusyError:
        return []
    except (PipelineError, GitError) as error:
        return [Finding(problem, True) for problem in error.problems]


def seconds_by_threads(most: int) -> dict[int, float]:
    """Threads -> seconds of a short training step (the best of eight), each measured in its own process."""
    counts = sorted({1, most, *(2**power for power in range(1, 12) if 2**power < most)})
    times = {}
    for count in counts:
        ran = subprocess.run([sys.executable, "-c", _STEP, str(count)], capture_output=True, text=True, check=True)
        times[count] = float(ran.stdout)
    return times


def recommended(times: dict[int, float], sets: set[str], gpus: int) -> dict[str, tuple[str, str]]:
    """Recommended values of `compute`, each with its reason.

    Args:
        times: threads -> seconds of a step.
        sets: the processor's instruction sets.
        gpus: number of GPUs.
    """
    from tuneline.modeling import hardware

    threads = min(times)
    for count in sorted(times):
        if times[count] * _GAIN <= times[threads]:
            threads = count
    gain = times[min(times)] / times[threads]
    fast = bool(gpus) or hardware.computes_bfloat16(sets)
    return {
        "compute.threads": (str(threads), f"a step is {gain:.2f} times as fast as with one thread"),
        "compute.device": ("cuda", f"GPUs of this machine: {gpus}") if gpus else ("cpu", "this machine has no GPU"),
        "compute.precision": (
            ("bfloat16", "the hardware supports it") if fast else ("float32", "the hardware does not support bfloat16")
        ),
        "compute.torch_compile": ("true", "it is faster on a GPU") if gpus else ("false", "it is faster only on a GPU"),
    }


def _has_data_of(task: str, clean: Path) -> bool:
    """Whether the clean data are of this task: `tuneline use` may have set another task since they were made."""
    try:
        read_form(clean, task)
    except DataError:
        return False
    return True


def answers() -> list[Finding]:
    """Findings about the time that an evaluation's answers take here, measured with the model and test rows that exist.

    Empty if the task has no answers.
    """
    if not (Path(params.PARAMS_FILE).is_file() and ENV_FILE.is_file()):
        return []
    from tuneline.evaluation.task_table import TASKS

    p = params.load()
    task = TASKS[p.task]
    if task.estimate_time is None:
        return []
    clean, folders = Path(p.paths.clean), [Path(p.paths.finetuned), Path(p.paths.base)]
    folder = next((path for path in folders if (path / "config.json").is_file()), None)
    if folder is None or not (clean / "test").is_dir() or not _has_data_of(p.task, clean):
        return [
            Finding("evaluate.generation_rows: not measured yet; run `make run` first, which makes data and a base")
        ]
    from tuneline.evaluation import timing
    from tuneline.evaluation.score_table import ModelToScore
    from tuneline.modeling import models

    models.use_threads(p.compute.threads)
    test = task.test_rows(files.read_parquet(clean / "test"), p.evaluate, read_form(clean, p.task))
    model = ModelToScore(folder, folder.name, p.finetune.max_length, models=2)
    work, found = task.estimate_time(model, test, p.evaluate)
    rows = min(found.generation_rows, test.num_rows)
    return [
        Finding(
            f"answers of base and candidate to {work.rows:,} rows (evaluate.generation_rows): at most "
            f"{duration(found.answers)}"
        ),
        Finding(
            f"recommended: evaluate.generation_rows: {rows} (the most that {duration(timing.FIT)} allow here)"
            if rows < test.num_rows
            else f"recommended: evaluate.generation_rows: {rows} (all test rows are answered in a few minutes)"
        ),
    ]


def registered() -> Iterator[Finding]:
    """One finding per version in the registry, and one about the history; one per problem of what is broken."""
    if not (Path(params.PARAMS_FILE).is_file() and ENV_FILE.is_file()):
        return
    from tuneline.decisions import registry_health, unfinished_erasure

    if problem := unfinished_erasure.problem():
        yield Finding(problem, True)
    for one in registry_health.examine(params.load()):
        if not one.problems:
            yield Finding(f"{one.subject}: {', '.join(one.found)}")
        for problem in one.problems:
            yield Finding(f"{one.subject}: {problem}", True)


def examine() -> Iterator[Finding]:
    """All findings, in the order of the report; those about versions one by one, because their bytes are hashed."""
    from tuneline.modeling import hardware

    times = seconds_by_threads(hardware.cores())
    portable = Path(params.PARAMS_FILE).is_file() and params.load().compute.portable
    found = [*facts(), *instructions(portable), *settings(), *repaired()]
    found += [Finding(f"a training step on {count} threads: {1000 * time:.1f} ms") for count, time in times.items()]
    values = recommended(times, hardware.instruction_sets(), hardware.gpus())
    found += [Finding(f"recommended: {key}: {value} ({reason})") for key, (value, reason) in values.items()]
    yield from found
    yield from answers()
    yield from registered()
