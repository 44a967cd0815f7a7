"""Maps a function over items: in this process, in several processes, or on a Dask cluster. The results are the same."""

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol, TypeVar, cast

from tuneline.errors import DataError

INLINE = 20_000_000
"""Bytes of data below which starting processes takes more time than it saves."""

_IN_FLIGHT = 2
"""Items per worker that are submitted at once."""

T = TypeVar("T")
R = TypeVar("R")


class Run(Protocol):
    """Maps a function over items, like `map`."""

    def __call__(self, function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        """Yield the results of a top-level function, in the order of the items."""
        ...


class _Refused(NamedTuple):
    """The problems of a DataError in another process. Pickling the error itself would lose them."""

    problems: tuple[str, ...]


def here(function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """Map a function over items in this process."""
    return map(function, items)


@contextmanager
def pool(*, workers: int, address: str | None, size: int, inline: int = INLINE) -> Iterator[Run]:
    """Start processes and yield a function that maps a function over items in them.

    Args:
        workers: number of processes on this machine; 1 means this process.
        address: of a Dask scheduler that is used instead. Its workers must see the same files at the same paths.
        size: bytes of all data.
        inline: bytes below which no process is started.
    """
    if size < inline or (workers == 1 and address is None):
        yield here
        return
    # Imported here, because it takes a second.
    import dask.config
    from distributed import Client, LocalCluster

    # The mapped functions bound their memory themselves: Dask must not pause or stop them.
    limits = {f"distributed.worker.memory.{name}": False for name in ("target", "spill", "pause", "terminate")}
    options: dict[str, Any] = {
        "n_workers": workers,
        "threads_per_worker": 1,
        "memory_limit": 0,
        "processes": True,
        "dashboard_address": None,
        # Who can connect to a scheduler can run code on it, so only processes with the keys of this run can connect.
        "security": True,
    }
    # By default Dask's workers return memory at once, and page faults take half of their time.
    keep = {
        "MALLOC_MMAP_THRESHOLD_": 2**25,
        "MALLOC_TRIM_THRESHOLD_": 2**27,
        "OMP_NUM_THREADS": 1,
        "MALLOC_ARENA_MAX": 1,
    }
    limits |= {"distributed.worker.profile.enabled": False}
    # Without a dashboard, too, Dask serves pages to every process that asks; one page connects to other hosts.
    pages = {"distributed.scheduler.http.routes": [], "distributed.worker.http.routes": []}
    with dask.config.set({**limits, **pages, "distributed.nanny.pre-spawn-environ": keep}):
        if address is not None:
            with Client(address) as client:
                yield _runner(client, sum(cast("dict[str, int]", client.nthreads()).values()))
            return
        with LocalCluster(**options) as cluster, Client(cluster) as client:
            yield _runner(client, workers)


def _runner(client: Any, workers: int) -> Run:
    def runner(function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        waiting = iter(items)
        flying = deque(
            client.submit(_call, function, item, pure=False)
            for item in itertools.islice(waiting, max(1, workers) * _IN_FLIGHT)
        )
        while flying:
            result = flying.popleft().result()
            flying.extend(client.submit(_call, function, item, pure=False) for item in itertools.islice(waiting, 1))
            if isinstance(result, _Refused):
                raise DataError(*result.problems)
            yield result

    return runner


def _call(function: Callable[[T], R], item: T) -> R | _Refused:
    try:
        return function(item)
    except DataError as error:
        return _Refused(error.problems)
