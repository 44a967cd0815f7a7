"""Kills fine-tuning many times, with `dvc repro` after each kill, and compares the weights with an unbroken run.

    python benchmarks/kill.py [--kills 40] [--kinds group,trainer,…] [--cases sft-full,sft-lora,…] [--parallel 2]

For every task dvc makes a tiny project up to its base. A case is a task with full fine-tuning or LoRA, or in two
processes, which may share the weights. For every case the project is copied twice. One copy is fine-tuned without
interruption. The other is started and killed until it has had its share of the kills, half of them during the write
of a checkpoint, and then runs to its end. It prints a table in Markdown. The exit code is 1 if a result differs: the
weights, the rest of models/finetuned, or the curve.
"""

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import killing
from killing import KINDS, WORKER, Kill
from tests.projects import Project, copy_project

from tuneline.core import files

METRICS = {
    "sft": ("bits_per_byte", "lower"),
    "classification": ("accuracy", "higher"),
    "preference": ("reward_accuracy", "higher"),
}
METHODS = {
    "full": "full",
    "lora": "LoRA",
    "processes": "full, two processes",
    "sharded": "full, two processes, FSDP2",
}
SEVERAL = ("processes", "sharded")
CASES = [
    *(f"{task}-{method}" for task in METRICS for method in ("full", "lora")),
    *(f"sft-{method}" for method in SEVERAL),
]
LORA = {"r": 4, "lora_alpha": 8, "lora_dropout": 0.1, "target_modules": "all-linear"}
ROWS = 400
SAVE_STEPS = 5
PARAMS = {
    "data.pretraining": "data/raw/texts",
    "data.split.group_by": None,
    "finetune.num_train_epochs": 2.0,
    "finetune.max_length": 64,
    "finetune.save_steps": SAVE_STEPS,
    "finetune.eval_steps": 20,
    "finetune.logging_steps": 1,
}
# Seconds: of some steps.
_LATER = 0.03


@dataclass
class Case:
    """A training that is not interrupted, and the same one that is."""

    name: str
    kills: list[Kill] = field(default_factory=list)
    unbroken: dict[str, str] = field(default_factory=dict)
    """File -> sha256."""
    broken: dict[str, str] = field(default_factory=dict)

    @property
    def task(self) -> str:
        return self.name.split("-")[0]

    @property
    def method(self) -> str:
        return self.name.split("-")[1]

    @property
    def is_equal(self) -> bool:
        return self.unbroken == self.broken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=40, help="in all, shared out among the cases")
    parser.add_argument("--kinds", type=_some_of(list(KINDS)), default=list(KINDS), help=", ".join(KINDS))
    parser.add_argument("--cases", type=_some_of(CASES), default=CASES, help=", ".join(CASES))
    parser.add_argument("--parallel", type=int, default=2, help="trainings side by side, of one thread each")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    arguments = parser.parse_args()
    cases = share_out(arguments.kills, arguments.cases, arguments.kinds)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="tuneline-kill-") as temporary:
        made = make_projects(Path(temporary), [task for task in METRICS if task in {case.task for case in cases}])
        tell(f"projects made in {time.monotonic() - began:.0f} s")
        with ThreadPoolExecutor(arguments.parallel) as pool:
            list(pool.map(lambda case: run(case, made[case.task], arguments.seed), cases))
    print(table(cases))
    within = [kill.within_write for case in cases for kill in case.kills]
    equal = sum(case.is_equal for case in cases)
    print(
        f"\n{len(within)} kills in {len(cases)} trainings, {sum(within)} of them inside the write of a checkpoint; "
        f"{equal} of {len(cases)} trainings end in the bytes of the unbroken one; {time.monotonic() - began:.0f} s"
    )
    sys.exit(equal != len(cases))


