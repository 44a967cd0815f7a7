"""The stages of data.augment, each as DVC starts it; what needs the extra runs where it is installed."""

import importlib.util
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from tiny_translators import WORDS, write_marian, write_t5

from tuneline import params
from tuneline.core import files
from tuneline.data.records.record_form import RecordForm
from tuneline.errors import SetupError
from tuneline.params import editing
from tuneline.stages import augment, back_translate, replace_synonyms

needs_extra = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("glitchlings", "rjieba", "sentencepiece")),
    reason="needs make setup EXTRAS=augment",
)
TEXTS = [" ".join(f"w{(3 * row + place * place) % WORDS}" for place in range(4 + row % 5)) for row in range(30)]


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, params_text: str) -> None:
    """Clean splits of plain text."""
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(params_text, "utf-8")
    for split, part in (("train", TEXTS[:20]), ("validation", TEXTS[20:25]), ("test", TEXTS[25:])):
        ids = [f"{split}{n}" for n in range(len(part))]
        table = pa.table({"id": ids, "source": [f"{one}:1" for one in ids], "cluster": ids, "text": part})
        files.write_parquet(Path(f"data/clean/{split}/000000.parquet"), table)
    files.write_json(Path("data/clean/dataset.json"), RecordForm("text").as_json() | {"mixture": {}})
    changed: dict[str, Any] = {"task": "language-modeling", "data.near_duplicates": None, "compute.threads": 1}
    rule = {"metric": "bits_per_byte", "direction": "lower", "versus": "base", "margin": 0.0}
    editing.set_values(Path("params.yaml"), {**changed, "gate.rules": [rule]})


def load(**augmented: Any) -> params.Params:
    editing.set_values(Path("params.yaml"), {"data.augment": augmented})
    return params.load()


def made(name: str) -> list[dict[str, str]]:
    rows = files.read_parquet(Path(f"data/clean-augmented/{name}")).to_pylist()
    counts = files.read_json(Path(f"reports/augmented/{name}.json"))
    assert counts["rows_out"] == len(rows)
    assert counts["rows_in"] == 20 == counts["rows_out"] + sum(counts["dropped"].values())
    assert len(counts["examples"]) == 3
    return rows


def test_rows_are_translated_there_and_back(capsys: pytest.CaptureFixture[str]) -> None:
    write_t5(Path("models/there"), seed=1)
    write_t5(Path("models/back"), seed=2)
    p = load(back_translation={"german": {"weight": 1.0, "model": "models/there", "back": "models/back"}})
    back_translate.main(p, "german")
    first = files.sha256_path(Path("data/clean-augmented/german"))
    back_translate.main(p, "german")
    assert files.sha256_path(Path("data/clean-augmented/german")) == first
    rows = made("german")
    assert rows[0]["source"].endswith(":1 (german)")
    assert "german: " in capsys.readouterr().out


def test_without_its_library_a_stage_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tuneline.augmentation.preconditions.find_spec", lambda _: None)
    with pytest.raises(SetupError, match="install it with: make setup EXTRAS=augment"):
        augment.main(load(noise={"word_swap": {"weight": 1.0, "p": 0.1}}), "word_swap")


@pytest.mark.slow
@needs_extra
@pytest.mark.parametrize("kind", params.NOISE)
def test_each_kind_of_noise_makes_variants(kind: str) -> None:
    augment.main(load(noise={kind: {"weight": 1.0, "p": 0.4}}), kind)
    assert all(row["text"] != TEXTS[int(row["parent"].removeprefix("train"))] for row in made(kind))


@pytest.mark.slow
@needs_extra
def test_words_of_a_table_are_replaced() -> None:
    Path("data/words.csv").write_text("".join(f"w{n},x{n}\n" for n in range(WORDS)))
    replace_synonyms.main(load(synonyms={"own": {"weight": 1.0, "p": 0.9, "table": "data/words.csv"}}), "own")
    assert all("x" in row["text"] for row in made("own"))


@pytest.mark.slow
@needs_extra
def test_a_marian_model_translates() -> None:
    for name in ("there", "back"):
        write_marian(Path(f"models/{name}"), TEXTS)
    p = load(back_translation={"german": {"weight": 1.0, "model": "models/there", "back": "models/back"}})
    back_translate.main(p, "german")
    assert made("german")
