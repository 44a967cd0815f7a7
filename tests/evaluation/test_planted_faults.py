"""Faults of a fine-tuned model that the gate stops: it has memorised canaries, or forgotten general text."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from evaluate_params import evaluate
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, set_seed

from tuneline.data.records import canaries
from tuneline.data.records.record_form import RecordForm
from tuneline.encoding import encode
from tuneline.evaluation.intervals import Measures
from tuneline.evaluation.probes import canary_exposure, general_text, probe_table
from tuneline.evaluation.probes.probe_table import CANARIES, GENERAL, Probed
from tuneline.evaluation.score_table import ModelToScore
from tuneline.gate.decision import Verdict, decide
from tuneline.modeling.models import save
from tuneline.params import Rule

EVALUATE = evaluate(seed=1, batch_size=32, generation_rows=5, max_new_tokens=6, samples=2, bootstrap_resamples=500)
PAIRS = RecordForm("prompt-completion")


def rule(metric: str, versus: str, margin: float, **more: float) -> Rule:
    return Rule(metric=metric, direction="lower", versus=versus, margin=margin, **more)  # pyright: ignore[reportArgumentType]


def train(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, records: list[dict[str, str]], epochs: int
) -> None:
    examples = [one for [one] in encode.encode_records(tokenizer, records)]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    width = max(len(example.input_ids) for example in examples)
    ids = torch.tensor([example.input_ids + [0] * (width - len(example.input_ids)) for example in examples])
    labels = torch.tensor([example.labels + [-100] * (width - len(example.labels)) for example in examples])
    for _ in range(epochs):
        model(input_ids=ids, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.fixture
def base(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    set_seed(0)
    shape: dict[str, Any] = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    return LlamaForCausalLM(LlamaConfig(vocab_size=320, max_position_embeddings=128, **shape))


def measures(tmp_path: Path, probe: str, rows: pa.Table, other: str | None) -> Measures:
    """How the model in `finetuned` differs from that in `base`."""
    scores = {
        name: probe_table.measure(ModelToScore(tmp_path / name, name, 128), {probe: rows}, EVALUATE)[probe]
        for name in ("candidate", "base")
    }
    return probe_table.compare({probe: Probed(rows, scores)}, {}, other, EVALUATE)


def verdict(rule: Rule, found: Measures) -> Verdict:
    return decide([rule], {rule.versus: found})


def test_a_memorised_canary_fails(base: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    planted = canaries.draw(12, "canaries 0")
    rows = canary_exposure.make_rows(planted, 100, EVALUATE, PAIRS)
    save(base, tokenizer, tmp_path / "base")
    train(base, tokenizer, [canaries.row(PAIRS, sequence, 1) for sequence in planted], epochs=40)
    save(base, tokenizer, tmp_path / "candidate")
    fixed = rule("canary_exposure", "value", 0.0, value=3.0)
    of_candidate = verdict(fixed, measures(tmp_path, CANARIES, rows, None))
    assert of_candidate.verdict == "failed", of_candidate.rules[0].reason
    against = verdict(rule("canary_exposure", "base", -1.0), measures(tmp_path, CANARIES, rows, "base"))
    assert against.verdict == "failed", against.rules[0].reason
    (tmp_path / "candidate").rename(tmp_path / "memorised")
    (tmp_path / "base").rename(tmp_path / "candidate")
    (tmp_path / "memorised").rename(tmp_path / "base")
    unseen = verdict(fixed, measures(tmp_path, CANARIES, rows, None))
    assert unseen.verdict == "passed", unseen.rules[0].reason


def test_forgotten_general_text_fails(
    base: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    general = [f"Open file number {row} and read it all." for row in range(20)]
    split = pa.table(
        {name: [f"{name}{row}" for row in range(20)] for name in ("id", "source", "cluster")} | {"text": general}
    )
    rows = general_text.draw_rows(split, 20, EVALUATE, RecordForm("text"))
    train(base, tokenizer, [{"text": text} for text in general], epochs=30)
    save(base, tokenizer, tmp_path / "base")
    save(base, tokenizer, tmp_path / "candidate")
    kept = rule("general_bits_per_byte", "base", -0.05)
    same = verdict(kept, measures(tmp_path, GENERAL, rows, "base"))
    assert same.verdict == "passed", same.rules[0].reason
    train(
        base, tokenizer, [{"prompt": f"def area{row}():", "completion": "把一个字符串倒过来。"} for row in range(8)], 40
    )
    save(base, tokenizer, tmp_path / "candidate")
    forgotten = verdict(kept, measures(tmp_path, GENERAL, rows, "base"))
    assert forgotten.verdict == "failed"
    assert "Bits per byte of general text is worse than the base's by" in forgotten.rules[0].reason


def test_a_rule_without_general_text_fails_with_the_reason() -> None:
    found = probe_table.compare({}, {GENERAL: "there is no general text: data.general is null"}, "base", EVALUATE)
    decided = verdict(rule("general_bits_per_byte", "base", -0.05), found)
    assert decided.verdict == "failed"
    assert "could not be compared with the base: there is no general text" in decided.rules[0].reason
