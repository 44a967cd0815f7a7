"""The commands of `tuneline`: each parses its arguments, calls one function and prints the result.

A problem is one line on standard error and exit code 1.
"""

import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click

from tuneline import __version__, processes, terminal
from tuneline.errors import DataError, ModelError, RegistryError, SetupError, TunelineError, as_setup_error
from tuneline.registry import names

if TYPE_CHECKING:
    from tuneline.commands.ask.inputs import Input
    from tuneline.commands.ask.served_version import Served
    from tuneline.params import Params
    from tuneline.progress import Progress


_Command = TypeVar("_Command", bound=Callable[..., Any])


class _Group(click.Group):
    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (TunelineError, OSError) as error:
            problem = as_setup_error(error) if isinstance(error, OSError) else error
            if problem is None:
                raise
            _note(*(problem.problems if isinstance(problem, TunelineError) else [str(problem)]))
            ctx.exit(1)


class _Alias(click.ParamType):
    name = "alias"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if problem := names.alias_problem(value):
            raise RegistryError(f"--alias: {problem}")
        return value


_ALIAS = _Alias()


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def cli() -> None:
    """Keep a language model fine-tuned on your own text.

    `make run` does everything from raw data to a registered model.
    """


def _at_most_one(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> str | None:
    if len(values) > 1:
        what = str(param.name if param.name == "prompt" else "text").upper()
        raise click.UsageError(
            f"{len(values)} arguments are given where one {what} is read; put quotes around a {what} with spaces, or "
            "give several in a file: --input FILE",
            ctx,
        )
    return values[0] if values else None


def _column(example: str) -> Callable[[_Command], _Command]:
    return click.option(
        "--column",
        "columns",
        multiple=True,
        metavar="FIELD=COLUMN",
        help=f"Which column holds a field, for example {example}. Repeatable.",
    )


@cli.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--name", help="Name of the data set's folder. Default: the name of PATH.")
@click.option("--group-by", help="Rows with the same value in this column stay in the same split.")
@_column("prompt=question")
@click.option("--encoding", help="Encoding of the files, if it is not UTF-8.")
@click.option(
    "--layout",
    type=click.Choice(["rows", "documents"]),
    help="How plain text is read: one row per line, or one document per file.",
)
@click.option("--task", help="The task, as in params.yaml. Default: the task that the rows fit.")
@click.option(
    "--exclude", multiple=True, metavar="GLOB", help="Files to leave out, for example '*.md' or LICENSE. Repeatable."
)
@click.option(
    "--max-rejected",
    metavar="FRACTION",
    type=click.FloatRange(0, 1),
    help="Share of rows that may be unusable, for example 0.05. Sets data.max_rejected_fraction.",
)
@click.option("--mix", metavar="WEIGHT", type=float, help="Train this data set in addition to the raw set.")
@click.option("--general", is_flag=True, help="Measure on this data set what the model forgets. It is not trained.")
def use(
    path: Path,
    name: str | None,
    group_by: str | None,
    columns: tuple[str, ...],
    encoding: str | None,
    layout: Literal["rows", "documents"] | None,
    task: str | None,
    exclude: tuple[str, ...],
    max_rejected: float | None,
    mix: float | None,
    general: bool,
) -> None:
    """Make PATH (a file or a folder) the raw set: the text that the model is fine-tuned on.

    Reads PATH as the pipeline does, copies it to data/raw and adds the copy to DVC. Then sets in params.yaml the task,
    `data`, and the values of `finetune` and `gate` that suit the data. Values that you set by hand stay. If PATH cannot
    be used, nothing changes.

    With --mix, PATH is trained in addition to the raw set: it is copied to data/mixture, and each epoch holds WEIGHT
    times its number of examples. With --general, PATH is copied there too, and data.general names it.
    """
    if mix is not None and general:
        raise click.UsageError("--mix cannot be combined with --general: trained text does not show what is forgotten")
    if (mix is not None or general) and (group_by or task):
        raise click.UsageError(
            f"{'--general' if general else '--mix'} cannot be combined with --group-by or --task, which are about the "
            "raw set"
        )
    _enter()
    from tuneline.commands.use import open_set, use_data
    from tuneline.pipeline import repro

    arguments = open_set.ReadingArguments(_mapping(columns), encoding, layout, exclude)
    with repro.hold_project():
        if mix is not None or general:
            lines = use_data.mix(path, arguments, name=name, weight=mix, max_rejected=max_rejected)
        else:
            lines = use_data.use(path, arguments, name=name, group_by=group_by, task=task, max_rejected=max_rejected)
    _print(*lines)


@cli.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="PATH...")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs (docs/inspect.md describes it).")
@_column("prompt=question")
@click.option("--encoding", help="Encoding of the files (a Python name). Default: its value in params.yaml, or UTF-8.")
@click.option(
    "--layout",
    type=click.Choice(["rows", "documents"]),
    help="How plain text is read. Default: its value in params.yaml, or rows.",
)
@click.option(
    "--exclude", multiple=True, metavar="GLOB", help="Files to leave out, for example '*.md' or LICENSE. Repeatable."
)
def inspect(
    paths: tuple[Path, ...],
    as_json: bool,
    columns: tuple[str, ...],
    encoding: str | None,
    layout: Literal["rows", "documents"] | None,
    exclude: tuple[str, ...],
) -> None:
    """Report what each PATH (a file or a folder) holds, read as the pipeline reads it. Changes nothing.

    Exit code 1 if the pipeline would refuse a PATH.
    """
    import orjson

    from tuneline.commands import inspection
    from tuneline.commands.use import open_set

    arguments = open_set.ReadingArguments(_mapping(columns), encoding, layout, exclude)
    report = inspection.inspect(paths, inspection.reading_for_project(arguments))
    if as_json:
        click.echo(orjson.dumps(report, option=orjson.OPT_INDENT_2))
    else:
        _print(*inspection.lines(report))
    if not inspection.is_usable(report):
        sys.exit(1)


