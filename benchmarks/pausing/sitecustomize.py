"""Holds a stage in the middle of a checkpoint write, so that benchmarks/kill.py can kill it there from outside.

Python imports this by its name in every process that has this folder in PYTHONPATH. It does nothing but watch:

    KILL_WRITES=FILE     append a line for everything that is opened or made in the write of a checkpoint, with its step
    KILL_PAUSES=STEP:N,… at the N-th of these in the first write from STEP on, say so in the file and wait for the end;
                         of several the first one that the file does not know of yet
"""

import os
import re
import sys
import time
from typing import Any

_STAGE = ["tuneline.stages", "finetune"]
_WATCHED = ("open", "os.mkdir", "os.rename")
_NEVER = f"{sys.maxsize}:0"
# The folder beside its place that a write fills; the last event is its renaming.
_WRITTEN = re.compile(r"\.checkpoint-(\d+)\.[0-9a-f]+\.partial")


def _watch(writes: str, pauses: str) -> None:
    # Opened once, as to open it within the hook would be an event too.
    log = os.open(writes, os.O_RDWR | os.O_CREAT | os.O_APPEND)
    over = os.pread(log, os.fstat(log).st_size, 0).count(b"paused")
    first, event = (int(number) for number in [*pauses.split(","), _NEVER][min(over, pauses.count(",") + 1)].split(":"))
    seen: dict[int, int] = {}

    def look(name: str, arguments: tuple[Any, ...]) -> None:
        if name not in _WATCHED or not isinstance(arguments[0], str | os.PathLike):
            return
        if not (found := _WRITTEN.search(os.fspath(arguments[0]))):
            return
        step = int(found[1])
        seen[step] = seen.get(step, 0) + 1
        stays = seen[step] == event and step == min((each for each in seen if each >= first), default=None)
        os.write(log, f"{step} {'paused' if stays else 'seen'} {os.getpid()}\n".encode())
        while stays:
            time.sleep(60)

    sys.addaudithook(look)


if "KILL_WRITES" in os.environ and sys.orig_argv[-2:] == _STAGE:
    _watch(os.environ["KILL_WRITES"], os.environ.get("KILL_PAUSES") or _NEVER)
