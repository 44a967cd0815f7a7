"""Runs tasks of lm-evaluation-harness, in a process of its own that may not download anything.

    python -m tuneline.evaluation.probes.harness_run SHARED

It is the only module that imports the library, which is not a dependency. Code of a model is never run, nor tasks that
run code that a model has written. The library renders the templates of a task file, which may come from anywhere,
without a sandbox; here they are rendered in jinja's.
"""

import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
from jinja2 import Environment, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from tuneline import processes, terminal
from tuneline.core import bounded_yaml, files
from tuneline.errors import ModelError, TunelineError
from tuneline.evaluation import generation
from tuneline.evaluation.score_table import ModelToScore
from tuneline.modeling import models

REQUEST, PROBLEMS, TASKS = "request.json", "problems.json", "tasks"
_LONGEST = 300


def main(shared: Path) -> None:
    """Run the tasks of the request on its models, and write a table per task, or the problems.

    Raises:
        SystemExit: a task cannot be run.
    """
    try:
        _run(shared)
    except TunelineError as error:
        files.write_json(shared / PROBLEMS, list(error.problems))
        sys.exit(1)


def _run(shared: Path) -> None:
    from lm_eval.tasks import TaskManager  # pyright: ignore[reportMissingImports]

    request = files.read_object(shared / REQUEST)
    models.use_threads(request["threads"])
    _render_in_a_sandbox()
    manager = TaskManager(include_path=str(shared / TASKS))
    own = [name for name in request["tasks"] if name not in manager.all_subtasks]
    if own:
        raise ModelError(
            *(
                f"evaluate.harness: {name} is not a task of lm-evaluation-harness or of {request['folder']}; a group "
                "of tasks is named by its tasks"
                for name in own
            )
        )
    _refuse_foreign_metrics(shared / TASKS, request)
    tables: dict[str, dict[str, Any]] = {name: {} for name in request["tasks"]}
    for model, values in request["models"].items():
        for name, (metric, scores) in _scores(model, values, request, manager).items():
            tables[name] |= {"metric": metric, model: scores}
    for name, columns in tables.items():
        metric = columns.pop("metric")
        documents = pa.array([f"{name}:{number}" for number in next(iter(columns.values()))], pa.string())
        scores = {model: pa.array(list(of.values()), pa.float64()) for model, of in columns.items()}
        files.write_parquet(shared / f"{name}.parquet", pa.table({"document": documents, **scores}))
        files.write_json(shared / f"{name}.json", {"metric": metric})


def _render_in_a_sandbox() -> None:
    """Make the library render its templates in a sandbox, with its own options and filters."""
    from lm_eval import utils  # pyright: ignore[reportMissingImports]

    free = getattr(utils, "env", None)
    if not isinstance(free, Environment):
        raise ModelError(
            "evaluate.harness: this version of lm-evaluation-harness renders templates in another way, which cannot be "
            "confined; install lm_eval==0.4.13"
        )
    confined = ImmutableSandboxedEnvironment(
        undefined=free.undefined, keep_trailing_newline=free.keep_trailing_newline, extensions=list(free.extensions)
    )
    confined.filters = free.filters
    utils.env = confined


def _refuse_foreign_metrics(folder: Path, request: dict[str, Any]) -> None:
    """Raise for a metric that is not the library's own: it would look for a file or package of this name and run it."""
    from lm_eval.api.registry import metric_registry  # pyright: ignore[reportMissingImports]

    foreign = [
        f"{request['folder']}/{path.relative_to(folder)}: metric_list: {name!r} is not one of the library's metrics"
        for path in sorted(folder.rglob("*.yaml"))
        for name in _metrics(bounded_yaml.load(path.read_text("utf-8"), "safe"))
        if not isinstance(name, str) or name not in metric_registry
    ]
    if foreign:
        raise ModelError(*foreign)


def _metrics(config: dict[str, Any]) -> list[Any]:
    listed = config.get("metric_list")
    inner = config.get("task")
    here = [one.get("metric") for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
    within = [task for task in inner if isinstance(task, dict)] if isinstance(inner, list) else []
    return here + [name for task in within for name in _metrics(task)]


def _scores(
    model: str, values: dict[str, Any], request: dict[str, Any], manager: Any
) -> dict[str, tuple[str, dict[int, float]]]:
    """Task -> its metric, and document -> the model's score."""
    from lm_eval import simple_evaluate  # pyright: ignore[reportMissingImports]
    from lm_eval.models.huggingface import HFLM  # pyright: ignore[reportMissingImports]

    encoded_as = Path(values["encoded_as"]) if values["encoded_as"] else None
    loaded = generation.load(ModelToScore(Path(values["folder"]), model, request["max_length"], encoded_as=encoded_as))
    wrapped = HFLM(
        pretrained=loaded.model,
        tokenizer=loaded.tokenizer,
        max_length=loaded.max_length,
        batch_size=request["batch_size"],
        trust_remote_code=False,
    )
    try:
        found = simple_evaluate(
            wrapped,
            tasks=request["tasks"],
            task_manager=manager,
            limit=request["rows"],
            bootstrap_iters=0,
            log_samples=True,
            apply_chat_template=loaded.mode == generation.CHAT,
            confirm_run_unsafe_code=False,
        )
    except (OSError, ValueError, KeyError, ImportError, RuntimeError, TypeError, TemplateError) as error:
        # The library raises whatever the missing data or the task file leads to.
        text = " ".join(str(error).split())
        raise ModelError(
            f"evaluate.harness: {', '.join(request['tasks'])} cannot be run, for example because the data of a task is "
            f"not on this machine, and nothing is downloaded ({type(error).__name__}: {text[:_LONGEST]}); bring the "
            f"data and name it in a task file in {request['folder']}, or remove the task"
        ) from error
    assert found is not None
    return {name: _of_task(name, found) for name in request["tasks"]}


def _of_task(name: str, found: Any) -> tuple[str, dict[int, float]]:
    samples = found["samples"][name]
    for metric, is_better in found["higher_is_better"].get(name, {}).items():
        # Of several filters the first.
        scores: dict[int, float] = {}
        for sample in samples:
            if isinstance(value := sample.get(metric), int | float):
                scores.setdefault(sample["doc_id"], float(value))
        if is_better and len(scores) == len({sample["doc_id"] for sample in samples}):
            return metric, scores
    raise ModelError(
        f"evaluate.harness: {name} has no metric with a number per document of which more is better; name another task"
    )


if __name__ == "__main__":
    terminal.guard()
    processes.run_and_exit(lambda: main(Path(sys.argv[1])))
