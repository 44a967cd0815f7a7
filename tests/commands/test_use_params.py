"""`tuneline use` sets params.yaml to values that suit the set, and keeps what was set by hand."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from recipe_samples import conversation, lines, words
from using import empty_project, faq_row, pairs, reviews, use, use_project

from tuneline import params
from tuneline.core import files
from tuneline.data.preparing import splits
from tuneline.data.preparing.text import cleaning
from tuneline.data.preparing.text.row_keys import text_hash
from tuneline.errors import DataError, ParamsError
from tuneline.params import editing
from tuneline.stages import prepare

__all__ = ["empty_project", "use_project"]


def test_files_of_the_next_month_keep_group_column_and_mapping(tmp_path: Path) -> None:
    use(pairs(tmp_path), group_by="customer", columns={"prompt": "question", "completion": "answer"})
    before = Path("data/raw/faq.dvc").read_text()
    use(pairs(tmp_path, 80))
    assert Path("data/raw/faq.dvc").read_text() != before
    p = params.load()
    assert p.data.split.group_by == "customer"
    assert p.data.columns == {"prompt": "question", "completion": "answer"}


def test_kept_columns_must_be_in_next_month_s_files_and_are_given_up_for_another_set(tmp_path: Path) -> None:
    chosen = {"data.raw": "data/raw/faq", "data.keep_columns": ["shop"], "evaluate.slices": ["shop"]}
    editing.set_values(Path("params.yaml"), chosen | {"data.split.group_by": None})
    with pytest.raises(DataError, match=r"has no column 'shop', which data.keep_columns names"):
        use(pairs(tmp_path), name="faq")
    # Slices and rules are a person's choice, so they are named and not removed.
    with pytest.raises(ParamsError, match=r"evaluate.slices.0: 'shop': no column has this name"):
        use(pairs(tmp_path), name="another")


def test_a_new_file_that_sorts_before_the_old_ones_is_a_warning(tmp_path: Path) -> None:
    def month(name: str, number: int) -> None:
        rows = [{"text": words(f"{name} {n}"), "label": ("pos", "neg")[n % 2]} for n in range(60)]
        (folder / f"{number}-{name}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))

    folder = tmp_path / "tickets"
    folder.mkdir()
    month("setembro", 9)
    assert not any("read before" in line for line in use(folder, task="classification"))
    month("outubro", 10)
    month("novembro", 91)
    [warning] = [line for line in use(folder) if "read before" in line]
    assert warning.startswith(
        "  warning: 10-outubro.jsonl: read before 9-setembro.jsonl, so rows that were in the test split "
    )


def test_the_numbers_of_rows_after_cleaning_are_printed(tmp_path: Path) -> None:
    path = pairs(tmp_path, 200)
    rows = [json.dumps(faq_row(n % 4) | {"id": n}) for n in range(400)]
    path.write_text(path.read_text() + "\n".join(rows) + "\n")
    messages = use(path)
    [left] = [line for line in messages if line.startswith("rows: ")]
    counts = {name: int(count) for name, count in re.findall(r"(train|validation|test) (\d+)", left)}
    assert f"rows: {sum(counts.values())} will be left (" in left
    assert left.endswith("; dropped: duplicate 400")
    assert sum(counts.values()) == 200
    [warning] = [line for line in messages if "rows are left to train on" in line]
    assert warning.startswith(f"  warning: only {counts['train']} of about ")


def test_the_number_of_test_rows_is_estimated_from_the_last_preparation(tmp_path: Path) -> None:
    # Only a set with its own pretraining text is prepared by `use`.
    editing.set_values(Path("params.yaml"), {"base.source": "path", "base.input": "models/mine"})
    use(pairs(tmp_path, 100))
    Path("reports").mkdir()
    last = {"set": "data/raw/faq", "rows_in": 100, "rows": {"train": 60, "validation": 5, "test": 10}}
    Path("reports/prepare.json").write_text(json.dumps({"raw": last}))
    assert any(line.startswith("gate: with 20 test rows") for line in use(pairs(tmp_path, 200)))
    # The report of another set is not used.
    for broken in ("", "[]", '{"raw": null}', json.dumps({"raw": last | {"rows": [1]}})):
        Path("reports/prepare.json").write_text(broken)
        assert any(line.startswith("gate: with 40 test rows") for line in use(pairs(tmp_path, 200)))
    Path("reports/prepare.json").write_text(json.dumps({"raw": last | {"set": "data/raw/other"}}))
    assert any(line.startswith("gate: with 40 test rows") for line in use(pairs(tmp_path, 200)))


def test_order_by_of_the_previous_set_is_removed(tmp_path: Path) -> None:
    text = Path("params.yaml").read_text("utf-8")
    for key, value in (("order_by", "day"), ("validation_from", '"2024"'), ("test_from", '"2025"')):
        text = text.replace(f"    {key}: null", f"    {key}: {value}")
    Path("params.yaml").write_text(text, "utf-8")
    use(pairs(tmp_path))
    assert params.load().data.split.order_by is None


def test_the_name_of_the_previous_model_stays_with_a_message(tmp_path: Path) -> None:
    path = tmp_path / "alt.jsonl"
    rows = [{"prompt": f"caf\u00e9 {words(n)}?", "completion": words(-n - 1)} for n in range(60)]
    path.write_text(lines(rows), "latin-1")
    messages = use(path, encoding="latin-1")
    assert not [line for line in messages if "registry.model stays" in line]
    # The encoding belongs to one set: the same set keeps it, another set is UTF-8.
    use(path)
    assert params.load().data.encoding == "latin-1"
    messages = use(pairs(tmp_path))
    assert params.load().data.encoding == "utf-8"
    assert any("registry.model stays alt: " in line for line in messages)
    assert not [line for line in use(pairs(tmp_path)) if "registry.model stays" in line]
    labels = tmp_path / "mood.csv"
    labels.write_text("text,label\n" + "".join(f"{words(n)},{'ab'[n % 2]}\n" for n in range(60)))
    use(labels, encoding="utf-8")
    assert params.load().task == "classification"


def test_no_rule_of_the_gate_is_lost_when_the_task_changes(tmp_path: Path) -> None:
    own = {"metric": "chrf", "direction": "higher", "versus": "value", "value": 20.0, "margin": 0.0}
    editing.set_values(Path("params.yaml"), {"gate.rules": [own]})
    messages = use(reviews(tmp_path), task="classification")
    assert "  gate.rules: kept for task sft, if it is chosen again: 1" in messages
    p = params.load()
    assert [(rule.metric, rule.versus) for rule in p.rules] == [
        ("accuracy", "baseline"),
        ("matthews_corrcoef", "value"),
        ("accuracy", "champion"),
    ]
    use(pairs(tmp_path))
    p = params.load()
    assert [rule.model_dump(exclude_defaults=True) for rule in p.gate.rules] == [own]
    assert "    - {metric: chrf, direction: higher, versus: value, value: 20.0, margin: 0.0}" in Path(
        "params.yaml"
    ).read_text("utf-8")


def test_a_value_set_by_hand_stays_with_a_message(tmp_path: Path) -> None:
    editing.set_values(Path("params.yaml"), {"finetune.learning_rate": 0.0123})
    messages = use(reviews(tmp_path), task="classification")
    p = params.load()
    assert p.finetune.learning_rate == 0.0123
    assert p.finetune.num_train_epochs > 1
    assert [line for line in messages if "finetune.learning_rate stays 0.0123, as you set it" in line]


def test_only_the_first_use_writes_the_pretraining_text(tmp_path: Path) -> None:
    path = pairs(tmp_path, 200)
    use(path)
    p = params.load()
    assert (p.data.pretraining, p.data.frozen_pretraining) == ("data/raw/faq-pretraining", True)
    text = Path("data/raw/faq-pretraining")
    trained_on = [json.loads(line)["text"] for line in (text / "train.jsonl").read_text().splitlines()]
    assert faq_row(0)["question"] + faq_row(0)["answer"] in trained_on or len(trained_on) < 200
    for name in ("raw.ok", "clean.ok"):
        files.write_text(Path("reports") / name, "")
    prepare.main(p)
    held_out = files.read_parquet(Path("data/clean/test")).to_pylist()
    assert len(held_out) > 20
    assert not {row["prompt"] + row["completion"] for row in held_out} & set(trained_on)
    base = files.sha256_tree(Path("data/pretraining"))

    # Next month: more rows, and a new held-out row whose answer the base was pretrained on.
    given_away = faq_row(0) | {"question": next_held_out(p)}
    (tmp_path / "faq.jsonl").write_text(lines([*(faq_row(n) for n in range(300)), given_away]))
    before = files.sha256_tree(text)
    messages = use(path)
    assert any("the training text of the first use of this set" in line for line in messages)
    assert files.sha256_tree(text) == before
    prepare.main(params.load())
    clean = files.read_json(Path("data/clean/dataset.json"))["rows"]
    splits_left = ", ".join(f"{split} {count}" for split, count in clean.items())
    assert f"rows: {sum(clean.values())} will be left ({splits_left}); dropped: pretraining 1" in messages
    assert any(line.startswith(f"gate: with {clean['test']} test rows") for line in messages)
    assert files.sha256_tree(Path("data/pretraining")) == base
    later = files.read_parquet(Path("data/clean/test")).to_pylist()
    assert {row["id"] for row in held_out} <= {row["id"] for row in later}
    assert len(later) > len(held_out)
    assert given_away["question"] not in {row["prompt"] for row in later}
    assert files.read_json(Path("reports/prepare.json"))["raw"]["dropped"]["pretraining"] == 1


def test_a_failed_use_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    path.write_text(
        lines([{"prompt": words(n), "chosen": f" {words(f'+{n}')}", "rejected": words(f"-{n}")} for n in range(60)])
    )
    usual = Path("params.yaml").read_text()
    smoothed = usual.replace("\n  max_grad_norm:", "\n  label_smoothing_factor: 0.1\n  max_grad_norm:")
    Path("params.yaml").write_text(smoothed)
    with pytest.raises(ParamsError) as refused:
        use(path)
    assert refused.value.problems[0].startswith("params.yaml: finetune.label_smoothing_factor: ")
    assert Path("params.yaml").read_text() == smoothed
    assert list(Path("data/raw").glob("*answers*")) == []
    # A killed process leaves the text without its .dvc file.
    text = Path("data/raw/answers-pretraining/train.jsonl")
    files.write_text(text, "")
    Path("params.yaml").write_text(usual)
    messages = use(path)
    assert any("pretrained here on the set's own training text" in line for line in messages)
    assert text.read_text()


def next_held_out(p: params.Params) -> str:
    """A question whose hash puts it into the test split."""
    shares = p.data.split
    questions = [f"{words(f'new {n}', 5)}?" for n in range(100)]
    groups = np.array([text_hash(cleaning.key(question)) for question in questions], np.uint64)
    found = splits.by_hash(splits.split_numbers(groups, shares.seed), validation=shares.validation, test=shares.test)
    return questions[found.tolist().index(2)]


def test_the_pretraining_text_of_dialogues_and_preferences(tmp_path: Path) -> None:
    path = tmp_path / "chats.jsonl"
    path.write_text(lines([conversation(n) for n in range(60)]))
    use(path)
    first = json.loads(Path("data/raw/chats-pretraining/train.jsonl").read_text().splitlines()[0])["text"]
    assert first.startswith("Tools:\n")
    assert "User:\n" in first
    assert "Assistant:\n" in first
    assert "<|endoftext|>" not in first
    path = tmp_path / "preferences.jsonl"
    rows = [{"prompt": words(n), "chosen": f" {words(f'+{n}')}", "rejected": words(f"-{n}")} for n in range(60)]
    path.write_text(lines(rows))
    use(path)
    written = Path("data/raw/preferences-pretraining/train.jsonl").read_text()
    texts = [json.loads(line)["text"] for line in written.splitlines()]
    assert set(texts) <= {row["prompt"] + row["chosen"] for row in rows}


def test_a_given_base_is_not_pretrained(tmp_path: Path) -> None:
    editing.set_values(Path("params.yaml"), {"base.source": "path", "base.input": "models/mine"})
    messages = use(reviews(tmp_path), task="classification")
    p = params.load()
    assert (p.data.pretraining, p.data.frozen_pretraining) == ("data/raw/python-text", False)
    assert not list(Path("data/raw").glob("*-pretraining*"))
    assert "base: the model in models/mine (base.source: path)" in messages
    assert p.finetune.learning_rate == 3e-5


def test_rows_that_a_merged_model_would_not_be_trained_on_are_a_warning(tmp_path: Path) -> None:
    merged = {"base.source": "merge", "base.input": "models/merge"}
    editing.set_values(Path("params.yaml"), {**merged, "finetune.num_train_epochs": 0})
    said = "warning: finetune.num_train_epochs is 0, so the merged model is taken as it is and no row is trained on"
    source = reviews(tmp_path)
    assert said in "\n".join(use(source, task="classification"))
    editing.set_values(Path("params.yaml"), {"finetune.num_train_epochs": 1})
    assert said not in "\n".join(use(source))


def test_more_rows_for_a_merged_model_change_no_value_and_no_rule(tmp_path: Path) -> None:
    path = pairs(tmp_path, 200)
    use(path)
    before = params.load()
    assert (before.finetune.learning_rate, before.data.frozen_pretraining) == (0.002, True)
    merged = {"base.source": "merge", "base.input": "models/merge"}
    editing.set_values(Path("params.yaml"), {**merged, "finetune.num_train_epochs": 2.0})

    # Next month: more rows, and a new held-out row whose answer the builtin base of the versions was pretrained on.
    given_away = faq_row(0) | {"question": next_held_out(before)}
    (tmp_path / "faq.jsonl").write_text(lines([*(faq_row(n) for n in range(300)), given_away]))
    messages = use(path)
    after = params.load()
    assert after.finetune == before.finetune.model_copy(update={"num_train_epochs": 2.0})
    assert (after.gate, after.data) == (before.gate, before.data)
    assert any(line.startswith("rows: ") and line.endswith("dropped: pretraining 1") for line in messages), messages
    assert (
        "base: the versions that are merged in models/merge (base.source: merge); their own base is builtin, "
        "pretrained here on data/raw/faq-pretraining"
    ) in messages
