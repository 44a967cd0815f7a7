from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
import pytest
import torch
from evaluate_params import evaluate
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from tuneline.data.records.record_form import RecordForm
from tuneline.evaluation import comparison
from tuneline.evaluation.score_table import ModelToScore
from tuneline.evaluation.tasks import preference
from tuneline.modeling import models

EVALUATE = evaluate(seed=1, batch_size=4, generation_rows=5, max_new_tokens=6, samples=2, bootstrap_resamples=200)


def rows(count: int = 20) -> pa.Table:
    keys = {name: [f"{name}{row}" for row in range(count)] for name in ("id", "source", "cluster")}
    answers = {"chosen": ["Return the area."] * count, "rejected": [f"Open {row}" for row in range(count)]}
    split = pa.table(keys | {"prompt": [f"def f{row}(x):" for row in range(count)]} | answers)
    return preference.test_rows(split, EVALUATE, RecordForm("preference"))


def test_a_reward_is_the_change_of_likelihood_from_the_base(
    tmp_path: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    models.save(model, tokenizer, tmp_path / "base")
    test = rows()

    def measured(name: str, base: pa.Table | None) -> pa.Table:
        model = ModelToScore(tmp_path / name, name, 64, encoded_as=tmp_path / "base", base=base)
        return preference.measure(model, test, EVALUATE)

    base = measured("base", None)
    nll = _alone(model, tokenizer, "def f3(x):", "Open 3")
    assert base["rejected_nll"][3].as_py() == pytest.approx(nll, rel=1e-5)
    summary = comparison.summarise(test, "preference", base)
    assert (summary["reward_accuracy"], summary["reward_margin"]) == (0.5, 0.0)
    assert comparison.summarise(test, "preference", measured("base", base)) == summary

    other, _ = models.load(tmp_path / "base")
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(0.9)
    models.save(other, tokenizer, tmp_path / "other")
    changed = measured("other", base)
    margin = changed["margin"].to_numpy()
    for row in (0, 7):
        mine, theirs = (
            [-_alone(one, tokenizer, f"def f{row}(x):", answer) for answer in ("Return the area.", f"Open {row}")]
            for one in (other, model)
        )
        expected = (mine[0] - theirs[0]) - (mine[1] - theirs[1])
        assert margin[row] == pytest.approx(expected, abs=1e-3)
    found = comparison.summarise(test, "preference", changed)
    assert found["reward_accuracy"] == pytest.approx(np.mean(margin > 0))
    compared = comparison.compare(test, "preference", changed, base, EVALUATE)
    assert compared["reward_margin"].difference == pytest.approx(margin.mean())  # pyright: ignore[reportAttributeAccessIssue]


def test_the_longer_baseline_reads_the_text_of_messages() -> None:
    def messages(text: str) -> str:
        return orjson.dumps([{"role": "assistant", "content": text}]).decode()

    keys = {name: ["a", "b", "c"] for name in ("id", "source", "cluster")}
    answers = {"chosen": ["long answer", "x", "面"], "rejected": ["short", "longer", "积"]}
    columns = {name: [messages(text) for text in texts] for name, texts in answers.items()}
    form = RecordForm("preference", conversational=True)
    test = preference.test_rows(pa.table(keys | {"prompt": ["[]"] * 3} | columns), EVALUATE, form)
    assert preference.longer(test)["preferred"].to_pylist() == [1.0, 0.0, 0.5]
    assert test["bytes"].to_pylist() == [11, 1, 3]
    assert comparison.summarise(test, "preference", preference.longer(test)) == {"reward_accuracy": 0.5}


def _alone(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, prompt: str, answer: str) -> float:
    before, after = (tokenizer(text)["input_ids"] for text in (prompt, answer))
    ids = [*before, *after, 0]  # pyright: ignore[reportGeneralTypeIssues]
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
    return -sum(logits[place - 1, ids[place]].item() for place in range(len(before), len(ids)))  # pyright: ignore[reportArgumentType]
