import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

from tuneline import processes
from tuneline.errors import BusyError


def python(code: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *arguments], stdout=subprocess.PIPE, text=True
    )


def wait_until(condition, seconds: float = 20.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return False


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's guarantee is Linux's")
def test_a_child_dies_with_a_killed_parent() -> None:
    parent = python(
        """
        import subprocess, sys
        code = "import time; from tuneline import processes as p; p.die_with_parent(); print(flush=True); time.sleep(9)"
        child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        child.stdout.readline()
        print(child.pid, flush=True)
        child.wait()
        """
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    assert not is_gone(child)
    parent.kill()
    assert wait_until(lambda: is_gone(child))


def test_a_lock_names_its_holder_and_is_freed_by_a_kill(tmp_path: Path) -> None:
    lock = tmp_path / "run.lock"
    holder = python(
        """
        import sys, time
        from pathlib import Path
        from tuneline import processes
        with processes.exclusive(Path(sys.argv[1]), "the thing"):
            print("held", flush=True)
            time.sleep(60)
        """,
        str(lock),
    )
    assert holder.stdout is not None
    holder.stdout.readline()
    with pytest.raises(BusyError, match=rf"pid {holder.pid}\) holds the thing"), processes.exclusive(lock, "the thing"):
        pass
    holder.kill()
    holder.wait()
    with processes.exclusive(lock, "the thing"):
        assert lock.read_text() == str(os.getpid())


def test_an_interrupt_takes_the_whole_group_down() -> None:
    started: list[int] = []
    code = "import subprocess; child = subprocess.Popen(['sleep', '60']); print(child.pid, flush=True); child.wait()"
    with pytest.raises(KeyboardInterrupt), processes.process_group([sys.executable, "-c", code]) as process:
        assert process.stdout is not None
        started += [process.pid, int(process.stdout.readline())]
        raise KeyboardInterrupt
    assert all(wait_until(lambda pid=pid: is_gone(pid)) for pid in started)


def ended(code: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a process that does `code` in `processes.run_and_exit`."""
    head = """
import atexit, signal, sys, threading, time
atexit.register(lambda: print("registered before"))
from tuneline import processes
def main():
"""
    whole = head + textwrap.indent(textwrap.dedent(code), "    ") + "\nprocesses.run_and_exit(main)\n"
    done = subprocess.run([sys.executable, "-c", whole], capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout, done.stderr


def test_threads_and_exit_handlers_run_although_memory_is_not_freed() -> None:
    code = """
        class Kept:
            def __del__(self):
                print('taken apart', flush=True)
        sys.kept = Kept()
        def later():
            time.sleep(0.2)
            print('thread')
        atexit.register(lambda: print('at exit'))
        threading.Thread(target=later).start()
        print('main', end=' ')
    """
    assert ended(code) == (0, "main thread\nat exit\nregistered before\n", "")


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("sys.exit(3)", (3, "")),
        ("sys.exit('in words')", (1, "in words\n")),
        ("raise OSError('broken')", (1, "OSError: broken\n")),
        ("signal.raise_signal(signal.SIGTERM)", (-15, "")),
        ("raise KeyboardInterrupt", (-2, "KeyboardInterrupt\n")),
    ],
)
def test_the_exit_code_of_main_is_that_of_the_process(code: str, expected: tuple[int, str]) -> None:
    returncode, _, stderr = ended(code)
    assert (returncode, "".join(stderr.splitlines(keepends=True)[-1:])) == expected


def test_no_leak_of_frozen_objects_is_reported_after_an_error() -> None:
    code = """
        with processes.importing():
            import torch._dynamo.utils
        raise OSError('broken')
    """
    assert ended(code)[2].splitlines()[-1] == "OSError: broken"


def test_garbage_collection_is_on_again_after_an_import_that_fails() -> None:
    code = """
        import gc
        try:
            with processes.importing():
                import nothing_of_this_name
        except ImportError:
            sys.exit(not gc.isenabled())
    """
    assert ended(code)[0] == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux's device that is always full")
def test_output_that_cannot_be_flushed_at_the_end_is_an_error() -> None:
    code = "from tuneline import processes; processes.run_and_exit(lambda: print('x'))"
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode != 0
    assert "No space left" in done.stderr


def test_a_process_without_stdout_or_stderr_ends_normally() -> None:
    code = "import sys; sys.stdout = None; from tuneline import processes; processes.run_and_exit(lambda: None)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_whether_a_lock_is_held_is_seen_without_taking_it(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    assert not processes.is_running(lock)
    with processes.exclusive(lock, "a work"):
        assert processes.is_running(lock)
    lock.write_text("4194305")
    assert not processes.is_running(lock)