def _mapping(columns: tuple[str, ...]) -> dict[str, str]:
    pairs = [column.partition("=") for column in columns]
    wrong = [
        f"--column {''.join(pair)}: must be FIELD=COLUMN, for example prompt=question"
        for pair in pairs
        if not all(pair)
    ]
    if wrong:
        raise click.UsageError("\n".join(wrong))
    return {field: column for field, _, column in pairs}


@cli.command()
@click.option(
    "--explain",
    is_flag=True,
    help="Only report, write nothing: what each rule asks for, how small an improvement the test rows can show, and "
    "how many more rows would decide an undecided rule.",
)
def gate(explain: bool) -> None:
    """Apply the gate's rules to the evaluated candidate and write the report. Exit code 1 if the gate fails."""
    _enter()
    with processes.importing():
        from tuneline import params
        from tuneline.decisions import decide
        from tuneline.pipeline import repro

    with repro.hold_project():
        decision = decide.gate(params.load(), dry_run=explain)
    _print(*decision.reasons, *(f"note: {remark}" for remark in decision.remarks))
    if explain:
        _print(*(f"rule {number}: {line}" for number, line in enumerate(decision.explanations, start=1)))
    _print(*(f"next: {step}" for step in decision.next_steps))
    written = "only explained, nothing is written" if explain else f"report: {decision.page}"
    _print(f"gate: {decision.verdict}; {written}")
    if decision.verdict == "failed":
        sys.exit(1)


