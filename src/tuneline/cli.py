"""The command line: thin. Parse, call, and one line for each problem."""

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click

from tuneline import __version__, processes, terminal
from tuneline.errors import SetupError, TunelineError, of_machine

if TYPE_CHECKING:
    from tuneline.commands.ask.inputs import Input
    from tuneline.commands.ask.served_version import Served
    from tuneline.params import Params
    from tuneline.progress import Progress


class _Group(click.Group):
    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (TunelineError, OSError) as error:
            problem = of_machine(error) if isinstance(error, OSError) else error
            if problem is None:
                raise
            _say(*(problem.problems if isinstance(problem, TunelineError) else [str(problem)]))
            ctx.exit(1)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def cli() -> None:
    """Keep a language model fine-tuned on your own text.

    The whole line, from raw data to a registered model, is `make run`.
    """


@cli.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--name", help="Name of the set's folder; by default that of PATH.")
@click.option("--group-by", help="Column whose value keeps rows together when they are split.")
@click.option("--column", "columns", multiple=True, metavar="FIELD=COLUMN", help="As in prompt=question; repeatable.")
@click.option("--encoding", help="Of the files, where it is not UTF-8.")
@click.option(
    "--layout",
    type=click.Choice(["rows", "documents"]),
    help="Of plain text: one row per line, or one document per file.",
)
@click.option("--task", help="What is learnt from it, as in params.yaml; by default what the rows show.")
@click.option(
    "--exclude", multiple=True, metavar="GLOB", help="Files to leave out, as in '*.md' or LICENSE; repeatable."
)
@click.option(
    "--max-rejected",
    metavar="FRACTION",
    type=click.FloatRange(0, 1),
    help="Of the rows that may be set aside, as in 0.05; by default data.max_rejected_fraction, which it sets.",
)
@click.option("--mix", metavar="WEIGHT", type=float, help="Train it beside the raw set.")
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
) -> None:
    """Fine-tune on the text in PATH (a file or a folder) from now on.

    Reads it as the pipeline would, copies it to data/raw, puts it under DVC, and sets in params.yaml the task, `data`,
    and the values of `finetune` and `gate` that suit it; a value that was set by hand stays. Nothing is changed when it
    cannot be used.

    With --mix the set is trained beside the raw set: it is copied to data/mixture, and of its examples WEIGHT times as
    many as there are come in every epoch.
    """
    if mix is not None and (group_by or task):
        raise click.UsageError(
            "--mix goes with neither --group-by nor --task: a mixture's sets are not split or measured"
        )
    _enter()
    from tuneline.commands.use import open_set, take_in
    from tuneline.pipeline import repro

    asked = open_set.ReadingArguments(_mapping(columns), encoding, layout, exclude)
    with repro.alone():
        if mix is not None:
            said = take_in.mix(path, asked, name=name, weight=mix, max_rejected=max_rejected)
        else:
            said = take_in.use(path, asked, name=name, group_by=group_by, task=task, max_rejected=max_rejected)
    _tell(*said)


@cli.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="PATH...")
@click.option("--json", "as_json", is_flag=True, help="As docs/inspect.md describes it, for programs.")
@click.option("--column", "columns", multiple=True, metavar="FIELD=COLUMN", help="As in prompt=question; repeatable.")
@click.option("--encoding", help="Of the files, by Python's name; by default the project's, or UTF-8.")
@click.option("--layout", type=click.Choice(["rows", "documents"]), help="Of plain text; by default the project's.")
@click.option(
    "--exclude", multiple=True, metavar="GLOB", help="Files to leave out, as in '*.md' or LICENSE; repeatable."
)
def inspect(
    paths: tuple[Path, ...],
    as_json: bool,
    columns: tuple[str, ...],
    encoding: str | None,
    layout: Literal["rows", "documents"] | None,
    exclude: tuple[str, ...],
) -> None:
    """Say what each PATH (a file or a folder) holds, read as the pipeline would; nothing is changed.

    Exit code 1 when one of them is refused.
    """
    import orjson

    from tuneline.commands import inspection
    from tuneline.commands.use import open_set

    asked = open_set.ReadingArguments(_mapping(columns), encoding, layout, exclude)
    report = inspection.inspect(paths, inspection.as_in_project(asked))
    if as_json:
        click.echo(orjson.dumps(report, option=orjson.OPT_INDENT_2))
    else:
        _tell(*inspection.lines(report))
    if not inspection.is_usable(report):
        sys.exit(1)


