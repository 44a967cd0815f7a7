"""What counts as a rebuild of a version, and what differs between this environment and that of a version."""

from dataclasses import replace
from importlib import metadata

import pytest

from tuneline.decisions import reproduction, tensors
from tuneline.decisions.reproduction import Rebuild
from tuneline.params import Params
from tuneline.proofs import claims, keys
from tuneline.registry import history
from tuneline.registry.history import Entry, History
from tuneline.registry.tracking import Tracker

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


def test_why_other_bytes_are_expected() -> None:
    here = {"python": "3.11.7", "processor": ["x86_64", "AVX2"], "libraries": {"torch": "2.13.0", "peft": "0.21.2"}}
    there = {"python": "3.12.1", "processor": ["x86_64", "AVX512"], "libraries": {"torch": "2.13.1", "peft": "0.21.2"}}
    first, *found = reproduction.compare_surroundings(here, there)
    assert first == "that is expected, because the version was made in other surroundings:"
    assert found[0] == "Python 3.11.7 here, and 3.12.1 there"
    assert found[1].startswith("the processor computes with x86_64 AVX2 here, and with x86_64 AVX512 there: ")
    assert found[2:] == ["torch 2.13.0 here, and 2.13.1 there; use --with-env"]
    (same,) = reproduction.compare_surroundings(here, here)
    assert "so no difference is expected" in same
    (unknown,) = reproduction.compare_surroundings(here, {})
    assert "is not known" in unknown


def test_only_signed_rebuilds_count_where_a_key_is_trusted(
    tracker: Tracker, project: Params, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(keys.LOCATION, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
    model = project.registry.model
    clone, machine = reproduction.place()
    said = {"version": "1", "result": "identical", "place": {"clone": clone, "machine": machine}}
    claim = claims.statement(reproduction.PREDICATE, {f"{model}/1/": "0" * 64}, said)
    made = Rebuild(tensors.Comparison(1, 1, ()), (), {}, None, claim)

    def count(version: str = "1") -> int:
        return reproduction.rebuilds_of(history.read(tracker, model), version, tracker)

    reproduction.record(tracker, model, "1", made, keys.signing_key())
    assert count() == 1
    keys.create("ada")
    assert count() == 0
    # The claim is signed, and says something about another version.
    reproduction.record(tracker, model, "2", made, keys.signing_key())
    assert count("2") == 0
    reproduction.record(tracker, model, "1", made, keys.signing_key())
    assert count() == 1
