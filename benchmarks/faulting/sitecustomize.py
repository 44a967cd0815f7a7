"""Kills a process by SIGKILL at an exact point of what it does, so that benchmarks/faults.py need not hit it by chance.

Python imports this by its name in every process that has this folder in PYTHONPATH. It does nothing without

    FAULT={"of": "dvc repro", "event": "open", "path": "dvc\\.lock$", "mode": "w", "count": 1, "later": 1,
           "mark": "hit"}
        in a process with these words in its command line, at the count-th such audit event, `later` events after it:
        a file that was opened for writing is empty then, and what was written lies in a buffer
    FAULT={"of": "flows/run.py", "call": "mlflow.tracking.client:MlflowClient.finalize_logged_model", "count": 1,
           "when": "before", "mark": "hit"}
        before or after the count-th call of a method

The file `mark` is made just before the kill: a process that waits for it knows that the kill has happened.
"""

import json
import os
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


def _die(fault: dict[str, Any]) -> None:
    Path(fault["mark"]).touch()
    # os.kill would be an event of its own, for which the hook is called again.
    signal.raise_signal(signal.SIGKILL)


def _at_event(fault: dict[str, Any]) -> None:
    path, mode = re.compile(fault["path"]), fault.get("mode", "")
    left = {"events": fault.get("count", 1), "later": fault.get("later", 0)}

    def look(name: str, arguments: tuple[Any, ...]) -> None:
        if left["events"]:
            left["events"] -= is_meant(name, arguments)
        else:
            left["later"] -= 1
        # Making the mark is an event too.
        if not left["events"] and left["later"] == 0:
            left["later"] = -1
            _die(fault)

    def is_meant(name: str, arguments: tuple[Any, ...]) -> bool:
        if name != fault["event"] or (name == "open" and mode not in str(arguments[1])):
            return False
        places = arguments[:1] if name == "open" else arguments[:2]
        named = [os.fsdecode(one) for one in places if isinstance(one, str | bytes | os.PathLike)]
        return path.search(" ".join(named)) is not None

    sys.addaudithook(look)


def _at_call(fault: dict[str, Any]) -> None:
    module, _, place = fault["call"].partition(":")
    owner, _, method = place.partition(".")
    state = {"patched": False, "calls": fault.get("count", 1)}

    def patched(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            state["calls"] -= 1
            if not state["calls"] and fault["when"] == "before":
                _die(fault)
            found = original(*arguments, **named)
            if not state["calls"]:
                _die(fault)
            return found

        return call

    def look(_name: str, _arguments: tuple[Any, ...]) -> None:
        # The module is loaded by the process itself, in its own time.
        held = getattr(sys.modules.get(module), owner, None) if not state["patched"] else None
        if held is not None and method in vars(held):
            state["patched"] = True
            setattr(held, method, patched(vars(held)[method]))

    sys.addaudithook(look)


def _begin(fault: dict[str, Any]) -> None:
    if fault["of"] in " ".join(sys.orig_argv):
        (_at_call if "call" in fault else _at_event)(fault)


if "FAULT" in os.environ:
    _begin(json.loads(os.environ["FAULT"]))