@cli.command()
@click.option(
    "--version", type=click.IntRange(min=1), help="Number of a version. Default: the model in models/finetuned."
)
@click.option("--alias", type=_ALIAS, help="Alias of a version, for example champion.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
def check(version: int | None, alias: str | None, as_json: bool) -> None:
    """Ask a model what data/checks.yaml asks, and compare its answers with what is expected.

    Without an option, asks the model that was trained last. The model is loaded from its folder in a new process. Exit
    code 1 if a check of severity error fails.
    """
    if version is not None and alias is not None:
        raise click.UsageError("give either --version or --alias")
    _enter()
    from tuneline import params
    from tuneline.behaviour import check_results
    from tuneline.commands import check as checks

    p = params.load()
    name, results = checks.check(p, version=version, alias=alias)
    if as_json:
        _print_json([asdict(result) | {"passed": result.passed} for result in results])
    else:
        _print(*checks.lines(results), f"{name}: {check_results.summary(results, p.paths.checks)}")
    if check_results.failed(results, "error"):
        sys.exit(1)


@cli.command()
@click.option("--trials", type=click.IntRange(min=2), help="How many trials the search has in the end.")
@click.option("--workers", type=click.IntRange(min=1), default=1, show_default=True, help="Trials at the same time.")
@click.option("--name", default="search", show_default=True, help="Name of the search; it continues under its name.")
@click.option("--storage", metavar="URL", help="A database for the trials. Default: a file in work/search/NAME.")
@click.option("--scheduler", metavar="URL", help="A Dask cluster that trains the trials, as in tcp://host:8786.")
@click.option("--fresh", is_flag=True, help="Delete the trials of this search and begin anew.")
@click.option("--no-compare", is_flag=True, help="Do not compare the best trial with today's values on the test split.")
@click.option("--apply", is_flag=True, help="Write the values of the best trial into params.yaml.")
@click.option("--delete", is_flag=True, help="Delete this search, with its trials and their models in DVC's cache.")
def search(
    trials: int | None,
    workers: int,
    name: str,
    storage: str | None,
    scheduler: str | None,
    fresh: bool,
    no_compare: bool,
    apply: bool,
    delete: bool,
) -> None:
    """Search for better values of the keys that data/search.yaml names; registers nothing.

    Each trial trains with other values and is an experiment of DVC (`dvc exp show`). The same command continues a
    search that was stopped. The page is reports/search.html. With --apply and without --trials nothing is trained.
    """
    if delete and (trials is not None or apply):
        raise click.UsageError("give --delete alone, with --name")
    if trials is None and not apply and not delete:
        raise click.UsageError("give --trials, the number of trials; or --apply or --delete")
    _enter()
    if delete:
        from tuneline.decisions import kept_trials

        _print(*kept_trials.delete(name))
        return
    import json

    from tuneline import params
    from tuneline.search import options, space

    p = params.load()
    asked = options.Options(trials or 0, workers, name, storage, scheduler, fresh, not no_compare, apply)
    asked.check(p)
    wanted = space.read(p)
    asked.check_begun(wanted)
    if trials is None:
        _print(*(options.apply_best(asked, p, wanted) or ["params.yaml has the best values already"]))
        return
    # Only now: Prefect takes seconds to start, and what is wrong is known before.
    os.execv(sys.executable, [sys.executable, "flows/run_search.py", json.dumps(asdict(asked))])


@cli.command()
@click.argument("versions", metavar="VERSION...", nargs=-1, required=True)
@click.option(
    "--method",
    type=click.Choice(["linear", "task_arithmetic", "ties", "dare_linear", "dare_ties", "slerp"]),
    default="linear",
    show_default=True,
    help="How the weights are merged; linear is the average.",
)
@click.option("--weights", metavar="W,W,...", help="One number per version, in their order. Default: equal weights.")
@click.option(
    "--density", type=float, help="Share of what a version has learned that ties and dare keep. Default: 0.5."
)
@click.option("--seed", type=int, help="Of what dare keeps. Default: 0.")
@click.option("--apply", is_flag=True, help="Make it the next candidate: set base and epochs in params.yaml.")
def merge(
    versions: tuple[str, ...], method: str, weights: str | None, density: float | None, seed: int | None, apply: bool
) -> None:
    """Merge the weights of several versions, each VERSION a number or an alias, into one model.

    Verifies the versions, and copies them, with the base that all were fine-tuned from, to models/merge, under DVC. The
    stage `base` merges them. The merged model is a candidate like any other: `make run` evaluates it, the gate
    decides, and its version names its parents. With finetune.num_train_epochs above 0 it is trained further.
    """
    numbers = _numbers("--weights", weights)
    _enter()
    with processes.importing():
        from tuneline import params
        from tuneline.commands import merge as merging
        from tuneline.registry import tracking

    asked = merging.Asked(versions, method, numbers, density, seed, apply)
    _print(*merging.merge(params.load(), tracking.connect(), asked))


def _numbers(option: str, text: str | None) -> tuple[float, ...]:
    """The numbers of an option, which stand between commas."""
    try:
        return tuple(float(part) for part in text.split(",")) if text else ()
    except ValueError:
        raise click.UsageError(f"{option} {text}: must be numbers with commas between them, such as 0.7,0.3") from None


@cli.command()
def register() -> None:
    """Register the candidate, unless the gate has failed it. A second call finds the same version."""
    _enter()
    with processes.importing():
        from tuneline import params
        from tuneline.decisions import decide
        from tuneline.pipeline import repro

    p = params.load()
    with repro.hold_project():
        registration = decide.register(p)
    what = "registered" if registration.created else "is registered already"
    _print(*(f"note: {note}" for note in registration.notes))
    _print(f"{p.registry.model} version {registration.version} {what}")


@cli.command()
@click.argument("version", metavar="VERSION")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
def show(version: str, as_json: bool) -> None:
    """Show all about VERSION, a number or an alias.

    Prints its verdict, numbers with their intervals, data, base, code, environment, signature, claims and history.
    """
    _enter()
    with processes.importing():
        from tuneline import params
        from tuneline.commands import show as showing
        from tuneline.decisions import about_version
        from tuneline.registry import tracking

    model, tracker = params.load().registry.model, tracking.connect()
    about = about_version.collect(tracker, model, about_version.find_number(tracker, model, version))
    if as_json:
        _print_json(about.as_dict())
    else:
        _print(*showing.lines(about))


@cli.command()
@click.argument("before", metavar="VERSION")
@click.argument("after", metavar="VERSION")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
def diff(before: str, after: str, as_json: bool) -> None:
    """Say in words how the second VERSION differs from the first. Each is a number or an alias.

    Compares params, data with the rows that were added or removed, base, code, environment and metrics.
    """
    _enter()
    with processes.importing():
        from tuneline import params
        from tuneline.commands import diff as differences
        from tuneline.decisions import about_version, version_difference
        from tuneline.registry import tracking

    model, tracker = params.load().registry.model, tracking.connect()
    one, other = (
        about_version.collect(tracker, model, about_version.find_number(tracker, model, name))
        for name in (before, after)
    )
    found = version_difference.compare(tracker, one, other)
    if as_json:
        _print_json(found.as_dict())
    else:
        _print(*differences.lines(found))


def _print_json(value: Any) -> None:
    import orjson

    click.echo(orjson.dumps(value, option=orjson.OPT_INDENT_2))


def _version_options(row: str) -> Callable[[_Command], _Command]:
    """The options that `predict` and `generate` share.

    Args:
        row: what a row of an input file holds, in words.
    """
    options = [
        click.option("--version", "version", type=click.IntRange(min=1), help="Number of the version."),
        click.option("--alias", type=_ALIAS, default="champion", show_default=True, help="Alias of the version."),
        click.option(
            "--input",
            "path",
            type=click.Path(path_type=Path),
            help=f"A file or a folder with {row} per row, in any format that `inspect` reads; - is standard input.",
        ),
        click.option(
            "--output", type=click.Path(path_type=Path), help="Write to this file. Its suffix sets the format."
        ),
        click.option(
            "--format",
            "form",
            type=click.Choice(["csv", "jsonl", "parquet"]),
            help="Output format. Default: by the suffix of --output, else csv.",
        ),
        _column("text=review"),
        click.option(
            "--encoding",
            help="Encoding of the input (a Python name). Default: its value in params.yaml, or UTF-8.",
        ),
        click.option(
            "--layout",
            type=click.Choice(["rows", "documents"]),
            help="How plain text is read: one row per line (default), or one document per file. Standard input is then "
            "always plain text.",
        ),
    ]

    def add(command: _Command) -> _Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add


@cli.command()
@click.argument("source", nargs=-1, callback=_at_most_one, metavar="[TEXT | PATH | -]")
@click.option("--text", help="A text, even if a file has this name.")
@_version_options("one text")
@click.option("--all-labels", is_flag=True, help="Also write the probability of every label.")
@click.option("--top-k", type=click.IntRange(min=1), help="Also write the K most probable labels.")
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1),
    help="For models with several labels per text: labels above this probability are given. Default: 0.5.",
)
def predict(
    source: str | None,
    text: str | None,
    version: int | None,
    alias: str,
    path: Path | None,
    output: Path | None,
    form: str | None,
    columns: tuple[str, ...],
    encoding: str | None,
    layout: Literal["rows", "documents"] | None,
    all_labels: bool,
    top_k: int | None,
    threshold: float | None,
) -> None:
    """Predict the label (with its probability) or the number of a text with a registered version.

    Reads TEXT, the file or folder PATH, or standard input. Writes the columns of the input, and `label` and
    `probability`, or `number`. Rows that cannot be used are written with the reason, and counted.
    """
    if sum(given is not None for given in (source, text, path)) > 1:
        raise click.UsageError("give one of TEXT, PATH, --text and --input")
    if all_labels and top_k is not None:
        raise click.UsageError("give either --top-k or --all-labels")
    _enter()
    from tuneline.commands.ask import answer_files, inputs, served_version
    from tuneline.commands.use import open_set

    if source is not None:
        text, path = inputs.path_or_text(source)
    chosen = answer_files.format_of(output, form)
    p, served = _serve(version, alias)
    served_version.check_predicts(served)
    arguments = open_set.ReadingArguments(encoding=encoding, layout=layout)
    opened = inputs.open_input(
        text,
        path,
        column="text",
        options=inputs.options_for(p, path, arguments),
        is_plain=layout is not None,
        find=inputs.text_finder(_mapping(columns), served.columns),
        remedy="give a TEXT, a PATH, or standard input",
    )
    with opened as given:
        with processes.importing():
            from tuneline.commands.ask import predict as predicting
            from tuneline.modeling import models

        models.use_threads(p.compute.threads)
        predictor = predicting.Predictor(served, top_k=0 if all_labels else top_k, threshold=threshold)
        _note(f"{served.describe()}: {predictor.describe()}", *given.notes, *_csv_notes(given, chosen))
        table = answer_files.Table(given, predictor.columns())
        with answer_files.writing(output, chosen, table) as writer, _progress("predict", given) as progress:
            counts = predicting.run(
                predictor, given, table, writer, batch_size=p.evaluate.batch_size, progress=progress
            )
    _note(*counts.lines(table, chosen, f"{predictor.max_length:,} tokens; the model did not see their end"))
    counts.check()


