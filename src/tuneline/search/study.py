"""The trials of a search, by Optuna: draws values, stores what was measured, and says which trials can stop.

One process writes the storage: the one that holds the project. So a search that was killed continues with the trials
that were running, under their own numbers. A trial is drawn with the seed of the space, its own number and the finished
trials, so that with one worker a search that was killed has the same trials as one that was not.
"""

import logging
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

import optuna  # pyright: ignore[reportMissingImports]
from optuna.samplers import BaseSampler, RandomSampler, TPESampler  # pyright: ignore[reportMissingImports]
from optuna.study import Study as OptunaStudy  # pyright: ignore[reportMissingImports]
from optuna.trial import FrozenTrial, Trial, TrialState  # pyright: ignore[reportMissingImports]
from sqlalchemy.exc import SQLAlchemyError

from tuneline.errors import SetupError, one_line
from tuneline.search.result import Result, State
from tuneline.search.space import Dimension, Space, Value

_IDENTITY = "tuneline.inputs"
_SEEDS = 2**32
# With fewer finished trials the importance of a key is a guess.
_FEWEST_FOR_IMPORTANCE = 4

_STATES: dict[TrialState, State] = {
    TrialState.COMPLETE: "done",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
}


_BROKEN = (SQLAlchemyError, optuna.exceptions.OptunaError)
"""What a storage raises that is damaged, locked, read-only or gone."""

_Asked = ParamSpec("_Asked")
_Answer = TypeVar("_Answer")


def _told(method: "Callable[Concatenate[Search, _Asked], _Answer]") -> "Callable[Concatenate[Search, _Asked], _Answer]":
    """The method, which raises SetupError where the storage fails while the search runs."""

    @wraps(method)
    def told(self: "Search", *args: _Asked.args, **named: _Asked.kwargs) -> _Answer:
        try:
            return method(self, *args, **named)
        except _BROKEN as error:
            raise _unusable(self.storage, error) from None

    return told


class Search:
    """An open search. Its methods raise SetupError where the storage cannot be read or written.

    Args:
        study: Optuna's.
        space: what is searched.
        storage: the address, for messages.
    """

    def __init__(self, study: OptunaStudy, space: Space, storage: str) -> None:
        self._study = study
        self._space = space
        self.storage = storage

    @_told
    def results(self) -> list[Result]:
        """All trials, in the order of their numbers."""
        return [_result(trial) for trial in self._study.get_trials(deepcopy=False) if trial.state != TrialState.WAITING]

    @_told
    def begin(self, default: Mapping[str, Value]) -> None:
        """Let the first trial have the values of today, if there is none yet."""
        if not self._study.get_trials(deepcopy=False):
            self._study.enqueue_trial(dict(default))

    @_told
    def unfinished(self) -> list[Trial]:
        """The trials that a killed search has left; they go on under their own numbers."""
        left = [trial for trial in self._study.get_trials(deepcopy=False) if trial.state == TrialState.RUNNING]
        return [self._drawn(Trial(self._study, trial._trial_id), trial.number) for trial in left]

    @_told
    def draw(self) -> Trial:
        """A new trial, with its values."""
        number = sum(trial.state != TrialState.WAITING for trial in self._study.get_trials(deepcopy=False))
        self._study.sampler = _sampler(self._space, number)
        return self._drawn(self._study.ask(), number)

    def _drawn(self, trial: Trial, number: int) -> Trial:
        """A trial all of whose values are stored; a kill may have come between two of them."""
        self._study.sampler = _sampler(self._space, number)
        for key, dimension in self._space.space.items():
            _suggest(trial, key, dimension)
        return trial

    @_told
    def values(self, trial: Trial) -> dict[str, Value]:
        """The values of a trial, by key."""
        return {key: trial.params[key] for key in self._space.space}

    @_told
    def report(self, trial: Trial, curve: Mapping[int, float]) -> bool:
        """Store what a trial has measured so far; returns whether it is to be pruned.

        The answer depends on the curve and on the finished trials, not on how often this is called.
        """
        known = self._study._storage.get_trial(trial._trial_id).intermediate_values
        last = max(known, default=-1)
        if known and trial.should_prune():
            return True
        for step in sorted(step for step in curve if step > last):
            trial.report(curve[step], step)
            if trial.should_prune():
                return True
        return False

    @_told
    def finish(self, trial: Trial, loss: float) -> None:
        """Store that a trial has trained to its end."""
        self._study.tell(trial, loss)

    @_told
    def prune(self, trial: Trial) -> None:
        """Store that a trial was stopped because it was worse than others."""
        self._study.tell(trial, state=TrialState.PRUNED)

    @_told
    def fail(self, trial: Trial, why: str) -> None:
        """Store that the training of a trial failed."""
        trial.set_user_attr("why", why)
        self._study.tell(trial, state=TrialState.FAIL)

    @_told
    def importance(self) -> dict[str, float]:
        """How much of the differences between trials each key explains (fANOVA); empty with too few trials."""
        done = [result for result in self.results() if result.state == "done"]
        if len(done) < _FEWEST_FOR_IMPORTANCE or len({result.loss for result in done}) == 1:
            return {}
        from optuna.importance import FanovaImportanceEvaluator, get_param_importances  # pyright: ignore[reportMissingImports]

        evaluator = FanovaImportanceEvaluator(seed=self._space.seed)
        with suppress(ValueError, RuntimeError):
            found = get_param_importances(self._study, evaluator=evaluator)
            return {key: float(share) for key, share in found.items()}
        return {}


