"""Optuna draws and stores trials: a killed search continues with the same trials. Runs where the extra is installed."""

import importlib.util
import math
from collections.abc import Iterable
from pathlib import Path

import pytest

from tuneline.errors import SetupError
from tuneline.search.result import best_of
from tuneline.search.space import Dimension, Space, Value

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("optuna") is None, reason="needs make setup EXTRAS=search"),
]
RATE, DECAY, OPTIM = "finetune.learning_rate", "finetune.weight_decay", "finetune.optim"
SPACE = Space(
    startup_trials=3,
    warmup_measurements=2,
    space={
        RATE: Dimension(low=1e-4, high=1e-1, log=True),
        DECAY: Dimension(low=0.0, high=0.1),
        OPTIM: Dimension(values=["adamw_torch", "muon"]),
    },
)
TODAY: dict[str, Value] = {RATE: 0.005, DECAY: 0.0, OPTIM: "muon"}
LAST = 5


def loss(values: dict[str, Value], measurement: int) -> float:
    rate, decay = values[RATE], values[DECAY]
    assert isinstance(rate, float) and isinstance(decay, float)
    return abs(math.log10(rate) + 2) + decay + 1 / measurement + (values[OPTIM] == "muon") * 0.1


def run(address: str, trials: int, killed: tuple[int, int] | None = None):
    """Search until there are so many trials, or until a trial was measured so often."""
    from tuneline.search import study

    if study.exists(address, "s"):
        opened, identity = study.load(address, "s", SPACE)
        assert identity == "inputs"
    else:
        opened = study.start(address, "s", SPACE, "inputs")
    opened.begin(TODAY)
    left = opened.unfinished()
    while left or len(opened.results()) < trials:
        trial = left.pop(0) if left else opened.draw()
        values = opened.values(trial)
        for measurement in range(1, LAST + 1):
            if (trial.number, measurement) == killed:
                return opened
            if opened.report(trial, {number: loss(values, number) for number in range(1, measurement + 1)}):
                opened.prune(trial)
                break
        else:
            opened.finish(trial, loss(values, LAST))
    return opened


def test_a_search_that_was_killed_has_the_same_trials(tmp_path: Path) -> None:
    whole = run(f"sqlite:///{tmp_path}/whole.db", 9)
    kills: Iterable[tuple[int, int]] = ((0, 2), (4, 1), (6, 3))
    for killed in kills:
        run(f"sqlite:///{tmp_path}/killed.db", 9, killed)
    continued = run(f"sqlite:///{tmp_path}/killed.db", 9)
    assert continued.results() == whole.results()
    assert {result.state for result in whole.results()} == {"done", "pruned"}
    assert dict(whole.results()[0].values) == TODAY
    best = best_of(whole.results())
    assert best is not None
    assert best.loss is not None and best.loss < loss(TODAY, LAST)
    assert sum(whole.importance().values()) == pytest.approx(1)


def test_whether_a_trial_is_stopped_does_not_depend_on_how_often_it_is_looked_at(tmp_path: Path) -> None:
    opened = run(f"sqlite:///{tmp_path}/s.db", 4)
    trial = opened.draw()
    bad = dict.fromkeys(range(1, LAST + 1), 99.0)
    assert opened.report(trial, bad)
    (stopped,) = [result for result in opened.results() if result.state == "interrupted"]
    assert list(stopped.curve) == [1, 2]


def test_a_failed_trial_keeps_its_reason_and_is_never_the_best(tmp_path: Path) -> None:
    opened = run(f"sqlite:///{tmp_path}/s.db", 1)
    opened.fail(opened.draw(), "the loss is not finite")
    failed = opened.results()[1]
    assert (failed.state, failed.note) == ("failed", "the loss is not finite")
    assert best_of(opened.results()) == opened.results()[0]


@pytest.mark.parametrize("address", ["sqlite:////missing/folder/s.db", "nonsense", "strange://host/db"])
def test_a_storage_that_cannot_be_used_is_one_sentence(address: str) -> None:
    from tuneline.search import study

    with pytest.raises(SetupError, match="the storage of the search cannot be used") as raised:
        study.exists(address, "s")
    assert len(raised.value.problems) == 1


def test_a_storage_that_is_damaged_while_the_search_runs_is_one_sentence(tmp_path: Path) -> None:
    from tuneline.search import study

    path = tmp_path / "study.db"
    opened = study.start(f"sqlite:///{path}", "s", SPACE, "i")
    opened.begin(TODAY)
    trial = opened.draw()
    with path.open("r+b") as file:
        file.truncate(5_000)
    for action in (opened.results, opened.draw, lambda: opened.finish(trial, 1.0)):
        with pytest.raises(SetupError, match=r"study\.db: the storage of the search cannot be used"):
            action()