def _mapping(columns: tuple[str, ...]) -> dict[str, str]:
    pairs = [column.partition("=") for column in columns]
    wrong = [
        f"--column {''.join(pair)}: must be FIELD=COLUMN, as in prompt=question" for pair in pairs if not all(pair)
    ]
    if wrong:
        raise click.UsageError("\n".join(wrong))
    return {field: column for field, _, column in pairs}


@cli.command()
def gate() -> None:
    """Hold the evaluated candidate against the rules and write the report; exit 1 when it fails."""
    _enter()
    with processes.importing():
        from tuneline import params
        from tuneline.decisions import decide
        from tuneline.pipeline import repro

    with repro.alone():
        decision = decide.gate(params.load())
    _tell(*decision.reasons, *(f"note: {remark}" for remark in decision.remarks))
    _tell(*(f"next: {step}" for step in decision.next_steps))
    _tell(f"gate: {decision.verdict}; report: {decision.page}")
    if decision.verdict == "failed":
        sys.exit(1)


@cli.command()
def register() -> None:
    """Register the candidate that the gate has let pass; a second call finds the same version."""
    _enter()
    with processes.importing():
        from tuneline import params
        from tuneline.decisions import decide
        from tuneline.pipeline import repro

    p = params.load()
    with repro.alone():
        registration = decide.register(p)
    what = "registered" if registration.created else "is registered already"
    _tell(*(f"note: {note}" for note in registration.notes))
    _tell(f"{p.registry.model} version {registration.version} {what}")


_Command = TypeVar("_Command", bound=Callable[..., Any])


def _asking(of_rows: str) -> Callable[[_Command], _Command]:
    """The options of the commands that ask a registered version.

    Args:
        of_rows: what a row of a file is, in words.
    """
    options = [
        click.option("--version", "version", type=click.IntRange(min=1), help="A version's number."),
        click.option(
            "--alias", default="champion", show_default=True, help="A name that people have given to a version."
        ),
        click.option(
            "--input",
            "path",
            type=click.Path(path_type=Path),
            help=f"A file or a folder, {of_rows} per row, in every format that `inspect` reads; - is standard input.",
        ),
        click.option(
            "--output", type=click.Path(path_type=Path), help="Write to this file; its ending says the format."
        ),
        click.option(
            "--format",
            "form",
            type=click.Choice(["csv", "jsonl", "parquet"]),
            help="By default CSV, or as --output ends.",
        ),
        click.option(
            "--column", "columns", multiple=True, metavar="FIELD=COLUMN", help="As in text=review; repeatable."
        ),
        click.option(
            "--encoding",
            help="Of the input, by Python's name; by default UTF-8, and of a file of a set what params.yaml says.",
        ),
        click.option(
            "--layout",
            type=click.Choice(["rows", "documents"]),
            help="Of plain text: one row per line (the default), or one document per file. Standard input is then "
            "plain text, whatever it looks like.",
        ),
    ]

    def add(command: _Command) -> _Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add


