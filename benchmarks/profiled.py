"""Runs a module as `python -m` does, and reports the CPU seconds of each function.

    python benchmarks/profiled.py RESULT.json MODULE [ARGUMENT…]

A timer of CPU time interrupts the main thread. The CPU seconds since the last interruption count for the running
function and for its callers. Unlike a tracer this hardly slows the run, so the shares are those of a normal run.
"""

import json
import runpy
import signal
import sys
import time
from collections import defaultdict
from pathlib import Path
from types import FrameType

from tuneline import environment

_INTERVAL = 0.005


def main(result: Path, module: str, arguments: list[str]) -> None:
    own: defaultdict[str, float] = defaultdict(float)
    within: defaultdict[str, float] = defaultdict(float)
    last = time.process_time()

    def sample(_signal: int, frame: FrameType | None) -> None:
        nonlocal last
        now = time.process_time()
        spent, last = now - last, now
        functions = []
        while frame is not None:
            place = frame.f_code.co_filename.split("/src/")[-1].split("/site-packages/")[-1]
            functions.append(f"{place}:{frame.f_code.co_qualname}")
            frame = frame.f_back
        own[functions[0]] += spent
        for name in set(functions):
            within[name] += spent

    signal.signal(signal.SIGPROF, sample)
    signal.setitimer(signal.ITIMER_PROF, _INTERVAL, _INTERVAL)
    sys.argv = [module, *arguments]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        result.write_text(json.dumps({"own": own, "within": within, "total": time.process_time()}))


if __name__ == "__main__":
    # What starts the process again must do so before there is a timer, which would end the new image.
    environment.enter()
    main(Path(sys.argv[1]).absolute(), sys.argv[2], sys.argv[3:])
