"""Which outputs were made from rows that are erased follows from what dvc.lock records."""

import subprocess
from pathlib import Path

import pytest
from source_project import GIT

from tuneline.data.removing.found_rows import Selection
from tuneline.decisions import raw_history
from tuneline.decisions.raw_history import RawHistory
from tuneline.pipeline.graph import Recorded

STAGES = {name: {} for name in ("sample", "prepare", "base", "finetune")}
VALUES = {"data": {"raw": "data/raw/a", "pretraining": "data/raw/t"}, "paths": {"mixture": "data/mixture"}}


def entry(path: str, md5: str) -> dict[str, str]:
    return {"path": path, "md5": md5}


def recorded(base: list[dict[str, str]], pointers: dict | None = None) -> Recorded:
    locked = {
        "sample": {"outs": [entry("data/raw/docs", "s.dir")]},
        "prepare": {
            "deps": [
                *(entry("data/raw/a", "a.dir"), entry("data/raw/t", "t.dir"), entry("src/x", "x.dir")),
                entry("data/mixture", "with a page in git.dir"),
            ],
            "outs": [entry("data/clean", "c.dir"), entry("data/pretraining", "p.dir")],
        },
        "base": {"deps": base, "outs": [entry("models/base", "b.dir")]},
        "finetune": {
            "deps": [entry("data/clean/train", "ct.dir"), entry("models/base", "b.dir")],
            "outs": [entry("models/finetuned", "f.dir")],
        },
    }
    return Recorded(STAGES, locked, VALUES, pointers or {}, ())


def made(base: list[dict[str, str]], *, in_raw: int | None, in_text: int | None) -> raw_history.Made:
    answers = {("data/raw/a", "a.dir", False): in_raw, ("data/raw/t", "t.dir", True): in_text}
    return raw_history.read_made(recorded(base), RawHistory(Selection(), {}, answers))


def test_a_base_that_was_brought_is_kept_and_a_builtin_base_is_not() -> None:
    brought = made([entry("models/mine", "m.dir")], in_raw=2, in_text=0)
    assert brought.dropped == {"a.dir", "c.dir", "p.dir", "f.dir"}
    assert {"b.dir", "m.dir", "s.dir", "t.dir"} <= brought.kept
    assert brought.rows == 2
    pretrained = made([entry("data/pretraining", "p.dir")], in_raw=0, in_text=3)
    assert pretrained.dropped == {"t.dir", "c.dir", "p.dir", "b.dir", "f.dir"}
    assert (pretrained.rows, pretrained.texts) == (0, 3)
    assert pretrained.paths == ("data/clean", "data/pretraining", "models/base", "models/finetuned")


def test_nothing_is_dropped_without_the_rows_and_a_lost_set_is_named() -> None:
    clean = made([], in_raw=0, in_text=0)
    assert clean.dropped == set()
    lost = made([], in_raw=None, in_text=0)
    assert lost.unknown == ("data/raw/a",)
    assert lost.rows == 0
    assert "c.dir" in lost.dropped


def test_a_base_of_merged_versions_is_dropped_with_them_and_kept_without() -> None:
    merge = entry("models/merge", "g.dir")
    answers = {("data/raw/a", "a.dir", False): 0, ("data/raw/t", "t.dir", True): 0}

    def read(seen: set[str], merges: dict[str, list[str] | None]) -> raw_history.Made:
        raw = RawHistory(Selection(), {}, dict(answers), merges=merges, seen=frozenset(seen))
        return raw_history.read_made(recorded([merge]), raw)

    known: dict[str, list[str] | None] = {"g.dir": ["3", "4"]}
    dropped = read({"4", "7"}, dict(known))
    assert dropped.dropped == {"g.dir", "b.dir", "f.dir"}
    assert dropped.paths == ("models/base", "models/finetuned")
    assert read({"7"}, dict(known)).dropped == set()
    assert "g.dir" in read(set(), dict(known)).kept
    lost = read({"7"}, {"g.dir": None})
    assert lost.unknown == ("models/merge",)
    assert "b.dir" in lost.dropped
    pointers = {"models/merge.dvc": {"outs": [{"path": "merge", "md5": "g.dir"}]}}
    raw = RawHistory(Selection(), {}, dict(answers), merges=dict(known), seen=frozenset({"3"}))
    assert "g.dir" in raw_history.sets_with_rows([recorded([], pointers)], raw)


def test_a_mixture_is_looked_at_set_by_set() -> None:
    pointers = {f"data/mixture/{name}.dvc": {"outs": [{"path": name, "md5": f"{name}.dir"}]} for name in ("x", "y")}
    answers = {("data/raw/a", "a.dir", False): 0, ("data/raw/t", "t.dir", True): 0}
    answers |= {("data/mixture/x", "x.dir", False): 0, ("data/mixture/y", "y.dir", False): 1}
    found = raw_history.read_made(recorded([], pointers), RawHistory(Selection(), {}, dict(answers)))
    assert found.dropped == {"y.dir", "c.dir", "p.dir", "f.dir"}
    assert "x.dir" in found.kept
    assert found.rows == 1


def test_commits_that_a_merge_left_behind_or_that_hold_only_sets_are_read_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> None:
        subprocess.run([*GIT, *arguments], check=True, capture_output=True)

    def commit(letter: str) -> None:
        Path("a.dvc").write_text(f"outs:\n- path: a\n  hash: md5\n  md5: {letter * 32}\n")
        run("add", ".")
        run("commit", "--quiet", "--message", letter)

    run("init", "--quiet", "--initial-branch=main")
    commit("a")
    run("switch", "--quiet", "--create", "side")
    commit("b")
    run("switch", "--quiet", "main")
    run("commit", "--quiet", "--allow-empty", "--message", "other")
    run("merge", "--quiet", "--strategy=ours", "--message", "merge", "side")
    run("branch", "--quiet", "--delete", "--force", "side")
    found = {out["md5"][0] for one in raw_history.commits() for out in one.pointers["a.dvc"]["outs"]}
    assert found == {"a", "b"}


def test_sets_below_any_folder_of_the_data_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("data/work/a.dvc", "data/src/b.dvc", "work/c.dvc", ".venv/d.dvc"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text("outs: []\n")
    Path("dvc.yaml").write_text("stages: {a: {}}\n")
    Path("params.yaml").write_text("{}\n")
    assert list(raw_history.workspace().pointers) == ["data/src/b.dvc", "data/work/a.dvc"]