@cli.command()
@click.argument("source", required=False, metavar="[TEXT | PATH | -]")
@click.option("--text", help="A text, whatever files there are.")
@_asking("one text")
@click.option("--all-labels", is_flag=True, help="Also tell the probability of every label.")
@click.option("--top-k", type=click.IntRange(min=1), help="Also tell the K likeliest labels.")
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1),
    help="Where a text may have several labels: tell those that are more probable. By default 0.5.",
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
    """Tell the label (with its probability) or the number of a text, by a registered version.

    Reads TEXT, a file or a folder that is called PATH, or standard input, and writes the input's columns with `label`
    and `probability`, or with `number`. Rows that cannot be used are counted, and written with the reason.
    """
    if sum(given is not None for given in (source, text, path)) > 1:
        raise click.UsageError("give one of TEXT, PATH, --text and --input")
    if all_labels and top_k is not None:
        raise click.UsageError("--top-k and --all-labels exclude each other")
    _enter()
    from tuneline.commands.ask import answer_files, inputs, served_version
    from tuneline.commands.use import open_set

    if source is not None:
        text, path = inputs.path_or_text(source)
    chosen = answer_files.format_of(output, form)
    p, served = _serve(version, alias)
    served_version.check_predicts(served)
    asked = open_set.ReadingArguments(encoding=encoding, layout=layout)
    opened = inputs.open_input(
        text,
        path,
        column="text",
        options=inputs.options_for(p, path, asked),
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
        _say(f"{served.describe()}: {predictor.describe()}", *given.notes, *_of_form(given, chosen))
        table = answer_files.Table(given, predictor.columns())
        with answer_files.writing(output, chosen, table) as writer, _progress("predict", given) as progress:
            account = predicting.run(
                predictor, given, table, writer, batch_size=p.evaluate.batch_size, progress=progress
            )
    _say(*account.lines(table, chosen, f"{predictor.max_length:,} tokens; the model did not see their end"))
    account.check()


@cli.command()
@click.argument("prompt", required=False, metavar="[PROMPT | -]")
@_asking("one prompt or conversation")
@click.option("--max-new-tokens", type=click.IntRange(min=1), help="By default evaluate.max_new_tokens of params.yaml.")
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
    r"""Answer a prompt, or many, with a registered version.

    A PROMPT, in which `\n` stands for a new line, or standard input as a whole is one prompt; its answer appears as it
    is made. With --input every row of a file or a folder is answered: the input's columns are written with `answer`.
    """
    if prompt is not None and path is not None:
        raise click.UsageError("give either PROMPT or --input")
    if path is None and (columns or layout):
        raise click.UsageError("--column and --layout go with --input")
    _enter()
    from tuneline.commands.ask import answer_files, inputs, served_version
    from tuneline.commands.use import open_set

    is_batch = path is not None or output is not None or form is not None
    chosen = answer_files.format_of(output, form)
    p, served = _serve(version, alias)
    served_version.check_writes(served)
    asked = open_set.ReadingArguments(encoding=encoding, layout=layout)
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
        options=inputs.options_for(p, path, asked),
        is_plain=layout is not None,
        find=inputs.prompt_finder(_mapping(columns), served.columns, chats=served.chats),
        remedy=remedy,
    )
    with opened as given:
        # Loads torch and transformers: seconds that an answer needs and an error does not.
        with processes.importing():
            from tuneline.commands.ask import generate as generating
            from tuneline.modeling import models

        models.use_threads(p.compute.threads)
        generator = generating.Generator(served, max_new_tokens or p.evaluate.max_new_tokens)
        _say(served.describe(), *given.notes, *_of_form(given, chosen))
        if not is_batch:
            for piece in generator.stream(given):
                answer_files.show(piece)
            answer_files.show("\n")
            return
        table = answer_files.Table(given, generating.COLUMNS)
        with answer_files.writing(output, chosen, table) as writer, _progress("generate", given) as progress:
            account = generating.run(
                generator, given, table, writer, batch_size=p.evaluate.batch_size, progress=progress
            )
    _say(*account.lines(table, chosen, f"{generator.room:,} tokens; the model did not see their beginning"))
    account.check()


def _serve(version: int | None, alias: str) -> "tuple[Params, Served]":
    from tuneline import params
    from tuneline.commands.ask import served_version

    p = params.load()
    served = served_version.serve(p, version=version, alias=alias)
    _say(*served.notes)
    return p, served