@cli.command()
@click.argument("prompt", nargs=-1, callback=_at_most_one, metavar="[PROMPT | -]")
@_version_options("one prompt or conversation")
@click.option(
    "--max-new-tokens",
    type=click.IntRange(min=1),
    help="Most tokens of an answer. Default: evaluate.max_new_tokens in params.yaml.",
)
def generate(
    prompt: str | None,
    version: int | None,
    alias: str,
    path: Path | None,
    output: Path | None,
    form: str | None,
    columns: tuple[str, ...],
    encoding: str | None,
    layout: Literal["rows", "documents"] | None,
    max_new_tokens: int | None,
) -> None:
    r"""Answer one prompt, or many, with a registered version.

    Reads PROMPT, in which `\n` is a line break, or all of standard input as one prompt, and prints the answer while it
    is generated. With --input, answers every row of a file or a folder, and writes the columns of the input and
    `answer`.
    """
    if prompt is not None and path is not None:
        raise click.UsageError("give either PROMPT or --input")
    if path is None and (columns or layout):
        raise click.UsageError("--column and --layout need --input")
    _enter()
    from tuneline.commands.ask import answer_files, inputs, served_version
    from tuneline.commands.use import open_set

    is_batch = path is not None or output is not None or form is not None
    chosen = answer_files.format_of(output, form)
    p, served = _serve(version, alias)
    served_version.check_writes(served)
    arguments = open_set.ReadingArguments(encoding=encoding, layout=layout)
    remedy = "give a PROMPT, or --input FILE"
    if path is None:
        prompt = prompt.replace("\\n", "\n") if prompt not in (None, inputs.STDIN) else None
        text = inputs.text_of_stdin(encoding or "utf-8", remedy) if prompt is None else prompt
    else:
        text = None
    opened = inputs.open_input(
        text,
        path,
        column="prompt",
        options=inputs.options_for(p, path, arguments),
        is_plain=layout is not None,
        find=inputs.prompt_finder(_mapping(columns), served.columns, chats=served.chats),
        remedy=remedy,
    )
    with opened as given:
        # Imports torch and transformers, which takes seconds: only when nothing is wrong with the arguments.
        with processes.importing():
            from tuneline.commands.ask import generate as generating
            from tuneline.modeling import models

        models.use_threads(p.compute.threads)
        generator = generating.Generator(served, max_new_tokens or p.evaluate.max_new_tokens)
        _note(served.describe(), *given.notes, *_csv_notes(given, chosen))
        if not is_batch:
            for piece in generator.stream(given):
                answer_files.show(piece)
            answer_files.show("\n")
            return
        table = answer_files.Table(given, generating.COLUMNS)
        with answer_files.writing(output, chosen, table) as writer, _progress("generate", given) as progress:
            counts = generating.run(
                generator, given, table, writer, batch_size=p.evaluate.batch_size, progress=progress
            )
    _note(*counts.lines(table, chosen, f"{generator.room:,} tokens; the model did not see their beginning"))
    counts.check()


