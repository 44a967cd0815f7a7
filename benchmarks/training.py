"""The speed of fine-tuning, compared with other programs: same base, rows, tokens and learning rate.

    python benchmarks/training.py [--small] [--rows 1500] [--repeats 3] [--only NAME,…] [--peer FOLDER]

A base of 3.4 million parameters with random weights is fine-tuned on pairs of the built-in corpus for one epoch, by:
`python -m tuneline.stages finetune`; `trl sft` with its defaults, with our tokens per step, and with its own
packing; transformers' Trainer and a bare PyTorch loop (the lower bound) on the batches that our stage makes; and
LLaMA-Factory if --peer names a virtual environment that has it. A second case has long prompts and a large
vocabulary. Each program runs in its own process, in float32. The runs alternate, and the fastest counts. One script
scores all models on rows that were not trained on. The benchmark needs no network. It prints tables in Markdown.
"""

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import measuring
import workload
from measuring import Usage
from workload import Case, Made

from tuneline.core import files

ROOT = Path(__file__).resolve().parent.parent
PEERS = ROOT / "benchmarks" / "peers"
OURS, FLOOR = "tuneline", "bare loop"
SHORT = Case(name="short pairs", rows=1500, heldout=500, longest=128)
LONG = Case(
    name="long prompts, large vocabulary",
    rows=250,
    heldout=100,
    shortest=64,
    longest=256,
    long_prompts=True,
    vocabulary=32768,
)
_OF_A_PROJECT = ("MLFLOW_", "PREFECT_", "TUNELINE_", "DVC_", "HF_")
_MEGA = 1e6

Command = Callable[[Case, Made, Path], list[str]]


@dataclass(frozen=True)
class Contestant:
    """Somebody's training as a command that leaves its model in a folder."""

    name: str
    command: Command
    model: str = "model"
    """Where the model is, in the folder that the command runs in."""
    prepare: Callable[[Made, Path], None] = lambda _, __: None
    """What is laid out before the clock runs."""


@dataclass
class Run:
    """One training."""

    usage: Usage
    steps: int
    training: float
    """Seconds from the first optimizer step to the last, as if the first had taken as long as the others."""
    loss: float = field(default=float("nan"))


def stage(_: Case, __: Made, ___: Path) -> list[str]:
    return [sys.executable, "-m", "tuneline.stages", "finetune"]


def lay_out(made: Made, folder: Path) -> None:
    shutil.copytree(made.project, folder, dirs_exist_ok=True)


def script(name: str) -> Command:
    def command(case: Case, made: Made, folder: Path) -> list[str]:
        places = [str(made.base), str(made.batches), str(folder / "model")]
        return [sys.executable, str(PEERS / name), *places, str(case.learning_rate), str(case.threads)]

    return command


def trl(**more: Any) -> Command:
    def command(case: Case, made: Made, folder: Path) -> list[str]:
        rows = made.rows / made.steps
        given = {name: value(case, rows) if callable(value) else value for name, value in more.items()}
        given |= {"model_name_or_path": made.base, "dataset_name": made.data, "output_dir": folder / "model"}
        given |= {"learning_rate": case.learning_rate, "num_train_epochs": 1, "report_to": "none"}
        # It refuses a machine without a GPU else; and most processors compute its bf16 many times slower than float32.
        given |= {"use_cpu": True, "bf16": False}
        named = [part for name, value in given.items() for part in (f"--{name}", str(value))]
        return [str(Path(sys.executable).parent / "trl"), "sft", *named]

    return command


def llama_factory(peer: Path, **more: Any) -> Command:
    def command(case: Case, made: Made, folder: Path) -> list[str]:
        columns = {"prompt": "prompt", "response": "completion"}
        files.write_json(
            folder / "data" / "dataset_info.json",
            {"pairs": {"file_name": str(made.data / "train.jsonl"), "columns": columns}},
        )
        recipe = {
            "model_name_or_path": str(made.base),
            "stage": "sft",
            "do_train": True,
            "finetuning_type": "full",
            "dataset_dir": str(folder / "data"),
            "dataset": "pairs",
            "template": "empty",
            "cutoff_len": case.width,
            "output_dir": str(folder / "model"),
            "per_device_train_batch_size": case.batch,
            "learning_rate": case.learning_rate,
            "num_train_epochs": 1,
            "lr_scheduler_type": "linear",
            "logging_steps": 10,
            "report_to": "none",
            "use_cpu": True,
            "bf16": False,
            **{name: value(made) if callable(value) else value for name, value in more.items()},
        }
        # JSON is YAML too, and its reader of .json files fails.
        files.write_json(folder / "recipe.yaml", recipe)
        return [str(peer / "bin" / "llamafactory-cli"), "train", str(folder / "recipe.yaml")]

    return command


BATCH = "per_device_train_batch_size"


