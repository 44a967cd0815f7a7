"""A trial in a folder of its own: the project as it was, with other params, where finetune runs and nothing later.

The folder is a git worktree in work/search/NAME/trials/, so that trials run beside each other and the workspace stays
as it is. DVC has the project's cache. The trial becomes an experiment of the commit from which the search was begun.
"""

import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from tuneline import git, params
from tuneline.core import files
from tuneline.decisions import kept_trials
from tuneline.errors import KilledError, PipelineError, UnreadableFileError
from tuneline.params import editing
from tuneline.pipeline import dvc_files, repro
from tuneline.pipeline.repro import Elsewhere
from tuneline.reporting import curves
from tuneline.search import trial_folds
from tuneline.search.objective import EVAL_LOSS, objective_of
from tuneline.search.record import Record, folder_of
from tuneline.search.space import Value
from tuneline.training import checkpoints
from tuneline.training.log import History

STAGE = "finetune"
_METRICS = "search.json"
# A stage before finetune, with small outputs.
_COMPLETE = "validate_clean"
# Seconds in which a training that is not wanted ends, wherever it runs.
_STOPS = 1.0
# Variables of this project and of its tools, which the other folder sets for itself.
_OWN = ("MLFLOW_", "PREFECT_", "TUNELINE_", "DVC_", "GIT_", "PYTHONPATH")


@dataclass(frozen=True)
class Outcome:
    """How a trial ended."""

    loss: float | None
    """The objective, of the weights that are kept; None if it did not end."""
    curve: Mapping[int, float]
    why: str = ""
    """Why it failed or by what it was killed; empty if it ended or was stopped."""
    is_killed: bool = False
    """Whether a signal from outside has ended it: it is not its values that failed."""