@cli.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--version", type=click.IntRange(min=1), help="Number of the version that labels.")
@click.option("--alias", type=_ALIAS, default="champion", show_default=True, help="Alias of the version.")
@click.option(
    "--confidence", type=float, default=0.9, show_default=True, help="The least probability of a label that is taken."
)
@click.option("--name", default="pseudo", show_default=True, help="Name of the set's folder in data/mixture.")
@click.option("--mix", metavar="WEIGHT", type=float, help="Train the set: its weight in data.mixture.")
@_column("text=review")
@click.option("--encoding", help="Encoding of the files, if it is not UTF-8.")
@click.option(
    "--layout",
    type=click.Choice(["rows", "documents"]),
    help="How plain text is read: one row per line, or one document per file.",
)
@click.option(
    "--exclude", multiple=True, metavar="GLOB", help="Files to leave out, for example '*.md' or LICENSE. Repeatable."
)
@click.option("--dry-run", is_flag=True, help="Only say what would be labelled.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
def pseudolabel(
    path: Path,
    version: int | None,
    alias: str,
    confidence: float,
    name: str,
    mix: float | None,
    columns: tuple[str, ...],
    encoding: str | None,
    layout: Literal["rows", "documents"] | None,
    exclude: tuple[str, ...],
    dry_run: bool,
    as_json: bool,
) -> None:
    """Label the texts at PATH (a file or a folder) with a registered classifier, and keep those of which it is sure.

    They become a further training set in data/mixture, under DVC, with the confidence of each row and the version that
    labelled it. Rows that equal, or nearly equal, a held-out or training row are dropped and counted. With --mix the
    set is trained in addition to the raw set.
    """
    _enter()
    from tuneline import params
    from tuneline.commands.use import open_set
    from tuneline.pipeline import repro

    arguments = open_set.ReadingArguments(_mapping(columns), encoding, layout, exclude)
    with repro.hold_project(_note):
        with processes.importing():
            from tuneline.commands import pseudolabel as labelling
            from tuneline.registry import tracking

        target = labelling.check(params.load(), confidence, name, mix)
        p, served = _serve(version, alias)
        metrics = tracking.connect().version_metrics(p.registry.model, served.version)
        found = labelling.pseudolabel(p, served, path, arguments, target, metrics, confidence=confidence)
        written = [] if dry_run else labelling.write(p, found, weight=mix)
    if as_json:
        _print_json(found.as_dict() | {"written": not dry_run})
    else:
        _print(served.describe(), *labelling.lines(found), *(written or ["nothing is written (--dry-run)"]))


@cli.command()
@click.argument("prompt", required=False, metavar="[PROMPT | TEXT | -]")
@click.option("--version", "version", type=click.IntRange(min=1), help="Number of the version.")
@click.option("--alias", type=_ALIAS, default="champion", show_default=True, help="Alias of the version.")
@click.option("--label", help="Explain this label of a classifier. Default: the most probable label.")
@click.option("--answer", help="Explain this answer to PROMPT. Default: the answer that the model writes.")
@click.option(
    "--max-new-tokens",
    type=click.IntRange(min=1),
    help="Most tokens of the answer. Default: evaluate.max_new_tokens in params.yaml.",
)
@click.option("--test", is_flag=True, help="Show the words that decide each label over the version's test rows.")
@click.option(
    "--rows",
    type=click.IntRange(min=1),
    default=200,
    show_default=True,
    help="With --test: most rows, drawn at random.",
)
@click.option(
    "--output", type=click.Path(path_type=Path, dir_okay=False), help="The page. Default: in reports/explanations."
)
def explain(
    prompt: str | None,
    version: int | None,
    alias: str,
    label: str | None,
    answer: str | None,
    max_new_tokens: int | None,
    test: bool,
    rows: int,
    output: Path | None,
) -> None:
    r"""Show on a page which words of PROMPT or TEXT a registered version's answer, label or number rests on.

    In PROMPT `\n` is a line break, as for `generate`; - reads standard input. The page holds attributions with their
    check of completeness, attention, the most similar training rows, and whether the attributions are better than
    random orders of the words. Needs the extra `explain` (docs/explanation.md).
    """
    if test and (prompt is not None or label is not None or answer is not None):
        raise click.UsageError("--test explains the test rows; leave out PROMPT, --label and --answer")
    if output and not output.parent.is_dir():
        raise SetupError(f"--output {output}: {output.parent} is not a folder")
    _enter()
    from tuneline.commands.ask import inputs
    from tuneline.explanation import installed

    installed.check()
    text = ""
    if not test:
        is_stdin = prompt in (None, inputs.STDIN)
        text = inputs.text_of_stdin("utf-8", "give a PROMPT or TEXT, or --test") if is_stdin else prompt or ""
        if not text.strip():
            raise DataError("the text is empty; give a PROMPT or TEXT, or --test")
    p, served = _serve(version, alias)
    if served.predicts and (answer is not None or max_new_tokens is not None):
        raise ModelError(f"--answer, --max-new-tokens: {served.name} gives labels or numbers and writes no answers")
    if not served.predicts and prompt not in (None, inputs.STDIN):
        # As for `generate`; `predict` takes a text as it is.
        text = text.replace("\\n", "\n")
    if label is not None and served.mode != "classification":
        raise ModelError(f"--label: {served.name} gives no labels; leave it out")
    with processes.importing():
        from tuneline.commands import explain as explaining

    if test:
        lines = explaining.explain_test(p, served, rows=rows, output=output)
    else:
        lines = explaining.explain_text(
            p, served, text, label=label, answer=answer, max_new_tokens=max_new_tokens, output=output
        )
    _print(*lines)


def _serve(version: int | None, alias: str) -> "tuple[Params, Served]":
    from tuneline import params
    from tuneline.commands.ask import served_version

    p = params.load()
    served = served_version.serve(p, version=version, alias=alias)
    _note(*served.notes)
    return p, served


def _csv_notes(given: "Input", form: str) -> list[str]:
    return [given.csv_note] if given.csv_note and form == "csv" else []


def _progress(what: str, given: "Input") -> "Progress":
    from tuneline.progress import Progress

    return Progress(what, always=given.has_sources, to=sys.stderr)


def _print(*lines: str) -> None:
    """Print lines on standard output."""
    for line in lines:
        click.echo(terminal.safe_line(line))


def _note(*lines: str) -> None:
    """Print lines on standard error: standard output holds only the result."""
    for line in lines:
        click.echo(terminal.safe_line(line), err=True)


@cli.group("keys")
def key_commands() -> None:
    """The keys that sign versions: private ones on this machine, public ones in mlflow/keys."""


@key_commands.command("create")
@click.option("--name", help="Name of the key. Default: your login name.")
def create_key(name: str | None) -> None:
    """Make a key that signs every version that is registered from now on.

    The private key stays on this machine, outside the repository, readable by you alone. The public key is a file in
    mlflow/keys, to be committed. A key that exists is never overwritten: the project then gets its public part. The
    first key of a project accepts the history so far; afterwards, unsigned promotions do not count.

    TUNELINE_SIGNING_KEY is the path of the private key where it has another place. If TUNELINE_SIGNING_KEY_PASSWORD is
    set, the private key is encrypted with it.
    """
    _enter()
    from tuneline.commands import signing

    _print(*signing.create(name))


@key_commands.command("list")
def list_keys() -> None:
    """List the public keys that this project trusts, and which of them sign on this machine."""
    _enter()
    from tuneline.commands import signing

    _print(*signing.list_keys())


@cli.command("verify-model")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--key",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The signer's public key. Default: the keys in mlflow/keys of the working directory.",
)
def verify_model(folder: Path, key: Path | None) -> None:
    """Check that FOLDER holds exactly the files of a version that was signed. Needs only the public key.

    Works in any directory. Exit code 1 if a file was changed, added or removed, or another key signed it.
    """
    from tuneline.commands import signing

    _print(signing.verify_model(folder, key))


