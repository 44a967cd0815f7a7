"""`tuneline check`: the checks of data/checks.yaml by hand."""

import json
from collections.abc import Iterator

import pytest
from registered import Shell

from tuneline import params
from tuneline.behaviour import asking, check_file
from tuneline.behaviour.check_results import CheckResult
from tuneline.commands.ask.served_version import serve
from tuneline.params import Task, editing

EVIL = "<script>alert(1)</script>\x1b[2J"


@pytest.fixture
def project(shell: Shell) -> Iterator[Shell]:
    """A project whose params and checks a test may change."""
    before = (shell.root / "params.yaml").read_bytes()
    yield shell
    shell.write("params.yaml", before)
    (shell.root / "data/checks.yaml").unlink(missing_ok=True)


def ask(shell: Shell, version: int, task: Task, checks: str) -> list[CheckResult]:
    """What the process that asks a version finds."""
    p, path = params.load(), shell.write("data/checks.yaml", checks)
    folder = serve(p, version=version, alias="").folder
    return asking.ask(folder, check_file.load(path), task, asking.Limits.of(p), "version")


def test_a_wrong_command_or_file_is_one_sentence(project: Shell) -> None:
    done = project.run("check", "--version", "4")
    assert done.exit_code == 1
    assert done.stderr == (
        "data/checks.yaml: no such file; restore it with: git restore data/checks.yaml; or make an empty file, "
        "which checks nothing\n"
    )
    project.write("data/checks.yaml", "sft:\n  - {prompt: Hello, contians: world}\n")
    done = project.run("check", "--version", "4")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == "data/checks.yaml:2: sft.0.contians: unknown key; did you mean contains?\n"
    assert project.run("check", "--version", "4", "--alias", "champion").exit_code == 2
    editing.set_values(project.root / "params.yaml", {"paths.finetuned": "models/none"})
    project.write("data/checks.yaml", "sft: []\n")
    done = project.run("check")
    assert (done.exit_code, done.stderr) == (
        1,
        "models/none: holds no model yet; run: make run; or ask a version with: --version N\n",
    )
    project.write("data/checks.yaml", "sft:\n  - {prompt: Hello, contians: world}\n")
    done = project.run("check")
    assert (done.exit_code, done.stderr.splitlines()) == (
        1,
        [
            "data/checks.yaml:2: sft.0.contians: unknown key; did you mean contains?",
            "models/none: holds no model yet; run: make run; or ask a version with: --version N",
        ],
    )


def test_without_checks_for_the_task_no_model_is_asked(project: Shell) -> None:
    project.write("data/checks.yaml", "classification: []\n")
    done = project.run("check", "--version", "4")
    assert (done.exit_code, done.stdout) == (
        0,
        "asked version 4: data/checks.yaml has no behaviour checks for this task\n",
    )


def test_a_classifier_is_asked_for_labels(project: Shell) -> None:
    [result, other] = ask(
        project,
        1,
        "classification",
        "classification:\n"
        "  - {text: Where is my parcel?, one_of: [refund, delivery, praise], same_as: where IS my PARCEL???}\n"
        "  - {text: Where is my parcel?, label: refnud}\n",
    )
    assert result.answer is not None
    assert result.answer.split(" (")[0] in ("refund", "delivery", "praise")
    assert result.expectations[0].reason is None
    assert other.reasons() == ["the model has no label “refnud”; did you mean “refund”?"]


def test_several_labels_are_asked_for_as_a_set(project: Shell) -> None:
    every = "{text: Where is my parcel?, one_of: [refund, delivery, praise]}"
    [result] = ask(project, 2, "classification", f"classification:\n  - {every}\n")
    given = (result.answer or "").split(" (")[0]
    is_any = given != "no label"
    assert result.passed == is_any
    wanted = json.dumps(given.split(", ") if is_any else ["refund"])
    [result] = ask(
        project, 2, "classification", f"classification:\n  - {{text: Where is my parcel?, label: {wanted}}}\n"
    )
    assert result.passed == is_any


def test_a_regression_is_asked_for_a_number(project: Shell) -> None:
    checks = "regression:\n  - {text: Where is my parcel?, between: [-1e9, 1e9], same_as: Where?, tolerance: 1e9}\n"
    [result] = ask(project, 3, "regression", checks)
    assert result.passed
    assert float(result.answer or "nan") < 1e9
    [result] = ask(project, 3, "regression", checks.replace("-1e9, 1e9", "1e8, 1e9"))
    assert result.reasons() == [f"the answer is {result.answer}"]


def test_a_model_of_prompts_is_not_asked_with_messages(project: Shell) -> None:
    checks = "sft:\n  - {messages: [{role: user, content: Hello}], regex: '^'}\n  - {prompt: Hello, regex: '^'}\n"
    [refused, asked] = ask(project, 4, "sft", checks)
    assert refused.reasons() == [
        "the model was trained on prompts as written, not on conversations; write prompt, not messages"
    ]
    assert refused.answer is None
    assert asked.passed
    assert [result.passed for result in ask(project, 5, "sft", checks)] == [True, True]


@pytest.mark.slow
def test_a_version_is_asked_in_a_process_of_its_own(project: Shell) -> None:
    checks = [{"prompt": f"{EVIL} Hello", "regex": "^"}, {"prompt": "Hello", "contains": EVIL, "name": "greets"}]
    project.write("data/checks.yaml", json.dumps({"sft": checks}))
    done = project.run("check", "--version", "4")
    lines = done.stdout.splitlines()
    assert done.exit_code == 1
    assert lines[0] == "passed   1"
    assert "failed   2 (greets): the answer does not contain “<script>alert(1)</script>\\x1b[2J”" in lines
    assert lines[-1] == "asked version 4: behaviour checks of data/checks.yaml: 1 of 2 of severity error passed"
    done = project.run("check", "--version", "4", "--json")
    assert [check["passed"] for check in json.loads(done.stdout)] == [True, False]
    checks[1]["severity"] = "warning"
    project.write("data/checks.yaml", json.dumps({"sft": checks}))
    assert project.run("check", "--version", "4").exit_code == 0
    project.write("data/checks.yaml", "sft:\n  - {prompt: Hello, contains: a}\n")
    done = project.run("check", "--version", "1")
    assert done.exit_code == 1
    assert "the mode of the model is classification, which does not fit the checks of task sft" in done.stderr
