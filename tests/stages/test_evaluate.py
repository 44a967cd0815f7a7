import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from tuneline import params
from tuneline.commands import doctor
from tuneline.core import files
from tuneline.data.records.record_form import RecordForm
from tuneline.encoding.chat import chat_template
from tuneline.errors import ModelError
from tuneline.evaluation import results, slices
from tuneline.evaluation.intervals import Interval
from tuneline.evaluation.tasks import causal
from tuneline.modeling import models as model_folders
from tuneline.modeling.models import save
from tuneline.params import editing
from tuneline.params.gate import METRICS_OF_TASK, PROBED
from tuneline.stages import evaluate

ANSWER = "Return the area of a rectangle."


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, params_text: str) -> Path:
    """Splits of pairs in twelve modules, an untrained base, and a candidate that has learned one answer."""
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(params_text, "utf-8")
    editing.set_values(
        Path("params.yaml"),
        {"evaluate.generation_rows": 20, "evaluate.max_new_tokens": 16, "evaluate.bootstrap_resamples": 200}
        | {"evaluate.samples": 3, "compute.threads": 1},
    )
    pairs = [
        {
            "id": f"id{row}",
            "source": f"pairs.jsonl:{row + 1}",
            "cluster": f"module{row % 12}",
            "prompt": f"def area{row}(width, height):\n",
            "completion": ANSWER,
        }
        for row in range(24)
    ]
    for name in ("train", "test"):
        files.write_parquet(Path(f"data/clean/{name}/part-00000.parquet"), pa.Table.from_pylist(pairs))
    files.write_json(Path("data/clean/dataset.json"), RecordForm("prompt-completion").as_json())
    texts = [
        {"id": f"text{row}", "source": "a", "cluster": f"text{row}", "text": f"A text {row}."} for row in range(15)
    ]
    files.write_parquet(Path("data/pretraining/validation/part-00000.parquet"), pa.Table.from_pylist(texts))
    tokenizer = _tokenizer([pair["prompt"] + pair["completion"] for pair in pairs])
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=96,
            bos_token_id=0,
            eos_token_id=0,
            pad_token_id=0,
        )
    )
    save(model, tokenizer, Path("models/base"))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for pair in pairs[:4] * 8:
        prompt = tokenizer(pair["prompt"])["input_ids"]
        answer = [*tokenizer(pair["completion"])["input_ids"], 0]  # pyright: ignore[reportGeneralTypeIssues]
        labels = torch.tensor([[-100] * len(prompt) + answer])  # pyright: ignore[reportArgumentType]
        model(input_ids=torch.tensor([prompt + answer]), labels=labels).loss.backward()  # pyright: ignore[reportOperatorIssue]
        optimizer.step()
        optimizer.zero_grad()
    save(model, tokenizer, Path("models/finetuned"))
    return tmp_path


def _tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|endoftext|>", pad_token="<|endoftext|>")