@cli.command()
@click.option(
    "--rows", type=click.IntRange(min=1), default=4, show_default=True, help="Number of rows, from the first batch on."
)
@click.option(
    "--html", type=click.Path(path_type=Path, dir_okay=False), help="Also write an HTML page with every token."
)
def preview(rows: int, html: Path | None) -> None:
    """Show the first training rows as the model sees them, and which tokens it is trained on."""
    _enter()
    if html and not html.parent.is_dir():
        raise SetupError(f"--html {html}: {html.parent} is not a folder")
    # Importing torch and transformers takes seconds, so the params are checked first.
    from tuneline import params

    p = params.load()
    with processes.importing():
        from tuneline.commands import preview as previews
        from tuneline.modeling import models

    models.use_threads(p.compute.threads)
    made = previews.first_rows(p, rows)
    for line in previews.lines(
        made, coloured=bool(sys.stdout and sys.stdout.isatty()) and not os.environ.get("NO_COLOR")
    ):
        # `lines` has already replaced what could control the terminal.
        click.echo(line, file=terminal.unguarded(sys.stdout))
    if html:
        previews.write_page(made, html)
        click.echo(f"\n{html}: every token with its id, and whether it is supervised")


@cli.command()
@click.option(
    "--folds",
    type=click.IntRange(min=2, max=100),
    help="Number of trainings. Default: data.split.folds of params.yaml.",
)
@click.option("--dry-run", is_flag=True, help="Only say what it would cost.")
def crossvalidate(folds: int | None, dry_run: bool) -> None:
    """Train once per fold, and measure each model on the rows that it has not seen.

    It uses the training and validation rows, never the test rows, and registers nothing. A run that was killed goes on
    where it was. It prints means with intervals; reports/crossvalidation.parquet holds the prediction of each row.
    """
    _enter()
    from tuneline import params

    p = params.load()
    with processes.importing():
        from tuneline.commands import crossvalidate as command
        from tuneline.registry import tracking

    made, tracker = command.plan(p, folds), tracking.connect()
    click.echo(command.cost(p, made, tracker))
    if dry_run:
        return
    for line in command.lines(command.crossvalidate(p, made, tracker)):
        click.echo(line)
    click.echo(
        f"{p.paths.reports}/{command.RESULT} and {command.PREDICTIONS}: the result and the prediction of each row"
    )


@cli.command()
@click.argument("versions", nargs=-1, required=True, metavar="VERSION VERSION...")
@click.option("--dry-run", is_flag=True, help="Only say what it would cost.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The page. Default: in reports/ensembles.",
)
def ensemble(versions: tuple[str, ...], dry_run: bool, as_json: bool, output: Path | None) -> None:
    """Measure an ensemble: the mean of the probabilities of several versions.

    Each VERSION is a number or an alias. Prints the metrics of each member and of their mean on today's test rows, with
    equal weights and with weights fitted on the validation rows, and the differences with 95 % intervals. Rows that a
    member was trained on are left out. The last line is the path of the page with all of it.

    It is a measurement, not a candidate: a version is one model in a folder, and no such folder can hold the mean of
    the probabilities of several models. To get one model from several, merge them.
    """
    if output and not output.parent.is_dir():
        raise SetupError(f"--output {output}: {output.parent} is not a folder")
    _enter()
    with processes.importing():
        from tuneline import params
        from tuneline.commands import ensemble as ensembles
        from tuneline.fusion.ensembles import ensemble as measuring

    p = params.load()
    made = ensembles.plan(p, versions)
    (_print if dry_run else _note)(ensembles.cost(p, made))
    if dry_run:
        return
    result = measuring.measure(p, made)
    page = ensembles.write_page(p, result, output)
    if as_json:
        _print_json(result.as_dict())
    else:
        _print(*ensembles.lines(result), str(page))


@cli.command()
@click.argument("version", type=click.IntRange(min=1))
@click.option("--alias", type=_ALIAS, default="champion", show_default=True, help="The alias that the version gets.")
@click.option("--override", metavar="REASON", help="Promote although checks have failed. Damage is never overridden.")
def promote(version: int, alias: str, override: str | None) -> None:
    """Make VERSION (its number) the champion, after verifying it.

    If a check fails, nothing changes, and the exit code is 1. With --override REASON the version becomes champion all
    the same, unless its files are damaged; who did it and why is kept in its tags and in the history.
    """
    _enter()
    from tuneline import params
    from tuneline.commands import promote as promoting

    _print(promoting.promote(params.load(), str(version), alias=alias, override=override, log=_note))


@cli.command()
@click.option("--to", type=click.IntRange(min=1), help="Number of the version. Default: the champion before this one.")
@click.option("--reason", default="", help="Why, for the history.")
@click.option("--override", metavar="REASON", help="Go back although checks have failed. Damage is never overridden.")
def rollback(to: int | None, reason: str, override: str | None) -> None:
    """Make an earlier champion the champion again, after verifying it.

    Two rollbacks go back by two champions. The version is not compared with the version that it replaces. If a check
    fails, nothing changes, and the exit code is 1; with --override REASON as for `tuneline promote`.
    """
    _enter()
    from tuneline import params
    from tuneline.commands import promote as promoting

    version = None if to is None else str(to)
    _print(promoting.rollback(params.load(), to=version, reason=reason, override=override, log=_note))