def share_out(kills: int, names: list[str], kinds: list[str]) -> list[Case]:
    """The kills of each case: kind after kind, each at a step and within a write; workers where there are several."""
    kinds_of = {name: [kind for kind in kinds if (kind == WORKER) == name.endswith(SEVERAL)] for name in names}
    cases = [Case(name) for name in names if kinds_of[name]]
    for number in range(kills):
        turn, place = divmod(number, len(cases))
        of_case = kinds_of[cases[place].name]
        kind = of_case[(turn // 2 + place) % len(of_case)]
        cases[place].kills.append(Kill(kind, within_write=(turn + place) % 2 == 1))
    return [case for case in cases if case.kills]


def make_projects(folder: Path, tasks: list[str]) -> dict[str, Project]:
    """A project a task in which all is made but the fine-tuned model; the base is made once."""
    made: dict[str, Project] = {}
    for task in tasks:
        place = folder / task
        if made:
            shutil.copytree(next(iter(made.values())).root, place, symlinks=True)
            project = Project(place)
        else:
            project = copy_project(place)
            write_rows(project, "texts", [{"text": words(f"text {n}", 20)} for n in range(ROWS)])
            # An empty store, the same in every copy, so that no training has to make it.
            connect = "from tuneline.registry import tracking; tracking.connect()"
            checked(project, ["-m", "tuneline", "exec", "--", "python", "-c", connect])
        write_rows(project, task, [row(task, n) for n in range(ROWS)])
        metric, direction = METRICS[task]
        rule = {"metric": metric, "direction": direction, "versus": "champion", "margin": 0.0}
        project.set(**PARAMS, **{"task": task, "data.raw": f"data/raw/{task}", "gate.rules": [rule]})
        checked(project, [*killing.REPRO, "validate_clean", "base"])
        made[task] = project
    return made


def write_rows(project: Project, name: str, rows: list[dict[str, str]]) -> None:
    files.write_jsonl(project.root / "data" / "raw" / name / "rows.jsonl", rows)


def row(task: str, n: int) -> dict[str, str]:
    if task == "sft":
        return {"prompt": words(f"asked {n}", 6), "completion": words(f"answered {n}", 6)}
    if task == "preference":
        return {"prompt": words(n, 6), "chosen": words(f"+ {n}", 6), "rejected": words(f"- {n}", 6)}
    return {"text": words(n, 10), "label": "abc"[n % 3]}


def words(seed: object, count: int) -> str:
    """Words of this seed alone."""
    rng = random.Random(str(seed))
    return " ".join("".join(rng.choices("abcdefghiklmnoprstuvw", k=rng.randint(3, 8))) for _ in range(count))


def run(case: Case, made: Project, seed: int) -> None:
    """Fine-tune one copy of the project without a break and another with the case's kills, and keep the hashes."""
    # Each has a cache of its own: what the first makes would be restored in the second, and not made.
    unbroken, broken = (copied(made, case, which) for which in ("unbroken", "broken"))
    checked(unbroken, killing.FINETUNE, **killing.watched(unbroken))
    case.unbroken = results(unbroken)
    curve = (unbroken.root / "reports" / "training.csv").read_text("utf-8").splitlines()
    last = int(curve[-1].split(",")[0])
    written = killing.writes(unbroken).read_text("utf-8").splitlines()
    events = sum(line.startswith(f"{SAVE_STEPS} seen ") for line in written)
    rng = random.Random(f"{seed} {case.name}")
    for number, kill in enumerate(case.kills):
        # Each a little further than the one before; within a write, in that of the first checkpoint from there on.
        kill.after = 1 + (number + 1) * (last - SAVE_STEPS - 1) // (len(case.kills) + 1)
        if kill.within_write:
            # The first is the folder itself, which is not there yet when it is held.
            kill.event = rng.randint(2, events)
        else:
            kill.later = rng.uniform(0.0, _LATER)
    # Workers are started again, a number of times.
    at_once = killing.SURVIVED + 1 if case.kills[0].kind == WORKER else 1
    for first in range(0, len(case.kills), at_once):
        killing.interrupt(broken, kills := case.kills[first : first + at_once])
        for kill in kills:
            within = f"file {kill.event} of {events} of checkpoint" if kill.within_write else "step"
            tell(f"{case.name}: {KINDS[kill.kind][0]} killed at {within} {kill.step}, of {last} steps")
    checked(broken, killing.FINETUNE)
    case.broken = results(broken)
    tell(f"{case.name}: {'the same bytes' if case.is_equal else 'OTHER BYTES'}")
    for project in (unbroken, broken):
        shutil.rmtree(project.root)


def copied(made: Project, case: Case, which: str) -> Project:
    place = made.root.with_name(f"{case.name}-{which}")
    shutil.copytree(made.root, place, symlinks=True)
    project = Project(place)
    project.set(finetune__lora=LORA if case.method == "lora" else None)
    if case.method in SEVERAL:
        project.set(finetune__nproc_per_node=2, finetune__fsdp="full_shard" if case.method == "sharded" else None)
    return project


def checked(project: Project, command: list[str], **environment: str) -> None:
    done = project.run(*command, **environment)
    if done.returncode != 0:
        raise SystemExit(f"{project.root.name}: {' '.join(command)} failed:\n{done.stdout}\n{done.stderr}")


def results(project: Project) -> dict[str, str]:
    curve = project.root / "reports" / "training.csv"
    return files.sha256_tree(project.root / "models" / "finetuned") | {curve.name: files.sha256_file(curve)}


def table(cases: list[Case]) -> str:
    lines = [
        "| task | method | killed | when | kills | equal | sha256 of the weights |",
        "|---|---|---|---|---:|---|---|",
    ]
    for case in cases:
        for kind, (name, _) in KINDS.items():
            for within_write in (False, True):
                chosen = [kill for kill in case.kills if (kill.kind, kill.within_write) == (kind, within_write)]
                if not chosen:
                    continue
                steps = ", ".join(str(kill.step) for kill in chosen)
                when = f"inside the write of checkpoint {steps}" if within_write else f"at step {steps}"
                equal = "yes" if case.is_equal else "**no**"
                cells = [case.task, METHODS[case.method], name, when, str(len(chosen)), equal]
                lines.append(f"| {' | '.join(cells)} | `{case.broken['model.safetensors'][:12]}` |")
    return "\n".join(lines)


def tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _some_of(known: list[str]) -> Callable[[str], list[str]]:
    def read(text: str) -> list[str]:
        named = text.split(",")
        if unknown := [name for name in named if name not in known]:
            raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: there are {', '.join(known)}")
        return named

    return read


if __name__ == "__main__":
    main()
