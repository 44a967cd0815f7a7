"""DVC deletes an output before its stage runs: nothing else may lie there."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from projects import ROOT, copy_project

from tuneline import params
from tuneline.core import files
from tuneline.errors import ParamsError
from tuneline.params import editing
from tuneline.pipeline import graph, repro


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, params_text: str) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(params_text, "utf-8")
    shutil.copyfile(ROOT / "dvc.yaml", "dvc.yaml")
    subprocess.run(["git", "init", "--quiet"], check=True)
    for name in ("reports/metrics.json", "reports/notes.md", "data/expectations/raw.yaml", "models/.gitignore"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text("")
    subprocess.run(["git", "add", "--all"], check=True)
    return tmp_path


def problems() -> list[str]:
    with pytest.raises(ParamsError) as caught:
        repro.refuse_unsafe_outputs(params.load())
    return list(caught.value.problems)


def test_outputs_and_metrics_are_safe_to_delete(root: Path) -> None:
    Path("models/finetuned").mkdir()
    Path("models/finetuned/model.safetensors").symlink_to(ROOT / "dvc.yaml")
    repro.refuse_unsafe_outputs(params.load())


def test_an_output_that_git_holds_is_refused(root: Path) -> None:
    for name in ("models/[kept]/config.json", "models/Base/notes.md", "reports/prepare.json"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text("")
        subprocess.run(["git", "add", "--force", name], check=True)
    editing.set_values(Path("params.yaml"), {"paths.finetuned": "models/[kept]"})
    found = problems()
    assert [problem.split(": git holds it")[0] for problem in sorted(found)] == [
        "models/Base/notes.md",
        "models/[kept]/config.json",
        "reports/prepare.json",
    ]
    assert found[0].endswith(f"take the file out of git with: git rm --cached '{found[0].split(':')[0]}'")


@pytest.mark.parametrize("name", ["models", "models/finetuned"])
def test_an_output_behind_a_link_is_refused(root: Path, tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    if name == "models":
        Path("models/.gitignore").unlink()
        Path("models").rmdir()
    Path(name).symlink_to(tmp_path_factory.mktemp("elsewhere"))
    [found] = problems()
    assert found.startswith(f"{name}: is a link to ")


def test_dvc_repro_deletes_nothing_outside_the_folders_of_outputs(root: Path) -> None:
    """`dvc repro` does not ask us."""
    places = ["mlflow/store", "work", "docs", "tests/data", "flows"]
    Path(".dvcignore").write_text((ROOT / ".dvcignore").read_text())
    for place in places:
        Path(place).mkdir(parents=True)
        Path(place, "kept").write_text("")
    code = (
        "import sys; from pathlib import Path; from dvc.cli import main; main(['init', '-q'])\n"
        "for place in sys.argv[1:]:\n"
        "    Path('dvc.yaml').write_text(f'stages: {{one: {{cmd: exec false, outs: [{place}]}}}}')\n"
        "    main(['repro', 'one'])"
    )
    done = subprocess.run([sys.executable, "-c", code, *places], capture_output=True, text=True, check=True)
    assert done.stderr.count("is ignored by .dvcignore") == len(places)
    assert all(Path(place, "kept").is_file() for place in places)


@pytest.mark.slow
def test_dvc_repro_deletes_no_source_that_a_path_names(tmp_path: Path) -> None:
    """What is a dependency DVC itself refuses; of the rest the stages that run first, and DVC goes no further."""
    project = copy_project(tmp_path / "project")
    (project.root / ".venv").symlink_to(sys.prefix)
    assert project.run("-m", "dvc", "init", "--force", "--quiet").returncode == 0
    values = params.load(project.root / "params.yaml").model_dump()
    for stage in graph.read_stages(project.root / "dvc.yaml").values():
        for out in [*stage["outs"], *stage.get("metrics", [])]:
            place = project.root / graph.fill_template(out if isinstance(out, str) else next(iter(out)), values)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text("made")
    # As if everything was made.
    assert project.run("-m", "dvc", "commit", "--force", "--quiet").returncode == 0
    source = project.root / "src/tuneline/registry"
    before = files.sha256_tree(source)
    for section in ("finetuned", "clean", "base", "reports", "pretraining"):
        editing.set_values(project.root / "params.yaml", {f"paths.{section}": "src/tuneline/registry"})
        done = project.run("-m", "dvc", "repro")
        assert done.returncode != 0
        assert f"paths.{section}: 'src/tuneline/registry': must be under data/" in done.stderr
        assert files.sha256_tree(source) == before, section
        editing.set_values(project.root / "params.yaml", {f"paths.{section}": values["paths"][section]})
