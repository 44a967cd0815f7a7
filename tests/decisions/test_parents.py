"""The base of a version is what its own dvc.lock names, without a merged model beside it."""

import json
from pathlib import Path

import pytest
from erasable_project import CACHE, cached

from tuneline.decisions import parents
from tuneline.decisions.verified_versions import VerifiedVersion
from tuneline.pipeline import objects

VALUES = {"paths": {"base": "models/base"}}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path(".dvc").mkdir()
    Path(".dvc/config").write_text("[core]\nno_scm = true\n")
    return tmp_path


def version(number: int, listed: dict[str, str], stages: object = None) -> VerifiedVersion:
    """A version whose base is a folder of these files."""
    listing = [{"relpath": name, "md5": cached(content.encode())} for name, content in listed.items()]
    md5 = cached(json.dumps(listing).encode(), ".dir")
    outs = [{"path": "models/base", "md5": md5}]
    folder = Path(f"version {number}")
    folder.mkdir()
    (folder / "dvc.lock").write_text(json.dumps({"stages": {"base": {"outs": outs}} if stages is None else stages}))
    return VerifiedVersion(str(number), folder, {}, VALUES)


def test_the_base_of_a_merged_version_is_that_of_its_parents(project: Path) -> None:
    plain = version(1, {"config.json": "{}", "model.safetensors": "b"})
    merged = version(2, {"config.json": "{}", "model.safetensors": "b", "merged/model.safetensors": "m"})
    other = version(3, {"config.json": "{}", "model.safetensors": "c"})
    with parents.bases_of([plain, merged, other]) as bases:
        assert bases.problems == []
        assert bases.files["1"] == bases.files["2"] != bases.files["3"]
        bases.copy("2", project / "copy")
    assert {path.name: path.read_text() for path in (project / "copy").iterdir()} == {
        "config.json": "{}",
        "model.safetensors": "b",
    }


def test_a_base_that_cannot_be_had_is_told_for_each_version(project: Path) -> None:
    lost, foreign = version(1, {"config.json": "{}", "a": "a"}), version(2, {"config.json": "{}", "../a": "b"})
    without, strange = version(3, {"a": "x"}), version(4, {"a": "x"}, stages=[1])
    (without.folder / "dvc.lock").unlink()
    objects.place(CACHE, "0cc175b9c0f1b6a831c399e269772661").unlink()
    with parents.bases_of([lost, foreign, without, strange]) as bases:
        told = bases.problems
    assert [problem.split(";")[0] for problem in told] == [
        f"version 1: its base models/base with the md5 {told[0].split('md5 ')[1][:12]}… is not in DVC's cache, and "
        "there is no remote",
        "version 2: the list of its base names a file outside the folder (../a)",
        "version 3: its dvc.lock names no base",
        "version 4: its dvc.lock names no base",
    ]
