"""Versions are built again in another clone, byte by byte; what has changed since they were made is found."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import mlflow
import pytest
from projects import Project, copy_project
from recipe_samples import lines, words

from tuneline.core import files
from tuneline.decisions import source_commit
from tuneline.registry import history
from tuneline.registry.tracking import Tracker

MODEL = "mine"
KINDS = {"1": "full", "2": "lora", "3": "dirty"}
pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]
GIT = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]


@dataclass(frozen=True)
class Clones:
    """A project with three versions, and a clone that uses the same registry."""

    first: Project
    second: Project
    store: str
    storage: Path

    def again(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command of `tuneline` in the second clone."""
        return self.second.tuneline(*arguments, MLFLOW_TRACKING_URI=self.store)

    def client(self) -> mlflow.MlflowClient:
        return mlflow.MlflowClient(self.store)


def git(project: Project, *arguments: str, **variables: str) -> str:
    done = subprocess.run(
        [*GIT, *arguments], cwd=project.root, env=os.environ | variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def run(project: Project) -> None:
    done = project.flow()
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def clones(tmp_path_factory: pytest.TempPathFactory) -> Clones:
    place = tmp_path_factory.mktemp("reproduce 重建")
    first = copy_project(place / "first clone")
    (first.root / ".venv").symlink_to(sys.prefix)
    rows = [{"prompt": words(f"prompt {n}"), "completion": words(f"completion {n}")} for n in range(200)]
    (place / "rows.jsonl").write_text(lines(rows))
    assert first.tuneline("use", str(place / "rows.jsonl"), "--name", MODEL).returncode == 0
    rule = {"metric": "bits_per_byte", "direction": "lower", "versus": "base", "margin": -9.0}
    first.set(gate__rules=[rule], finetune__num_train_epochs=2)
    run(first)
    git(first, "add", "--all")
    git(first, "commit", "--quiet", "--message", "full fine-tuning")
    first.set(finetune__lora={"r": 4, "lora_alpha": 8, "lora_dropout": 0.05, "target_modules": "all-linear"})
    run(first)
    git(first, "commit", "--quiet", "--all", "--message", "LoRA")
    first.set(finetune__lora=None, finetune__seed=7)
    code = first.root / "src/tuneline/finetuning/tasks.py"
    code.write_text(f"{code.read_text()}\nfrom tuneline.finetuning import uncommitted  # noqa\n")
    (code.parent / "uncommitted.py").write_text('"""Not in any commit."""\n')
    (first.root / "secret.txt").write_text("a person's own")
    run(first)
    git(first, "checkout", "--quiet", "--", ".")
    (code.parent / "uncommitted.py").unlink()

    # DVC cannot write an address with other letters than those of ASCII into its configuration.
    storage = tmp_path_factory.mktemp("storage")
    subprocess.run(["git", "init", "--quiet", "--bare", str(place / "origin.git")], check=True)
    git(first, "remote", "add", "origin", str(place / "origin.git"))
    added = first.run("-m", "dvc", "remote", "add", "--quiet", "--default", "storage", str(storage))
    assert added.returncode == 0, added.stderr
    git(first, "commit", "--quiet", "--all", "--message", "storage")
    git(first, "push", "--quiet", "origin", "HEAD")
    pushed = first.tuneline("push")
    assert pushed.returncode == 0, pushed.stderr
    assert "refs: 3 pushed to 'origin'" in pushed.stdout
    assert first.tuneline("push").stdout.startswith("data: 0 objects of 0.0 MB pushed to 'storage', ")

    # A clone of a folder copies every object, also those that no branch names; a clone over a network does not.
    remote = (place / "origin.git").as_uri()
    subprocess.run(["git", "clone", "--quiet", remote, str(place / "second clone")], check=True)
    second = Project(place / "second clone")
    (second.root / ".venv").symlink_to(sys.prefix)
    return Clones(first, second, f"sqlite:///{first.root}/mlflow/store/mlflow.db", storage)


def test_a_clone_says_what_it_lacks_and_pulls_it(clones: Clones) -> None:
    missing = clones.again("reproduce", "1")
    assert missing.returncode == 1
    assert "is not in this clone; fetch it with: .venv/bin/tuneline pull" in missing.stderr
    pulled = clones.again("pull")
    assert pulled.returncode == 0, pulled.stderr
    assert pulled.stdout.startswith(f"refs: 3 fetched from 'origin' (refs/tuneline/{MODEL}/v1, ")
    again = clones.again("pull")
    assert again.stdout.splitlines()[0] == "refs: 0 fetched from 'origin', 3 were there"
    assert again.stdout.splitlines()[1].startswith("data: 0 objects of 0.0 MB fetched from 'storage', ")


@pytest.mark.parametrize("version", KINDS, ids=list(KINDS.values()))
def test_a_version_is_built_again_in_a_fresh_clone(clones: Clones, version: str) -> None:
    assert clones.again("pull").returncode == 0
    before = git(clones.second, "status", "--porcelain"), git(clones.second, "for-each-ref")
    done = clones.again("reproduce", version)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"identical: {MODEL} version {version} was built again, byte by byte: " in done.stdout
    assert (git(clones.second, "status", "--porcelain"), git(clones.second, "for-each-ref")) == before
    assert list((clones.second.root / "work/temporary").iterdir()) == []
    assert len(git(clones.second, "worktree", "list").splitlines()) == 1
    past = history.read(Tracker(clones.client(), clones.store), MODEL, evidence=True)
    assert past.problems == ()
    entry = past.entries[-1]
    assert (entry.action, entry.after) == (history.REPRODUCED, version)
    assert entry.reason.startswith("identical, in clone ")
    held = git(clones.second, "ls-tree", "-r", "--name-only", f"refs/tuneline/{MODEL}/v{version}").splitlines()
    assert ("src/tuneline/finetuning/uncommitted.py" in held) == (KINDS[version] == "dirty")
    assert "secret.txt" not in held


@pytest.fixture
def forged(clones: Clones) -> Iterator[None]:
    """Put the tag of the version and the registry's files back afterwards."""
    tag = clones.client().get_model_version(MODEL, "1").tags[source_commit.TAG]
    yield
    clones.client().set_model_version_tag(MODEL, "1", source_commit.TAG, tag)


def change_one_byte(clones: Clones, path: str) -> None:
    """Let version 1 name a commit in which one byte of one file is another one."""
    project = clones.second
    commit = clones.client().get_model_version(MODEL, "1").tags[source_commit.TAG]
    index = {"GIT_INDEX_FILE": str(project.root / "work/forged-index")}
    text = git(project, "show", f"{commit}:{path}") + "\n"
    # The first digit of a set's md5; elsewhere one more line break.
    name, digit, rest = text.partition("md5: ")[0], text.partition("md5: ")[2][:1], text.partition("md5: ")[2][1:]
    other = f"{name}md5: {'0' if digit != '0' else '1'}{rest}" if path.endswith(".dvc") else f"{text}\n"
    (project.root / "work/forged").write_text(other)
    blob = git(project, "hash-object", "-w", "work/forged")
    git(project, "read-tree", commit, **index)
    git(project, "update-index", "--cacheinfo", f"100644,{blob},{path}", **index)
    forged = git(project, "commit-tree", "-p", commit, "-m", "forged", git(project, "write-tree", **index))
    clones.client().set_model_version_tag(MODEL, "1", source_commit.TAG, forged)


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("params.yaml", "params.yaml: commit "),
        ("dvc.lock", "dvc.lock: commit "),
        ("requirements.lock", "requirements.lock and requirements-torch.lock: commit "),
        ("src/tuneline/training/trainer.py", "stage finetune: deps src/tuneline/training modified"),
        ("data/expectations/raw.yaml", "stage validate_raw: deps data/expectations/raw.yaml modified"),
        (f"data/raw/{MODEL}.dvc", f"data/raw/{MODEL}: objects of it are neither in DVC's cache nor in its remote"),
    ],
)
def test_one_changed_byte_is_found_before_anything_is_built(
    clones: Clones, forged: None, path: str, problem: str
) -> None:
    assert clones.again("pull").returncode == 0
    change_one_byte(clones, path)
    done = clones.again("reproduce", "1")
    assert (done.returncode, "[1/" in done.stdout) == (1, False), done.stdout
    assert problem in done.stderr
    assert "Traceback" not in done.stderr


