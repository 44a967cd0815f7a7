"""`tuneline use` reports rows that training would cut, also before a base exists."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from tuneline import params
from tuneline.commands.use import open_set
from tuneline.core import files
from tuneline.data.mapping import raw_set
from tuneline.data.preparing import long_rows
from tuneline.data.reading import readers
from tuneline.data.reading.raw_rows import Options
from tuneline.data.records.record_form import RecordForm
from tuneline.params import editing


@pytest.fixture
def p(tmp_path: Path, params_text: str) -> Any:
    """Params with some values set."""

    def made(**values: object) -> params.Params:
        path = tmp_path / "params.yaml"
        path.write_text(params_text, "utf-8")
        editing.set_values(path, {name.replace("__", "."): value for name, value in values.items()})
        return params.load(path)

    return made


def opened(path: Path, rows: list[dict[str, Any]]) -> raw_set.RawSet:
    path.mkdir()
    files.write_text(path / "rows.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    plans = readers.plan(path, Options())
    return raw_set.open_set(path, plans, columns={}, record_types=None, group_by=None)


def test_long_rows_of_a_set_are_estimated_for_a_builtin_base(tmp_path: Path, p: Any) -> None:
    rows = [{"prompt": "short?", "completion": "yes"}] * 7
    rows += [{"prompt": "long " * 200, "completion": f"{'answer ' * 100}{row}"} for row in range(3)]
    found = opened(tmp_path / "mine", rows)
    told = open_set.describe_overlong(found, p())
    assert told[0].startswith(
        "rows in tokens (estimated with 2.5 bytes per token): median 4, longest 681; 30.0% are longer"
    )
    assert "finetune.max_length 256 and would be cut (finetune.overlong: truncate)" in told[0]
    assert (
        "stops if they are more than 10%; set finetune.max_length and base.builtin.max_length to about 704" in told[1]
    )
    # Not more than allowed, so only a message.
    assert len(open_set.describe_overlong(found, p(finetune__max_truncated_fraction=0.3))) == 1
    assert "dropped" in open_set.describe_overlong(found, p(finetune__overlong="drop"))[0]
    assert open_set.describe_overlong(found, p(finetune__max_length=800, base__builtin__max_length=800)) == []


def test_a_given_base_counts_with_its_own_tokenizer(tmp_path: Path, p: Any, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    backend = Tokenizer(models.WordLevel({"a": 0, "[UNK]": 1}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    (tmp_path / "models/mine").mkdir(parents=True)
    backend.save("models/mine/tokenizer.json")
    found = opened(tmp_path / "mine", [{"text": "a " * count, "label": "x"} for count in (5, 9, 12)])
    own = p(base__source="path", base__input="models/mine", finetune__max_length=8)
    [line, warning] = open_set.describe_overlong(found, own)
    assert line.startswith("rows in tokens (by the tokenizer of models/mine): median 9, longest 12; 66.7% are longer")
    assert "set finetune.max_length to about 64, if the base can read so many tokens" in warning
    assert "base.builtin" not in warning
    (tmp_path / "models/mine/tokenizer.json").unlink()
    assert open_set.describe_overlong(found, own) == []


def test_the_longer_answer_of_a_preference_counts(tmp_path: Path, p: Any) -> None:
    said = [[{"role": "assistant", "content": text}] for text in ("good " * 300, "bad")]
    rows = [{"prompt": [{"role": "user", "content": "why?"}], "chosen": said[0], "rejected": said[1]}] * 3
    [line, _] = open_set.describe_overlong(opened(tmp_path / "mine", rows), p())
    assert "longest 602" in line


def test_rows_of_a_clean_split_are_measured_without_their_labels(tmp_path: Path) -> None:
    table = pa.table({"text": ["abc", "好的"], "label": ["x" * 99, "y"], "id": ["1", "2"]})
    files.write_parquet(tmp_path / "train/part-00000.parquet", table)
    assert long_rows.bytes_of_rows(tmp_path / "train", RecordForm("classification")).tolist() == [3, 6]
    pairs = pa.table({"prompt": ["ab"], "chosen": ["c"], "rejected": ["defg"]})
    files.write_parquet(tmp_path / "pairs/part-00000.parquet", pairs)
    assert long_rows.bytes_of_rows(tmp_path / "pairs", RecordForm("preference")).tolist() == [6]
    assert long_rows.bytes_of_rows(tmp_path / "none", RecordForm("text")).tolist() == []
    assert np.dtype(np.int64) == long_rows.bytes_of_rows(tmp_path / "none", RecordForm("text")).dtype
