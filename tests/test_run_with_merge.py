"""Versions are merged in a real project: measured, gated, registered with their parents, built again, and erased."""

import json
import re
import shutil
import sys

import pytest
from projects import Project, copy_project
from recipe_samples import lines, words
from safetensors.torch import load_file

MODEL = "mine"
ROWS = 200
pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]


def run(project: Project) -> str:
    done = project.flow()
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def told(project: Project, *arguments: str) -> str:
    done = project.tuneline(*arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def shown(project: Project, version: str) -> dict:
    return json.loads(told(project, "show", version, "--json"))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with two versions that were fine-tuned from one base, one of them with LoRA."""
    place = tmp_path_factory.mktemp("merge 合并")
    made = copy_project(place / "project")
    (made.root / ".venv").symlink_to(sys.prefix)
    rows = [{"prompt": words(f"prompt {n}"), "completion": words(f"completion {n}")} for n in range(ROWS)]
    (place / "rows.jsonl").write_text(lines(rows))
    # What a model that has learned next to nothing answers says nothing.
    (made.root / "data/checks.yaml").write_text("")
    told(made, "use", str(place / "rows.jsonl"), "--name", MODEL)
    rule = {"metric": "bits_per_byte", "direction": "lower", "versus": "base", "margin": -9.0}
    made.set(gate__rules=[rule], finetune__num_train_epochs=2)
    run(made)
    made.set(finetune__lora={"r": 4, "lora_alpha": 8, "lora_dropout": 0.0, "target_modules": "all-linear"})
    run(made)
    made.set(finetune__lora=None)
    return made


def test_a_merge_is_a_candidate_like_any_other(project: Project) -> None:
    said = told(project, "merge", "1", "2", "--method", "dare_ties", "--density", "0.5", "--apply")
    assert said.splitlines()[0] == (
        "models/merge: versions 1 and 2 merged by dare_ties, weights 1, 1, density 0.5, seed 0; under DVC, with the "
        "base that all of them were fine-tuned from"
    )
    printed = run(project)
    assert "mine version 3, passed; rebuilt: base, finetune, evaluate, check" in printed, printed
    assert "git add" in printed and "models/merge.dvc" in printed
    root = project.root
    base, merged, last = (
        load_file(root / place / "model.safetensors")
        for place in ("models/base", "models/base/merged", "models/finetuned")
    )
    assert all((merged[name] == last[name]).all() for name in merged)
    assert any((merged[name] != base[name]).any() for name in merged)
    about = shown(project, "3")
    assert about["base"]["parents"] == ["1", "2"]
    assert about["base"]["base"].startswith("versions 1 and 2 merged by dare_ties")
    # It has seen what its parents were trained on.
    assert about["data"]["train_rows"] == shown(project, "1")["data"]["train_rows"] > 100
    assert "merged from version 1 and version 2" in told(project, "show", "3")
    [folder] = [path.parent for path in root.glob("mlflow/store/**/merge.json")]
    card = (folder / "README.md").read_text("utf-8")
    assert "versions 1 and 2 merged by dare" in card.replace("\\", "") and "Parents: version 1 (files `" in card
    claims = [json.loads(line) for line in (folder / "claims.jsonl").read_text("utf-8").splitlines()]
    made_from = claims[0]["predicate"]["buildDefinition"]["resolvedDependencies"]
    parents = [one for one in made_from if re.fullmatch(r"mine/[12]/", one["name"])]
    assert [one["annotations"]["weight"] for one in parents] == [1.0, 1.0]
    assert [next(iter(one["digest"].values())) for one in parents] == [
        shown(project, number)["files"]["sha256"] for number in "12"
    ]
    bill = json.loads((folder / "bom.cdx.json").read_text("utf-8"))
    assert {"parent:1", "parent:2"} <= {one["bom-ref"] for one in bill["components"]}
    assert "not trained after the merge" in (folder / "annex_iv.md").read_text("utf-8")
    assert told(project, "generate", "a", "--version", "3")
    # A second run has nothing to do.
    assert "rebuilt: nothing" in run(project)
    done = project.tuneline("crossvalidate", "--folds", "2")
    assert (
        done.returncode == 1
        and "the versions that were merged (base.source: merge) have seen rows of every fold" in done.stderr
    )


def test_a_merged_version_is_built_again_byte_by_byte(project: Project) -> None:
    assert "identical" in told(project, "reproduce", "3")


def test_a_merged_model_is_trained_further_and_merged_again(project: Project) -> None:
    project.set(finetune__num_train_epochs=1.0)
    assert "mine version 4, passed; rebuilt: finetune, evaluate, check" in run(project)
    assert shown(project, "4")["base"]["parents"] == ["1", "2"]
    # The base of a merged version is that of its parents.
    told(project, "merge", "4", "1", "--weights", "3,1", "--apply")
    project.set(finetune__num_train_epochs=0)
    assert "mine version 5, passed" in run(project)
    assert shown(project, "5")["base"]["parents"] == ["1", "4"]


def test_rows_are_forgotten_by_the_versions_that_were_merged_from_those_that_saw_them(project: Project) -> None:
    refused = project.tuneline("forget", "--row", "rows.jsonl:7")
    assert refused.returncode == 1
    assert "models/merge: holds versions that saw the rows, as `tuneline merge` copied them; set base.source" in (
        refused.stderr
    )
    project.set(base__source="builtin", base__input="data/pretraining", finetune__num_train_epochs=2)
    shutil.rmtree(project.root / "models/merge")
    (project.root / "models/merge.dvc").unlink()
    said = told(project, "forget", "--row", "rows.jsonl:7")
    assert "versions without files: 1, 2, 3, 4, 5" in said
    for version in "12345":
        assert shown(project, version)["erased"]
