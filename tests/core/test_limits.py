"""A block that takes too long or too much ends, also where a library catches errors and goes on."""

import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest

from tuneline.core import limits


def test_time_that_is_over_ends_a_block_that_catches_every_error() -> None:
    alarm = signal.getitimer(signal.ITIMER_REAL)[0]
    with pytest.raises(TimeoutError), limits.within(0.1):
        while True:
            try:
                sum(range(1000))
            except Exception:
                continue
    # pytest may have set one for the test itself.
    assert alarm - 1 < signal.getitimer(signal.ITIMER_REAL)[0] <= alarm


def test_memory_that_is_used_up_ends_a_block_and_is_not_bounded_behind_it() -> None:
    before = resource.getrlimit(resource.RLIMIT_AS)
    with pytest.raises(MemoryError), limits.within(60, 1 << 28):
        bytearray(1 << 29)
    assert resource.getrlimit(resource.RLIMIT_AS) == before


def test_what_stays_within_its_bounds_is_left_alone() -> None:
    handler = signal.getsignal(signal.SIGALRM)
    with limits.within(60, 1 << 28):
        made = bytearray(1 << 20)
    assert len(made) == 1 << 20
    assert signal.getsignal(signal.SIGALRM) == handler


ENDLESS = "9 ** 9 ** 9"
"""A single call that never comes back, in which Python hears no signal and lets no other thread run."""


@pytest.mark.parametrize(
    "program",
    [
        "with limits.exit_after(0.3, 'it never\\nends'): ENDLESS",
        # In any thread.
        "import threading\n"
        "def work():\n    with limits.exit_after(0.3, 'it never ends'): ENDLESS\n"
        "threading.Thread(target=work).start()",
        # Its whole time again, as often as is asked.
        "import time\n"
        "with limits.exit_after(0.5, 'it never ends') as again:\n"
        "    for _ in range(5): time.sleep(0.2); again()\n"
        "    ENDLESS",
        # Behind other blocks, with another sentence each.
        "with limits.exit_after(9, 'no'): pass\n"
        "with limits.exit_after(9, 'also no'): pass\n"
        "with limits.exit_after(0.3, 'it never ends'): ENDLESS",
        # The process that is to say it was killed, or is that of the process from which this one was forked.
        "import os, signal, time\n"
        "with limits.exit_after(9, 'no'): pass\n"
        "os.kill(int(open(f'/proc/self/task/{os.getpid()}/children').read()), signal.SIGKILL)\n"
        "time.sleep(0.1)\n"
        "with limits.exit_after(0.3, 'it never ends'): ENDLESS",
        "import os\n"
        "with limits.exit_after(9, 'no'): pass\n"
        "if child := os.fork(): os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
        "with limits.exit_after(0.3, 'it never ends'): ENDLESS",
    ],
)
def test_a_call_that_never_comes_back_ends_its_process_with_a_line(program: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"from tuneline.core import limits\n{program.replace('ENDLESS', ENDLESS)}"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "error: it never ends\n")


def test_a_block_that_ends_in_time_is_not_ended_later() -> None:
    with limits.exit_after(0.1, "no"), limits.exit_after(0.01, "a part of the other"):
        pass
    time.sleep(0.2)
    with pytest.raises(ZeroDivisionError), limits.exit_after(0.1, "no"):
        raise ZeroDivisionError
    thread = threading.Thread(target=time.sleep, args=(0.2,))
    thread.start()
    thread.join()


def _crashes() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


@pytest.mark.parametrize(
    ("call", "kind"),
    [
        (lambda: eval(ENDLESS), TimeoutError),
        (lambda: time.sleep(9), TimeoutError),
        (lambda: bytearray(1 << 30), MemoryError),
        (os.abort, MemoryError),
        (_crashes, ChildProcessError),
    ],
)
def test_what_would_end_this_process_is_tried_in_another(call: Callable[[], object], kind: type[Exception]) -> None:
    with pytest.raises(kind):
        limits.try_in_child(1, 1 << 29, call)


def test_what_does_no_harm_is_left_to_the_callers_own_call(capfd: pytest.CaptureFixture[str]) -> None:
    limits.try_in_child(5, 1 << 29, lambda: os.write(2, b"heard by nobody"))
    limits.try_in_child(5, 1 << 29, lambda: 1 // 0)
    assert capfd.readouterr() == ("", "")
