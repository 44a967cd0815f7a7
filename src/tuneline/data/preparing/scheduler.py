"""One function over many items: here, in processes of this machine, or on a cluster. The results are the same."""

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol, TypeVar, cast

from tuneline.errors import DataError

INLINE = 20_000_000
"""Bytes below which starting processes costs more than it gives."""

_IN_FLIGHT = 2
"""Items handed out per worker."""

T = TypeVar("T")
R = TypeVar("R")


class Run(Protocol):
    """What a pool gives."""

    def __call__(self, function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        """The results of a top-level function, in the order of the items."""
        ...


class _Refused(NamedTuple):
    """A DataError on its way back: pickled, the error itself would lose its single problems."""

    problems: tuple[str, ...]


def here(function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """A run in this process."""
    return map(function, items)


@contextmanager
def pool(*, workers: int, address: str | None, size: int, inline: int = INLINE) -> Iterator[Run]:
    """Processes for several runs.

    Args:
        workers: processes on this machine; one means this process.
        address: of a Dask scheduler that is used instead; its workers must see the same files under the same paths.
        size: bytes of all data; below `inline` no process is started.
        inline: that bound.

    Yields:
        A function that runs a function over items.
    """
    if size < inline or (workers == 1 and address is None):
        yield here
        return
    # Here, because it takes a second to import.
    import dask.config
    from distributed import Client, LocalCluster

    # Memory is bounded by what a function does, not by stopping it half-way.
    limits = {f"distributed.worker.memory.{name}": False for name in ("target", "spill", "pause", "terminate")}
    options: dict[str, Any] = {
        "n_workers": workers,
        "threads_per_worker": 1,
        "memory_limit": 0,
        "processes": True,
        "dashboard_address": None,
        # Whoever reaches a port of a scheduler may run code there: it answers only to who holds the key of this run.
        "security": True,
    }
    # Dask has workers give memory back at once, so that every array costs page faults: half of their time.
    keep = {
        "MALLOC_MMAP_THRESHOLD_": 2**25,
        "MALLOC_TRIM_THRESHOLD_": 2**27,
        "OMP_NUM_THREADS": 1,
        "MALLOC_ARENA_MAX": 1,
    }
    limits |= {"distributed.worker.profile.enabled": False}
    # Pages that are served to everybody who asks, without a dashboard too; one of them asks other hosts.
    pages = {"distributed.scheduler.http.routes": [], "distributed.worker.http.routes": []}
    with dask.config.set({**limits, **pages, "distributed.nanny.pre-spawn-environ": keep}):
        if address is not None:
            with Client(address) as client:
                yield _runner(client, sum(cast("dict[str, int]", client.nthreads()).values()))
            return
        with LocalCluster(**options) as cluster, Client(cluster) as client:
            yield _runner(client, workers)


def run(function: Callable[[T], R], items: Sequence[T], *, workers: int, address: str | None, size: int) -> Iterator[R]:
    """The results of one function, in the order of the items.

    Args:
        function: top-level, so that another process finds it.
        items: what it is called with, one by one; small and picklable.
        workers: processes on this machine.
        address: of a Dask scheduler that is used instead.
        size: bytes of all data.

    Yields:
        A result for each item.

    Raises:
        DataError: as the function raised it.
    """
    with pool(workers=workers, address=address, size=size) as runner:
        yield from runner(function, items)


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
