"""What a version says of itself: read first, in one line, and what to do next."""

from pathlib import Path
from typing import Any

import pytest

from tuneline import params
from tuneline.params import editing
from tuneline.registry import cards


def rule(metric: str, verdict: str = "passed") -> dict[str, Any]:
    return {"metric": metric, "verdict": verdict, "reason": f"{metric} is as it should be."}


@pytest.mark.parametrize(
    ("task", "gate", "evaluation", "expected"),
    [
        (
            "sft",
            {"verdict": "passed", "rules": [rule("bits_per_byte")]},
            {
                "candidate": {"token_loss": 2.5, "bits_per_byte": 1.5, "perplexity": 12.0, "chrf": 20.0},
                "base": {"token_loss": 3.0, "bits_per_byte": 2.0, "perplexity": 20.0, "chrf": 5.0},
                "unigram": {"token_loss": 4.0, "bits_per_byte": 2.5},
                "rows": 7,
            },
            "Passed: Bits per byte 1.500 (base: 2.000); Token loss 2.500 (base: 3.000); chrF 20.000 (base: 5.000).",
        ),
        (
            "classification",
            {
                "verdict": "undecided",
                "rules": [rule("recall:spam"), rule("accuracy")],
                "next_steps": ["Bring more rows."],
            },
            {
                "candidate": {"accuracy": 0.9, "macro_f1": 0.8},
                "majority": {"accuracy": 0.5, "macro_f1": 0.3},
                "tfidf": {"accuracy": 0.95, "macro_f1": 0.7},
            },
            "Undecided: Accuracy 0.900 (TF-IDF: 0.950); Macro F1 0.800 (TF-IDF: 0.700).",
        ),
        (
            "regression",
            {"verdict": "passed", "rules": [rule("mae")], "champion": {"version": "3", "rows": 9, "mae": 0.7}},
            {"candidate": {"mae": 0.5, "rmse": 0.9}, "mean": {"mae": 2.0, "rmse": 3.0}, "tfidf": {"mae": 1.0}},
            "Passed: Mean absolute error 0.500 (champion, version 3: 0.700); "
            "Root mean squared error 0.900 (Mean: 3.000).",
        ),
    ],
)
def test_a_description_has_verdict_and_numbers_then_reasons_then_next_steps(
    task: params.Task, gate: dict[str, Any], evaluation: dict[str, Any], expected: str
) -> None:
    first, reasons, title, steps = cards.version_description(task, gate, evaluation).split("\n\n")
    assert first == expected
    assert reasons.split("\n") == [f"- {rule['reason']}" for rule in gate["rules"]]
    assert title == "What to do next:"
    *others, last = steps.split("\n")
    assert others == [f"- {step}" for step in gate.get("next_steps", [])]
    assert "alias champion" in last


def test_the_tags_that_people_read_sort_before_all_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, params_text: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(params_text, "utf-8")
    Path("base.yaml").write_text(f"id: owner/model\nrevision: {'a1' * 20}\n")
    editing.set_values(
        Path("params.yaml"),
        {"base.source": "hub", "base.input": "base.yaml", "data.mixture": {"general": {"weight": 0.1}}},
    )
    tags = cards.first_tags(params.load(), "undecided")
    assert list(tags.values()) == [
        "undecided",
        "data/raw/python-docstrings, general (mixed in)",
        f"owner/model at {'a1' * 6}",
        "sft",
    ]
    assert sorted([*tags, "mlflow.user", "tuneline.base_sha256"])[:4] == list(tags)
