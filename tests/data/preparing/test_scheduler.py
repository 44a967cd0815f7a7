"""Results, their order and errors are the same in every pool, and workers end with their driver."""

import itertools
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from preparing import data, pair, prepare, sentence, text

from tuneline.data.preparing import scheduler
from tuneline.errors import DataError

PAIRS = [pair(f"question {n}", sentence(n), f"group{n % 40}") for n in range(600)]
PAIRS += [pair(f"question {n}", f"{sentence(n)} more", f"group{n % 40}") for n in range(0, 600, 20)]
TEXTS = [text(f"{sentence(f't{n}')} {sentence(n)}", f"group{n % 50}") for n in range(600)]


def square(number: int) -> int:
    return number * number


def refuse(number: int) -> int:
    if number == 3:
        raise DataError("a.jsonl:3: first", "a.jsonl:4: second")
    return number


def process(_: int) -> int:
    time.sleep(0.05)
    return os.getpid()


@pytest.fixture(scope="module")
def two() -> Iterator[scheduler.Run]:
    """A pool of two processes."""
    with scheduler.pool(workers=2, address=None, size=1, inline=0) as run:
        yield run


def assert_in_order(run: scheduler.Run, workers: int) -> None:
    assert list(run(square, range(40))) == [n * n for n in range(40)]
    assert len(set(run(process, range(12)))) == workers
    found = run(refuse, range(6))
    assert list(itertools.islice(found, 3)) == [0, 1, 2]
    with pytest.raises(DataError) as caught:
        next(found)
    assert caught.value.problems == ("a.jsonl:3: first", "a.jsonl:4: second")


def test_results_of_a_pool_are_in_order_and_errors_keep_their_problems(two: scheduler.Run) -> None:
    assert_in_order(two, workers=2)
    with scheduler.pool(workers=1, address=None, size=1, inline=0) as run:
        assert_in_order(run, workers=1)


def test_little_data_starts_no_process() -> None:
    with scheduler.pool(workers=2, address=None, size=1000) as run:
        assert list(run(process, [1, 2])) == [os.getpid()] * 2


def answer_to_anyone(address: tuple[str, int]) -> str:
    """What a port answers to a process without the key: why it refuses, or the first line of HTTP."""
    anyone = ssl.create_default_context()
    anyone.check_hostname, anyone.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection(address, timeout=10) as plain:
        plain.sendall(b"GET /json/counts.json HTTP/1.1\r\nHost: evil.example\r\n\r\n")
        with suppress(ConnectionError):
            line = plain.recv(100).partition(b"\r\n")[0].decode("latin-1")
            if line.startswith("HTTP/"):
                return line
    with socket.create_connection(address, timeout=10) as plain:
        try:
            with anyone.wrap_socket(plain) as asked:
                return repr(asked.recv(1))
        except (ssl.SSLError, ConnectionError) as error:
            return str(error)


def test_ports_of_the_pool_refuse_processes_without_its_key(two: scheduler.Run) -> None:
    # The workers are up.
    assert list(two(square, range(4))) == [0, 1, 4, 9]
    own = psutil.Process()
    sockets = [one for process in (own, *own.children(recursive=True)) for one in process.net_connections("tcp")]
    listening = {one.laddr for one in sockets if one.status == psutil.CONN_LISTEN}
    assert {ip for ip, _ in listening} == {"127.0.0.1"}
    answers = sorted(map(answer_to_anyone, listening))
    pages = [answer for answer in answers if answer == "HTTP/1.1 404 Not Found"]
    refused = [answer for answer in answers if "certificate required" in answer]
    # The scheduler, and a worker and its nanny each; scheduler and workers have pages.
    assert (len(pages), len(refused), len(answers)) == (3, 5, 8), answers


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[str]:
    """A Dask scheduler with a worker, in processes of their own."""
    port = str(20_000 + os.getpid() % 20_000)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    commands = (
        ["scheduler", "--host", "127.0.0.1", "--port", port, "--no-dashboard"],
        ["worker", f"tcp://127.0.0.1:{port}", "--nthreads", "1", "--no-dashboard", "--local-directory", str(tmp_path)],
    )
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "distributed.cli.dask_" + name, *arguments],
            env=environment, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )
        for name, *arguments in commands
    ]  # fmt: skip
    yield f"tcp://127.0.0.1:{port}"
    for one in reversed(started):
        os.killpg(one.pid, signal.SIGKILL)
        one.wait()


@pytest.mark.slow
def test_two_workers_and_another_scheduler_give_the_same_bytes(cluster: str) -> None:
    alone = prepare(PAIRS, TEXTS, data())
    two = prepare(PAIRS, TEXTS, data(workers=2), inline=0)
    elsewhere = prepare(PAIRS, TEXTS, data(scheduler=cluster), inline=0)
    assert alone.report["raw"]["dropped"] == {"near-duplicate": 30}
    assert alone.digest == two.digest == elsewhere.digest
    assert alone.quarantine == two.quarantine == elsewhere.quarantine


def test_workers_die_with_a_killed_driver() -> None:
    code = (
        "import time\nfrom tuneline.data.preparing import scheduler\n"
        "if __name__ == '__main__':\n"
        "    with scheduler.pool(workers=2, address=None, size=1, inline=0) as run:\n"
        "        list(run(abs, range(4)))\n"
        "        print('up', flush=True)\n"
        "        time.sleep(100)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as driver:
        assert driver.stdout
        assert driver.stdout.readline() == "up\n"
        workers = psutil.Process(driver.pid).children(recursive=True)
        assert len(workers) >= 2
        driver.kill()
    gone, alive = psutil.wait_procs(workers, timeout=20)
    assert alive == [], f"{len(gone)} of {len(workers)} are gone"
