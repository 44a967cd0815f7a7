"""Damage that DVC does not see is found by hashing, and the printed command mends it."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from dvc.repo import Repo

from tuneline.errors import DataError
from tuneline.pipeline import graph, intact, repro

GRAPH = """
stages:
  learn:
    cmd: mkdir -p models/finetuned && cat data/raw/mine/* > models/finetuned/weights && echo 1 > models/finetuned/one
    deps: [data/raw/mine]
    outs: ["${paths.finetuned}"]
  measure:
    cmd: wc -c < ${paths.finetuned}/weights > reports/rows && echo 2 > reports/metrics.json
    deps: ["${paths.finetuned}"]
    outs: [reports/rows]
    metrics:
      - reports/metrics.json:
          cache: false
"""
WEIGHTS, ROWS, RAW = "models/finetuned/weights", "reports/rows", "data/raw/mine/rows.txt"


def dvc(root: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *arguments], cwd=root, capture_output=True, text=True, check=True
    )
    return done.stdout


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("intact 完好") / "my project"
    (root / "data/raw/mine").mkdir(parents=True)
    (root / "reports").mkdir()
    (root / RAW).write_text("a row\n" * 100)
    (root / "data/raw/mine/more.txt").write_text("another row\n")
    (root / "params.yaml").write_text("paths: {finetuned: models/finetuned}\n")
    (root / "dvc.yaml").write_text(GRAPH)
    (root / ".venv").symlink_to(sys.prefix)
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.chdir(root)
    # In this process, as each of its commands takes a second to start.
    with Repo.init(no_scm=True) as repo:
        repo.add("data/raw/mine")  # pyright: ignore[reportArgumentType]
        repo.reproduce()  # pyright: ignore[reportCallIssue]
    monkeypatch.undo()
    return root


@pytest.fixture
def project(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "my project"
    shutil.copytree(made, root, symlinks=True)
    monkeypatch.chdir(root)
    return root


def damage(path: Path) -> None:
    """Overwrite the second half, and leave size, mode and time of change as they were."""
    before = path.stat()
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[: before.st_size // 2].ljust(before.st_size, b"\0"))
    path.chmod(before.st_mode)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def objects(path: str) -> list[Path]:
    """The object in the cache that is the whole of a file, or of a folder its listing."""
    [output] = [one for one in graph.recorded_outputs() if Path(path).is_relative_to(one.path)]
    cache = Path(".dvc/cache/files/md5")
    if output.path != path:
        return [one for one in cache.rglob("*") if one.is_file() and one.read_bytes() == Path(path).read_bytes()]
    return [cache / output.md5[:2] / output.md5[2:]]


def problems(*, cache: bool = True) -> list[str]:
    try:
        intact.refuse_damage(graph.recorded_outputs(), cache=cache)
    except DataError as error:
        return list(error.problems)
    return []


def test_recorded_outputs_are_all_that_a_model_is_made_from(project: Path) -> None:
    assert [(one.path, one.keeper, one.is_cached) for one in graph.recorded_outputs()] == [
        ("data/raw/mine", "data/raw/mine.dvc", True),
        ("models/finetuned", "learn", True),
        ("reports/metrics.json", "measure", False),
        ("reports/rows", "measure", True),
    ]
    assert [one.path for one in graph.recorded_inputs("measure")] == ["models/finetuned"]
    assert [one.path for one in graph.recorded_inputs("learn")] == ["data/raw/mine"]
    assert problems() == []


def test_recorded_inputs_leave_out_what_a_stage_no_longer_reads(project: Path) -> None:
    changed = GRAPH.replace("deps: [data/raw/mine]", "deps: ['${raw}']")
    (project / "dvc.yaml").write_text(changed)
    values = (project / "params.yaml").read_text()
    (project / "params.yaml").write_text(f"{values}raw: data/raw/mine\n")
    assert [one.path for one in graph.recorded_inputs("learn")] == ["data/raw/mine"]
    (project / "params.yaml").write_text(f"{values}raw: data/raw/other\n")
    assert graph.recorded_inputs("learn") == []


def test_a_set_imported_without_its_bytes_is_not_checked(project: Path) -> None:
    (project / "data/raw/mine.dvc").write_text("outs:\n- hash: md5\n  path: mine\n")
    assert [one.path for one in graph.recorded_inputs("learn")] == []


@pytest.mark.parametrize("path", [WEIGHTS, ROWS, RAW])
def test_a_damaged_file_is_named_with_the_command_that_restores_it(project: Path, path: str) -> None:
    damage(project / path)
    target = {WEIGHTS: "models/finetuned", RAW: "data/raw/mine.dvc"}.get(path, path)
    for cache in (True, False):
        [problem, last] = problems(cache=cache)
        assert problem.startswith(f"{path}: differs from what ")
        assert problem.endswith(f"DVC's cache has it undamaged: rm -rf {path} && .venv/bin/dvc checkout {target}")
        assert last == "then run the same command again"


@pytest.mark.parametrize("path", [WEIGHTS, ROWS, RAW, "models/finetuned"])
@pytest.mark.parametrize("how", ["damaged", "gone"])
def test_a_damaged_cache_object_is_named_with_the_command_that_restores_it(project: Path, path: str, how: str) -> None:
    [place] = objects(path)
    damage(place) if how == "damaged" else place.unlink()
    [problem, _] = problems()
    keeper = {RAW: "data/raw/mine.dvc", ROWS: "measure"}.get(path, "learn")
    assert f"the workspace has it undamaged: rm -f {place} && .venv/bin/dvc commit -f {keeper}" in problem
    assert problems(cache=False) == []


def test_an_output_damaged_in_workspace_and_cache_is_made_again(project: Path) -> None:
    [place] = objects(WEIGHTS)
    for one in (place, project / WEIGHTS, project / "reports/metrics.json"):
        damage(one)
    of_model, of_metrics, _ = problems(cache=False)
    assert of_model.startswith(f"{WEIGHTS}, {place}: differ from what dvc.lock (stage learn) records")
    assert of_model.endswith(f"rm -rf models/finetuned {place} && .venv/bin/dvc repro -f -s learn")
    assert of_metrics.endswith("rm -rf reports/metrics.json && .venv/bin/dvc repro -f -s measure")


def test_a_set_damaged_in_workspace_and_cache_is_left_to_a_person(project: Path) -> None:
    [place] = objects(RAW)
    damage(place)
    damage(project / RAW)
    assert "put its files back from their origin" in problems()[0]
    (project / ".dvc/config").write_text("[core]\n    remote = shelf\n['remote \"shelf\"']\n    url = /tmp/shelf\n")
    command = problems()[0].rpartition("with: ")[2]
    assert command == (
        f"rm -f {place} && .venv/bin/dvc fetch data/raw/mine.dvc && rm -rf data/raw/mine && "
        ".venv/bin/dvc checkout data/raw/mine.dvc"
    )
    # The remote does not have the set, so the damaged set is the best that there is.
    assert subprocess.run(["sh", "-c", command], check=False, capture_output=True).returncode != 0
    assert (project / RAW).is_file()


def lose(what: str) -> dict[str, list[str]]:
    """Lose all of DVC's cache, or an object of it; returns what `dvc status` says then."""
    if what == "all":
        shutil.rmtree(".dvc/cache")
        keepers = {"learn": "models/finetuned", "measure": "reports/rows", "data/raw/mine.dvc": "data/raw/mine"}
        return {keeper: [f"outs {path} not in cache"] for keeper, path in keepers.items()}
    [place] = objects(what)
    place.unlink()
    keeper, path = ("data/raw/mine.dvc", "data/raw/mine") if what == RAW else ("learn", "models/finetuned")
    return {keeper: [f"outs {path} not in cache"]}


@pytest.mark.parametrize("what", ["all", "models/finetuned", WEIGHTS, RAW])
def test_lost_cache_objects_are_put_back_from_the_workspace(project: Path, what: str) -> None:
    lock, stale, told = Path("dvc.lock").read_bytes(), lose(what), []
    # As an editor or a viewer may leave it; .dvcignore names it.
    (project / ".dvcignore").write_text(".*.partial\n")
    (project / "models/finetuned/.a.partial").touch()
    assert intact.refill_cache(stale, told.append)
    [line] = told
    assert line.startswith("DVC's cache has lost ")
    assert line.endswith("so they are put back into the cache from there, and no stage runs for them")
    assert problems() == []
    assert Path("dvc.lock").read_bytes() == lock


def test_outputs_lost_in_workspace_and_cache_are_reported_and_made_again(project: Path) -> None:
    stale, told = lose("all"), []
    # DVC, which trusts times of change, would not see it.
    damage(project / WEIGHTS)
    (project / ROWS).unlink()
    (project / RAW).write_text("another")
    assert not intact.refill_cache(stale, told.append)
    lost = "DVC's cache has lost it, and the workspace does not hold what"
    assert sorted(told) == [
        f"data/raw/mine: {lost} data/raw/mine.dvc records either (files in data/raw/mine differ); the pipeline "
        "reads what the workspace holds now",
        f"models/finetuned: {lost} dvc.lock records either (files in models/finetuned differ); stage learn makes it "
        "again",
        f"reports/rows: {lost} dvc.lock records either (reports/rows is missing); stage measure makes it again",
    ]
    assert not Path(".dvc/cache").exists()


def test_a_stage_with_further_changes_runs(project: Path) -> None:
    stale = {"learn": ["outs models/finetuned not in cache", "deps data/raw/mine modified"], "measure": ["a: b"]}
    assert not intact.refill_cache(stale, pytest.fail)


@pytest.mark.slow
def test_no_stage_runs_after_a_lost_cache(project: Path) -> None:
    expected = lose("all")
    assert repro.stale_stages() == expected
    told: list[str] = []
    assert intact.refill_cache(repro.stale_stages(), told.append)
    assert repro.stale_stages() == {}
    # What was made from other data is not taken for what is made from these.
    shutil.rmtree(".dvc/cache")
    (project / "dvc.yaml").write_text(GRAPH.replace("echo 1", "echo 3"))
    stale = repro.stale_stages()
    assert "changed command" in stale["learn"]
    assert intact.refill_cache(stale, told.append)
    assert list(repro.stale_stages()) == ["learn"]


@pytest.mark.slow
@pytest.mark.parametrize("path", [WEIGHTS, ROWS, RAW, "models/finetuned"])
@pytest.mark.parametrize("where", ["workspace", "cache", "both"])
def test_the_printed_command_repairs_damage_that_dvc_does_not_see(project: Path, path: str, where: str) -> None:
    if where == "both" and path == RAW:
        remote = project.parent / "shelf"
        dvc(project, "remote", "add", "--default", "shelf", str(remote))
        dvc(project, "push", "--quiet")
    # DVC notes what it has seen of these files.
    dvc(project, "status")
    before = {name: Path(name).read_bytes() for name in (WEIGHTS, ROWS, RAW)}
    damaged = objects(path) if where != "workspace" else []
    damaged += [project / (WEIGHTS if path == "models/finetuned" else path)] if where != "cache" else []
    for one in damaged:
        damage(one)
    assert "up to date" in dvc(project, "status") or path == "models/finetuned"
    found = problems()
    commands = [match[1] for line in found if (match := re.search(r"(rm -r?f .+)$", line))]
    assert len(commands) == 1
    subprocess.run(["sh", "-ec", commands[0]], check=True, capture_output=True)
    assert problems() == []
    assert {name: Path(name).read_bytes() for name in before} == before
    assert "up to date" in dvc(project, "status")
