"""A tiny project whose raw set holds rows that are to be erased; nothing is trained."""

import hashlib
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from projects import ROOT
from ruamel.yaml import YAML
from source_project import GIT

from tuneline import git
from tuneline.core import files
from tuneline.decisions import kept_trials, source_commit
from tuneline.decisions.erasure_plan import Asked
from tuneline.params import Params, editing
from tuneline.pipeline import objects
from tuneline.proofs import claims
from tuneline.registry import lineage, version_files, versions
from tuneline.registry.lineage import Lineage
from tuneline.registry.runs import Dataset
from tuneline.registry.tracking import NewVersion, Tracker
from tuneline.training import checkpoints

OF_42 = Asked((("customer", "42"),))
ROWS = '{"prompt":"who is it?","completion":"me","customer":42}\n{"prompt":"why?","completion":"so","customer":7}\n'


@pytest.fixture
def raw(project: Params, tracker: Tracker, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only file of the raw set of a project without any version."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracker.address)
    for name in ("dvc.yaml", "mlflow/tuneline.env"):
        Path(name).parent.mkdir(exist_ok=True)
        shutil.copyfile(ROOT / name, name)
    editing.set_values(Path("params.yaml"), {"data.raw": "data/raw/a", "data.pretraining": "data/raw/a-pretraining"})
    path = Path("data/raw/a/rows.jsonl")
    path.parent.mkdir(parents=True)
    path.write_text(ROWS)
    Path("data/raw/a-pretraining").mkdir()
    Path("data/raw/a-pretraining/train.jsonl").write_text('{"text":"who is it?me"}\n{"text":"why?so"}\n')
    clean = {"id": ["0a", "0b"], "source": ["rows.jsonl:1", "rows.jsonl:2"], "cluster": ["1", "2"]}
    clean |= {"prompt": ["who is it?", "why?"], "completion": ["me", "so"]}
    shutil.rmtree("data/clean")
    files.write_parquet(Path("data/clean/train/part-00000.parquet"), pa.table(clean))
    Path(".dvc").mkdir()
    Path(".dvc/config").touch()
    Path("dvc.lock").unlink()
    subprocess.run(["git", "init", "--quiet"], check=True)
    return path


def registered(tracker: Tracker, p: Params) -> str:
    """A version of which git keeps no sources."""
    subject = versions.training_subject(
        p, fingerprint=p.registry.model, data_sha256="b", base_sha256="c", git={"git_commit": "2", "git_dirty": "false"}
    )
    folder = Path(p.paths.finetuned)
    made = NewVersion(
        model=p.registry.model,
        run_id=tracker.ensure_run(subject, []),
        folder=folder,
        sha256=version_files.sha256(folder),
        tags={},
        metrics={},
        dataset=Dataset("clean", "b", p.paths.clean, "test"),
        describe=lambda _: "a version",
    )
    return tracker.create_version(made)


CACHE = Path(".dvc/cache/files/md5")


def cached(content: bytes, suffix: str = "") -> str:
    """Put an object into DVC's cache; returns its md5."""
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest() + suffix
    place = objects.place(CACHE, md5)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(content)
    return md5


def cached_set(path: Path) -> str:
    """Put a folder into DVC's cache, as `dvc add` does; returns its md5."""
    listed = [
        {"md5": cached(file.read_bytes()), "relpath": file.relative_to(path).as_posix()}
        for file in sorted(path.rglob("*"))
        if file.is_file()
    ]
    return cached(json.dumps(listed).encode(), ".dir")


def locked(**sets: str) -> str:
    """The content of dvc.lock after `prepare` has read data.raw and its pretraining text; returns also what was made.

    Args:
        sets: `a` and `text`: their md5s.
    """
    deps = [{"path": "data/raw/a", "hash": "md5", "md5": sets["a"]}]
    if "text" in sets:
        deps.append({"path": "data/raw/a-pretraining", "hash": "md5", "md5": sets["text"]})
    outs = [{"path": "data/clean", "hash": "md5", "md5": cached(f"clean of {sets}".encode())}]
    value: dict[str, Any] = {"schema": "2.0", "stages": {"prepare": {"cmd": "prepare", "deps": deps, "outs": outs}}}
    with Path("dvc.lock").open("w") as file:
        YAML(typ="safe").dump(value, file)
    return outs[0]["md5"]


def sources_now(p: Params) -> dict[str, str]:
    """Commit what a version would be made from now, as `register` does; returns the tags that name it."""
    for name in (*lineage.ENVIRONMENT_LOCKS, ".gitignore"):
        shutil.copyfile(ROOT / name, name)
    digests = {
        "params_sha256": files.sha256_file(Path("params.yaml")),
        "dvc_lock_sha256": files.sha256_file(Path("dvc.lock")),
        "environment_sha256": files.digest([files.sha256_file(Path(name)) for name in lineage.ENVIRONMENT_LOCKS]),
    }
    rest = ("fingerprint", "model_sha256", "data_sha256", "base_sha256", "evaluation_sha256")
    now = Lineage(**digests, **dict.fromkeys(rest, "0" * 64), git_commit="none", git_dirty="true")
    return {**now.tags(), source_commit.TAG: source_commit.make(p, now)}


def version_of(tracker: Tracker, p: Params, tags: dict[str, str], run: str, ids: list[str]) -> str:
    """Register the model of the project with what a version holds of its sources now."""
    folder = Path("work/version")
    shutil.copytree(p.paths.finetuned, folder)
    for name in ("params.yaml", "dvc.lock"):
        shutil.copyfile(name, folder / name)
    files.write_parquet(folder / versions.TRAIN_ROWS, pa.table({"id": ids, "cluster": ids}))
    dependencies: list[dict[str, Any]] = [{"name": "code", "digest": {"gitCommit": tags[source_commit.TAG]}}]
    dependencies += [
        {"name": name, "digest": {"sha256": files.sha256_file(folder / name)}} for name in ("params.yaml", "dvc.lock")
    ]
    predicate = {
        "buildDefinition": {
            "buildType": "x",
            "externalParameters": p.model_dump(mode="json"),
            "internalParameters": {"fingerprint": "0" * 64},
            "resolvedDependencies": dependencies,
        },
        "runDetails": {"builder": {"id": "x"}, "metadata": {"invocationId": run}},
    }
    claims.write(folder / claims.CLAIMS, [claims.statement(claims.PROVENANCE, {"a": "0" * 64}, predicate)], None)
    sha256 = version_files.sha256(folder)
    data = Dataset("clean", "b" * 64, p.paths.clean, "test")
    tags = {**tags, versions.FILES: sha256, versions.RUN: run}
    version = tracker.create_version(NewVersion(p.registry.model, run, folder, sha256, tags, {}, data, lambda _: ""))
    shutil.rmtree(folder)
    return version


def begun_search(name: str, model: bytes) -> list[str]:
    """A search with a trial that is an experiment and one that was killed; returns the md5s of their models."""
    of_trial = [cached(model + number) for number in (b"1", b"2")]
    subprocess.run([*GIT, "add", "--force", "dvc.yaml", "dvc.lock", "params.yaml"], check=True)
    subprocess.run([*GIT, "commit", "--quiet", "--allow-empty", "--message", "start"], check=True)
    git.ask("update-ref", f"{kept_trials.REFS}/{name}", "HEAD")
    before = Path("dvc.lock").read_text()
    with Path("dvc.lock").open("a") as lock:
        lock.write(f"  finetune:\n    cmd: x\n    deps:\n    - {{path: data/clean, hash: md5, md5: {'0' * 32}}}\n")
        lock.write(f"    outs:\n    - {{path: models/finetuned, hash: md5, md5: {of_trial[0]}}}\n")
    subprocess.run([*GIT, "commit", "--quiet", "--all", "--message", "trial"], check=True)
    git.ask("update-ref", f"refs/exps/12/34/{name}-1", "HEAD")
    git.ask("reset", "--quiet", "--soft", "HEAD~1")
    Path("dvc.lock").write_text(before)
    running = kept_trials.FOLDER / name / "trials/2"
    files.write_text(running / "work/a/checkpoint-1/weights", "learned from the rows")
    outs = [{"path": "models/finetuned", "md5": of_trial[1]}]
    files.write_text(running / "dvc.lock", json.dumps({"stages": {"finetune": {"outs": outs}}}))
    files.write_text(running / checkpoints.LOCK, "")
    return of_trial