def contestants(peer: Path | None) -> list[Contestant]:
    """All of them, of the first case."""
    found = [
        Contestant(OURS, stage, "models/finetuned", lay_out),
        Contestant(FLOOR, script("bare_loop.py")),
        Contestant("Trainer, packed rows", script("plain_trainer.py")),
        Contestant("trl sft, defaults", trl()),
        Contestant("trl sft, our rows a step", trl(**{BATCH: lambda _, rows: round(rows)})),
        Contestant(
            "trl sft, packing bfd",
            trl(
                packing=True,
                packing_strategy="bfd",
                max_length=lambda case, _: case.width,
                **{BATCH: lambda case, _: case.batch},
            ),
        ),
    ]
    if peer:
        unpacked = llama_factory(peer, **{BATCH: lambda made: round(made.rows / made.steps)})
        found.append(Contestant("LLaMA-Factory, our rows a step", unpacked))
        found.append(Contestant("LLaMA-Factory, neat_packing", llama_factory(peer, packing=True, neat_packing=True)))
    return found


def train(contestant: Contestant, case: Case, made: Made, folder: Path) -> Run:
    """Run one training in a folder of its own, and score its model."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    contestant.prepare(made, folder)
    command = contestant.command(case, made, folder)
    steps = folder / "steps.json"
    own = {name: value for name, value in os.environ.items() if not name.startswith(_OF_A_PROJECT)}
    environment = own | {
        "PYTHONPATH": os.pathsep.join([str(PEERS / "steps"), str(ROOT / "src")]),
        "TUNELINE_BENCH_STEPS": str(steps),
        "OMP_NUM_THREADS": str(case.threads),
        "OMP_WAIT_POLICY": "PASSIVE",
        "GOMP_SPINCOUNT": "0",
        "HF_HOME": str(folder / "hf"),
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "DO_NOT_TRACK": "true",
    }
    usage = measuring.run(command, folder, environment)
    times: list[float] = files.read_json(steps)
    training = (times[-1] - times[0]) * len(times) / max(len(times) - 1, 1)
    loss = workload.heldout_loss(folder / contestant.model, made.heldout, case.longest)
    shutil.rmtree(folder)
    return Run(usage, len(times), training, loss)


def compare(case: Case, among: Sequence[Contestant], work: Path, repeats: int) -> None:
    """Make the case, let all train it, and print the table."""
    made = workload.make(case, work / "made")
    before = workload.heldout_loss(made.base, made.heldout, case.longest)
    print(
        f"\n## {case.name}\n\n{made.rows:,} rows, {made.tokens:,} tokens (mean {made.tokens / made.rows:.0f}), "
        f"{made.supervised / made.tokens:.0%} of them supervised; {made.parameters / _MEGA:.1f} million parameters, "
        f"vocabulary {case.vocabulary:,}; {case.threads} threads; held-out loss of the base {before:.3f}\n",
        flush=True,
    )
    best: dict[str, Run] = {}
    walls: dict[str, list[float]] = {}
    for turn in range(repeats):
        for contestant in among:
            run = train(contestant, case, made, work / "run")
            _note(f"{contestant.name}, {turn + 1} of {repeats}: {run.training:.1f} s, {run.usage.wall:.1f} s in all")
            walls.setdefault(contestant.name, []).append(run.usage.wall)
            kept = best.get(contestant.name)
            if kept is None or run.training < kept.training:
                best[contestant.name] = run
    print(table(made, best, walls), flush=True)


def table(made: Made, best: dict[str, Run], walls: dict[str, list[float]]) -> str:
    """The best runs side by side; of the wall time its own best."""
    floor = best.get(FLOOR)
    ours = min(walls.get(OURS, [float("nan")]))
    lines = [
        "| | steps | tokens a step | training, s | tokens/s | over the floor | command to model, s | over ours "
        "| CPU, s | peak memory, MB | held-out loss |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, run in best.items():
        wall = min(walls[name])
        over = f"{run.training / floor.training:.2f}" if floor else ""
        lines.append(
            f"| {name} | {run.steps} | {made.tokens / run.steps:,.0f} | {run.training:.1f} "
            f"| {made.tokens / run.training:,.0f} | {over} | {wall:.1f} | {wall / ours:.2f} "
            f"| {run.usage.cpu:.0f} | {run.usage.largest / _MEGA:,.0f} | {run.loss:.3f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="few rows and one repeat, to see that all of it runs")
    parser.add_argument("--rows", type=int, default=SHORT.rows, help="of the first case, up to 5,000")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", type=lambda text: text.split(","), help="beginnings of names")
    parser.add_argument("--peer", type=Path, help="a virtual environment in which LLaMA-Factory is installed")
    arguments = parser.parse_args()
    among = contestants(arguments.peer)
    if arguments.only:
        among = [one for one in among if one.name.startswith(tuple(arguments.only))]
    cases = [(replace(SHORT, rows=arguments.rows), among), (LONG, [one for one in among if one.name in (OURS, FLOOR)])]
    _note(f"load average {os.getloadavg()[0]:.2f}")
    with tempfile.TemporaryDirectory(prefix="tuneline-bench-") as temporary:
        for number, (case, those) in enumerate(cases):
            if arguments.small:
                case = replace(case, rows=min(200, case.rows), heldout=20)
            if those:
                compare(case, those, Path(temporary) / str(number), 1 if arguments.small else arguments.repeats)


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
