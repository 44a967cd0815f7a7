"""A trial that fails by its own values is told apart from one that a signal from outside has ended."""

from pathlib import Path

import pytest

from tuneline.pipeline import repro
from tuneline.search.record import Record
from tuneline.search.trial_folder import Outcome, TrialFolder

KILLED = "ERROR: failed to reproduce 'finetune': failed to run: exec sh scripts/stage.sh finetune, exited with -9"


@pytest.fixture
def trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrialFolder:
    monkeypatch.chdir(tmp_path)
    folder = Path("work/search/search/trials/1")
    folder.mkdir(parents=True)
    (folder / "dvc.yaml").write_text("stages: {}\n")
    (folder / "params.yaml").write_text("{}\n")
    return TrialFolder(Record("search", "h", "s", "i", {}, {}), "1")


def ended(trial: TrialFolder, monkeypatch: pytest.MonkeyPatch, script: str) -> Outcome:
    monkeypatch.setattr(repro, "_command", lambda *_: ["sh", "-c", script])
    return trial.train(lambda line: None)


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (f'echo "{KILLED}" >&2; exit 255', "finetune: the stage was killed by signal 9 (Killed) from outside"),
        ("kill -15 $$", "finetune: dvc was killed by signal 15 (Terminated) from outside"),
    ],
)
def test_a_trial_that_is_killed_has_not_failed(
    trial: TrialFolder, monkeypatch: pytest.MonkeyPatch, script: str, said: str
) -> None:
    outcome = ended(trial, monkeypatch, script)
    assert outcome.is_killed
    assert outcome.why.startswith(said)


def test_a_trial_whose_training_says_why_it_cannot_go_on_has_failed(
    trial: TrialFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = "echo 'error: the loss is not finite at step 3'; echo 'ERROR: failed, exited with 1' >&2; exit 255"
    outcome = ended(trial, monkeypatch, script)
    assert (outcome.why, outcome.is_killed) == ("the loss is not finite at step 3", False)
