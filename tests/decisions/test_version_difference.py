"""Two versions of one project: what `show` says of each, and what `diff` says between them."""

import hashlib
import json
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import mlflow
import pyarrow as pa
import pytest

from tuneline import params
from tuneline.commands import diff, show
from tuneline.core import files
from tuneline.decisions import about_version, source_commit, version_difference
from tuneline.errors import RegistryError
from tuneline.params import editing
from tuneline.registry import history, version_status, versions
from tuneline.registry.lineage import Lineage
from tuneline.registry.tracking import Tracker

GIT = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
LORA = {"r": 4, "lora_alpha": 8, "lora_dropout": 0.0, "target_modules": "all-linear"}
ROWS = {"train": [("1", "a.csv:2"), ("2", "a.csv:3"), ("3", "a.csv:4")], "test": [("9", "a.csv:5")]}


def store_clean(cache: Path, rows: dict[str, list[tuple[str, str]]]) -> str:
    """Put clean splits into DVC's cache, as DVC does; their md5."""
    listing = []
    for split, pairs in rows.items():
        part = cache / "part"
        files.write_parquet(part, pa.table({"id": [one for one, _ in pairs], "source": [at for _, at in pairs]}))
        listing.append({"md5": _move(part, ""), "relpath": f"{split}/part-00000.parquet"})
    path = cache / "listing"
    path.write_text(json.dumps(listing))
    return _move(path, ".dir")


def _move(path: Path, end: str) -> str:
    md5 = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
    target = path.parent / md5[:2] / f"{md5[2:]}{end}"
    target.parent.mkdir(exist_ok=True)
    path.replace(target)
    return f"{md5}{end}"


