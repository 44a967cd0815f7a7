"""The text of a set's own training rows, on which a builtin base is pretrained."""

import json
from pathlib import Path

import pytest

from tuneline import params
from tuneline.commands.use import base_text
from tuneline.core import files
from tuneline.data.mapping import raw_set
from tuneline.data.reading import readers
from tuneline.data.reading.raw_rows import Options


def test_a_text_that_does_not_fit_leaves_room_for_others(
    tmp_path: Path, params_text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [f"{n} " + " ".join(f"word{n}x{m}" for m in range(2500 if n % 3 == 0 else 20)) for n in range(60)]
    files.write_text(tmp_path / "set/a.jsonl", "".join(json.dumps({"text": text}) + "\n" for text in texts))
    (tmp_path / "params.yaml").write_text(params_text, "utf-8")
    data = params.load(tmp_path / "params.yaml").data
    split = data.split.model_copy(update={"group_by": None, "validation": 0.2, "test": 0.2})
    data = data.model_copy(update={"split": split})
    one = raw_set.open_set(
        tmp_path / "set", readers.plan(tmp_path / "set", Options()),
        columns={}, record_types=("text",), group_by=None, order_by=None,
    )  # fmt: skip
    monkeypatch.setattr(base_text, "_SPLITS", (("train", 20_000), ("validation", 20_000)))
    written = base_text.write(one, data, tmp_path / "made")
    kept = [json.loads(line)["text"] for line in (tmp_path / "made/train.jsonl").read_text("utf-8").splitlines()]
    assert len(kept) == written.texts > 15
    assert sum(len(text.encode()) for text in kept) <= 20_000
    assert written.left_out == written.left.rows["train"] - len(kept) > 5
