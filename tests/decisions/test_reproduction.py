"""What counts as a rebuild of a version, and what differs between this environment and that of a version."""

from dataclasses import replace
from importlib import metadata

from tuneline.decisions import reproduction
from tuneline.registry import history
from tuneline.registry.history import Entry, History

ENTRY = Entry(
    number=1,
    time="2026-01-01T00:00:00.000+00:00",
    action=history.REPRODUCED,
    alias=None,
    before=None,
    after="3",
    who="me",
    reason=f"identical, in clone {'a' * 12} on machine {'b' * 12}",
    evidence={},
    previous="",
    sha256="",
)


def test_rebuilds_count_once_per_clone() -> None:
    entries = (
        ENTRY,
        ENTRY,
        replace(ENTRY, reason=f"identical, in clone {'c' * 12} on machine {'b' * 12}"),
        replace(ENTRY, reason=f"different, in clone {'d' * 12} on machine {'b' * 12}: one tensor"),
        replace(ENTRY, reason=f"identical, in clone {'e' * 12} on machine {'b' * 12}", action=history.MOVED),
        replace(ENTRY, reason=f"identical, in clone {'f' * 12} on machine {'b' * 12}", after="4"),
    )
    assert reproduction.rebuilds_of(History(entries), "3") == 2
    assert reproduction.rebuilds_of(History(entries), "4") == 1
    assert reproduction.rebuilds_of(History(), "3") == 0


def test_packages_that_differ_from_the_locks_are_named() -> None:
    lock = (
        f"click=={metadata.version('click')}\nnumpy==0.1 ; python_version < '3.0'\nnumpy==0.2\n"
        f"absent-package==1.0\ntorch=={metadata.version('torch').partition('+')[0]}\n"
    )
    assert reproduction.environment_differences(lock) == [
        f"numpy {metadata.version('numpy')} is installed, and the version was made with 0.1 or 0.2",
        "to build it with the packages of its locks, use --with-env",
    ]
