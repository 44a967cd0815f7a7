"""What counts as a rebuild of a version, and what differs between this environment and that of a version."""

from dataclasses import replace
from importlib import metadata
from pathlib import Path

import mlflow
import pytest

from tuneline import params
from tuneline.core import files
from tuneline.decisions import (
    erasure,
    reproduction,
    signature_policy,
    source_commit,
    sources,
    tensors,
    unfinished_erasure,
)
from tuneline.decisions.reproduction import Rebuild
from tuneline.decisions.sources import Source
from tuneline.errors import BusyError, PipelineError, TunelineError
from tuneline.params import Params
from tuneline.proofs import claims, keys
from tuneline.registry import history, version_files, versions
from tuneline.registry.history import Entry, History
from tuneline.registry.lineage import Lineage
from tuneline.registry.runs import Dataset
from tuneline.registry.tracking import NewVersion, Tracker

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
    assert reproduction.rebuilds_of(History(entries), "m", "3") == 2
    assert reproduction.rebuilds_of(History(entries), "m", "4") == 1
    assert reproduction.rebuilds_of(History(), "m", "3") == 0


@pytest.mark.parametrize("keep", [False, True])
def test_a_rebuild_and_an_erasure_exclude_each_other(
    origin: Lineage, keep: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = source_commit.make(params.load(), origin)
    source = Source(commit, sources.read(commit))
    monkeypatch.setattr(erasure, "_PATIENCE", 0.1)
    with (
        reproduction._checked_out(source, "m", "1", keep=keep) as folder,
        pytest.raises(BusyError, match="another command of this project, such as `tuneline reproduce`, is running"),
    ):
        assert (folder / "params.yaml").is_file()
        erasure._refuse_neighbours()
    files.write_json(unfinished_erasure.JOURNAL, {})
    with (
        pytest.raises(PipelineError, match=r"^an erasure was begun and is not finished; .*; then run this again$"),
        reproduction._checked_out(source, "m", "2", keep=keep),
    ):
        pass


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

    client = mlflow.MlflowClient()
    client.create_registered_model(model)
    for _ in range(2):
        client.create_model_version(model, "s3://nowhere", tags={versions.FILES: "0" * 64})

    def count(version: str = "1") -> int:
        return reproduction.rebuilds_of(history.read(tracker, model), model, version, tracker)

    reproduction.record(tracker, model, "1", made, keys.signing_key())
    assert count() == 1
    keys.create("ada")
    assert count() == 0
    # The claim is signed, and says something about another version.
    reproduction.record(tracker, model, "2", made, keys.signing_key())
    assert count("2") == 0
    reproduction.record(tracker, model, "1", made, keys.signing_key())
    assert count() == 1
    # The same signed claim, copied to a version of this number with other files.
    client.set_model_version_tag(model, "1", versions.FILES, "1" * 64)
    assert count() == 0


def test_the_code_of_a_version_runs_only_if_a_trusted_key_has_signed_which_it_is(
    tracker: Tracker, project: Params, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(keys.LOCATION, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
    folder, model = Path(project.paths.finetuned), project.registry.model
    tags = {versions.FILES: version_files.sha256(folder), source_commit.TAG: "a" * 40}
    data = Dataset("test", "b" * 64, "data/clean", "evaluation")
    run = mlflow.MlflowClient().create_run("0").info.run_id
    tracker.create_version(NewVersion(model, run, folder, tags[versions.FILES], tags, {}, data, lambda _: ""))

    def refusal(**more: bool) -> str:
        with pytest.raises(TunelineError) as caught:
            reproduction.reproduce(project, tracker, "1", log=lambda _: None, **more)
        return caught.value.problems[0]

    assert refusal().startswith("the git commit aaaaaaaaaaaa with the version's sources is not in this clone")
    keys.create("ada")
    assert "no key in mlflow/keys has signed it" in refusal()
    assert refusal(unsigned=True).startswith("the git commit aaaaaaaaaaaa")
    mlflow.MlflowClient().set_model_version_tag(model, "1", signature_policy.SIGNED, "ada")
    assert "its signature was removed" in refusal(unsigned=True)
