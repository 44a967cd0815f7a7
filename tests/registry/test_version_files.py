"""The digest of a version's folder: every registered file, and not what MLflow adds when it loads the version."""

from pathlib import Path

import pytest
from mlflow.store.artifact.models_artifact_repo import REGISTERED_MODEL_META_FILE_NAME

from tuneline.core import files
from tuneline.proofs import annex_iv, bom, croissant
from tuneline.registry import version_files


def test_what_mlflow_adds_changes_no_digest(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    before = version_files.sha256(tmp_path)
    assert before == files.sha256_path(tmp_path)
    (tmp_path / REGISTERED_MODEL_META_FILE_NAME).write_text("model_name: a\nmodel_version: '1'\n")
    assert version_files.sha256(tmp_path) == before


@pytest.mark.parametrize("name", ["new.json", f"below/{REGISTERED_MODEL_META_FILE_NAME}"])
def test_any_other_new_file_changes_it(name: str, tmp_path: Path) -> None:
    before = version_files.sha256(tmp_path)
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("x")
    assert version_files.sha256(tmp_path) != before


def test_the_names_of_all_descriptions_are_known() -> None:
    """The loader behind MLmodel refuses any other file that is not in its list."""
    assert {annex_iv.FILE, bom.FILE, croissant.FILE} <= set(version_files.DESCRIPTIONS)
