"""Loads, asks and scores a registered version, in a process of its own.

    python -m tuneline.decisions.scoring SHARED FOLDER

What a model does while it is loaded and scored cannot disturb the caller. With compute.portable the process is
restricted to the instruction set that the candidate was evaluated with, which the process of a flow is not.
"""

import contextlib
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa

from tuneline import instruction_set, params, processes, terminal
from tuneline.core import files
from tuneline.errors import ModelError, RegistryError, TunelineError
from tuneline.evaluation import comparison
from tuneline.evaluation.probes import probe_table
from tuneline.evaluation.score_table import ModelToScore
from tuneline.evaluation.task_table import TASKS

SECONDS = 300.0
"""The most that a model that is verified may need to load and to answer a row."""
_SETTINGS, _ROWS, _BASE = "settings.json", "rows.parquet", "base.parquet"
_ANSWER, _FOUND, _PROBLEMS, _ERRORS = "answer.json", "found.parquet", "problems.json", "errors.txt"
_LONGEST = 200
_MORE_ROWS = 100
"""The checks of behaviour may take as long as so many rows."""
_EVERY = 0.1


class NoAnswerError(ModelError):
    """A model does not load, or does not answer the first row; the message continues "the model"."""


def score(
    p: params.Params,
    folder: Path,
    rows: pa.Table,
    base: pa.Table | None,
    *,
    answers_within: float | None = None,
    probe: str | None = None,
    checks: Path | None = None,
) -> pa.Table:
    """The score table of a version.

    Args:
        p: the params.
        folder: the version's files.
        rows: the test rows.
        base: the scores of the base, for a task that counts from them.
        answers_within: the seconds in which the model must have loaded and answered the first row; None: this is not
            looked at.
        probe: the probe that measures these rows; None: they are test rows.
        checks: with `answers_within` only: the folder of a request of `checking`, which the same process answers.

    Raises:
        NoAnswerError: with `answers_within` only: the model does not load or answer.
        ModelError: the version cannot be loaded or scored; with `answers_within` also: it takes far longer than its
            first answer lets expect.
        RegistryError: the process that scores it was ended.
    """
    with files.temporary_folder() as shared:
        must_answer = answers_within is not None
        write_request(shared, p, rows, base, must_answer=must_answer, probe=probe, checks=checks)
        run_apart("tuneline.decisions.scoring", shared, folder, p, answers_within=answers_within)
        return files.read_parquet(shared / _FOUND)


def run_apart(
    module: str,
    shared: Path,
    folder: Path,
    p: params.Params,
    *,
    answers_within: float | None = None,
    stdout: int | None = None,
) -> None:
    """Run `python -m MODULE SHARED FOLDER`, which answers the request in `shared` about the model in `folder`.

    Args:
        module: its name; it calls `answer`.
        shared: the folder of the request.
        folder: the version's files.
        p: the params.
        answers_within: as for `score`.
        stdout: the file descriptor that gets the lines of progress; None: standard output.

    Raises:
        NoAnswerError: as for `score`.
        ModelError: the version cannot be loaded, or does not do what is asked.
        RegistryError: the process was ended.
    """
    command = [sys.executable, "-m", module, str(shared), str(folder.absolute())]
    environment = instruction_set.restricted(os.environ) if p.compute.portable else dict(os.environ)
    with (shared / _ERRORS).open("wb") as errors:
        process = subprocess.Popen(
            processes.bound_command(command),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=errors,
        )
        try:
            if answers_within is not None:
                _wait_for_answer(process, shared, answers_within)
                _wait_for_rows(process, shared)
            process.wait()
        finally:
            # An exception, such as Ctrl-C, does not leave it behind.
            process.kill()
            process.wait()
    if process.returncode:
        _raise_problem(process.returncode, shared, folder, must_answer=answers_within is not None)


def _wait_for_answer(process: subprocess.Popen[bytes], shared: Path, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not (shared / _ANSWER).exists():
        if time.monotonic() > end:
            raise NoAnswerError(f"does not load and answer within {seconds:.0f} s")
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_EVERY)
            return


def _wait_for_rows(process: subprocess.Popen[bytes], shared: Path) -> None:
    """Wait for a model that has answered the first row: whoever waits holds up every other promotion."""
    if not (shared / _ANSWER).exists():
        # It has ended without an answer.
        return
    answered = files.read_object(shared / _ANSWER, "seconds", "rows")
    # Rows are answered in batches, so a row takes less than loading the model and answering the first row alone.
    limit = SECONDS + (answered["rows"] + _MORE_ROWS) * answered["seconds"]
    try:
        process.wait(limit)
    except subprocess.TimeoutExpired:
        raise ModelError(
            f"the model has answered the first row after {answered['seconds']:.1f} s, and has not answered the "
            f"{answered['rows']} rows and the checks within {limit:.0f} s"
        ) from None