def flip(path: Path) -> None:
    path.chmod(0o644)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_one_changed_byte_of_the_data_is_found(clones: Clones) -> None:
    assert clones.again("pull").returncode == 0
    lock = (clones.first.root / f"data/raw/{MODEL}.dvc").read_text()
    listing = next(line.split()[-1] for line in lock.splitlines() if "md5:" in line)
    cache = clones.second.root / ".dvc/cache/files/md5"
    entry = files.read_json(cache / listing[:2] / listing[2:])[0]["md5"]
    here, there = (place / entry[:2] / entry[2:] for place in (cache, clones.storage / "files/md5"))
    sound = here.read_bytes()
    try:
        flip(here)
        flip(there)
        done = clones.again("reproduce", "1")
        assert done.returncode == 1, done.stdout
        assert f"data/raw/{MODEL}: files of DVC's cache do not hold the bytes that their names tell" in done.stderr
        assert "[1/" not in done.stdout
        here.unlink()
        pulled = clones.again("pull")
        assert pulled.returncode == 1
        assert f"data/raw/{MODEL}: objects of it are neither in DVC's cache nor in its remote" in pulled.stderr
    finally:
        there.write_bytes(sound)
    assert clones.again("pull").returncode == 0
    assert here.read_bytes() == sound


def test_damaged_files_of_the_version_and_lost_objects_of_git(clones: Clones) -> None:
    folder = Tracker(clones.client(), clones.store).local_folder(MODEL, "2")
    assert folder
    weights = folder / "model.safetensors"
    sound = weights.read_bytes()
    flip(weights)
    done = clones.again("reproduce", "2")
    weights.write_bytes(sound)
    assert done.returncode == 1
    assert "they were changed or deleted in MLflow's store" in done.stderr

    lone = clones.second.root.parent / "third clone"
    shutil.copytree(clones.second.root, lone, symlinks=True)
    third = Project(lone)
    # Loose objects, of which one is lost.
    packs = list((lone / ".git/objects/pack").glob("*.pack"))
    for pack in packs:
        moved = pack.rename(lone / pack.name)
        subprocess.run(["git", "unpack-objects", "-q"], cwd=lone, stdin=moved.open("rb"), check=True)
    blob = git(third, "rev-parse", f"refs/tuneline/{MODEL}/v3:src/tuneline/finetuning/uncommitted.py")
    (lone / ".git/objects" / blob[:2] / blob[2:]).unlink()
    done = third.tuneline("reproduce", "3", MLFLOW_TRACKING_URI=clones.store)
    assert done.returncode == 1
    assert f"1 of its objects are missing ({blob})" in done.stderr
