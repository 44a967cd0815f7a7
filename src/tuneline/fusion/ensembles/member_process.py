"""Measures one member of an ensemble, in a process of its own: only one model is in memory at a time.

    python -m tuneline.fusion.ensembles.member_process SHARED FOLDER

As for `decisions.scoring`: what a model does while it is loaded and measured cannot disturb the caller, and with
compute.portable it runs on the instruction set of the evaluation.
"""

import sys
from pathlib import Path

import pyarrow as pa

from tuneline import params, processes, terminal
from tuneline.core import files
from tuneline.decisions import scoring
from tuneline.evaluation.score_table import ModelToScore
from tuneline.fusion.ensembles.mixtures import MIXTURES, Outputs

# Standard output may be JSON.
_STDERR = 2
_SETTINGS, _ROWS, _FOUND = "member.json", "rows.parquet", "outputs.parquet"


def measure(p: params.Params, folder: Path, name: str, rows: pa.Table) -> Outputs:
    """What a version gives for rows.

    Args:
        p: the params.
        folder: of the version, verified by the caller.
        name: what the lines of progress call it.
        rows: from `test_rows` of its task.

    Raises:
        ModelError: the version cannot be loaded or measured.
        RegistryError: the process that measures it was ended.
    """
    with files.temporary_folder() as shared:
        settings = {"task": p.task, "evaluate": p.evaluate.model_dump(), "max_length": p.finetune.max_length}
        files.write_json(shared / _SETTINGS, {**settings, "threads": p.compute.threads, "name": name})
        files.write_parquet(shared / _ROWS, rows)
        scoring.run_apart("tuneline.fusion.ensembles.member_process", shared, folder, p, stdout=_STDERR)
        return Outputs.from_table(files.read_parquet(shared / _FOUND))


def answer_request(shared: Path, folder: Path) -> None:
    """Measure the model in `folder`, and write its outputs into `shared`."""
    settings = files.read_object(shared / _SETTINGS, "task", "evaluate", "max_length", "threads", "name")
    # This import loads torch, which takes seconds.
    from tuneline.modeling.models import use_threads

    use_threads(settings["threads"])
    model = ModelToScore(folder, settings["name"], settings["max_length"])
    rows, evaluate = files.read_parquet(shared / _ROWS), params.Evaluate(**settings["evaluate"])
    found = MIXTURES[settings["task"]].measure(model, rows, evaluate)
    files.write_parquet(shared / _FOUND, found.to_table())


def main(shared: Path, folder: Path) -> None:
    """Answer the request in `shared` about the model in `folder`.

    Raises:
        SystemExit: the model cannot be measured.
    """
    scoring.answer(shared, lambda: answer_request(shared, folder))


if __name__ == "__main__":
    terminal.guard()
    processes.run_and_exit(lambda: main(Path(sys.argv[1]), Path(sys.argv[2])))