def test_a_candidate_is_scored_with_its_base_and_trivial_baselines(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate.main(params.load())
    found = files.read_json(project / "reports/evaluation.json")
    assert {name: found[name] for name in ("rows", "groups", "bytes", "answers")} == {
        "rows": 24,
        "groups": 12,
        "bytes": 24 * len(ANSWER),
        "answers": 20,
    }
    assert found["candidate"]["token_loss"] < found["unigram"]["token_loss"] < found["base"]["token_loss"]
    assert found["candidate"]["chrf"] == 100.0 > found["copy"]["chrf"]
    assert found["versus_base"]["bits_per_byte"]["high"] < 0 < found["versus_base"]["chrf"]["low"]
    lines = (project / "reports/intervals.csv").read_text("utf-8").splitlines()
    assert lines[0] == "metric,difference,low,high"
    assert [line.split(",")[0] for line in lines[1:]] == list(METRICS_OF_TASK["sft"])
    versus = results.read_intervals(files.read_json(project / "reports/intervals.json"))
    assert results.differences_of(versus["base"])["chrf"] == pytest.approx(found["versus_base"]["chrf"], abs=1e-6)
    assert versus["value"]["chrf"] == Interval(100.0, 100.0, 100.0, versus["value"]["chrf"].groups)  # pyright: ignore[reportAttributeAccessIssue]
    assert versus["baseline"]["chrf"].other == "copy"  # pyright: ignore[reportAttributeAccessIssue]
    assert "candidate: likelihood: 24 of 24 rows" in capsys.readouterr().out
    compared = files.read_json(project / "reports/metrics.json")
    wanted = (*METRICS_OF_TASK["sft"], "general_bits_per_byte", "copied_share")
    assert compared["candidate"] == {name: found["candidate"][name] for name in wanted}
    assert compared["baseline"]["chrf"] == found["copy"]["chrf"]


def test_rows_that_are_longer_than_the_model_sees_at_once_are_counted(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    split = Path("data/clean/test/part-00000.parquet")
    rows = files.read_parquet(split).to_pylist()
    rows[3]["completion"] = " ".join([ANSWER] * 200)
    files.write_parquet(split, pa.Table.from_pylist(rows))
    evaluate.main(params.load())
    found = files.read_object(Path("reports/evaluation.json"))
    assert (found["windowed_rows"], found["largest_rows"]) == (1, 1)
    sizes = [len(row["completion"].encode()) for row in rows]
    assert found["windowed_share_of_bytes"] == pytest.approx(max(sizes) / sum(sizes), abs=1e-6)
    assert found["largest_share_of_bytes"] == found["windowed_share_of_bytes"]
    assert "1 of 24 test rows are longer than the model sees at once" in capsys.readouterr().out


def test_slices_are_measured_with_intervals_and_gaps(project: Path) -> None:
    editing.set_values(Path("params.yaml"), {"evaluate.slices": ["source", "length"]})
    evaluate.main(params.load())
    found = slices.read(files.read_json(project / "reports/slices.json"))
    assert {column: [(one.value, one.rows) for one in of.slices] for column, of in found.items()} == {
        "source": [("pairs.jsonl", 24)],
        "length": [("0-63", 24)],
    }
    whole = results.read_intervals(files.read_json(project / "reports/intervals.json"))
    (only,) = found["source"].slices
    assert only.versus["base"] == {
        name: one for name, one in whole["base"].items() if not name.startswith("gap:") and name not in PROBED
    }
    assert whole["base"]["gap:chrf:length"] == "fewer than two slices are large enough"
    evaluation = files.read_json(project / "reports/evaluation.json")
    of_rows = {name: value for name, value in evaluation["candidate"].items() if name not in PROBED}
    assert evaluation["slices"]["length"]["0-63"] == {"rows": 24, **of_rows}


def test_diversity_is_measured_from_answers_that_are_drawn_with_a_seed(project: Path) -> None:
    drawing = {"evaluate.samples_per_prompt": 3, "evaluate.temperature": 1.5, "evaluate.top_p": 0.9}
    editing.set_values(Path("params.yaml"), drawing)

    def measured() -> tuple[dict[str, Any], list[list[str] | None]]:
        evaluate.main(params.load())
        rows = files.read_parquet(project / "reports/rows.parquet")
        return files.read_json(project / "reports/evaluation.json"), rows["base_samples"].to_pylist()

    found, samples = measured()
    assert {None if row is None else len(row) for row in samples} == {3, None}
    assert any(len(set(row)) > 1 for row in samples if row)
    assert 0 < found["base"]["self_bleu"] < found["candidate"]["self_bleu"]
    assert found["candidate"]["chrf"] == 100.0
    assert "reference" not in found
    assert measured() == (found, samples)
    editing.set_values(Path("params.yaml"), {"evaluate.seed": 5})
    assert measured()[1] != samples


def test_doctor_recommends_how_many_rows_are_answered(project: Path) -> None:
    assert doctor.answers() == []
    (project / doctor.ENV_FILE).parent.mkdir()
    (project / doctor.ENV_FILE).write_text("")
    time, advice = doctor.answers()
    assert time.text.startswith("answers of base and candidate to 20 rows (evaluate.generation_rows): at most ")
    assert advice.text == "recommended: evaluate.generation_rows: 24 (all test rows are answered in a few minutes)"


def test_rows_parquet_has_the_scores_of_every_test_row(project: Path) -> None:
    evaluate.main(params.load())
    table = files.read_parquet(project / "reports/rows.parquet")
    assert table.column_names == [
        *("id", "source", "cluster", "prompt", "reference", "answered", "bytes", "tokenizer"),
        *(f"candidate_{name}" for name in ("tokens", "nll", "text", "windowed", "chrf", *causal.CLOSENESS)),
        *(f"base_{name}" for name in ("tokens", "nll", "text", "windowed", "chrf", *causal.CLOSENESS)),
        *("unigram_tokens", "unigram_nll", "reference_text"),
        *(f"copy_{name}" for name in ("chrf", *causal.CLOSENESS)),
    ]
    assert table["id"].to_pylist() == [f"id{row}" for row in range(24)]
    answered = [text for text in table["candidate_text"].to_pylist() if text is not None]
    assert answered == [ANSWER] * 20
    assert table["base_chrf"].null_count == 4
    found = files.read_json(project / "reports/evaluation.json")
    tokens = sum(table["candidate_tokens"].to_pylist())
    assert sum(table["candidate_nll"].to_pylist()) / tokens == pytest.approx(found["candidate"]["token_loss"], abs=1e-6)


def test_the_same_models_give_the_same_bytes(project: Path) -> None:
    evaluate.main(params.load())
    first = files.sha256_tree(project / "reports")
    tokens = {path: path.stat().st_ino for path in (project / "work/tokens").rglob("*.arrow")}
    assert {path.parts[-3] for path in tokens} == {"evaluated-train", "evaluated-test"}
    evaluate.main(params.load())
    assert files.sha256_tree(project / "reports") == first
    # The token caches were reused, and each split has one.
    assert {path: path.stat().st_ino for path in (project / "work/tokens").rglob("*.arrow")} == tokens
    assert len(list((project / "work/tokens").glob("*/*"))) == 2


def test_texts_are_scored_by_likelihood_and_continued_in_samples(project: Path) -> None:
    editing.set_values(Path("params.yaml"), {"task": "language-modeling"})
    text = Path("params.yaml").read_text("utf-8")
    rule = next(line for line in text.splitlines() if "metric: chrf" in line)
    Path("params.yaml").write_text(text.replace(f"{rule}\n", ""), "utf-8")
    for name in ("train", "test"):
        table = files.read_parquet(Path(f"data/clean/{name}/part-00000.parquet"))
        columns = {key: table[key] for key in ("id", "source", "cluster")} | {"text": table["completion"]}
        files.write_parquet(Path(f"data/clean/{name}/part-00000.parquet"), pa.table(columns))
    files.write_json(Path("data/clean/dataset.json"), RecordForm("text").as_json())
    evaluate.main(params.load())
    found = files.read_json(project / "reports/evaluation.json")
    assert found["answers"] == 3
    assert "copy" not in found
    probed = {name for name in PROBED if name != "canary_exposure"}
    assert set(found["candidate"]) == {*METRICS_OF_TASK["language-modeling"], "perplexity", *probed}
    assert set(found["reference"]) == {"distinct_1", "distinct_2", "repetition", "self_bleu"}
    assert set(found["versus_base"]) == {*METRICS_OF_TASK["language-modeling"], *probed}
    table = files.read_parquet(project / "reports/rows.parquet")
    assert table["prompt"][0].as_py() + table["reference"][0].as_py() == ANSWER
    assert table["candidate_text"].null_count == 21


def test_measured_json_has_the_hashes_of_what_was_measured(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluate.main(params.load())
    assert files.read_json(project / "reports/measured.json") == {
        "model_sha256": files.sha256_path(project / "models/finetuned"),
        "base_sha256": files.sha256_path(project / "models/base"),
        "data_sha256": files.sha256_path(project / "data/clean"),
    }
    changing = replace(evaluate.TASKS["sft"], baselines=lambda folder, *_: (folder / "x").touch() or {})
    monkeypatch.setitem(evaluate.TASKS, "sft", changing)
    with pytest.raises(ModelError, match=r"^models/finetuned: changed while it was measured"):
        evaluate.main(params.load())


def test_a_model_that_is_missing_is_named(project: Path) -> None:
    (project / "models/finetuned/model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"models/finetuned/model\.safetensors: missing"):
        evaluate.main(params.load())
    assert not (project / "reports").exists()


def _of_task(task: str, columns: dict[str, list[str]], form: RecordForm) -> None:
    """Change the project to another task: its rows, dataset.json and rules."""
    metric, direction = {"classification": ("macro_f1", "higher"), "regression": ("mae", "lower")}.get(
        task, ("bits_per_byte", "lower")
    )
    text = Path("params.yaml").read_text("utf-8").replace("task: sft", f"task: {task}")
    head, tail = text.split("  rules:", 1)
    rule = f"{{metric: {metric}, direction: {direction}, versus: baseline, margin: 0.0}}"
    Path("params.yaml").write_text(f"{head}  rules:\n    - {rule}\n\nregistry:{tail.split('registry:')[1]}", "utf-8")
    count = len(next(iter(columns.values())))
    keys = {name: [f"{name}{row}" for row in range(count)] for name in ("id", "source", "cluster")}
    for name in ("train", "test"):
        files.write_parquet(Path(f"data/clean/{name}/part-00000.parquet"), pa.table(keys | columns))
    files.write_json(Path("data/clean/dataset.json"), form.as_json())


TEXTS = [f"{'good' if row % 2 else 'bad'} area number {row} of many" for row in range(24)]


@pytest.mark.parametrize(
    ("labels", "several"),
    [(["pos", "neg"], False), (['["long","pos"]', "[]"], True)],
)
def test_a_classifier_is_scored_with_trivial_baselines(project: Path, labels: list[str], several: bool) -> None:
    written = [labels[row % 2] for row in range(24)]
    _of_task("classification", {"text": TEXTS, "label": written}, RecordForm("classification", multi_label=several))
    kind = "multi_label_classification" if several else "single_label_classification"
    names = ["long", "pos"] if several else ["neg", "pos"]
    model, tokenizer = model_folders.new_classifier(Path("models/base"), names, kind, 0)
    save(model, tokenizer, Path("models/finetuned"), "classification")
    evaluate.main(params.load())
    found = files.read_json(project / "reports/evaluation.json")
    measured = set(METRICS_OF_TASK["classification"])
    assert set(found["candidate"]) == measured - ({"ece"} if several else set())
    assert bool(found["reliability"]) == (not several)
    assert found["tfidf"]["accuracy"] == 1.0
    assert found["majority"]["accuracy"] == 0.5
    assert "base" not in found
    assert set(found["versus_baseline"]) == set(found["candidate"])
    assert set(found["recall"]) == set(names)
    table = files.read_parquet(project / "reports/rows.parquet")
    assert table.column_names[6:] == [
        *("candidate_label", "candidate_probability", "majority_label", "tfidf_label", "tfidf_probability")
    ]
    first = files.sha256_tree(project / "reports")
    evaluate.main(params.load())
    assert files.sha256_tree(project / "reports") == first


def test_a_regression_is_scored_with_the_mean(project: Path) -> None:
    _of_task(
        "regression", {"text": TEXTS, "label": [str(row % 2 * 2 + 1) for row in range(24)]}, RecordForm("regression")
    )
    model, tokenizer = model_folders.new_classifier(Path("models/base"), [], "regression", 0)
    save(model, tokenizer, Path("models/finetuned"), "regression")
    evaluate.main(params.load())
    found = files.read_json(project / "reports/evaluation.json")
    assert set(found["candidate"]) == {"mae", "rmse", "spearman"}
    assert found["mean"] == {"mae": 1.0, "rmse": 1.0}
    assert found["tfidf"]["mae"] < 0.5


def test_preferences_are_scored_against_the_base(project: Path) -> None:
    columns = {
        "prompt": [f"def area{row}(width, height):\n" for row in range(24)],
        "chosen": [ANSWER] * 24,
        "rejected": ["def height"] * 24,
    }
    _of_task("preference", columns, RecordForm("preference"))
    evaluate.main(params.load())
    found = files.read_json(project / "reports/evaluation.json")
    assert found["candidate"]["reward_accuracy"] == 1.0
    assert found["candidate"]["reward_margin"] > 1
    assert (found["base"]["reward_accuracy"], found["base"]["reward_margin"]) == (0.5, 0.0)
    assert found["longer"] == {"reward_accuracy": 1.0}
    assert found["versus_base"]["reward_margin"]["low"] > 0


def test_the_base_of_a_chat_model_is_prompted_with_the_same_template(project: Path) -> None:
    turns = [{"role": "user", "content": "area?"}, {"role": "assistant", "content": ANSWER}]
    messages = [json.dumps([*turns, {"role": "user", "content": f"{row}?"}, turns[1]]) for row in range(24)]
    _of_task("sft", {"messages": messages, "tools": [""] * 24}, RecordForm("messages"))
    model, tokenizer = model_folders.load(Path("models/finetuned"))
    tokenizer.chat_template = chat_template.PLAIN_TEMPLATE
    save(model, tokenizer, Path("models/finetuned"), "chat")
    evaluate.main(params.load())
    found = files.read_json(project / "reports/evaluation.json")
    assert found["bytes"] == 24 * 2 * len(ANSWER)
    assert found["candidate"]["bits_per_byte"] < found["base"]["bits_per_byte"]
    table = files.read_parquet(project / "reports/rows.parquet")
    assert table["candidate_tokens"].equals(table["base_tokens"])
    assert table["reference"].to_pylist() == [ANSWER] * 24
    assert table["prompt"][3].as_py() == f"user: area?\n\nassistant: {ANSWER}\n\nuser: 3?"
    assert table["candidate_text"].null_count == 4