def exists(storage: str, name: str) -> bool:
    """Whether the storage has a search of this name.

    Args:
        storage: its address, as SQLAlchemy takes it.
        name: of the search.

    Raises:
        SetupError: the storage cannot be read.
    """
    return _at(storage, lambda: name in optuna.get_all_study_names(storage=_storage(storage)))


def start(storage: str, name: str, space: Space, identity: str) -> Search:
    """Make a search.

    Args:
        storage: its address, as SQLAlchemy takes it; the folder of a SQLite file exists.
        name: of the search.
        space: what is searched.
        identity: the digest of all that must not change while it is continued.

    Raises:
        SetupError: the storage cannot be written.
    """

    def make() -> Search:
        study = optuna.create_study(storage=_storage(storage), study_name=name, pruner=_pruner(space))
        study.set_user_attr(_IDENTITY, identity)
        return Search(study, space, storage)

    return _at(storage, make)


def load(storage: str, name: str, space: Space) -> tuple[Search, str]:
    """Open a search; returns it, and the identity that it was started with; empty if a kill came before it was stored.

    Raises:
        SetupError: the storage cannot be read, or does not have the search.
    """

    def open_it() -> tuple[Search, str]:
        study = optuna.load_study(storage=_storage(storage), study_name=name, pruner=_pruner(space))
        return Search(study, space, storage), study.user_attrs.get(_IDENTITY, "")

    return _at(storage, open_it)


def remove(storage: str, name: str) -> None:
    """Delete a search from its storage, if it has it.

    Raises:
        SetupError: the storage cannot be written.
    """
    if exists(storage, name):
        _at(storage, lambda: optuna.delete_study(storage=_storage(storage), study_name=name))


def _at(storage: str, action: Any) -> Any:
    # What happens is said by the flow. Optuna's warnings are about its own arguments.
    optuna.logging.set_verbosity(logging.ERROR)
    warnings.filterwarnings("ignore", module="optuna")
    try:
        return action()
    except (*_BROKEN, ImportError, KeyError, ValueError) as error:
        raise _unusable(storage, error) from None


def _unusable(storage: str, error: Exception) -> SetupError:
    return SetupError(
        f"{storage}: the storage of the search cannot be used ({one_line(error)[:200]}); check the address, or "
        "begin a new search with --fresh"
    )


def _storage(address: str) -> optuna.storages.RDBStorage:
    return optuna.storages.RDBStorage(address, skip_compatibility_check=False)


def _pruner(space: Space) -> optuna.pruners.BasePruner:
    if space.pruner == "none":
        return optuna.pruners.NopPruner()
    return optuna.pruners.MedianPruner(n_startup_trials=space.startup_trials, n_warmup_steps=space.warmup_measurements)


def _sampler(space: Space, number: int) -> BaseSampler:
    """The sampler of one trial: what it draws depends on the seed, the number and the finished trials."""
    seed = (space.seed * 1_000_003 + number) % _SEEDS
    if space.sampler == "random":
        return RandomSampler(seed=seed)
    return TPESampler(seed=seed, n_startup_trials=space.startup_trials)


def _suggest(trial: Trial, key: str, dimension: Dimension) -> None:
    if dimension.values is not None:
        trial.suggest_categorical(key, dimension.values)
        return
    low, high = dimension.ends
    if isinstance(low, int) and isinstance(high, int):
        trial.suggest_int(key, low, high, log=dimension.log, step=int(dimension.step or 1))
    elif isinstance(low, float) and isinstance(high, float):
        trial.suggest_float(key, low, high, log=dimension.log, step=dimension.step)


def _result(trial: FrozenTrial) -> Result:
    curve = dict(sorted(trial.intermediate_values.items()))
    state = _STATES.get(trial.state, "interrupted")
    value = trial.value if state == "done" else (list(curve.values()) or [None])[-1]
    return Result(trial.number, state, dict(trial.params), value, curve, str(trial.user_attrs.get("why", "")))