def _raise_problem(code: int, shared: Path, folder: Path, *, must_answer: bool) -> None:
    """Raise why the process has ended with this code."""
    has_answered = (shared / _ANSWER).exists()
    problems = json.loads((shared / _PROBLEMS).read_text("utf-8")) if (shared / _PROBLEMS).is_file() else []
    name = signal.Signals(-code).name if code < 0 else ""
    printed = (shared / _ERRORS).read_text("utf-8", errors="replace")
    if must_answer and not has_answered:
        if name:
            raise NoAnswerError(
                f"does not load: {name} ended the process that loads it, for example because memory ran out"
            )
        lines = [line.strip() for line in printed.splitlines() if line.strip()]
        reason = "; ".join(problems) or (lines[-1] if lines else f"exit code {code}")
        # The folder is a copy that is gone when a person reads this.
        reason = reason.replace(f"{folder.absolute()}/", "").replace(str(folder.absolute()), "its folder")
        raise NoAnswerError(f"does not load and answer: {reason[:_LONGEST]}")
    if problems:
        raise ModelError(*problems)
    if name:
        raise RegistryError(
            f"{name} ended the process that asks the model, for example because memory ran out; run the same command "
            "again"
        )
    sys.stderr.write(printed)
    raise ModelError(f"the model cannot be scored: its process ended with code {code}, see above")


def write_request(
    shared: Path,
    p: params.Params,
    rows: pa.Table,
    base: pa.Table | None,
    *,
    must_answer: bool,
    probe: str | None = None,
    checks: Path | None = None,
) -> None:
    """Write what another process needs to score a model with `main`.

    Args:
        shared: the folder that both processes know.
        p: the params.
        rows: the test rows.
        base: the scores of the base, for a task that counts from them.
        must_answer: whether the model has to answer the first row before the others are scored.
        probe: the probe that measures these rows; None: they are test rows.
        checks: the folder of a request of `checking`.
    """
    settings = {
        "task": p.task,
        "checks": checks and str(checks.absolute()),
        "probe": probe,
        "evaluate": p.evaluate.model_dump(),
        "max_length": p.finetune.max_length,
    }
    files.write_json(shared / _SETTINGS, {**settings, "threads": p.compute.threads, "must_answer": must_answer})
    files.write_parquet(shared / _ROWS, rows)
    if base is not None:
        files.write_parquet(shared / _BASE, base)


def main(shared: Path, folder: Path) -> None:
    """Score the version in `folder` on the rows in `shared`, and write the answer, the scores or the problems there.

    Raises:
        SystemExit: the version cannot be scored.
    """
    answer(shared, lambda: _answer_request(shared, folder))


def answer(shared: Path, request: Callable[[], None]) -> None:
    """Do what is asked in the process of `run_apart`; problems go to `shared`.

    Raises:
        SystemExit: there was a problem.
    """
    try:
        request()
    except TunelineError as error:
        files.write_json(shared / _PROBLEMS, list(error.problems))
        sys.exit(1)


def _answer_request(shared: Path, folder: Path) -> None:
    settings = files.read_object(
        shared / _SETTINGS, "task", "evaluate", "max_length", "threads", "must_answer", "probe", "checks"
    )
    rows, task, must_answer = files.read_parquet(shared / _ROWS), settings["task"], settings["must_answer"]
    base = files.read_parquet(shared / _BASE) if (shared / _BASE).is_file() else None
    # This import loads torch, which takes seconds.
    from tuneline.modeling.models import use_threads

    use_threads(settings["threads"])
    evaluate, length = params.Evaluate(**settings["evaluate"]), settings["max_length"]
    if probe := settings["probe"]:
        scored = ModelToScore(folder, "version", length)
        files.write_parquet(shared / _FOUND, probe_table.measure(scored, {probe: rows}, evaluate)[probe])
        return
    found = None
    if must_answer:
        of_first = base if base is None else base.slice(0, 1)
        first = ModelToScore(folder, "version", length, base=of_first, models=0)
        began = time.monotonic()
        with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
            found = TASKS[task].measure(first, rows.slice(0, 1), evaluate)
        answered = _answer(task, rows.slice(0, 1), found)
        took = {"seconds": time.monotonic() - began, "rows": rows.num_rows}
        files.write_json(shared / _ANSWER, {**answered, **took})
        if settings["checks"]:
            # It imports this module.
            from tuneline.decisions import checking

            checking.answer_request(Path(settings["checks"]), folder)
    if found is None or rows.num_rows > 1:
        scored = ModelToScore(folder, "version" if must_answer else "champion", length, base=base)
        found = TASKS[task].measure(scored, rows, evaluate)
    files.write_parquet(shared / _FOUND, found)


def _answer(task: params.Task, row: pa.Table, scores: pa.Table) -> dict[str, object]:
    """The model's answer to a row, and what was measured on it.

    Raises:
        ModelError: a measured value is not a number.
    """
    found = {"answer": comparison.answers(scores)[:1], **comparison.summarise(row, task, scores)}
    if wrong := [name for name, value in found.items() if isinstance(value, float) and not math.isfinite(value)]:
        raise ModelError(f"its {', '.join(wrong)} is not a number")
    return found


if __name__ == "__main__":
    terminal.guard()
    processes.run_and_exit(lambda: main(Path(sys.argv[1]), Path(sys.argv[2])))
