"""What a kill leaves of the files that DVC writes in place is mended while the project is held, and said in a line."""

import json
import os
import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from tuneline.errors import PipelineError
from tuneline.pipeline import dvc_files, repro

LOCK = """\
schema: '2.0'
stages:
  sample:
    cmd: exec sh scripts/stage.sh sample
    outs:
    - path: data/raw/some
      hash: md5
      md5: 764efa883dda1e11db47671c4a3bbd9e
      size: 3
"""
POINTER = """\
outs:
- md5: 2bb1ab0d4a051c86389bd68a9371f6ba.dir
  size: 2
  nfiles: 1
  hash: md5
  path: mine
"""
CONFIG = "[core]\n    analytics = false\n"
TEXTS = {"dvc.lock": LOCK, "data/raw/mine.dvc": POINTER, ".dvc/config": CONFIG}
RWLOCK = Path(".dvc/tmp/rwlock")


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in TEXTS.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text)
    RWLOCK.parent.mkdir()


@pytest.fixture
def dvc() -> Iterator[psutil.Process]:
    """A process that looks like `dvc repro sample`."""
    program = Path("bin/dvc")
    program.parent.mkdir()
    program.write_text("import time; print(flush=True); time.sleep(60)")
    with subprocess.Popen([sys.executable, program, "repro", "sample"], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield psutil.Process(process.pid)
        process.kill()


def held() -> list[str]:
    """What was told on entering the project."""
    told: list[str] = []
    with repro.hold_project(told.append):
        pass
    return told


def commit() -> None:
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    for arguments in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "--message", "start"]):
        subprocess.run([*git, *arguments], check=True)


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("left", [0, 45])
def test_an_interrupted_file_is_replaced_by_the_last_good_copy(name: str, left: int) -> None:
    if left and name == ".dvc/config":
        left = 3
    assert held() == []
    Path(name).write_text(TEXTS[name][:left])
    aside = f"; its incomplete content is in work/kept/{name}.broken" if left else ""
    assert held() == [f"{name}: a write was interrupted; restored from the last good copy{aside}"]
    assert {name: Path(name).read_text() for name in TEXTS} == TEXTS
    assert held() == []


@pytest.mark.parametrize("name", TEXTS)
def test_a_damaged_copy_is_not_restored(name: str) -> None:
    commit()
    assert held() == []
    Path("work/kept", name).write_bytes(b"[\0\0")
    Path(name).write_text("")
    assert held() == [f"{name}: a write was interrupted; restored from the last commit"]
    assert Path(name).read_text() == TEXTS[name]


def test_a_dvc_lock_cut_at_any_byte_is_not_accepted() -> None:
    assert held() == []
    for left in {*range(0, len(LOCK), 9), *(place + 1 for place, at in enumerate(LOCK[:-1]) if at == "\n")}:
        Path("dvc.lock").write_text(LOCK[:left])
        dvc_files.repair()
        assert Path("dvc.lock").read_text() == LOCK, left


def test_a_file_without_a_copy_is_taken_from_the_last_commit() -> None:
    commit()
    Path("dvc.lock").write_text("")
    assert held() == ["dvc.lock: a write was interrupted; restored from the last commit"]
    assert Path("dvc.lock").read_text() == LOCK


def test_a_file_without_a_copy_and_commit_is_removed_with_a_remedy() -> None:
    Path("dvc.lock").write_text("")
    Path("data/raw/mine.dvc").write_text("")
    start = "a write was interrupted and no copy exists, so it is removed"
    assert held() == [
        f"dvc.lock: {start}; stages run again, or DVC takes their outputs from its cache",
        f"data/raw/mine.dvc: {start}; put it under DVC again: .venv/bin/dvc add data/raw/mine",
    ]


def test_a_persons_valid_change_is_kept() -> None:
    more = LOCK.replace("sample", "more").replace("schema: '2.0'\nstages:\n", "")
    Path("dvc.lock").write_text(LOCK + more)
    assert held() == []
    # As after a checkout of a commit in which less was made.
    Path("dvc.lock").write_text(LOCK)
    assert held() == []
    assert Path("dvc.lock").read_text() == LOCK
    changed = POINTER.replace("size: 2", "size: 3").rstrip("\n")
    Path("data/raw/mine.dvc").write_text(changed)
    Path("dvc.lock").unlink()
    assert held() == []
    assert Path("data/raw/mine.dvc").read_text() == changed
    assert not Path("dvc.lock").exists()


