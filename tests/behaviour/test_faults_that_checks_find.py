"""Faults of the artifact that the gate stops: a wrong template, an adapter that was not merged, no answers."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from chat_candidate import Folders
from safetensors.torch import load_file, save_file

from tuneline import params
from tuneline.behaviour import check_results
from tuneline.behaviour.check_results import CheckResult
from tuneline.core import files
from tuneline.decisions import checking
from tuneline.errors import DataError, ModelError
from tuneline.evaluation.intervals import Interval
from tuneline.gate import behaviour_rule
from tuneline.gate.decision import Verdict, decide
from tuneline.params import Rule
from tuneline.stages import check

CHECKS = """\
sft:
  - name: knows where
    prompt: Where is my parcel?
    contains: Ghent
    max_tokens: 12
  - name: says who it is
    messages: [{role: user, content: "Who are you?"}]
    contains: A helper
    not_contains: ["<|", "[INST]"]
"""
OTHER_TEMPLATE = (
    "{% for message in messages %}{% if message.role == 'user' %}{{ '[INST] ' + message.content + ' [/INST]' }}"
    "{% else %}{{ message.content + eos_token }}{% endif %}{% endfor %}"
)


def checked(fault: Callable[[Path], None] | None = None) -> tuple[Verdict, list[CheckResult]]:
    """The gate's verdict about the candidate, on which a fault was laid, and the results of its checks."""
    p = params.load()
    finetuned, reports = Path(p.paths.finetuned), Path(p.paths.reports)
    if fault:
        fault(finetuned)
    if not Path(p.paths.checks).exists():
        Path(p.paths.checks).write_text(CHECKS, "utf-8")
    check.main(p)
    _, results = check_results.read(reports / check_results.FILE)
    rule = Rule.model_validate({"metric": "chrf", "direction": "higher", "versus": "base", "margin": 0.0})
    verdict = decide([rule], {"base": {"chrf": Interval(5.0, 4.0, 6.0, 100)}})
    assert verdict.verdict == "passed"
    return behaviour_rule.with_behaviour(verdict, behaviour_rule.decide(results)), results


def test_a_model_that_answers_as_expected_passes(project: Path) -> None:
    verdict, results = checked()
    assert [result.answer for result in results] == ["It is in Ghent.", "A helper for parcels."]
    assert verdict.verdict == "passed"
    assert verdict.rules[-1].reason == "Behaviour checks: 2 of 2 of severity error passed."


def test_a_wrong_template_is_stopped(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def plant(folder: Path) -> None:
        (folder / "chat_template.jinja").write_text(OTHER_TEMPLATE, "utf-8")

    verdict, _ = checked(plant)
    assert verdict.verdict == "failed"
    assert verdict.rules[-1].reason.startswith(
        "Behaviour checks: 0 of 2 of severity error passed; failed: 1 (knows where), 2 (says who"
    )
    assert "\n  failed: check 1 (knows where): the answer does not contain “Ghent”" in capsys.readouterr().out


def test_an_adapter_that_was_not_merged_is_stopped(project: Path, folders: Folders) -> None:
    def plant(folder: Path) -> None:
        shutil.copyfile(folders.base / "model.safetensors", folder / "model.safetensors")

    verdict, _ = checked(plant)
    assert verdict.verdict == "failed"
    assert "0 of 2 of severity error passed" in verdict.rules[-1].reason


def test_what_is_unusual_about_an_answer_is_said(project: Path) -> None:
    Path("data/checks.yaml").write_text(
        "sft:\n"
        "  - {prompt: Where is my parcel?, contains: Ghent, max_tokens: 2}\n"
        "  - {prompt: Where is my parcel?, same_as: 'who are you?', severity: warning}\n"
        "  - {prompt: Where is my parcel?, contains: Ghent, max_tokens: 500}\n"
        f"  - {{prompt: '{'Where? ' * 100}', regex: '.'}}\n",
        "utf-8",
    )
    verdict, results = checked()
    assert verdict.verdict == "failed"
    assert behaviour_rule.remark(results) == "Behaviour checks of severity warning failed: 2."
    assert results[0].reasons()[0].startswith("the answer has ")
    assert results[2].reasons() == [
        "max_new_tokens 501: leaves no room for a prompt, because the model sees 160 tokens at once; ask for fewer"
    ]
    assert "the beginning of what was asked was cut" in results[3].note


def test_a_model_that_answers_nothing_fails(project: Path) -> None:
    def plant(folder: Path) -> None:
        weights = load_file(folder / "model.safetensors")
        # All tokens are as likely; the first, end-of-text, is taken.
        save_file({name: one * 0 for name, one in weights.items()}, folder / "model.safetensors", {"format": "pt"})

    verdict, results = checked(plant)
    assert verdict.verdict == "failed"
    assert results[0].reasons()[0] == "the answer is empty"


def test_a_model_that_never_stops_is_cut_and_fails_where_it_must_end(project: Path, folders: Folders) -> None:
    Path("data/checks.yaml").write_text("sft:\n  - {prompt: Hello, max_tokens: 20}\n", "utf-8")

    def plant(folder: Path) -> None:
        shutil.copyfile(folders.base / "model.safetensors", folder / "model.safetensors")

    verdict, results = checked(plant)
    assert verdict.verdict == "failed"
    assert results[0].reasons() == ["the answer has not ended after 21 tokens"]
    assert results[0].note == "cut after 21 tokens: the model has not ended its answer"


def test_without_checks_no_model_is_loaded_and_no_rule_is_added(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("data/checks.yaml").write_text("classification: []\n", "utf-8")

    def plant(folder: Path) -> None:
        # Reading it, for its digest alone, would take minutes where it is large.
        shutil.rmtree(folder)

    verdict, results = checked(plant)
    assert results == []
    assert [rule.metric for rule in verdict.rules] == ["chrf"]
    assert capsys.readouterr().out == "data/checks.yaml has no behaviour checks for this task\n"


def test_a_wrong_file_stops_the_stage_and_nothing_is_written(project: Path) -> None:
    Path("data/checks.yaml").write_text("sft:\n  - {prompt: Hello, contians: world}\n", "utf-8")
    with pytest.raises(DataError, match=r"data/checks\.yaml:2: sft\.0\.contians: unknown key; did you mean contains\?"):
        check.main(params.load())
    assert not Path("reports/checks.json").exists()


def test_checks_of_another_kind_of_model_are_one_sentence(project: Path) -> None:
    files.write_json(Path("models/finetuned/tuneline.json"), {"mode": "classification"})
    with pytest.raises(ModelError, match="the mode of the model is classification, which does not fit the checks"):
        checked()


@pytest.mark.slow
def test_the_candidate_is_asked_in_a_new_process(project: Path) -> None:
    Path("data/checks.yaml").write_text(CHECKS, "utf-8")
    p, folder = params.load(), Path("models/finetuned")
    assert [result.passed for result in checking.check(p, folder, "candidate")] == [True, True]
    (folder / "chat_template.jinja").write_text(OTHER_TEMPLATE, "utf-8")
    assert [result.passed for result in checking.check(p, folder, "candidate")] == [False, False]
    (folder / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(ModelError, match="models/finetuned"):
        checking.check(p, folder, "candidate")