class TrialFolder:
    """The folder of a trial.

    Args:
        record: of the search.
        name: of the folder.
    """

    def __init__(self, record: Record, name: str) -> None:
        self._record = record
        self._root = folder_of(record.name).absolute()
        self._tree = self._root / kept_trials.TRIALS / name
        self._ready = self._tree.with_suffix(".ready")
        self._unwanted = self._tree.with_suffix(".unwanted")
        self._project = self._tree / git.ask("rev-parse", "--show-prefix")
        self.experiment = f"{record.name}-{name}"
        self._folds = record.space.get("folds")

    @property
    def place(self) -> Elsewhere:
        """The folder for DVC."""
        own = {name: value for name, value in os.environ.items() if not name.startswith(_OWN)}
        own |= {
            "TUNELINE_ROOT": str(self._project),
            # The runs of trials stay out of the project's store: what is registered has a run there.
            "MLFLOW_TRACKING_URI": f"sqlite:///{self._root}/mlflow.db",
            "DVC_SITE_CACHE_DIR": str(self._project / "work/dvc"),
            "DVC_NO_ANALYTICS": "true",
            # Whatever DVC's configuration says, a search sends nothing to a remote.
            "DVC_EXP_AUTO_PUSH": "false",
        }
        return Elsewhere(self._project, self._project / ".venv/bin/python", self._project / "src", own)

    def lay_out(self, values: Mapping[str, Value], threads: int, commit: str | None = None) -> None:
        """Make the folder, or take over that of a killed search.

        Args:
            values: of the trial, by key of params.yaml.
            threads: of its training.
            commit: whose files it has; None: those from which the search was begun.
        """
        if self._ready.exists() and self._project.is_dir():
            # A worker of a cluster may still train it, if the search was killed.
            self.stop()
            time.sleep(_STOPS)
            self._unwanted.unlink()
            return
        self.remove()
        self._tree.parent.mkdir(parents=True, exist_ok=True)
        with git.worktree(commit or self._record.snapshot, self._tree, keep=True):
            pass
        if commit is None and self._record.snapshot != self._record.head:
            git.ask("-C", str(self._tree), "reset", "--soft", "--quiet", self._record.head)
        (self._project / ".venv").symlink_to(sys.prefix)
        local = Path(".dvc/config.local")
        if local.is_file():
            shutil.copyfile(local, self._project / local)
        repro.use_cache_at(self.place, dvc_files.cache_folder().parents[1])
        if commit is None:
            editing.set_values(self._project / params.PARAMS_FILE, {**values, "compute.threads": threads})
            self._declare_metrics()
        p = params.load(self._project / params.PARAMS_FILE)
        variants = (f"{p.paths.augmented}/{variant.name}" for variant in p.data.augment.variants())
        paths = (p.paths.clean, *variants, p.paths.pretraining, p.paths.base, f"{p.paths.reports}/clean.ok")
        repro.check_out_at(self.place, *paths)
        if commit is not None and not self._folds:
            repro.check_out_at(self.place, p.paths.finetuned)
        files.write_text(self._ready, "")

    def _declare_metrics(self) -> None:
        """Let DVC show the objective of the trial; the metrics of evaluate are those of another model."""
        yaml, graph = YAML(typ="rt"), self._project / "dvc.yaml"
        yaml.width = 10_000
        document: Any = yaml.load(graph.read_text("utf-8"))
        document.setdefault("metrics", []).append(self._metrics().relative_to(self._project).as_posix())
        with files.atomic_file(graph) as temporary, temporary.open("w", encoding="utf-8") as file:
            yaml.dump(document, file)

    def _metrics(self) -> Path:
        p = params.load(self._project / params.PARAMS_FILE)
        return self._project / p.paths.reports / _METRICS

    def train(self, log: Callable[[str], None]) -> Outcome:
        """Run finetune, or the trainings of all folds, until it ends or the trial is unwanted.

        Args:
            log: called with each line of output.
        """
        if not self._project.is_dir():
            raise PipelineError(
                f"{self._project}: this worker does not see the folder of the trial; a cluster needs the project on a "
                "file system that all its machines share"
            )
        try:
            if self._folds:
                ended = repro.run_module_at(
                    self.place, trial_folds.__name__, [str(self._folds)], log, self._unwanted.exists, trial_folds.KILLED
                )
            else:
                ended = repro.reproduce_at(self.place, STAGE, log, self._unwanted.exists)
        except KilledError as error:
            return Outcome(None, self.curve(), str(error), is_killed=True)
        except PipelineError as error:
            return Outcome(None, self.curve(), str(error))
        return self._ended() if ended else Outcome(None, self.curve())

    def stop(self) -> None:
        """Say that the trial is not wanted any more; its training ends within a second, in whatever process it runs."""
        files.write_text(self._unwanted, "")

    def curve(self) -> dict[int, float]:
        """The objective at each measurement, by its number from 1.

        That of a training is in its newest checkpoint. Of a cross-validation each fold is a measurement of the mean.
        """
        if self._folds:
            return _rounded(trial_folds.means(self._project))
        found: dict[int, float] = {}
        for folder in (self._project / "work").glob("*/"):
            newest = checkpoints.newest(folder)
            try:
                lines = History.read(newest / "history.json").lines if newest else []
            except (OSError, UnreadableFileError, TypeError):
                # The trainer deletes old checkpoints.
                continue
            found |= _numbered([line[EVAL_LOSS] for line in lines if EVAL_LOSS in line])
        return found

    def _ended(self) -> Outcome:
        if self._folds:
            curve = self.curve()
            return Outcome(curve[self._folds], curve)
        p = params.load(self._project / params.PARAMS_FILE)
        reports = self._project / p.paths.reports
        curve = {step: line[EVAL_LOSS] for step, line in curves.read(reports / "training.csv") if EVAL_LOSS in line}
        if not curve:
            return Outcome(None, {}, "nothing was measured on the validation split; raise data.split.validation")
        losses = list(curve.values())
        kept = files.read_object(reports / "training.json").get("best_step")
        return Outcome(losses[-1] if kept is None else curve[kept], _numbered(losses))

    def save(self, loss: float | None, *, is_complete: bool) -> None:
        """Save the trial as an experiment.

        Args:
            loss: its objective.
            is_complete: whether the trial has ended; the experiment then has its model, but of a cross-validation.
        """
        objective = objective_of(params.load(self._project / params.PARAMS_FILE).task, self._folds)
        files.write_json(self._metrics(), {objective.metric: None if loss is None else objective.value(loss)})
        git.ask("-C", str(self._project), "add", "--force", "--", str(self._metrics()))
        has_model = is_complete and not self._folds
        if not has_model:
            # DVC saves the outputs of one stage at least, all of which must be there.
            repro.check_out_at(self.place, _COMPLETE)
        repro.save_experiment_at(self.place, self.experiment, STAGE if has_model else _COMPLETE)

    def commit(self) -> str:
        """The commit of the trial's experiment; empty if it was removed."""
        head = self._record.head
        return git.ask(
            "rev-parse", "--verify", "--quiet", f"refs/exps/{head[:2]}/{head[2:]}/{self.experiment}^{{commit}}"
        )

    def evaluate(self, log: Callable[[str], None]) -> Path:
        """Run the stage evaluate on the model of the trial; returns the score table.

        The models of a cross-validation have not seen all rows, so that finetune runs first.

        Raises:
            PipelineError: a stage failed.
        """
        if self._folds:
            repro.reproduce_at(self.place, STAGE, log)
        repro.reproduce_at(self.place, "evaluate", log)
        return self._project / params.load(self._project / params.PARAMS_FILE).paths.reports / "rows.parquet"

    @property
    def finetuned(self) -> Path:
        """The model of the trial."""
        return self._project / params.load(self._project / params.PARAMS_FILE).paths.finetuned

    def remove(self) -> None:
        """Remove the folder; the experiment stays."""
        self._ready.unlink(missing_ok=True)
        self._unwanted.unlink(missing_ok=True)
        if self._tree.exists():
            git.ask("worktree", "prune")
            shutil.rmtree(self._tree)
        git.ask("worktree", "prune")


def _numbered(losses: Sequence[float]) -> dict[int, float]:
    # Not by step: trials with other batches or epochs measure at other steps, but equally often.
    return _rounded(dict(enumerate(losses, start=1)))


def _rounded(curve: Mapping[int, float]) -> dict[int, float]:
    # As many digits as training.csv has, so that it does not matter from which file a loss was read first.
    return {number: float(f"{loss:.6g}") for number, loss in curve.items()}
