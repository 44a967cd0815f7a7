"""The faults that interrupt a run of the pipeline: kills, Ctrl-C, and a full disk."""

import json
import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import twins
from tests.projects import Project

_HOOK = Path(__file__).resolve().parent / "faulting"
_PATIENCE = 600.0
_DVC = "-m dvc repro"
_CLIENT = "mlflow.tracking.client:MlflowClient."


@dataclass
class Fault:
    """What ends a run, and what came of it."""

    where: str
    """The stage that runs, or gate or register."""
    what: str
    process: str = ""
    """The process that is sent a signal from outside: run, dvc, stage, pool (a worker of the stage's) or server."""
    number: int = signal.SIGKILL
    hook: dict[str, Any] | None = None
    """What a process does to itself; it waits for a point that cannot be hit from outside."""
    room: float = 0.0
    """Of the file system on which models/ lies, in multiples of the base; 0: enough."""
    happened: bool = False
    code: int | None = None
    said: str = ""
    alive: int = 0
    left: int = 0
    """Bytes that were being written."""
    reached: bool = False
    seconds: float = 0.0
    """Until the next run was where this one was ended."""
    compared: int = 0
    others: list[str] | None = None
    """Of what was compared with the twin after the next run, what differs."""


def _write(path: str, of: str) -> dict[str, Any]:
    return {"event": "open", "path": path, "mode": "w", "later": 1, "of": of}


def _rename(path: str, of: str) -> dict[str, Any]:
    return {"event": "os.rename", "path": path, "of": of}


def _after(method: str, of: str) -> dict[str, Any]:
    return {"call": _CLIENT + method, "when": "after", "of": of}


def faults() -> list[Fault]:
    """In the order of a run. A stage ends where its server is killed, so that comes last of each."""
    stage = "tuneline.stages "
    inner = {
        "sample": [
            Fault("sample", "a worker of the stage's pool", "pool"),
            Fault(
                "sample", "stage, replacing the corpus", hook=_rename("data/raw/.python-docstrings", f"{stage}sample")
            ),
        ],
        "prepare": [
            Fault("prepare", "Ctrl-C", "group", signal.SIGINT),
            Fault("prepare", "stage, replacing data/clean", hook=_rename("data/.clean", f"{stage}prepare")),
        ],
        "base": [Fault("base", "a full disk (models/)", room=0.5)],
        "finetune": [
            Fault("finetune", "Ctrl-C", "group", signal.SIGINT),
            Fault("finetune", "SIGTERM to the run", "run", signal.SIGTERM),
            *(
                Fault("finetune", f"stage, after MLflow's {method}", hook=_after(method, f"{stage}finetune"))
                for method in ("create_run", "log_batch")
            ),
            # The training is kept: the next run only writes the model.
            Fault("finetune", "a full disk (models/)", room=1.5),
        ],
        "evaluate": [
            Fault("evaluate", "dvc, rwlock just opened", hook=_write(r"tmp/rwlock", f"{_DVC} evaluate")),
            Fault("evaluate", "dvc, filling its cache", hook=_rename("cache/files", f"{_DVC} evaluate")),
            Fault("evaluate", "dvc, writing its run cache", hook=_write(r"cache/runs", f"{_DVC} evaluate")),
        ],
    }
    found: list[Fault] = []
    for name in twins.STAGES:
        found += [Fault(name, what, what) for what in ("run", "dvc", "stage")]
        found += inner.get(name, [])
        found.append(Fault(name, "dvc, dvc.lock just opened", hook=_write(r"dvc\.lock$", f"{_DVC} {name}")))
        found.append(Fault(name, "Prefect's server", "server"))
    commit = "sqlalchemy.engine.default:DefaultDialect.do_commit"
    for count in (1, 3):
        hook = {"call": commit, "when": "before", "count": count, "of": twins.RUN}
        found.append(Fault("gate", f"run, before commit {count} to MLflow's database", hook=hook))
    copied = _write(r"mlflow/store/artifacts/.*model\.safetensors", twins.RUN)
    found.append(Fault("register", "run, copying the model into the store", hook=copied))
    # The last of them makes the version: nothing is left to register after it.
    for method in ("create_logged_model", "finalize_logged_model", "create_model_version"):
        found.append(Fault("register", f"run, after MLflow's {method}", hook=_after(method, twins.RUN)))
    return found


