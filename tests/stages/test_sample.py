"""The stage that writes the built-in corpus."""

import json
from pathlib import Path

import pytest

from tuneline import params
from tuneline.corpus import docstrings as corpus
from tuneline.errors import SetupError
from tuneline.params import editing
from tuneline.stages import sample


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, params_text: str) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(params_text)
    editing.set_values(Path("params.yaml"), {"sample.libraries": []})
    return tmp_path


def test_rows_name_their_module_and_the_same_python_gives_the_same_rows(project: Path) -> None:
    p = params.load()
    sample.main(p)
    pairs = [json.loads(line) for line in (project / p.paths.sample / "pairs.jsonl").open(encoding="utf-8")]
    texts = [json.loads(line) for line in (project / p.paths.sample_text / "docstrings.jsonl").open(encoding="utf-8")]
    assert set(pairs[0]) == {"prompt", "completion", "module"}
    assert set(texts[0]) == {"text", "module"}
    assert min(len(pairs), len(texts)) > 3000
    dump = next(row for row in pairs if row["module"] == "json" and row["prompt"].startswith("def dump("))
    assert dump["prompt"].endswith('default=None, sort_keys=False, **kw):\n    """')
    assert dump["completion"].startswith("Serialize ``obj`` as a JSON formatted stream to ``fp``")
    again, _ = corpus.corpus(corpus.standard_library()[:60])
    assert [row._asdict() for row in again] == pairs[: len(again)]


def test_a_missing_library_leaves_nothing_behind(project: Path) -> None:
    editing.set_values(Path("params.yaml"), {"sample.libraries": ["no-such-library"]})
    with pytest.raises(SetupError, match="no-such-library is not installed"):
        sample.main(params.load())
    assert not (project / "data").exists()
