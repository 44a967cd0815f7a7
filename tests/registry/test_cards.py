"""What a version says of itself: read first, in one line, and what to do next."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard
from huggingface_hub.repocard_data import model_index_to_eval_results

from tuneline import params
from tuneline.params import editing
from tuneline.params.gate import METRICS, METRICS_OF_TASK
from tuneline.registry import cards
from tuneline.registry.addresses import Pages
from tuneline.registry.lineage import Lineage, page_of_commit
from tuneline.reporting import markdown


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
    text = cards.version_description(task, gate, evaluation, ["Report: [all files](#/files)"])
    first, reasons, title, steps, made, links = text.split("\n\n")
    assert first == expected
    assert reasons.split("\n") == [f"- {markdown.escape(rule['reason'])}" for rule in gate["rules"]]
    assert title == "What to do next:"
    *others, last = steps.split("\n")
    assert others == [f"- {step}" for step in gate.get("next_steps", [])]
    assert "alias champion" in last
    assert (made, links) == ("Made from:", "- Report: [all files](#/files)")


def test_reasons_are_shown_as_they_are(project: params.Params) -> None:
    gate = {"verdict": "failed", "rules": [rule("accuracy") | {"reason": "its label <b>[x](http://evil) is new"}]}
    evaluation = {"candidate": {"accuracy": 0.5}}
    shown = "- its label \\<b\\>\\[x\\](http\\://evil) is new"
    assert shown in cards.version_description("classification", gate, evaluation, [])
    assert shown in cards.later_verdict(2, gate, "2026-10-02", "report.html")
    assert cards.broken_description("a_b*c*", "").startswith("Broken: a\\_b\\*c\\*.")


def evaluation_of(task: params.Task) -> dict[str, Any]:
    """As `results.evaluation_json` writes it."""
    names = METRICS_OF_TASK[task]
    difference = {"difference": -0.5, "low": -0.75, "high": -0.25}
    return {
        "rows": 7,
        "groups": 5,
        "candidate": {name: 1.5 + place for place, name in enumerate(names)},
        "tfidf": {names[0]: 2.0},
        "versus_baseline": {names[0]: difference, names[1]: {"difference": 0.1, "low": None, "high": None}},
    }


@pytest.mark.parametrize("task", METRICS_OF_TASK)
def test_hugging_face_reads_the_metrics_and_their_intervals(
    task: params.Task, project: params.Params, lineage: Lineage
) -> None:
    p = project.model_copy(update={"task": task})
    evaluation = evaluation_of(task)
    text = cards.model_card(p, lineage, {"verdict": "passed", "rules": []}, evaluation)
    Path("README.md").write_text(text, "utf-8")
    card = ModelCard.load("README.md")
    name, results = model_index_to_eval_results(card.data.to_dict()["model-index"])
    assert name == p.registry.model
    assert {one.metric_type: one.metric_value for one in results} == evaluation["candidate"]
    first, second, *_ = results
    assert first.metric_args == {"versus_baseline": {"difference": -0.5, "low": -0.75, "high": -0.25, "level": 0.95}}
    assert second.metric_args == {"versus_baseline": {"difference": 0.1}}
    assert (first.dataset_split, first.dataset_revision) == ("test", lineage.data_sha256)
    assert card.data.get("pipeline_tag") == first.task_type == cards._PIPELINE_TAGS[task]
    assert card.data.get("base_model") is None
    assert f"| {METRICS[METRICS_OF_TASK[task][0]].name} | baseline | -0.500 | -0.750 | -0.250 |" in card.text


def test_a_card_states_the_base_of_a_hub(project: params.Params, lineage: Lineage) -> None:
    Path("base.yaml").write_text(f"id: owner/model\nrevision: {'a1' * 20}\n")
    editing.set_values(Path("params.yaml"), {"base.source": "hub", "base.input": "base.yaml"})
    text = cards.model_card(params.load(), lineage, {"verdict": "passed", "rules": []}, evaluation_of("sft"))
    assert ModelCard(text).data.get("base_model") == "owner/model"


@pytest.mark.parametrize(
    ("card", "license_", "language"),
    [
        ("---\nlicense: apache-2.0\nlanguage: [de, en]\n---\n# Mine\n", "apache-2.0", ["de", "en"]),
        ("---\nlicense: {a: 1}\n---\n", None, None),
        ("---\nlicense: [\n---\n", None, None),
        ("# Mine\n", None, None),
    ],
)
def test_a_card_repeats_license_and_language_of_a_base_in_a_folder(
    card: str, license_: str | None, language: list[str] | None, project: params.Params, lineage: Lineage
) -> None:
    Path("models/mine").mkdir(parents=True)
    Path("models/mine/README.md").write_text(card)
    editing.set_values(Path("params.yaml"), {"base.source": "path", "base.input": "models/mine"})
    text = cards.model_card(params.load(), lineage, {"verdict": "passed", "rules": []}, evaluation_of("sft"))
    data = ModelCard(text).data
    assert (data.get("license"), data.get("language")) == (license_, language)


def test_links_lead_to_report_run_and_code(project: params.Params, lineage: Lineage) -> None:
    pages = Pages("#/experiments/1/models/m-1/artifacts", "#/experiments/1/runs/r")
    page = "https://example.org/o/r/commit/2"
    lines = "\n".join(cards.links(project, lineage, pages, "r", page))
    for link in (f"]({pages.files})", "[run r](#/experiments/1/runs/r)", f"[`222222222222`]({page})"):
        assert link in lines
    assert "not committed" not in lines
    assert "not committed" in "\n".join(cards.links(project, replace(lineage, git_dirty="true"), pages, "r", None))


@pytest.mark.parametrize(
    ("remote", "page"),
    [
        ("https://github.com/o/r.git", "https://github.com/o/r/commit/"),
        ("https://user:token@git.example.org:8443/a/b/r", "https://git.example.org:8443/a/b/r/commit/"),
        ("git@github.com:o/r.git", "https://github.com/o/r/commit/"),
        ("ssh://git@git.example.org:2222/o/r.git", "https://git.example.org/o/r/commit/"),
        ("/srv/git/r.git", None),
        ("file:///srv/git/r.git", None),
        ("https://example.org/o/r) [x](javascript:alert(1)", None),
        ("", None),
    ],
)
def test_the_page_of_a_commit_has_no_password(remote: str, page: str | None) -> None:
    commit = "2" * 40
    assert page_of_commit(remote, commit) == (page and page + commit)
    assert page_of_commit(remote, "unknown") is None


def test_the_tags_that_people_read_sort_before_all_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, params_text: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(params_text, "utf-8")
    Path("base.yaml").write_text(f"id: owner/model\nrevision: {'a1' * 20}\n")
    editing.set_values(
        Path("params.yaml"),
        {
            "base.source": "hub",
            "base.input": "base.yaml",
            "data.mixture": {"general": {"weight": 0.1}},
            "data.augment": {"noise": {"word_swap": {"weight": 0.5, "p": 0.1}}},
        },
    )
    tags = cards.first_tags(params.load(), "undecided")
    assert list(tags.values()) == [
        "undecided",
        "data/raw/python-docstrings, general (mixed in), word_swap (variants of training rows)",
        f"owner/model at {'a1' * 6}",
        "sft",
    ]
    assert sorted([*tags, "mlflow.user", "tuneline.base_sha256"])[:4] == list(tags)
