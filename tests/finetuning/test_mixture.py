"""Mixtures: each set is trained as often as its weight says, and the counts are reported."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from compared_processes import hold_equal
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import TEXTS

from tuneline import params
from tuneline.commands import preview
from tuneline.core import files
from tuneline.data.records.record_form import RecordForm
from tuneline.encoding import packing
from tuneline.encoding.examples import IGNORED, Example, Examples
from tuneline.encoding.truncation import LengthPolicy
from tuneline.errors import ParamsError, TrainingError
from tuneline.finetuning import mixture
from tuneline.modeling import model_folder
from tuneline.params import MixtureSet, editing
from tuneline.stages import finetune


def examples(name: str, count: int, length: int = 3) -> Examples:
    return Examples(Example([7] * length, [IGNORED, *[7] * (length - 1)], f"{name}:{n}") for n in range(count))


def mixture_of(raw: int, seed: int = 0, **others: tuple[int, float, int | None]) -> mixture.Mixture:
    report = LengthPolicy(8, "truncate", 1.0).report()
    parts = [
        mixture.Part(name, examples(name, count), report, MixtureSet(weight=weight, max_examples=most))
        for name, (count, weight, most) in others.items()
    ]
    return mixture.Mixture(examples("raw", raw), report, parts, seed)


def shown(mixed: mixture.Mixture, epochs: int) -> Counter[str]:
    return Counter(mixed[place].source for epoch in range(epochs) for place in mixed.of_epoch(epoch))


@settings(max_examples=60, deadline=None)
@given(
    count=st.integers(1, 40),
    weight=st.floats(0.01, 3.0),
    most=st.none() | st.integers(1, 50),
    epochs=st.integers(1, 12),
)
def test_the_examples_of_a_set_are_shown_equally_often(
    count: int, weight: float, most: int | None, epochs: int
) -> None:
    mixed = mixture_of(5, more=(count, weight, most))
    times = shown(mixed, epochs)
    own = {name: number for name, number in times.items() if name.startswith("more/")}
    pool = min(count, most or count)
    assert sum(own.values()) == round(epochs * weight * pool)
    assert len(own) <= pool
    assert not own or max(own.values()) - min(own.values()) <= 1 or len(own) < pool
    assert all(times[f"raw:{n}"] == epochs for n in range(5))


def test_an_epoch_continues_where_the_last_one_stopped() -> None:
    mixed = mixture_of(1, more=(10, 0.5, None))
    first, second = ({mixed[place].source for place in mixed.of_epoch(epoch)} - {"raw:0"} for epoch in (0, 1))
    assert (len(first), len(second), len(first | second)) == (5, 5, 10)


def test_the_examples_of_a_set_depend_on_the_seed_and_not_on_other_sets() -> None:
    def drawn(mixed: mixture.Mixture) -> set[str]:
        return {name for name in shown(mixed, 1) if name.startswith("b/")}

    alone = drawn(mixture_of(2, b=(50, 0.2, None)))
    assert drawn(mixture_of(2, a=(9, 1.0, None), b=(50, 0.2, None))) == alone
    assert drawn(mixture_of(2, seed=1, b=(50, 0.2, None))) != alone


def test_a_plan_contains_exactly_the_examples_of_its_epochs() -> None:
    mixed = mixture_of(6, more=(8, 0.25, None))
    rows = packing.plan(
        mixed.lengths.tolist(), width=8, batch_size=2, epochs=4, seed=0, packed=True, of_epoch=mixed.of_epoch
    )
    assert Counter(mixed[place].source for row in rows for place in row) == shown(mixed, 4)


def test_the_trained_examples_of_each_set_are_counted() -> None:
    mixed = mixture_of(4, more=(2, 2.0, None))
    times = np.bincount(mixed.of_epoch(0), minlength=len(mixed))
    told = mixed.realised(times)
    assert {name: (one["shown"], one["tokens"], one["supervised_tokens"]) for name, one in told.items()} == {
        "raw": (4, 12, 8),
        "more": (4, 12, 8),
    }
    assert [one["share_of_tokens"] for one in told.values()] == [0.5, 0.5]
    assert (told["more"]["weight"], told["more"]["examples"]) == (2.0, 2)


# What follows trains.


@pytest.fixture
def mixed_place(workplace: Path) -> Path:
    """Pairs, a set of conversations and a set of texts; the base has no chat template, so it gets the default one."""
    turns = [
        json.dumps([{"role": "user", "content": text[:9]}, {"role": "assistant", "content": text[9:]}])
        for text in TEXTS[:60]
    ]
    sets: dict[str, dict[str, list[Any]]] = {
        "chats": {"messages": turns, "tools": [""] * 60},
        "notes": {"text": TEXTS[60:90]},
    }
    about = files.read_json(workplace / "data/clean/dataset.json")
    for name, columns in sets.items():
        count = len(next(iter(columns.values())))
        table = pa.table({"source": [f"{name}.jsonl:{row + 1}" for row in range(count)]} | columns)
        files.write_parquet(workplace / f"data/clean/mixture/{name}/part-00000.parquet", table)
        kind = "messages" if name == "chats" else "text"
        about["mixture"][name] = RecordForm(kind).as_json() | {"path": f"mixture/{name}"}
    files.write_json(workplace / "data/clean/dataset.json", about)
    editing.set_values(workplace / "params.yaml", {"base.builtin.max_length": 48, "finetune.max_length": 48})
    return workplace


def train(**mixture: dict[str, Any]) -> dict[str, Any]:
    editing.set_values(Path("params.yaml"), {"data.mixture": mixture})
    finetune.main(params.load())
    return files.read_json(Path("reports/training.json"))


def test_one_model_learns_from_pairs_conversations_and_pretraining_text(
    mixed_place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = train()
    told = train(chats={"weight": 0.5}, pretraining={"weight": 1.0, "max_examples": 40})
    sets = told["mixture"]
    assert {name: (one["examples"], one["shown"]) for name, one in sets.items()} == {
        "raw": (180, 180),
        "chats": (60, 30),
        "pretraining": (40, 40),
    }
    assert sets["raw"]["tokens"] == alone["tokens"]
    assert sum(one["tokens"] for one in sets.values()) == told["tokens"]
    assert sum(one["supervised_tokens"] for one in sets.values()) == told["supervised_tokens"]
    assert sum(one["share_of_tokens"] for one in sets.values()) == pytest.approx(1.0, abs=2e-4)
    assert told["fingerprint"] != alone["fingerprint"]
    assert "not trained, because data.mixture does not name them: notes" in capsys.readouterr().out
    # How rows of the set to fine-tune on become tokens is what the model is stored with.
    assert model_folder.stored_mode(Path("models/finetuned")) == "plain"


def test_the_same_mixture_gives_the_same_bytes_and_another_weight_others(mixed_place: Path) -> None:
    made = []
    for weight in (0.5, 0.5, 1.0):
        train(chats={"weight": weight}, notes={"weight": 0.5})
        made.append(files.sha256_file(Path("models/finetuned/model.safetensors")))
    assert made[0] == made[1] != made[2]


def test_a_training_without_a_set_is_the_training_that_never_had_it(mixed_place: Path) -> None:
    train(chats={"weight": 0.5})
    alone = files.sha256_file(Path("models/finetuned/model.safetensors"))
    editing.set_values(Path("params.yaml"), {"data.mixture": {"chats": {"weight": 0.5}, "notes": {"weight": 1.0}}})
    with Path("params.yaml").open("a") as file:
        file.write("report: {without: {no_notes: [notes]}}\n")
    finetune.main(params.load(), "without/no_notes")
    folder = Path("models/finetuned-without/no_notes")
    assert files.sha256_file(folder / "model.safetensors") == alone
    assert [*files.read_json(Path("reports/without/no_notes/training.json"))["mixture"]] == ["raw", "chats"]


@pytest.mark.slow
def test_two_processes_learn_the_same_from_a_mixture_as_one(mixed_place: Path) -> None:
    share = {"chats": {"weight": 0.5}, "pretraining": {"weight": 1.5}}
    editing.set_values(Path("params.yaml"), {"data.mixture": share, "finetune.per_device_train_batch_size": 8})
    hold_equal(mixed_place, 2)


def test_a_preview_names_the_set_of_each_document(mixed_place: Path) -> None:
    editing.set_values(Path("params.yaml"), {"data.mixture": {"chats": {"weight": 3.0}}})
    rows = preview.first_rows(params.load(), 12).rows
    sources = [document.source for row in rows for document in row.documents]
    assert any(source.startswith("chats/chats.jsonl:") for source in sources)


def test_an_unknown_set_is_refused_with_the_known_names(mixed_place: Path) -> None:
    with pytest.raises(TrainingError) as caught:
        train(chat={"weight": 1.0}, faq={"weight": 1.0})
    assert caught.value.problems == (
        "data.mixture.chat: no set has this name; the sets are chats, notes, pretraining",
        "data.mixture.faq: no set has this name; the sets are chats, notes, pretraining",
    )
    assert not Path("models/finetuned").exists()


def test_only_plain_text_may_be_truncated_without_limit(mixed_place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cut = {"finetune.max_length": 32, "finetune.max_truncated_fraction": 0.1, "finetune.max_dropped_fraction": 0.5}
    editing.set_values(Path("params.yaml"), cut)
    with pytest.raises(TrainingError, match=r"^data\.mixture\.chats: finetune\.max_length: \d+ of 60 rows"):
        train(chats={"weight": 1.0}, notes={"weight": 1.0})
    long = pa.table({"source": ["notes.jsonl:1"] * 9, "text": [" ".join(TEXTS[60:70])] * 9})
    files.write_parquet(Path("data/clean/mixture/notes/part-00000.parquet"), long)
    capsys.readouterr()
    train(notes={"weight": 1.0})
    assert "data.mixture.notes: 9 of 9 rows (100.0%) are longer than 32 tokens and are cut" in capsys.readouterr().out


def test_a_set_without_a_trained_example_is_refused(mixed_place: Path) -> None:
    with pytest.raises(TrainingError, match=r"^data\.mixture\.notes: weight 0\.01 takes none of its 30 examples in 1 "):
        train(notes={"weight": 0.01}, chats={"weight": 1.0})


def test_a_set_that_cannot_be_trained_is_named(mixed_place: Path) -> None:
    editing.set_values(Path("params.yaml"), {"finetune.overlong": "error"})
    long = pa.table({"text": [" ".join(TEXTS)]})
    files.write_parquet(mixed_place / "data/clean/mixture/notes/part-00000.parquet", long)
    with pytest.raises(TrainingError, match=r"^data\.mixture\.notes: finetune\.overlong: 1 of 1 rows are longer"):
        train(notes={"weight": 1.0})


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"data.mixture": {"faq": {"weight": 0.0}}}, r"params\.yaml:\d+: data\.mixture\.faq\.weight: 0\.0: "),
        ({"data.mixture": {"faq": {"wieght": 1.0}}}, r"data\.mixture\.faq\.wieght: unknown key; did you mean weight\?"),
        (
            {
                "data.mixture": {"faq": {"weight": 1.0}},
                "task": "preference",
                "gate.rules": [{"metric": "reward_margin", "direction": "higher", "versus": "base", "margin": 0.0}],
            },
            r"data\.mixture: has no meaning for task preference",
        ),
        (
            {
                "data.mixture": {"pretraining": {"weight": 1.0}},
                "task": "classification",
                "gate.rules": [{"metric": "accuracy", "direction": "higher", "versus": "baseline", "margin": 0.0}],
            },
            r"data\.mixture\.pretraining: is plain text, and task classification is trained on texts with labels",
        ),
    ],
)
def test_a_wrong_mixture_is_refused_by_its_key(workplace: Path, values: dict[str, Any], problem: str) -> None:
    editing.set_values(Path("params.yaml"), values)
    with pytest.raises(ParamsError, match=problem):
        params.load()