@cli.command()
@click.option(
    "--at", metavar="TIME", help="Only say which version was champion then, for example 2026-10-03T12:00 (UTC)."
)
@click.option("--alias", type=_ALIAS, default="champion", show_default=True, help="The alias that is asked about.")
@click.option(
    "--limit", type=click.IntRange(min=1), default=50, show_default=True, help="Number of entries, the newest."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
@click.option(
    "--accept",
    metavar="REASON",
    help="Accept the damage of a history that was repaired or cannot be, and, with a key, its unsigned entries.",
)
def history(at: str | None, alias: str, limit: int, as_json: bool, accept: str | None) -> None:
    """Show who moved which alias when, from and to which version, and why.

    Every entry is checked. If an entry was edited, deleted or exchanged, the first lines say so, and the exit code is
    1. With a key in mlflow/keys, an entry that gave an alias to a version counts only if such a key has signed it.
    """
    _enter()
    import json

    from tuneline import params
    from tuneline.commands import history_table

    p = params.load()
    if accept is not None:
        _print(*history_table.accept(p, accept))
        return
    try:
        then = None if at is None else history_table.past_moment(at)
    except RegistryError as error:
        raise click.UsageError(str(error)) from None
    told = history_table.read(p)
    if as_json:
        value = history_table.value(told, alias=alias, limit=limit, at=then)
        click.echo(json.dumps(value, ensure_ascii=False, indent=2))
    elif then is not None:
        _print(*history_table.at_lines(told, alias=alias, at=then))
    else:
        _print(*history_table.lines(told, alias=alias, limit=limit))
    if told.found.problems:
        sys.exit(1)


@cli.command()
def doctor() -> None:
    """Report what this machine has and which values of `compute` suit it, and check every version in the registry.

    Of a version: whether its files are those that were registered (every byte is hashed), whether its signature is
    valid, and whether its code and data still exist; and whether the history of the model is whole. Exit code 1 if
    something is broken.
    """
    from tuneline.commands import doctor as doctors

    if doctors.ENV_FILE.is_file():
        _enter()
    is_broken = False
    for finding in doctors.examine():
        _print(f"{'broken: ' if finding.is_broken else ''}{finding.text}")
        is_broken = is_broken or finding.is_broken
    if is_broken:
        sys.exit(1)


@cli.command()
@click.option("--dry-run", is_flag=True, help="Only report what would happen.")
def verify(dry_run: bool) -> None:
    """Verify the version that a person has made champion, and undo the promotion if a check fails.

    Checks every byte of its files, the signature, what it was made from, that it loads and answers, and that it passes
    the gate on today's test set, compared with the last verified champion. If the alias has not moved, the files of the
    champion are checked again. Exit code 1 if the promotion is undone, or would be, or the champion is damaged.
    """
    _enter()
    from tuneline import params
    from tuneline.decisions import promotion

    outcome = promotion.follow(params.load(), dry_run=dry_run, recheck=True, log=_print)
    for step in outcome.steps:
        _print(f"{outcome.model}: {step.told(dry_run=dry_run)}")
    if not outcome.steps:
        _print(f"{outcome.model}: {outcome.standing()}")
    if outcome.failed and not outcome.damage:
        raise RegistryError(
            f"{outcome.model} version {outcome.champion}: {outcome.failed}; its files are as registered. Promote "
            f"another version, or keep this one with: tuneline promote {outcome.champion} --override REASON"
        )
    if outcome.damage:
        raise RegistryError(
            f"{outcome.model} version {outcome.champion}: {outcome.damage}; give the alias to another version with: "
            "tuneline rollback"
        )
    if outcome.undone:
        sys.exit(1)


@cli.command()
@click.option(
    "--every",
    type=click.FloatRange(min=0.5, max=60),
    default=3.0,
    show_default=True,
    help="Seconds between two questions to the registry.",
)
@click.option(
    "--webhook-port",
    type=click.IntRange(min=0, max=65535),
    help="Port of this machine for webhooks of its MLflow server (0: any free port). They only save a few seconds.",
)
def watch(every: float, webhook_port: int | None) -> None:
    """Verify every promotion within seconds, until Ctrl-C.

    Asks the registry whether a person has moved the alias `champion`, and starts flows/promotion.py if so. Goes on
    while the registry does not answer. Only one process can watch a project.
    """
    _enter()
    from tuneline import stopping
    from tuneline.commands import watch as watching

    try:
        with stopping.stoppable("the watch has ended"):
            watching.watch(_print, every=every, webhook_port=webhook_port)
    except stopping.Stopped:
        # A person has ended it, as the only way to end it.
        return


@cli.command()
@click.option("--mlflow-port", default=5000, show_default=True, help="Port of the MLflow UI.")
@click.option("--prefect-port", default=4200, show_default=True, help="Port of the Prefect UI.")
@click.option(
    "--mlflow-host", default="127.0.0.1", show_default=True, help="Address on which MLflow listens; 0.0.0.0: on all."
)
@click.option(
    "--allowed-hosts",
    metavar="NAME,…",
    help="Names by which other machines reach MLflow, which refuses every other name. Default: only this machine.",
)
def ui(mlflow_port: int, prefect_port: int, mlflow_host: str, allowed_hosts: str | None) -> None:
    """Serve the MLflow UI and the Prefect UI on loopback until Ctrl-C.

    For a team: --mlflow-host 0.0.0.0 --allowed-hosts NAME, where NAME is the name of this machine. MLflow has no login,
    so everyone who reaches it can change its content.
    """
    _enter()
    from tuneline import params
    from tuneline.commands import servers

    try:
        model = params.load().registry.model
    except TunelineError:
        # The registry can be viewed even if params.yaml is wrong.
        model = None
    names_of_hosts = [name.strip() for name in allowed_hosts.split(",")] if allowed_hosts else []
    servers.serve(mlflow_port, prefect_port, model, _print, mlflow_host=mlflow_host, allowed_hosts=names_of_hosts)


@cli.command()
@click.argument("version", type=click.IntRange(min=1), metavar="N")
@click.option("--with-env", is_flag=True, help="Build a Python environment from the locks of the version first.")
@click.option(
    "--from-hub",
    is_flag=True,
    help="Fetch a base that came from a model hub from there, not from DVC's cache or remote.",
)
@click.option("--keep", is_flag=True, help="Keep the folder of the rebuild, in work/rebuilt.")
@click.option("--unsigned", is_flag=True, help="Run the code of a version that no key in mlflow/keys has signed.")
def reproduce(version: int, with_env: bool, from_hub: bool, keep: bool, unsigned: bool) -> None:
    """Build version N again from its own sources, without any cache, and compare it byte by byte.

    Prints `identical`, or what differs and why that is expected, with exit code 1. The outcome becomes an entry of the
    model's history. A training can run meanwhile.
    """
    _enter()
    with processes.importing():
        from tuneline import params, stopping
        from tuneline.commands import rebuild
        from tuneline.registry import tracking

    try:
        with stopping.stoppable("stopped; the folder of the rebuild is removed, and the project is as it was"):
            is_identical = rebuild.rebuild(
                params.load(),
                tracking.connect(),
                str(version),
                _print,
                with_env=with_env,
                from_hub=from_hub,
                keep=keep,
                unsigned=unsigned,
            )
    except stopping.Stopped as stopped:
        sys.exit(stopped.code)
    if not is_identical:
        sys.exit(1)


@cli.command()
@click.option("--git-remote", default="origin", show_default=True, help="The git remote of the refs.")
def push(git_remote: str) -> None:
    """Copy what all versions were made from to other places: git refs to a git remote, data to DVC's remote.

    A second call finds that all is there. Versions themselves are in MLflow.
    """
    _enter()
    with processes.importing():
        from tuneline import params
        from tuneline.commands import push_pull
        from tuneline.registry import tracking

    _print(*push_pull.push(params.load(), tracking.connect(), git_remote))


@cli.command()
@click.option("--git-remote", default="origin", show_default=True, help="The git remote of the refs.")
def pull(git_remote: str) -> None:
    """Fetch what all versions were made from: their git refs from a git remote, their data from DVC's remote.

    Branches and files of the project stay as they are. A second call finds that all is here.
    """
    _enter()
    with processes.importing():
        from tuneline import params
        from tuneline.commands import push_pull
        from tuneline.registry import tracking

    _print(*push_pull.pull(params.load(), tracking.connect(), git_remote))


@cli.command()
@click.option("--dry-run", is_flag=True, help="Only list what would be freed.")
@click.option(
    "--other-branches",
    is_flag=True,
    help="Also free checkpoints that a training of another git branch could resume.",
)
def gc(dry_run: bool, other_branches: bool) -> None:
    """Delete files that no run needs any more.

    These are checkpoints of stopped trainings that no training resumes, temporary files of killed processes, and model
    copies in MLflow that never became a version, because `register` was killed.

    Versions, DVC's cache and the outputs of stages stay. Refused while a run or a training is active.
    """
    _enter()
    from tuneline.commands import garbage

    _print(*garbage.collect(dry_run=dry_run, other_branches=other_branches))


@cli.command()
@click.option("--group", "groups", multiple=True, metavar="COLUMN=VALUE", help="Rows with this value. Repeatable.")
@click.option("--row", "rows", multiple=True, metavar="ID", help="A row by its id, or as FILE:LINE. Repeatable.")
@click.option("--dry-run", is_flag=True, help="Only name the rows, the versions that saw them, and what would go.")
@click.option("--remote", is_flag=True, help="Also delete the objects in DVC's default remote.")
@click.option("--erase-unknown", is_flag=True, help="Also erase versions that may have seen the rows.")
def forget(groups: tuple[str, ...], rows: tuple[str, ...], dry_run: bool, remote: bool, erase_unknown: bool) -> None:
    """Erase rows from the raw sets and from all that was made from them, train again, and prove it.

    Versions that saw the rows lose their files and aliases. Killed, the same command continues. The last lines hold the
    key of the receipt, which is shown once.

    Without rows, --remote deletes what finished erasures have left in DVC's default remote.
    """
    pairs = [group.partition("=") for group in groups]
    if not pairs and not rows and not remote:
        raise click.UsageError("give --group COLUMN=VALUE or --row ID")
    if wrong := [f"--group {''.join(pair)}: must be COLUMN=VALUE" for pair in pairs if not pair[0] or not pair[1]]:
        raise click.UsageError("\n".join(wrong))
    _enter()
    from tuneline import params, stopping
    from tuneline.decisions import erasure
    from tuneline.decisions.erasure_plan import Asked

    asked = Asked(tuple((column, value.strip()) for column, _, value in pairs), rows)
    if not pairs and not rows:
        erasure.forget_in_remote(params.load(), log=_print, dry_run=dry_run)
        return
    stopped_line = "stopped; nothing is changed" if dry_run else erasure.STOPPED
    try:
        with stopping.stoppable(stopped_line):
            erasure.forget(params.load(), asked, log=_print, dry_run=dry_run, remote=remote, unknown=erase_unknown)
    except stopping.Stopped as stopped:
        sys.exit(stopped.code)


@cli.command("exec", context_settings={"ignore_unknown_options": True})
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def execute(command: tuple[str, ...]) -> None:
    """Run COMMAND in the project's environment, for example: tuneline exec -- prefect worker start --pool NAME."""
    _enter()
    script = shutil.which(command[0])
    # Prefect prints addresses that may hold passwords, so they are masked unless --show-secrets asks for them.
    if command[0] == "prefect" and script and "--show-secrets" not in command:
        command = (sys.executable, "-m", "tuneline.terminal", script, *command[1:])
    try:
        os.execvp(command[0], command)
    except OSError as error:
        raise SetupError(f"{command[0]}: cannot be run: {error.strerror}") from None


def _enter() -> None:
    from tuneline import environment

    environment.enter()


def main() -> None:
    """The entry point."""
    terminal.guard()
    processes.run_and_exit(lambda: cli(prog_name="tuneline"))