def _of_form(given: "Input", form: str) -> list[str]:
    return [given.csv_note] if given.csv_note and form == "csv" else []


def _progress(what: str, given: "Input") -> "Progress":
    from tuneline.progress import Progress

    return Progress(what, always=given.has_sources, to=sys.stderr)


def _tell(*lines: str) -> None:
    """Print lines."""
    for line in lines:
        click.echo(terminal.line(line))


def _say(*lines: str) -> None:
    """Tell a person beside the output: what is asked for stands on standard output, and nothing else."""
    for line in lines:
        click.echo(terminal.line(line), err=True)


@cli.command()
@click.option(
    "--rows", type=click.IntRange(min=1), default=4, show_default=True, help="How many, from the first batch on."
)
@click.option("--html", type=click.Path(path_type=Path, dir_okay=False), help="Write a page with every token as well.")
def preview(rows: int, html: Path | None) -> None:
    """Show the first rows of the training as the model will see them, and what of them it learns."""
    _enter()
    if html and not html.parent.is_dir():
        raise SetupError(f"--html {html}: {html.parent} is no folder")
    # Loads torch and transformers, so params are checked before.
    from tuneline import params

    p = params.load()
    with processes.importing():
        from tuneline.commands import preview as previews
        from tuneline.modeling import models

    models.use_threads(p.compute.threads)
    made = previews.of(p, rows)
    for line in previews.lines(
        made, coloured=bool(sys.stdout and sys.stdout.isatty()) and not os.environ.get("NO_COLOR")
    ):
        # What the model sees is shown as it is; what would steer the terminal is spelt out.
        click.echo(line, file=terminal.unguarded(sys.stdout))
    if html:
        previews.write_page(made, html)
        click.echo(f"\n{html}: every token with its id and whether it is learnt")


@cli.command()
def doctor() -> None:
    """Say what this machine has and which values of compute it recommends; exit 1 when something is broken."""
    from tuneline.commands import doctor as doctors

    if doctors.ENV_FILE.is_file():
        _enter()
    found = doctors.examine()
    for finding in found:
        _tell(f"{'broken: ' if finding.is_broken else ''}{finding.text}")
    if any(finding.is_broken for finding in found):
        sys.exit(1)


@cli.command()
@click.option("--mlflow-port", default=5000, show_default=True, help="Port of the MLflow UI.")
@click.option("--prefect-port", default=4200, show_default=True, help="Port of the Prefect UI.")
def ui(mlflow_port: int, prefect_port: int) -> None:
    """Serve the MLflow UI and the Prefect UI on loopback until Ctrl-C."""
    _enter()
    from tuneline import params
    from tuneline.commands import servers

    try:
        model = params.load().registry.model
    except TunelineError:
        # What is in the registry can be looked at whatever params.yaml says.
        model = None
    servers.serve(mlflow_port, prefect_port, model, _tell)


@cli.command()
@click.option("--dry-run", is_flag=True, help="Only say what would be freed.")
@click.option(
    "--other-branches",
    is_flag=True,
    help="Free checkpoints, too, that a training of another git branch may go on from.",
)
def gc(dry_run: bool, other_branches: bool) -> None:
    """Free what kills and changed params left behind.

    That is: the checkpoints of trainings that were stopped before the last one ended and are not those of the params,
    halves of writes, and copies of a model in MLflow of which a killed register has made no version.

    Versions, DVC's cache and what the stages have made stay. Nothing is done while a run or a training is at work.
    """
    _enter()
    from tuneline.commands import garbage

    _tell(*garbage.collect(dry_run=dry_run, other_branches=other_branches))


@cli.command("exec", context_settings={"ignore_unknown_options": True})
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def execute(command: tuple[str, ...]) -> None:
    """Run COMMAND in the project's environment, as in: tuneline exec -- prefect worker start --pool tuneline."""
    _enter()
    script = shutil.which(command[0])
    # Its addresses may hold passwords. Where secrets are asked for they are shown.
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
    processes.run(lambda: cli(prog_name="tuneline"))
