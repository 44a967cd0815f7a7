"""A version whose output is not a number for some rows: they get null and a reason, and never a label that it drew."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from registered import MAX_LENGTH, VERSIONS, Shell

from tuneline import params
from tuneline.commands.ask import answer_files, generate, predict
from tuneline.commands.ask.asked_model import AskedModel
from tuneline.commands.ask.inputs import Input, InputRow
from tuneline.errors import ModelError
from tuneline.evaluation import generation
from tuneline.modeling import models
from tuneline.modeling.model_folder import stored_mode
from tuneline.progress import Progress
from tuneline.registry import tracking, versions

TEXTS = ["a good day", "a bad Z", "a day"]
WARNING = "warning: 1 of 3 rows have no answer, because the model's output is not a finite number; ask another version"


def broken(kind: str, folder: Path) -> AskedModel:
    """A copy of a version whose output overflows at a Z, by weights that are finite: others are not loaded."""
    found = versions.fetch_version(tracking.connect(), params.load().registry.model, str(VERSIONS[kind]))
    mode = stored_mode(found)
    load = models.load_classifier if mode in ("classification", "regression") else models.load
    model, tokenizer = load(found)
    inner: Any = model.model
    [layer] = inner.layers
    with torch.no_grad():
        # Only a Z has a number in the first dimension, where the layer's weights are too large.
        inner.embed_tokens.weight[:, 0] = 0
        inner.embed_tokens.weight[tokenizer.convert_tokens_to_ids("Z"), 0] = 50
        layer.self_attn.o_proj.weight[0] = 0
        layer.mlp.gate_proj.weight[:, 0] = layer.mlp.up_proj.weight[:, 0] = 1e30
    models.save(model, tokenizer, folder, mode)
    return AskedModel("broken", folder, mode, MAX_LENGTH, {})


def rows() -> Input:
    found = [InputRow(f"a.csv:{at}", {"text": text}, text) for at, text in enumerate(TEXTS, 2)]
    return Input(("text",), True, lambda: iter(found))


@pytest.mark.parametrize("kind", ["classifier", "several", "regression", "plain"])
def test_a_row_without_a_finite_output_gets_null_and_a_reason(kind: str, shell: Shell, tmp_path: Path) -> None:
    asked, given, path = broken(kind, tmp_path / "model"), rows(), tmp_path / "answers.jsonl"
    model = predict.Predictor(asked, top_k=0 if kind == "classifier" else None) if asked.predicts else None
    columns = model.columns() if model else generate.COLUMNS
    table = answer_files.Table(given, columns)
    with answer_files.writing(path, "jsonl", table) as writer:
        if model:
            counts = predict.run(model, given, table, writer, batch_size=2, progress=Progress("predict"))
        else:
            writing = generate.Generator(asked, 3)
            counts = generate.run(writing, given, table, writer, batch_size=2, progress=Progress("generate"))
    answers = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    assert all(answer[name] is not None for answer in answers[::2] for name in columns)
    assert [answers[1][name] for name in columns] == [None] * len(columns)
    assert [answer.get("error") for answer in answers] == [None, generation.NOT_FINITE, None]
    assert list(counts.lines(table, "jsonl", "")) == [WARNING]
    counts.check()


def test_an_answer_that_is_shown_while_it_is_written_ends_with_the_reason(shell: Shell, tmp_path: Path) -> None:
    writing = generate.Generator(broken("plain", tmp_path / "model"), 3)
    one = Input((), False, lambda: iter([InputRow("", {}, "a bad Z")]))
    with pytest.raises(ModelError, match="the model's output is not a finite number"):
        "".join(writing.stream(one))
