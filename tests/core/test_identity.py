"""The code digest of a stage covers every file in its deps."""

import shutil
from pathlib import Path

import pytest
from projects import ROOT

from tuneline.core import identity


@pytest.mark.parametrize("stage", ["base", "finetune", "evaluate"])
def test_a_changed_byte_in_any_file_of_the_deps_changes_the_code_digest(stage: str, tmp_path: Path) -> None:
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    listed = identity.code_deps(stage)
    for path in listed:
        source, copy = ROOT / path, tmp_path / path
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, copy) if source.is_file() else shutil.copytree(source, copy)
    assert identity.code_deps(stage, tmp_path) == listed
    before = identity.code_sha256(listed, tmp_path)
    assert before == identity.code_sha256(listed)
    sources = [path for path in tmp_path.rglob("src/**/*") if path.is_file() and "__pycache__" not in path.parts]
    assert {path.suffix for path in sources} >= {".py", ".jinja"}
    for path in sources:
        content = path.read_bytes()
        path.write_bytes(content + b" ")
        assert identity.code_sha256(listed, tmp_path) != before, path
        path.write_bytes(content)
    assert identity.code_sha256(listed, tmp_path) == before
