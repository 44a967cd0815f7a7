"""A run stops before training if the raw set holds too many rows that cannot be read."""

from pathlib import Path

import pytest
from projects import Project


@pytest.mark.timeout(900)
def test_broken_rows_stop_the_run_before_training(project: Project, tmp_path: Path) -> None:
    source = tmp_path / "mine.jsonl"
    rows = [f'{{"prompt": "Say {n}:", "completion": " {n}"}}' for n in range(100)]
    source.write_text("\n".join([*rows, '{"prompt": "Say", "completion": "   "}']) + "\n")
    used = project.tuneline("use", str(source))
    assert used.returncode == 0, used.stderr
    raw = project.root / "data" / "raw" / "mine" / "mine.jsonl"
    raw.write_text("\n".join([*rows[:50], '{"prompt": "broken', *['{"prompt": "Say"}'] * 5, *rows[50:]]) + "\n")
    done = project.flow()
    assert done.returncode == 1
    assert "Traceback" not in done.stdout + done.stderr
    assert "mine.jsonl:51" in done.stderr
    assert "] finetune" not in done.stdout + done.stderr
    assert not (project.root / "models").exists()
    assert not list((project.root / "work").glob("*/checkpoint*"))
    raw.write_text("\n".join(rows) + "\n")
    repaired = project.tuneline("exec", "--", "dvc", "repro", "prepare")
    assert repaired.returncode == 0, repaired.stdout + repaired.stderr