def disturb(place: Project, fault: Fault | None, before: Fault | None, base: int) -> None:
    """Run the flow until the fault has ended it, and note what came of it, and how long after the last one.

    Args:
        place: the project.
        fault: None: the run may end by itself.
        before: the fault that ended the run before this one.
        base: bytes of the base.
    """
    environment, command = place.environment(), twins.COMMAND
    mark = place.root.with_suffix(".mark")
    mark.unlink(missing_ok=True)
    log = place.root.with_name(f"{fault.where}, {fault.what}.log".replace("/", "") if fault else "last.log")
    if fault and fault.hook:
        path = os.pathsep.join([str(_HOOK), environment["PYTHONPATH"]])
        environment |= {"PYTHONPATH": path, "FAULT": json.dumps(fault.hook | {"mark": str(mark)})}
    if fault and fault.room:
        (place.root / "models").mkdir(exist_ok=True)
        command = twins.mounted("tmpfs", "models", f"size={int(fault.room * base)}", command)
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=place.root, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            start_new_session=True,
        )  # fmt: skip
    began = time.monotonic()
    while process.poll() is None and time.monotonic() - began < _PATIENCE:
        text = log.read_text("utf-8", "replace")
        if before and not before.reached and (f"'{before.where}'" in text or f"'{before.where}-" in text):
            before.reached, before.seconds = True, time.monotonic() - began
        if fault and fault.process and not fault.happened and _begins(fault) in text:
            fault.happened = _send(process.pid, fault)
        if fault and not fault.happened and not mark.exists() and _is_past(fault.where, text):
            # What follows must not be lost to the faults that come after.
            break
        time.sleep(0.02)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    code = process.wait()
    if before and not before.reached:
        before.reached, before.seconds = True, time.monotonic() - began
    if fault:
        text = log.read_text("utf-8", "replace")
        fault.code, fault.said = code, twins.said(text) if code > 0 else ""
        fault.happened = fault.happened or mark.exists() or bool(fault.room and "no space left" in text.lower())
        fault.alive, fault.left = twins.alive(place), twins.partial(place)
    elif code:
        raise SystemExit(f"the last run failed:\n{log.read_text('utf-8', 'replace')}")


def compare(twin: Project, place: Project, finished: tuple[str, ...], waiting: list[Fault]) -> list[Fault]:
    """Hold what some stages have made against the twin.

    Args:
        twin: the undisturbed project.
        place: the other.
        finished: the stages.
        waiting: the faults after which this is the first look.

    Returns:
        Those whose own stage is not finished yet, so that another look is due.
    """
    outputs = twins.locked(twin)
    of_twin, here = (twins.made(one, finished, outputs) for one in (twin, place))
    for fault in waiting:
        fault.compared, fault.others = len(of_twin), [name for name, one in of_twin.items() if here[name] != one]
    return [fault for fault in waiting if fault.where not in finished]


def finished(fault: Fault) -> tuple[str, ...]:
    """The stages that are made when a fault comes."""
    return twins.STAGES[: twins.STAGES.index(fault.where)] if fault.where in twins.STAGES else twins.STAGES


def _begins(fault: Fault) -> str:
    """What a run prints when the process is there."""
    return f"] {fault.where}\n" if fault.process == "server" else f"Running stage '{fault.where}'"


def _is_past(where: str, text: str) -> bool:
    later = twins.STAGES[twins.STAGES.index(where) + 1 :] if where in twins.STAGES else ()
    return any(f"Running stage '{stage}'" in text for stage in later)


def _send(run: int, fault: Fault) -> bool:
    """Send the signal; whether the process was there."""
    if fault.process == "group":
        os.killpg(run, fault.number)
        return True
    found = psutil.Process(run)
    if fault.process != "run":
        signs = {"dvc": _DVC, "server": "temporary_server.py"}
        sign = signs.get(fault.process, f"tuneline.stages {fault.where}")
        below = [one for one in twins.inside(Path(found.cwd())) if sign in " ".join(_command(one))]
        # The workers of a pool have the command line of the stage that has started them.
        ids = {one.pid for one in below}
        below = [one for one in below if (_parent(one) in ids) == (fault.process == "pool")]
        if not below:
            return False
        found = below[0]
    found.send_signal(fault.number)
    return True


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def _parent(process: psutil.Process) -> int | None:
    try:
        return process.ppid()
    except psutil.Error:
        return None


def table(faults: list[Fault]) -> str:
    lines = [
        "| where | killed | exit | says | left alive | bytes left | s until there again | like the twin |",
        "|---|---|---:|---|---:|---:|---:|---|",
    ]
    for one in faults:
        what = one.what if one.happened else f"{one.what} (**did not happen**)"
        same = f"{one.compared - len(one.others or [])} of {one.compared}"
        cells = [one.where, what, str(one.code), one.said.replace("|", "\\|"), str(one.alive), f"{one.left:,}"]
        lines.append(f"| {' | '.join([*cells, f'{one.seconds:.0f}', same])} |")
    return "\n".join(lines)
