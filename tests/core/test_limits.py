"""A block at its limit of time or memory is stopped, also if a library in it catches every exception."""

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


def test_the_time_limit_stops_a_block_that_catches_every_exception() -> None:
    alarm = signal.getitimer(signal.ITIMER_REAL)[0]
    with pytest.raises(TimeoutError), limits.within(0.1):
        while True:
            try:
                sum(range(1000))
            except Exception:
                continue
    # pytest may have set one for the test itself.
    assert alarm - 1 < signal.getitimer(signal.ITIMER_REAL)[0] <= alarm


def test_the_memory_limit_stops_a_block_and_ends_with_it() -> None:
    before = resource.getrlimit(resource.RLIMIT_AS)
    with pytest.raises(MemoryError), limits.within(60, 1 << 28):
        bytearray(1 << 29)
    assert resource.getrlimit(resource.RLIMIT_AS) == before


def test_a_block_within_its_limits_is_not_changed() -> None:
    handler = signal.getsignal(signal.SIGALRM)
    with limits.within(60, 1 << 28):
        made = bytearray(1 << 20)
    assert len(made) == 1 << 20
    assert signal.getsignal(signal.SIGALRM) == handler


ENDLESS = "9 ** 9 ** 9"
"""One call that never returns; meanwhile Python handles no signal and runs no other thread."""


@pytest.mark.parametrize(
    "program",
    [
        "with limits.exit_after(0.3, 'it never\\nends'): ENDLESS",
        # In any thread.
        "import threading\n"
        "def work():\n    with limits.exit_after(0.3, 'it never ends'): ENDLESS\n"
        "threading.Thread(target=work).start()",
        # The time starts again at each call of `restart`.
        "import time\n"
        "with limits.exit_after(0.5, 'it never ends') as restart:\n"
        "    for _ in range(5): time.sleep(0.2); restart()\n"
        "    ENDLESS",
        # After other blocks with other messages.
        "with limits.exit_after(9, 'no'): pass\n"
        "with limits.exit_after(9, 'also no'): pass\n"
        "with limits.exit_after(0.3, 'it never ends'): ENDLESS",
        # The child that prints the message was killed, or belongs to the parent process.
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
def test_a_call_that_never_returns_exits_the_process_with_a_message(program: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"from tuneline.core import limits\n{program.replace('ENDLESS', ENDLESS)}"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "error: it never ends\n")


def test_a_block_that_ends_in_time_does_not_exit_the_process_later() -> None:
    with limits.exit_after(0.1, "no"), limits.exit_after(0.01, "the limit of the outer block counts"):
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
def test_a_call_that_would_end_this_process_ends_the_child(call: Callable[[], object], kind: type[Exception]) -> None:
    with pytest.raises(kind):
        limits.try_in_child(1, 1 << 29, call)


def test_the_output_and_errors_of_a_harmless_call_in_the_child_are_dropped(capfd: pytest.CaptureFixture[str]) -> None:
    limits.try_in_child(5, 1 << 29, lambda: os.write(2, b"dropped"))
    limits.try_in_child(5, 1 << 29, lambda: 1 // 0)
    assert capfd.readouterr() == ("", "")
