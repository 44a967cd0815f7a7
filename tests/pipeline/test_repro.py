"""Why a run is needed, in the few words of its name."""

import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from projects import ROOT

from tuneline import params
from tuneline.errors import PipelineError, SetupError
from tuneline.params import Params, editing
from tuneline.pipeline import graph, repro


@pytest.fixture
def p(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, params_text: str) -> Params:
    monkeypatch.chdir(tmp_path)
    text = params_text.replace("source: builtin", "source: path")
    text = text.replace("input: data/pretraining", "input: models/mine")
    Path("params.yaml").write_text(text.replace("raw: data/raw/python-docstrings", "raw: data/raw/mine"), "utf-8")
    return params.load()


def test_the_built_in_corpus_is_needed_only_by_a_set_that_comes_from_it(p: Params) -> None:
    shutil.copyfile(ROOT / "dvc.yaml", "dvc.yaml")
    # The pretraining text is still that of the built-in corpus.
    assert graph.needed_stages() == set(graph.stage_names())
    editing.set_values(Path("params.yaml"), {"data.pretraining": "data/raw/mine-pretraining"})
    assert graph.needed_stages() == set(graph.stage_names()) - {"sample"}


@pytest.mark.parametrize(
    ("stale", "expected"),
    [
        ({"sample": ["it was never made"], "prepare": ["it was never made"]}, "first run"),
        ({"prepare": ["deps data/raw/mine modified"], "validate_raw": ["deps data/raw/mine modified"]}, "data changed"),
        ({"data/raw/mine.dvc": ["outs data/raw/mine modified"]}, "data changed"),
        ({"prepare": ["deps data/mixture modified"]}, "data changed"),
        ({"finetune": ["deps params.yaml finetune modified"]}, "params finetune changed"),
        (
            {"finetune": ["deps params.yaml finetune modified, task modified, a.b modified"]},
            "params finetune, task and 1 more changed",
        ),
        (
            {"prepare": ["deps data/raw/mine modified", "deps src/a.py modified"], "base": ["changed command"]},
            "data and code changed",
        ),
        ({"base": ["deps models/mine modified"]}, "base changed"),
        ({"validate_raw": ["deps data/expectations/raw.yaml modified"]}, "expectations changed"),
        ({"check": ["deps data/checks.yaml modified"]}, "checks changed"),
        ({"base": ["deps requirements-training.lock modified"]}, "libraries changed"),
        ({"finetune": ["outs models/mine deleted"], "evaluate": ["deps models/finetuned deleted"]}, "outputs missing"),
        ({"finetune": ["outs models/finetuned modified"]}, "outputs changed"),
        ({"prepare": ["it was never made"], "sample": ["outs data/raw/x modified"]}, "outputs changed"),
    ],
)  # fmt: skip
def test_the_cause_names_the_changes(p: Params, stale: dict[str, list[str]], expected: str) -> None:
    assert repro.describe_cause(stale, p) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "dvc.yaml: no such file; restore it with: git checkout -- dvc.yaml"),
        ("stages: [", "dvc.yaml: cannot be read as YAML: "),
        ("stages:", "dvc.yaml: holds no stages as DVC reads them; see: git diff -- dvc.yaml"),
        ("stages: {prepare: cmd}", "dvc.yaml: holds no stages as DVC reads them; see: git diff -- dvc.yaml"),
        ("- stages", "dvc.yaml: must hold names with values; see: git diff -- dvc.yaml"),
    ],
)
def test_an_unreadable_dvc_yaml_is_one_line(p: Params, text: str | None, said: str) -> None:
    if text:
        Path("dvc.yaml").write_text(text)
    with pytest.raises(PipelineError) as caught:
        graph.stage_names()
    assert str(caught.value).startswith(said)
    assert len(caught.value.problems) == 1