@dataclass
class Project:
    """A project whose versions are registered with their sources and data."""

    tracker: Tracker
    lineage: Lineage
    model: str

    def register(self, data: str, value: float, rows: Sequence[tuple[str, str]]) -> str:
        """Commit everything, and register the model in the workspace as the next version."""
        p = params.load()
        deps = [{"path": path, "md5": data} for path in (p.data.raw, "reports/raw.ok")]
        lock = {"outs": [{"path": p.paths.clean, "md5": data}], "deps": deps}
        Path("dvc.lock").write_text(json.dumps({"schema": "2.0", "stages": {"prepare": lock}}))
        files.write_parquet(
            Path(p.paths.clean) / "train/part-00000.parquet",
            pa.table({"id": [one for one, _ in rows], "cluster": [one for one, _ in rows]}),
        )
        subprocess.run([*GIT, "add", "--all"], check=True)
        subprocess.run([*GIT, "commit", "--quiet", "--message", "work"], check=True)
        commit = subprocess.run([*GIT, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
        own = replace(
            self.lineage,
            model_sha256=files.digest(value),
            data_sha256=files.digest(data),
            environment_sha256=files.sha256_file(Path("requirements.lock")),
            git_commit=commit,
        )
        subject = versions.training_subject(
            p,
            fingerprint=own.fingerprint,
            data_sha256="b",
            base_sha256="c",
            git={"git_commit": commit, "git_dirty": ""},
        )
        gate = {"verdict": "passed", "rules": [{"metric": "bits_per_byte", "reason": "It is better."}]}
        interval = {"difference": value - 2.0, "low": value - 2.25, "high": value - 1.75}
        evaluation = {
            "rows": 1,
            "candidate": {"bits_per_byte": value},
            "base": {"bits_per_byte": 2.0},
            "versus_base": {"bits_per_byte": interval},
        }
        return versions.register(
            self.tracker,
            p,
            own,
            self.tracker.ensure_run(subject, []),
            gate,
            evaluation,
            lambda _: {source_commit.TAG: commit},
            lambda _: None,
        ).version

    def compare(self, before: str, after: str) -> list[str]:
        """The lines of `tuneline diff`."""
        one, other = (about_version.collect(self.tracker, self.model, name) for name in (before, after))
        return list(diff.lines(version_difference.compare(self.tracker, one, other)))


@pytest.fixture
def two(project: params.Params, tracker: Tracker, lineage: Lineage) -> Iterator[Project]:
    """Two versions: the second one has other params, data, code, packages and numbers."""
    cache = Path(".dvc/cache/files/md5")
    cache.mkdir(parents=True)
    Path(".dvc/config").write_text("[core]\n")
    Path(".gitignore").write_text("/.dvc/cache\n/work\n/data\n/models\n")
    Path("requirements.lock").write_text("torch==2.0\nmlflow==3.0\n")
    Path("requirements-torch.lock").write_text("")
    Path("src").mkdir()
    Path("src/code.py").write_text("1")
    subprocess.run([*GIT, "init", "--quiet"], check=True)
    made = Project(tracker, lineage, project.registry.model)
    assert made.register(store_clean(cache, ROWS), 1.75, ROWS["train"]) == "1"
    changed = {"finetune.learning_rate": 0.001, "finetune.dpo.beta": 0.2, "finetune.lora": LORA}
    editing.set_values(Path("params.yaml"), changed)
    Path("requirements.lock").write_text("torch==2.1\nnumpy==2.0\n")
    Path("src/code.py").write_text("2")
    Path("src/new.py").write_text("2")
    later = {"train": [ROWS["train"][0], ("4", "b.csv:2")], "test": ROWS["test"]}
    assert made.register(store_clean(cache, later), 1.5, later["train"]) == "2"
    yield made


def test_a_difference_is_told_in_words(two: Project) -> None:
    text = "\n".join(two.compare("1", "2"))
    for line in (
        "  finetune.learning_rate was 0.005, is 0.001",
        "  finetune.dpo.beta was 0.1, is 0.2",
        f"  finetune.lora was null, is {json.dumps(LORA)}",
        "  data/raw/python-docstrings has changed",
        "  the rows that validate_raw has accepted are others",
        "  train: 1 row added, 2 removed",
        "    + b.csv:2",
        "    − a.csv:3",
        "  src/code.py was changed",
        "  src/new.py was added",
        "  torch was 2.0, is 2.1",
        "  mlflow was 3.0, is not set",
        "  numpy was not set, is 2.0",
        "  Bits per byte was 1.7500, is 1.5000 (better)",
        "base\n  the same",
        "verdict\n  the same: passed",
    ):
        assert line in text, line
    assert "a.csv:5" not in text
    assert "test:" not in text
    text = "\n".join(two.compare("1", "1"))
    assert "both are the same model, byte for byte" in text
    for title in ("params", "data", "base", "code"):
        assert f"{title}\n  the same\n" in text
    assert "(the same)" in text


def test_metrics_of_other_test_rows_are_not_called_better(two: Project) -> None:
    cache = Path(".dvc/cache/files/md5")
    rows = {"train": ROWS["train"], "test": [("8", "b.csv:3")]}
    assert two.register(store_clean(cache, rows), 1.25, rows["train"]) == "3"
    one, other = (about_version.collect(two.tracker, two.model, name) for name in ("1", "3"))
    found = version_difference.compare(two.tracker, one, other)
    text = "\n".join(diff.lines(found))
    assert "metrics\n  (the test rows differ: numbers about them cannot be compared and have no verdict; " in text
    assert "  Bits per byte was 1.7500, is 1.2500\n" in f"{text}\n"
    assert "(better)" not in text
    general = version_difference.MetricChange("general_bits_per_byte", "General text", 2.0, 1.9, True)
    text = "\n".join(diff.lines(replace(found, metrics=(*found.metrics, general))))
    assert text.count("cannot be compared") == 1
    assert "  General text was 2.0000, is 1.9000 (better)" in text


def test_what_is_lost_is_named_and_the_rest_is_compared(two: Project) -> None:
    for path in Path(".dvc/cache").rglob("*.dir"):
        path.unlink()
    text = "\n".join(two.compare("1", "2"))
    assert "  train: 1 row added, 2 removed" in text
    assert "b.csv" not in text
    assert "tuneline pull" in text

    subprocess.run(["rm", "-rf", ".git"], check=True)
    subprocess.run([*GIT, "init", "--quiet"], check=True)
    text = "\n".join(two.compare("1", "2"))
    assert "which files differ is not known" in text
    assert "is not in this clone; fetch it with: .venv/bin/tuneline pull" in text
    assert "requirements.lock or requirements-torch.lock differ" in text
    assert "finetune.learning_rate was 0.005, is 0.001" in text
    folder = two.tracker.local_folder(two.model, "1")
    assert folder is not None
    subprocess.run(["rm", "-rf", str(folder)], check=True)
    about = about_version.collect(two.tracker, two.model, "1")
    assert "train-rows.parquet of version 1 is missing" in "\n".join(show.lines(about))
    text = "\n".join(two.compare("1", "2"))
    assert "params.yaml of version 1 is missing" in text
    assert "params\n  not known\n" in text
    assert "Bits per byte was 1.7500, is 1.5000 (better)" in text


def test_a_version_that_tuneline_did_not_register_is_told_as_unknown(two: Project) -> None:
    mlflow.MlflowClient().create_model_version(two.model, str(Path.cwd()))
    text = "\n".join(two.compare("2", "3"))
    for title in ("params", "data", "environment"):
        assert f"{title}\n  not known\n" in text
    assert "was passed, is none" in text
    assert "None" not in text
    told = "\n".join(show.lines(about_version.collect(two.tracker, two.model, "3")))
    assert "none: tuneline did not register this version" in told
    assert "None" not in told


def test_files_that_somebody_has_changed_are_named(two: Project) -> None:
    folder = two.tracker.local_folder(two.model, "2")
    assert folder is not None
    for path in Path(".dvc/cache").rglob("*.dir"):
        path.unlink()
    files.write_parquet(Path("other.parquet"), pa.table({"x": [1]}))
    changed = {
        "params.yaml": (b"- a list", b"a: !!bool x"),
        "dvc.lock": (
            b"stages: {prepare: a text}",
            b"stages: {prepare: {deps: [1], outs: [1]}}",
            b"stages: {prepare: {deps: [{md5: 1}], outs: 3}}",
        ),
        "train-rows.parquet": (b"PAR1", Path("other.parquet").read_bytes()),
    }
    for name, contents in changed.items():
        whole = (folder / name).read_bytes()
        for content in contents:
            (folder / name).write_bytes(content)
            text = "\n".join(two.compare("1", "2"))
            assert f"{name} of version 2 cannot be read" in text, content
            assert "Bits per byte was 1.7500, is 1.5000 (better)" in text
        (folder / name).write_bytes(whole)
    for content in (b"paths: a text", b"paths: {clean: [1]}"):
        (folder / "params.yaml").write_bytes(content)
        assert "paths" in "\n".join(two.compare("1", "2"))


def test_all_about_a_version(two: Project) -> None:
    mlflow.MlflowClient().set_registered_model_alias(two.model, "champion", "2")
    history.append(two.tracker, two.model, action=history.VERIFIED, alias="champion", after="2", reason="it is good")
    about = about_version.collect(two.tracker, two.model, about_version.find_number(two.tracker, two.model, "champion"))
    text = "\n".join(show.lines(about))
    for line in (
        f"{two.model} version 2 (champion), registered 20",
        "verdict\n  passed\n  - It is better.",
        "measured on 1 test rows",
        "  Bits per byte 1.5000 (Base 2.0000; minus base: −0.5000, 95 % interval −0.7500 to −0.2500)",
        "  data data/raw/python-docstrings, 2 train rows, sha256 ",
        "environment sha256 ",
        "2 packages: torch 2.1, …",
        "  not signed",
        "verified champion none → 2 by ",
        ": it is good",
    ):
        assert line in text, line
    assert json.loads(json.dumps(about.as_dict()))["numbers"][0]["value"] == 1.5
    two.tracker.update_version(two.model, "1", {version_status.ERASED: "2026-11-02T10:00:00+00:00"})
    two.tracker.update_version(two.model, "1", {"tuneline.signed": "ada"})
    older = about_version.collect(two.tracker, two.model, "1")
    assert "  signed by ada, says its tag; tuneline doctor checks the signature" in list(show.lines(older))
    assert older.aliases == older.history == ()
    assert next(line for line in show.lines(older) if "erased" in line).startswith(
        "  erased: it was erased on 2026-11-02: "
    )
    assert about_version.find_number(two.tracker, two.model, "v02") == "2"
    for name in ("0", "7", "9" * 30, "9" * 5000, "production", "", "a b"):
        with pytest.raises(RegistryError, match=r"has versions 1, 2|no version is production yet|cannot be an alias"):
            about_version.find_number(two.tracker, two.model, name)
