"""Checks that a project recovers from faults: kills, full disks and damaged files.

    python benchmarks/faults.py [--only WORD,…] [--keep FOLDER]

The benchmark runs two copies of a tiny project. It does not disturb the first copy, the twin. In the second copy a
fault ends each run, later in the run each time, until a run ends by itself: kill -9 of each process of a run, in
each stage, in gate and register, and inside the writes of DVC and MLflow; Ctrl-C; a full disk. After each fault the
next run must make the same bytes as the twin. Then the benchmark damages the twin's files one by one, follows the
printed remedy, and compares the project with its state before.

It prints two tables in Markdown. The exit code is 1 if a fault did not happen or was not reported, if a process
outlives its run, or if the projects differ.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import damaged
import interrupted
import kill
import twins
from tests.projects import Project


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="words of which a fault has one, as in base,register")
    parser.add_argument("--keep", type=Path, help="a new folder in which the projects and the logs of all runs stay")
    arguments = parser.parse_args()
    words = [word for word in arguments.only.split(",") if word]
    began = time.monotonic()
    with folder(arguments.keep) as place:
        twin, broken = (twins.make(place / name) for name in ("twin", "broken"))
        done = twin.flow()
        if done.returncode:
            raise SystemExit(f"the undisturbed run failed:\n{done.stdout}\n{done.stderr}")
        kill.tell(f"the undisturbed run: {time.monotonic() - began:.0f} s")
        faults = [one for one in interrupted.faults() if _is_meant(words, f"{one.what} {one.where}")]
        failed = bool(faults) and interrupt(twin, broken, faults)
        damages = [one for one in damaged.damages(place / "whole") if _is_meant(words, one.what)]
        failed |= bool(damages) and damage(twin, damages)
    print(f"{time.monotonic() - began:.0f} s")
    sys.exit(failed)


@contextmanager
def folder(kept: Path | None) -> Iterator[Path]:
    if kept:
        kept.mkdir(parents=True)
        yield kept.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="tuneline-faults-") as temporary:
        yield Path(temporary)


def _is_meant(words: list[str], text: str) -> bool:
    return not words or any(word in text for word in words)


def interrupt(twin: Project, broken: Project, chosen: list[interrupted.Fault]) -> bool:
    """Interrupt one run after the other, print what came of it, and say whether anything went wrong."""
    base = twins.size(twin.root / "models/base")
    before: interrupted.Fault | None = None
    waiting: list[interrupted.Fault] = []
    for fault in chosen:
        interrupted.disturb(broken, fault, before, base)
        waiting = interrupted.compare(twin, broken, interrupted.finished(fault), waiting)
        waiting.append(fault)
        before = fault
        kill.tell(f"{fault.where}: {fault.what}: exit {fault.code}, {fault.alive} left alive")
    interrupted.disturb(broken, None, before, base)
    of_twin, here = twins.state(twin), twins.state(broken)
    others = [name for name in of_twin if of_twin[name] != here[name]]
    for fault in waiting:
        fault.compared, fault.others = len(of_twin), others
    print(interrupted.table(chosen))
    happened = sum(one.happened for one in chosen)
    differ = f"{len(others)} of {len(of_twin)} results differ in the end {' '.join(others)}"
    print(f"\n{happened} of {len(chosen)} faults happened; {differ}")
    for name in ("work", ".dvc/cache", "mlflow/store"):
        more = twins.size(broken.root / name) - twins.size(twin.root / name)
        print(f"{name}: {more:,} bytes more than the twin's")
    return happened < len(chosen) or bool(others) or any(one.alive or one.others for one in chosen)


def damage(project: Project, chosen: list[damaged.Damage]) -> bool:
    """Damage a project in one way after the other, print what came of it, and say whether anything went wrong."""
    good = twins.state(project)
    for one in chosen:
        damaged.try_out(project, one, good)
        kill.tell(f"{one.what}: exit {one.exit}, then {one.after}, {'well' if one.is_well else 'NOT WELL'}")
    print(f"\n{damaged.table(chosen)}")
    well = sum(one.is_well for one in chosen)
    print(f"\n{well} of {len(chosen)} are told as they should be, and mended by what is said")
    return well < len(chosen)


if __name__ == "__main__":
    main()