@pytest.mark.slow
def test_a_killed_dvc_is_reported_as_killed(p: Params) -> None:
    for command in (["git", "init", "--quiet"], [sys.executable, "-m", "dvc", "init", "--quiet"]):
        subprocess.run(command, check=True)
    Path("dvc.yaml").write_text("stages:\n  prepare:\n    cmd: exec sh -c 'kill -9 $PPID'\n")
    with pytest.raises(PipelineError) as caught:
        repro.reproduce("prepare", print)
    assert caught.value.problems == (
        "prepare: dvc was killed by signal 9 (Killed) from outside, for example because memory ran out; "
        "finished work is kept, and the same command goes on from there",
    )


@pytest.mark.parametrize(("number", "name"), [(9, "Killed"), (15, "Terminated")])
def test_a_killed_stage_is_reported_as_killed(
    p: Params, number: int, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = f"ERROR: failed to reproduce 'base': failed to run: exec sh scripts/stage.sh base, exited with -{number}"
    monkeypatch.setattr(repro, "_command", lambda *_: ["sh", "-c", f'echo "{said}" >&2; exit 255'])
    Path("dvc.yaml").write_text("stages: {base: {cmd: x}}\n")
    with pytest.raises(PipelineError) as caught:
        repro.reproduce("base", print)
    assert caught.value.problems == (
        f"base: the stage was killed by signal {number} ({name}) from outside, for example because memory ran out; "
        "finished work is kept, and the same command goes on from there",
    )


@pytest.mark.slow
def test_an_import_follows_its_source_and_stays_unchanged_if_the_source_is_lost(p: Params, tmp_path: Path) -> None:
    for command in (["git", "init", "--quiet"], [sys.executable, "-m", "dvc", "init", "--quiet"]):
        subprocess.run(command, check=True)
    source, pointer = tmp_path / "in box", Path("data/raw/mine.dvc")
    source.mkdir()
    (source / "january.jsonl").write_text("{}\n")
    pointer.parent.mkdir(parents=True)
    subprocess.run([sys.executable, "-m", "dvc", "import-url", "--quiet", source, pointer.with_suffix("")], check=True)
    assert graph.imported_sets(p) == [pointer]
    (source / "february.jsonl").write_text("{}\n")
    repro.update_imported(pointer, print)
    found = sorted(path.name for path in Path("data/raw/mine").iterdir())
    assert found == ["february.jsonl", "january.jsonl"]
    source.rename(tmp_path / "elsewhere")
    with pytest.raises(PipelineError) as caught:
        repro.update_imported(pointer, print)
    assert caught.value.problems == (
        "data/raw/mine.dvc: the set could not be updated:",
        "in box: is missing; put it back, or import the set from another place: `dvc import-url --force SOURCE SET`",
        "data/raw/mine is as it was",
    )
    assert sorted(path.name for path in Path("data/raw/mine").iterdir()) == found


@pytest.mark.parametrize(
    ("ending", "free", "said"),
    [
        ("kill -9 $$", 1 << 30, "dvc was killed by signal 9"),
        ("echo 'ERROR: failed to reproduce: disk I/O error' >&2; exit 255", 0, "no space left on the disk; free some"),
        ("echo 'ERROR: unexpected error - disk I/O error' >&2; exit 255", 1 << 30, "check that the disk works"),
        ("echo 'ERROR: [Errno 28] No space left on device: x' >&2; exit 1", 1 << 30, "no space left on the disk; free"),
    ],
)
def test_a_killed_dvc_and_a_full_disk_are_one_line(
    p: Params, ending: str, free: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repro, "_command", lambda *_: ["sh", "-c", f"{ending}"])
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    Path("dvc.yaml").write_text("stages: {sample: {cmd: x}}\n")
    for ask in (repro.stale_stages, lambda: repro.add_to_dvc(Path("data"))):
        with pytest.raises((PipelineError, SetupError)) as caught:
            ask()
        [problem] = caught.value.problems
        assert said in problem
