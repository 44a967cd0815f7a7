from pathlib import Path

import merge_folders
import pyarrow as pa
import pytest
from tiny_models import TEXTS, tiny

from tuneline import params
from tuneline.core import files
from tuneline.errors import ModelError, TrainingError
from tuneline.modeling import models
from tuneline.params import editing
from tuneline.pretraining import pretrain
from tuneline.stages import base

ROOT = Path(__file__).resolve().parents[2]


def run(**values: object) -> None:
    editing.set_values(Path("params.yaml"), {key.replace("__", "."): value for key, value in values.items()})
    base.main(params.load())


def test_builtin_learns_the_text(workplace: Path) -> None:
    run(base__builtin__max_steps=40, base__builtin__num_train_epochs=9.0, base__builtin__warmup_steps=2)
    model, tokenizer = models.load(workplace / "models/base")
    metrics = files.read_json(workplace / "reports/base.json")
    assert metrics["heldout"]["rows"] == 20
    # The texts are the same few words over and over; a byte of them at random would cost some 4 bits.
    assert metrics["heldout"]["bits_per_byte"] < 1.5
    assert metrics["parameters"] == models.count_parameters(model)
    assert metrics["steps"] == 40
    assert tokenizer.decode(tokenizer(TEXTS[0])["input_ids"]) == TEXTS[0]
    assert (workplace / "reports/base.csv").read_text().startswith("step,tokens,loss")


