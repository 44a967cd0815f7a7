"""One list of code for DVC, for a training's fingerprint and for the kept scores of the champion."""

import shutil
from pathlib import Path

import pytest
from projects import ROOT

from tuneline.core import identity


@pytest.mark.parametrize("stage", ["base", "finetune", "evaluate"])
def test_a_byte_of_any_file_that_a_stage_depends_on_is_other_code(stage: str, tmp_path: Path) -> None:
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
