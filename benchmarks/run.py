"""The times of the stages of a complete run: fresh clones, installed, then `make run`.

    python benchmarks/run.py [--runs 3] [--again]

It prints a table: the installation, then the seconds of each stage (median of the runs), the optimizer steps and the
scoring within them, and the rest; then the sha256 of the weights, which must be the same in all runs. With `--again`
it also times a second `make run` and a `dvc repro` that have nothing to do.
"""

import argparse
import hashlib
import os
import re
import statistics
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

_LINE = re.compile(r"\d\d:\d\d:\d\d\.\d{3} \| \w+ +\| (?:Flow|Task) run '([^']+)' - (.*)")
_STARTED = re.compile(r"\[\d+/\d+\] (\w+)$")
_TOOK = re.compile(r"in ([\d.]+) (s|min)(?: ([\d.]+) s)?$")


@dataclass
class Run:
    """What one `make run` took, in seconds."""

    install: float
    total: float
    sha256: str
    stages: dict[str, float] = field(default_factory=dict)
    working: dict[str, float] = field(default_factory=dict)
    """Of a stage: optimizer steps, or scoring."""
    again: float | None = None
    repro: float | None = None


def measure(again: bool) -> Run:
    with tempfile.TemporaryDirectory(prefix="tuneline-bench-") as temporary:
        clone = Path(temporary) / "clone"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        install, _ = timed(["make", "setup"], clone)
        total, printed = timed(["make", "run"], clone)
        weights = (clone / "models" / "finetuned" / "model.safetensors").read_bytes()
        run = Run(install, total, hashlib.sha256(weights).hexdigest())
        read_log(printed, run)
        if again:
            run.again, _ = timed(["make", "run"], clone)
            run.repro, _ = timed([".venv/bin/tuneline", "exec", "--", "dvc", "repro"], clone)
        return run


def timed(command: list[str], folder: Path) -> tuple[float, list[str]]:
    environment = {name: value for name, value in os.environ.items() if name != "TUNELINE_ROOT"}
    started = time.monotonic()
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout}\n{done.stderr}")
    return time.monotonic() - started, (done.stdout + done.stderr).splitlines()


def read_log(lines: list[str], run: Run) -> None:
    """Fill in the stages from the flow's own log."""
    stage = ""
    for line in lines:
        if not (found := _LINE.match(line)):
            continue
        text = found[2]
        if started := _STARTED.match(text):
            stage = started[1]
        elif text.startswith("done in "):
            run.stages[stage] = float(text.split()[2])
        elif (stage == "evaluate" or text.startswith("training: ")) and (took := _TOOK.search(text)):
            minutes = took[2] == "min"
            seconds = float(took[1]) * 60 + float(took[3] or 0) if minutes else float(took[1])
            run.working[stage] = run.working.get(stage, 0.0) + seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--again", action="store_true")
    arguments = parser.parse_args()
    runs = []
    for number in range(1, arguments.runs + 1):
        print(f"run {number} of {arguments.runs}, load average {os.getloadavg()[0]:.2f}", flush=True)
        runs.append(measure(arguments.again))
    median = statistics.median
    print(
        "\n| | seconds | of which steps or scoring |\n|---|---:|---:|\n"
        f"| install | {median(r.install for r in runs):.0f} | |"
    )
    for stage in runs[0].stages:
        working = median(r.working.get(stage, 0.0) for r in runs)
        print(f"| {stage} | {median(r.stages[stage] for r in runs):.0f} | {working:.0f} |")
    total, working = median(r.total for r in runs), median(sum(r.working.values()) for r in runs)
    print(f"| flow, gate, register | {median(r.total - sum(r.stages.values()) for r in runs):.0f} | |")
    print(f"| **make run** | **{total:.0f}** | {working:.0f} (left: {total - working:.0f}) |")
    if arguments.again:
        print(f"| make run again | {median(r.again or 0 for r in runs):.0f} | |")
        print(f"| dvc repro, nothing to do | {median(r.repro or 0 for r in runs):.1f} | |")
    print("\nsha256 of the weights: " + ", ".join(sorted({r.sha256 for r in runs})))


if __name__ == "__main__":
    main()