def test_a_small_text_gives_a_small_vocabulary(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(base__builtin__vocab_size=5000)
    _, tokenizer = models.load(workplace / "models/base")
    assert 258 < len(tokenizer) < 1000
    line = f"the vocabulary has {len(tokenizer):,} tokens, fewer than base.builtin.vocab_size 5,000, because no other"
    assert line in capsys.readouterr().out


def test_pretraining_stops_when_held_out_text_gets_worse_and_keeps_the_best_weights(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Other words than in the training text: they become less likely when the model memorises it.
    others = pa.table({"text": [" ".join(text.split()[::-1]) for text in TEXTS[:20]]})
    files.write_parquet(workplace / "data/pretraining/validation/part-00000.parquet", others)
    run(base__builtin__max_steps=None, base__builtin__num_train_epochs=40.0, base__builtin__warmup_steps=0)
    metrics = files.read_json(workplace / "reports/base.json")
    rows = [line.split(",") for line in (workplace / "reports/base.csv").read_text().splitlines()]
    column = rows[0].index("eval_loss")
    taken = {int(row[0]): float(row[column]) for row in rows[1:] if row[column]}
    best = min(taken, key=lambda step: taken[step])
    assert metrics["best_step"] == best < metrics["steps"]
    assert metrics["stopped_early"]
    # What is written is the best, and not the last.
    assert metrics["heldout"]["token_loss"] == pytest.approx(taken[best], rel=1e-4)
    told = capsys.readouterr().out
    assert "each text is seen about 40.0 times at most" in told
    assert "warning: more than about 4 times is seldom useful" in told
    assert f"stopped: eval_loss has not been better since step {best}" in told


def test_pretraining_takes_at_most_the_steps_of_its_epochs(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(base__builtin__max_steps=1000, base__builtin__num_train_epochs=2.0)
    metrics = files.read_json(workplace / "reports/base.json")
    assert metrics["tokens"] == 2 * metrics["data"]["tokens"]
    assert "warning" not in capsys.readouterr().out


def test_an_empty_pretraining_set_is_refused(workplace: Path) -> None:
    files.write_parquet(
        workplace / "data/pretraining/train/part-00000.parquet", pa.table({"text": pa.array([], pa.string())})
    )
    with pytest.raises(TrainingError, match=r"^data/pretraining/train: no texts"):
        run()


def test_a_folder_is_copied_and_an_older_base_replaced(workplace: Path) -> None:
    (workplace / "models/base").rename(workplace / "mine")
    # Other files than those of a model are left behind; code is refused.
    (workplace / "mine/notes.html").write_text("mine")
    (workplace / "mine/.git/objects").mkdir(parents=True)
    (workplace / "mine/.git/objects/ab").write_bytes(b"x\x01+\xc9,.\x01\x00")
    (workplace / "mine/modeling.py").write_text("raise SystemExit")
    with pytest.raises(ModelError, match=r"modeling\.py: is Python code, so this model is not loaded; remove the file"):
        run(base__source="path", base__input="mine")
    (workplace / "mine/modeling.py").unlink()
    run(base__source="path", base__input="mine")
    first = files.sha256_tree(workplace / "models/base")
    run()
    assert files.sha256_tree(workplace / "models/base") == first
    assert "notes.html" not in first
    assert {name: sha for name, sha in files.sha256_tree(workplace / "mine").items() if name in first} == first
    assert files.read_json(workplace / "reports/base.json")["source"] == "path"


def test_a_hub_model_without_a_network_is_one_message(workplace: Path) -> None:
    (workplace / "hub.yaml").write_text(f"id: nobody/nothing\nrevision: {'0' * 40}\n")
    with pytest.raises(ModelError) as caught:
        run(base__source="hub", base__input="hub.yaml")
    assert str(caught.value).startswith(
        "hub.yaml: nobody/nothing at 000000000000 is not in the cache, and the hub does"
    )
    assert (workplace / "models/base").is_dir()


@pytest.mark.parametrize(
    ("tokens", "rows", "rate"),
    [(0, 1, 0.005), (12_000, 1, 0.005), (53_067, 4, 0.01), (1_141_821, 16, 0.02), (10**9, 16, 0.02)],
)
def test_a_small_text_is_trained_on_in_small_steps(tokens: int, rows: int, rate: float) -> None:
    builtin = params.load(ROOT / "params.yaml").base.builtin
    fitting = pretrain.fitting_steps(tokens, builtin.model_copy(update={"document_length": 128}))
    assert fitting == {
        "per_device_train_batch_size": rows,
        "learning_rate": pytest.approx(rate),
        "adam_learning_rate": pytest.approx(4 * rate),
    }
    without = builtin.model_copy(update={"document_length": 128, "adam_learning_rate": None})
    assert pretrain.fitting_steps(tokens, without)["adam_learning_rate"] == pytest.approx(rate)


def test_a_batch_size_of_null_fits_the_text(workplace: Path) -> None:
    run(
        base__builtin__per_device_train_batch_size=None,
        base__builtin__max_steps=None,
        base__builtin__num_train_epochs=1.0,
    )
    metrics = files.read_json(workplace / "reports/base.json")
    assert metrics["tokens"] == metrics["data"]["tokens"]
    # One row of 24 tokens in each step.
    assert metrics["tokens"] / 24 <= metrics["steps"] <= metrics["tokens"] / 24 * 1.3


def merge_folder(place: Path) -> None:
    tokenizer, model = models.load_tokenizer(place / "models/base"), tiny("llama")
    models.save(model, tokenizer, place / "models/merge/base")
    for number in (1, 2):
        models.save(merge_folders.nudged(model, number), tokenizer, place / f"models/merge/{number}")
    merge_folders.sealed(place / "models/merge", "ties", [1.0, 1.0], density=0.5)


def test_merged_models_lie_beside_the_base_that_they_were_made_from(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    merge_folder(workplace)
    run(base__source="merge", base__input="models/merge", finetune__num_train_epochs=0.0)
    made = files.sha256_tree(workplace / "models/base")
    for name, digest in files.sha256_tree(workplace / "models/merge/base").items():
        assert made[name] == digest
    assert made["merged/model.safetensors"] not in (made["model.safetensors"], None)
    report = files.read_json(workplace / "reports/base.json")
    assert report["source"] == "merge"
    assert report["merge"]["method"] == "ties"
    assert "versions 1 and 2 merged by ties, weights 1, 1, density 0.5" in capsys.readouterr().out
    run()
    assert files.sha256_tree(workplace / "models/base") == made
    # Without a merge, nothing of it stays.
    run(base__source="path", base__input="models/merge/1", finetune__num_train_epochs=1.0)
    assert not (workplace / "models/base/merged").exists()
