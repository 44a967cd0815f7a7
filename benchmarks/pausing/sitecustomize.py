"""Holds a stage in the middle of a checkpoint write, so that benchmarks/kill.py can kill it there from outside.

Python imports this by its name in every process that has this folder in PYTHONPATH. It does nothing but watch:

    KILL_WRITES=FILE     append a line for everything that is opened or made in the write of a checkpoint, with its step
    KILL_PAUSE=STEP:N    at the N-th of these in the first write from STEP on, say so in the file and wait for the end
"""

import os
import re
import sys
import time
from typing import Any

_STAGE = ["tuneline.stages", "finetune"]
_WATCHED = ("open", "os.mkdir", "os.rename")
# The folder beside its place that a write fills; the last event is its renaming.
_WRITTEN = re.compile(r"\.checkpoint-(\d+)\.\d+\.partial")


def _watch(writes: str, pause: str) -> None:
    first, event = (int(number) for number in pause.split(":")) if pause else (sys.maxsize, 0)
    seen: dict[int, int] = {}
    # Opened once, as to open it within the hook would be an event too.
    log = os.open(writes, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def look(name: str, arguments: tuple[Any, ...]) -> None:
        if name not in _WATCHED or not isinstance(arguments[0], str | os.PathLike):
            return
        if not (found := _WRITTEN.search(os.fspath(arguments[0]))):
            return
        step = int(found[1])
        seen[step] = seen.get(step, 0) + 1
        pauses = seen[step] == event and step == min((each for each in seen if each >= first), default=None)
        os.write(log, f"{step} {'paused' if pauses else 'seen'}\n".encode())
        while pauses:
            time.sleep(60)

    sys.addaudithook(look)


if "KILL_WRITES" in os.environ and sys.orig_argv[-2:] == _STAGE:
    _watch(os.environ["KILL_WRITES"], os.environ.get("KILL_PAUSE", ""))
