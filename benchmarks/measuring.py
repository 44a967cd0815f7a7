"""Measures a command with all its processes: time, CPU seconds by function, and memory."""

import os
import subprocess
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

_EVERY = 0.1
_UNIQUE_EVERY = 2.0


@dataclass
class Usage:
    """Of a whole tree of processes."""

    wall: float = 0.0
    """Seconds."""
    cpu: float = 0.0
    """Seconds, user and system."""
    largest: int = 0
    """Bytes: resident memory of the largest process at its peak."""
    total: int = 0
    """Bytes: resident memory of all together at their peak; what they share counts for each."""
    unique: int = 0
    """Bytes: memory that no other process shares, of all together, sampled every two seconds."""
    processes: int = 0
    """At the same time."""
    _cpu_of: dict[tuple[int, float], float] = field(default_factory=dict, repr=False)


def run(command: list[str], folder: Path, environment: Mapping[str, str]) -> Usage:
    """Run a command to its end and measure it.

    Args:
        command: it must end with exit code 0.
        folder: where it runs; its output goes to `output.log` there.
        environment: all of it.

    Returns:
        What it took.

    Raises:
        SystemExit: it failed; the end of its output is the message.
    """
    usage = Usage()
    log = folder / "output.log"
    with log.open("wb") as output:
        started = time.monotonic()
        process = subprocess.Popen(command, cwd=folder, env=dict(environment), stdout=output, stderr=output)
        ended = threading.Event()
        sampler = threading.Thread(target=_sample, args=(process.pid, ended, usage))
        sampler.start()
        # Of the command and of what it has waited for; processes without a waiting parent are only in the samples.
        _, status, resources = os.wait4(process.pid, 0)
        usage.wall = time.monotonic() - started
        ended.set()
        sampler.join()
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        end = log.read_text("utf-8", "replace")[-3000:]
        raise SystemExit(f"{' '.join(command)} in {folder} failed ({process.returncode}):\n{end}")
    usage.total = max(usage.total, usage.largest)
    usage.cpu = max(resources.ru_utime + resources.ru_stime, sum(usage._cpu_of.values()))
    return usage


def _sample(pid: int, ended: threading.Event, usage: Usage) -> None:
    next_unique = 0.0
    root = psutil.Process(pid)
    while not ended.wait(_EVERY):
        with_unique = time.monotonic() >= next_unique
        if with_unique:
            next_unique = time.monotonic() + _UNIQUE_EVERY
        total = unique = count = 0
        try:
            tree = [root, *root.children(recursive=True)]
        except psutil.Error:
            continue
        for process in tree:
            try:
                resident = process.memory_info().rss
                cpu = process.cpu_times()
                unique += process.memory_full_info().uss if with_unique else 0
                key = (process.pid, process.create_time())
            except psutil.Error:
                continue
            usage.largest = max(usage.largest, resident, _peak(process.pid))
            usage._cpu_of[key] = max(usage._cpu_of.get(key, 0.0), cpu.user + cpu.system)
            total += resident
            count += 1
        usage.total = max(usage.total, total)
        usage.unique = max(usage.unique, unique)
        usage.processes = max(usage.processes, count)


def _peak(pid: int) -> int:
    """Bytes: the most that a process has held since its program started, between two samples too; 0 where unknown."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), 0)
