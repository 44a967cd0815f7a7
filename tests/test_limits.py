"""A block that takes too long or too much ends, also where a library catches errors and goes on."""

import resource
import signal

import pytest

from tuneline import limits


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