def test_a_remote_that_a_person_removed_does_not_come_back() -> None:
    assert held() == []
    # What `dvc remote remove` leaves of a configuration without another option.
    Path(".dvc/config").write_text("\n")
    assert held() == []
    assert Path(".dvc/config").read_text() == "\n"


def test_a_merge_conflict_is_left_to_the_person() -> None:
    Path("dvc.lock").write_text(f"<<<<<<< HEAD\n{LOCK}=======\n{LOCK}>>>>>>> other\n")
    with pytest.raises(PipelineError, match=r"^dvc\.lock: contains a merge conflict; take one side with"):
        held()


@pytest.mark.parametrize(
    ("name", "before", "after", "said"),
    [
        (".dvc/config", "[core]", "[core", "line 1: Invalid line ('[core') (matched as neither section nor keyword)"),
        (
            ".dvc/config",
            "[core]\n",
            "[core]\na\nb\n",
            "line 2: Invalid line ('a') (matched as neither section nor keyw",
        ),
        ("dvc.lock", "  sample:", "  sample", "line 4: mapping values are not allowed"),
        ("data/raw/mine.dvc", "path: mine", "pth: mine", "extra keys not allowed @ data['outs'][0]['pth']"),
        ("data/raw/mine.dvc", "  size: 2\n", "\tsize: 2\n", "line 3: "),
        ("data/raw/mine.dvc", "mine", "caf\xe9", "line 6: is not UTF-8"),
    ],
)
def test_a_persons_mistake_is_named_by_its_line_and_stays(name: str, before: str, after: str, said: str) -> None:
    for kept in (False, True):
        if kept:
            Path(name).write_text(TEXTS[name])
            assert held() == []
        text = TEXTS[name].replace(before, after).encode("latin-1")
        Path(name).write_bytes(text)
        with pytest.raises(PipelineError) as caught:
            held()
        problem, _ = caught.value.problems
        assert problem.startswith(f"{name}: {said}")
        good = f"cp work/kept/{name} {name}" if kept else f"git checkout -- {name}"
        assert problem.endswith(f"; correct it, or restore the last good copy with: {good}")
        assert Path(name).read_bytes() == text


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("config", "[core]\n    remot = a\n", "line 2: extra keys not allowed @ data['core']['remot']"),
        ("config.local", "[core]\n    analytics = maybe\n", "line 2: expected true or false for dictionary value"),
        ("config.local", "[core]\n    remote\n", "line 2: Invalid line"),
    ],
)
def test_an_option_that_dvc_does_not_know_is_named_by_its_file_and_line(name: str, text: str, said: str) -> None:
    Path(".dvc", name).write_text(text)
    with pytest.raises(PipelineError, match="^" + re.escape(f".dvc/{name}: {said}") + ".*; correct it$"):
        dvc_files.has_remote()
    if "\n    remote\n" not in text:
        return
    Path("dvc.yaml").write_text("stages: {copy: {cmd: exec false}}\n")
    with pytest.raises(PipelineError, match="^" + re.escape(f".dvc/{name}: {said}")):
        repro.stale_stages()


@pytest.mark.parametrize("left", ["", '{"write": {"/a": {"pid"', '{"write": {"/a": {"pid": 1}}}', "[]"])
def test_an_unreadable_rwlock_is_removed(left: str) -> None:
    RWLOCK.write_text(left)
    assert held() == [".dvc/tmp/rwlock: a write was interrupted; it is removed, because no dvc is running"]
    assert not RWLOCK.exists()
    RWLOCK.write_text("{}")
    assert held() == []


def test_the_locks_of_a_running_dvc_are_kept(dvc: psutil.Process) -> None:
    entry = {"pid": dvc.pid, "cmd": f"{Path.cwd()}/bin/dvc repro sample"}
    text = json.dumps({"write": {"/a": entry}, "read": {"/b": [entry]}})
    RWLOCK.write_text(text)
    assert held() == []
    assert RWLOCK.read_text() == text


