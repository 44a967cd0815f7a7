"""A run with a mixture; another weight does not prepare the data again."""

from pathlib import Path

import pytest
from projects import Project, copy_project
from recipe_samples import conversation, lines, words

from tuneline.core import files


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_conversations_and_general_text_are_mixed_with_the_corpus(tmp_path: Path) -> None:
    project: Project = copy_project(tmp_path / "project")
    (tmp_path / "chats.jsonl").write_text(lines([conversation(n) for n in range(60)]))
    used = project.tuneline("use", str(tmp_path / "chats.jsonl"), "--mix", "0.5")
    assert used.returncode == 0, used.stdout + used.stderr
    mixture = {"chats": {"weight": 0.5}, "pretraining": {"weight": 0.02, "max_examples": 500}}
    # The conversations hold new words, so they have more tokens than the rows of the corpus.
    project.set(data__mixture=mixture, finetune__max_length=384, base__builtin__max_length=384)
    first = project.flow()
    assert first.returncode == 0, first.stdout + first.stderr
    told = files.read_json(project.root / "reports/training.json")["mixture"]
    assert told["pretraining"]["shown"] <= 10
    assert told["chats"]["examples"] == 60
    assert "What it was trained on" in (project.root / "reports/index.html").read_text("utf-8")

    mixture["chats"]["weight"] = 1.0
    project.set(data__mixture=mixture)
    again = project.flow()
    assert "rebuilt: finetune, evaluate\n" in again.stdout, again.stdout + again.stderr

    # Conversations of another month, some of which leak held-out text.
    test = files.read_parquet(project.root / "data/clean/test").slice(0, 5).to_pylist()
    given_away = [{"prompt": words(n), "completion": row["completion"]} for n, row in enumerate(test)]
    others = [{"prompt": words(f"p{n}"), "completion": words(n)} for n in range(9)]
    (tmp_path / "pairs.jsonl").write_text(lines([*given_away, *others]))
    assert project.tuneline("use", str(tmp_path / "pairs.jsonl"), "--mix", "1").returncode == 0
    prepared = project.tuneline("exec", "--", "dvc", "repro", "validate_clean")
    assert prepared.returncode == 0, prepared.stdout + prepared.stderr
    report = files.read_json(project.root / "reports/prepare.json")["mixture"]["pairs"]
    assert report["rows_in"] == 14
    assert report["rows_out"] == 14 - sum(report["dropped"].values())
    assert report["rows_out"] < 14
