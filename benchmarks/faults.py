"""kill -9 of each process of a run, in each stage, in gate and register, and inside DVC's and MLflow's own writes.

    python benchmarks/faults.py [--only WORD,…]

Two copies of a tiny project are run: one is not disturbed, and of the other one run after the other is killed, each
further on than the last, until one ends. Prints a table in Markdown: what was killed and where, how the run ended, what
was left alive and on the disk, and the seconds until the next run had come to the same place. Exit code 1 where the two
projects do not end in the same state, or a process outlives its run.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from ruamel.yaml import YAML

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import kill
from tests.projects import Project, copy_project

from tuneline import files

_HOOK = Path(__file__).resolve().parent / "faulting"
_STAGES = ("validate_raw", "prepare", "validate_clean", "base", "finetune", "evaluate")
_PATIENCE = 600.0
_DVC = "-m dvc repro"
_RUN = "flows/run.py"
_CLIENT = "mlflow.tracking.client:MlflowClient."


@dataclass
class Fault:
    """A kill, and what came of it."""

    what: str
    where: str
    """The stage that runs, or gate or register."""
    hook: dict[str, Any] | None = None
    """What the process does to itself; otherwise it is killed from outside."""
    code: int | None = None
    alive: int = 0
    left: int = 0
    """Bytes."""
    seconds: float = 0.0
    """Until the next run was where this one was killed."""
    reached: bool = False


def _write(path: str, of: str = _DVC) -> dict[str, Any]:
    return {"event": "open", "path": path, "mode": "w", "later": 2, "of": of}


def _after(method: str, of: str) -> dict[str, Any]:
    return {"call": _CLIENT + method, "when": "after", "of": of}


def faults() -> list[Fault]:
    """In the order of a run. A stage ends where its server is killed, so that comes last of each."""
    inner = {
        "finetune": [
            Fault(f"stage, after MLflow's {method}", "finetune", _after(method, "tuneline.stages finetune"))
            for method in ("create_run", "log_batch")
        ],
        "evaluate": [
            Fault("dvc, rwlock just opened", "evaluate", _write(r"tmp/rwlock")),
            Fault("dvc, filling its cache", "evaluate", {"event": "os.rename", "path": "cache/files", "of": _DVC}),
            Fault("dvc, writing its run cache", "evaluate", _write(r"cache/runs")),
        ],
    }
    found: list[Fault] = []
    for stage in _STAGES:
        found += [Fault(what, stage) for what in ("run", "dvc", "stage")]
        found += inner.get(stage, [])
        found.append(Fault("dvc, dvc.lock just opened", stage, _write(r"dvc\.lock$")))
        found.append(Fault("server", stage))
    commit = "sqlalchemy.engine.default:DefaultDialect.do_commit"
    for count in (1, 3):
        hook = {"call": commit, "when": "before", "count": count, "of": _RUN}
        found.append(Fault(f"run, before commit {count} to MLflow's database", "gate", hook))
    copied = _write(r"mlflow/store/artifacts/.*model\.safetensors", _RUN)
    found.append(Fault("run, copying the model into the store", "register", copied))
    # The last of them makes the version: nothing is left to register after it.
    for method in ("create_logged_model", "finalize_logged_model", "create_model_version"):
        found.append(Fault(f"run, after MLflow's {method}", "register", _after(method, _RUN)))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="words of which a fault has one, as in base,register")
    words = [word for word in parser.parse_args().only.split(",") if word]
    chosen = [one for one in faults() if not words or any(word in f"{one.what} {one.where}" for word in words)]
    with tempfile.TemporaryDirectory(prefix="tuneline-faults-") as temporary:
        twin, broken = (project(Path(temporary) / name) for name in ("twin", "broken"))
        done = twin.flow()
        if done.returncode:
            raise SystemExit(f"the undisturbed run failed:\n{done.stdout}\n{done.stderr}")
        before: Fault | None = None
        for fault in chosen:
            disturb(broken, fault, before)
            before = fault
            kill.tell(f"{fault.where}: {fault.what}: exit {fault.code}, {fault.alive} alive, {fault.seconds:.0f} s")
        done = broken.flow()
        same = {name: one == state(broken)[name] for name, one in state(twin).items()}
        print(table(chosen))
        # A run that ended well was not killed: what its hook waits for does not happen any more.
        missed = [fault for fault in chosen if not fault.code]
        hits = f"{len(chosen) - len(missed)} of {len(chosen)} kills hit"
        print(f"\n{hits}; the last run: exit {done.returncode}; the same as undisturbed: {same}")
        orphans = sum(fault.alive for fault in chosen)
    sys.exit(bool(done.returncode or orphans or missed or not all(same.values())))


def project(place: Path) -> Project:
    made = copy_project(place)
    rows = [kill.row("sft", number) for number in range(kill.ROWS)]
    kill.write_rows(made, "sft", rows)
    kill.write_rows(made, "texts", [{"text": kill.words(f"text {number}", 20)} for number in range(kill.ROWS)])
    rule = {"metric": "bits_per_byte", "direction": "lower", "versus": "champion", "margin": 0.0}
    made.set(**kill.PARAMS, **{"task": "sft", "data.raw": "data/raw/sft", "gate.rules": [rule]})
    return made


def disturb(place: Project, fault: Fault, before: Fault | None) -> None:
    environment = place.environment()
    if fault.hook:
        path = os.pathsep.join([str(_HOOK), environment["PYTHONPATH"]])
        environment |= {"PYTHONPATH": path, "FAULT": json.dumps(fault.hook)}
    log = place.root.with_suffix(".log")
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "tuneline", "exec", "--", "python", _RUN],
            cwd=place.root, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            start_new_session=True,
        )  # fmt: skip
    began = time.monotonic()
    killed = False
    while process.poll() is None and time.monotonic() - began < _PATIENCE:
        text = log.read_text("utf-8", "replace")
        if before and not before.reached and (f"'{before.where}'" in text or f"'{before.where}-" in text):
            before.reached, before.seconds = True, time.monotonic() - began
        sign = f"] {fault.where}\n" if fault.what == "server" else f"Running stage '{fault.where}'"
        if not fault.hook and not killed and sign in text:
            killed = _kill(process.pid, fault)
        if not killed and _is_past(fault.where, text):
            # A hook that never came; what follows must not be lost to the faults that come after.
            fault.what += " (never came)"
            os.killpg(process.pid, signal.SIGKILL)
            break
        time.sleep(0.02)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    fault.code = process.wait()
    if before and not before.reached:
        before.reached, before.seconds = True, time.monotonic() - began
    fault.alive = len(psutil.wait_procs(inside(place.root), timeout=10)[1])
    fault.left = sum(size(one) for one in place.root.rglob(".*.partial"))


def _is_past(where: str, text: str) -> bool:
    later = _STAGES[_STAGES.index(where) + 1 :] if where in _STAGES else ()
    return any(f"Running stage '{stage}'" in text for stage in later)


def _kill(run: int, fault: Fault) -> bool:
    found = psutil.Process(run)
    if fault.what != "run":
        signs = {"dvc": _DVC, "stage": f"tuneline.stages {fault.where}", "server": "temporary_server.py"}
        below = [one for one in inside(Path(found.cwd())) if signs[fault.what] in " ".join(_command(one))]
        if not below:
            return False
        found = below[0]
    found.kill()
    return True


def inside(root: Path) -> list[psutil.Process]:
    """The processes that work in a project."""
    found = []
    for one in psutil.process_iter():
        try:
            if one.cwd() == str(root) and one.status() != psutil.STATUS_ZOMBIE:
                found.append(one)
        except psutil.Error:
            continue
    return found


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def size(path: Path) -> int:
    return sum(one.lstat().st_size for one in ([path] if path.is_file() else path.rglob("*")) if one.is_file())


def state(place: Project) -> dict[str, Any]:
    """What must be the same in the end."""
    lock = YAML(typ="safe").load((place.root / "dvc.lock").read_text("utf-8"))
    names = ("data/clean", "models/base", "models/finetuned", "reports/metrics.json", "reports/evaluation.json")
    hashes = {name: files.sha256_path(place.root / name) for name in names}
    settled = files.read_json(place.root / "work/settled.json")["outcome"]
    return {**hashes, "dvc.lock": lock, "version": (settled["version"], settled["verdict"])}


def table(chosen: list[Fault]) -> str:
    lines = [
        "| where | killed | exit | left alive | bytes left | s until there again |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for one in chosen:
        cells = [one.where, one.what, str(one.code), str(one.alive), f"{one.left:,}", f"{one.seconds:.0f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