@pytest.mark.parametrize("how", ["ended", "other command", "started later", "no process"])
def test_the_locks_of_a_killed_dvc_are_removed_even_if_its_id_is_reused(dvc: psutil.Process, how: str) -> None:
    dead = {"pid": dvc.pid, "cmd": f"{Path.cwd()}/bin/dvc repro {'other' if how == 'other command' else 'sample'}"}
    if how == "no process":
        dead["pid"] = 2**40
    mine = {"pid": os.getpid(), "cmd": "a program that uses dvc as a library"}
    RWLOCK.write_text(json.dumps({"write": {"/a": dead}, "read": {"/b": [dead, mine], "/c": [dead]}}))
    if how == "ended":
        # Until its parent asks for it, a process that was killed has its id still.
        dvc.kill()
        while dvc.status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.01)
    if how == "started later":
        os.utime(RWLOCK, (dvc.create_time() - 60, dvc.create_time() - 60))
        mine["pid"] = 1
        RWLOCK.write_text(json.dumps({"write": {"/a": dead}, "read": {"/b": [dead, mine], "/c": [dead]}}))
        os.utime(RWLOCK, (dvc.create_time() - 60, dvc.create_time() - 60))
    assert held() == [f".dvc/tmp/rwlock: removed the locks of a killed dvc (pid {dead['pid']})"]
    assert json.loads(RWLOCK.read_text()) == {"write": {}, "read": {"/b": [mine]}}


@pytest.mark.parametrize("left", [b"no database", None])
def test_a_damaged_database_of_hashes_is_removed(monkeypatch: pytest.MonkeyPatch, left: bytes) -> None:
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(Path.cwd() / "work/dvc"))
    sound, damaged = (Path(f"work/dvc/repo/1/{name}/cache.db") for name in ("links", "hashes/local"))
    for path in (sound, damaged):
        path.parent.mkdir(parents=True)
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("create table a (b text)")
    damaged.write_bytes(left or damaged.read_bytes()[:3000])
    said = [f"{damaged}: was damaged and is now removed; DVC hashes the files again"]
    assert dvc_files.remove_damaged_databases() == said
    assert sound.exists() and not damaged.exists()
    assert dvc_files.remove_damaged_databases() == []


def test_a_database_of_hashes_that_another_dvc_writes_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(Path.cwd() / "work/dvc"))
    path = Path("work/dvc/repo/1/links/cache.db")
    path.parent.mkdir(parents=True)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("create table a (b text)")
        connection.execute("begin exclusive")
        assert dvc_files.remove_damaged_databases() == []
    assert path.exists()


@pytest.fixture
def pipeline_of_one_stage(monkeypatch: pytest.MonkeyPatch, params_text: str) -> None:
    """In place of the files above a real project, whose stage writes a line into `log` each time it runs."""
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(Path.cwd() / "work/dvc"))
    for name in TEXTS:
        Path(name).unlink()
    Path("dvc.yaml").write_text("stages:\n  copy:\n    cmd: cp a b && echo ran >> log\n    deps: [a]\n    outs: [b]\n")
    Path("a").write_text("a")
    Path("params.yaml").write_text(params_text, "utf-8")
    subprocess.run(["git", "init", "--quiet"], check=True)


_KILLED = """
import os, signal
from dvc.utils.serialize import _common

def killed(path, data, dumper, fs=None, **arguments):
    with open(path, "w") as file:
        file.write("schema: '2.0'\\nsta")
    os.kill(os.getpid(), signal.SIGKILL)

_common._dump_data = killed
"""


@pytest.mark.slow
@pytest.mark.usefixtures("pipeline_of_one_stage")
def test_after_a_kill_during_the_write_of_dvc_lock_no_stage_runs_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    with repro.hold_project():
        repro.reproduce("copy", print)
    Path("a").write_text("another")
    Path("killing").mkdir()
    Path("killing/sitecustomize.py").write_text(_KILLED)
    with monkeypatch.context() as killing:
        killing.setenv("PYTHONPATH", f"{Path.cwd()}/killing:{os.environ.get('PYTHONPATH', '')}")
        with pytest.raises(PipelineError), repro.hold_project():
            repro.reproduce("copy", print)
    assert Path("dvc.lock").read_text() == "schema: '2.0'\nsta"
    said: list[str] = []
    with repro.hold_project(said.append):
        repro.reproduce("copy", said.append)
    assert said[0].startswith("dvc.lock: a write was interrupted; restored from the last good copy; ")
    assert Path("b").read_text() == "another"
    assert Path("log").read_text() == "ran\nran\n"
    assert repro.stale_stages() == {}


@pytest.mark.slow
@pytest.mark.usefixtures("pipeline_of_one_stage")
def test_dvc_works_after_a_damaged_database() -> None:
    said: list[str] = []
    repro.reproduce("copy", said.append)
    databases = sorted(Path("work/dvc").rglob("cache.db"))
    for damaged in databases:
        damaged.write_bytes(damaged.read_bytes()[:3000])
    said.clear()
    repro.reproduce("copy", said.append)
    removed = [f"{path}: was damaged and is now removed; DVC hashes the files again" for path in databases]
    assert said == [*removed, "Data and pipelines are up to date."]
    assert repro.stale_stages() == {}
