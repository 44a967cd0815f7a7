"""`tuneline watch`: one long-lived process that has each promotion verified within seconds.

It asks the registry every few seconds whether the alias has moved. A webhook of MLflow only makes it ask earlier.
"""

import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from tuneline import params, processes
from tuneline.commands import webhook_listener
from tuneline.decisions import promotion
from tuneline.errors import ParamsError, TunelineError, one_line
from tuneline.registry import history, tracking
from tuneline.registry.tracking import Tracker
from tuneline.work import WORK

EVERY = 3.0
"""Seconds between two questions."""
FULL_CHECK = 900.0
"""Seconds after which the alias is compared with the history even if neither seems to have changed."""
# With a longer pause, an unverified champion could stay for longer than a minute after an outage.
_LONGEST_PAUSE = 20.0
_LONGEST_RUN = 4 * 3600.0
_LOCK = WORK / "watch.lock"
_FOLLOW = Path("flows/follow.py")


def watch(emit: Callable[[str], None], *, every: float = EVERY, webhook_port: int | None = None) -> None:
    """Watch the alias `champion` until the process is stopped.

    Args:
        emit: called with each line.
        every: seconds between two questions.
        webhook_port: the port of this machine where MLflow's webhooks are received; None: they are not used.

    Raises:
        BusyError: another process watches this project.
        ParamsError: params.yaml is wrong when the process starts.
    """
    with processes.exclusive(_LOCK, "the watch over promotions"), ExitStack() as stack:
        watcher = _Watcher(emit, every)
        emit(f"{watcher.model}: the alias champion is watched every {every:g} s; Ctrl-C stops")
        if webhook_port is not None:
            stack.enter_context(webhook_listener.listening(webhook_port, watcher.wake.set, emit))
        while True:
            watcher.look()
            watcher.wait()


class _Watcher:
    """Remembers what was seen, and how long to wait.

    Args:
        emit: called with each line.
        every: seconds between two questions.
    """

    def __init__(self, emit: Callable[[str], None], every: float) -> None:
        self.wake = threading.Event()
        self._emit, self._every, self._pause = emit, every, every
        self._params_read, self.model = 0, ""
        self._tracker: Tracker | None = None
        self._settled: tuple[object, ...] | None = None
        """What the registry held when alias and history were last equal."""
        self._checked = 0.0
        self._problem: str | None = None
        self._is_away = False
        self._read_params()

    def look(self) -> None:
        """Ask the registry once; have what has changed verified."""
        try:
            self._read_params()
            tracker = self._tracker or tracking.connect()
            problem = self._follow(tracker)
            self._tracker = tracker
        except TunelineError as error:
            # The connection is made and checked anew, which tells quickly that a server is away.
            problem, self._tracker = error.problems[0], None
        except OSError as error:
            # Of a machine that has no memory, files or space left for a moment.
            problem = f"{error.filename or 'the watch'}: {one_line(error)}"
        if problem is None and self._problem is not None:
            self._emit("the registry answers again" if self._is_away else "the promotions are followed again")
        if problem is not None and problem != self._problem:
            self._emit(f"{problem}; this is tried again until it works")
        self._problem, self._is_away = problem, self._tracker is None
        self._pause = self._every if problem is None else min(2 * self._pause, _LONGEST_PAUSE)

    def wait(self) -> None:
        """Wait until the next question is due, or a webhook has come."""
        self.wake.wait(self._pause)
        self.wake.clear()

    def _follow(self, tracker: Tracker) -> str | None:
        """Compare alias and history, and start the flow if they differ; returns why this did not help."""
        now = _snapshot(tracker, self.model)
        if now == self._settled and time.monotonic() - self._checked < FULL_CHECK:
            return None
        if promotion.is_settled(tracker, self.model):
            self._settled, self._checked = now, time.monotonic()
            return None
        self._settled = None
        code = self._run_flow()
        # A decided promotion moves the alias or adds an entry; what happened meanwhile is seen by the next look.
        return f"{_FOLLOW} has decided nothing (exit code {code})" if _snapshot(tracker, self.model) == now else None

    def _run_flow(self) -> int:
        with processes.process_group([sys.executable, str(_FOLLOW)]) as process:
            # A remote that never answers must not end the watch.
            alarm = threading.Timer(_LONGEST_RUN, process.kill)
            alarm.start()
            assert process.stdout is not None
            for line in process.stdout:
                self._emit(line.rstrip())
            alarm.cancel()
        return process.returncode

    def _read_params(self) -> None:
        """Read the name of the model again if params.yaml has changed."""
        try:
            changed = Path(params.PARAMS_FILE).stat().st_mtime_ns
            if changed != self._params_read:
                self.model, self._params_read = params.load().registry.model, changed
        except (ParamsError, OSError):
            # A person may be editing it. The flow says what is wrong before it verifies.
            if not self.model:
                raise


def _snapshot(tracker: Tracker, model: str) -> tuple[object, ...]:
    """The aliases, and the head of the history: two quick questions."""
    aliases = tracker.aliases(model)
    return tuple(sorted(aliases.items())), tracker.model_tags(model).get(history.HEAD)
