"""The command line: thin. Parse, call, and one line for each problem."""

import os
import sys
from pathlib import Path
from typing import Any, Literal

import click

from tuneline import __version__, processes
from tuneline.errors import SetupError, TunelineError, of_full_disk


class _Group(click.Group):
    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (TunelineError, OSError) as error:
            problem = of_full_disk(error) if isinstance(error, OSError) else error
            if problem is None:
                raise
            click.echo(str(problem), err=True)
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
@click.option("--layout", type=click.Choice(["rows", "documents"]), help="Of plain text: a row a line, or a file.")
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
    from tuneline import pipeline, rawsets

    mapping = _mapping(columns)
    with pipeline.alone():
        if mix is not None:
            said = rawsets.mix(
                path,
                name=name,
                weight=mix,
                columns=mapping,
                encoding=encoding,
                layout=layout,
                exclude=exclude,
                max_rejected=max_rejected,
            )
        else:
            said = rawsets.use(
                path,
                name=name,
                group_by=group_by,
                columns=mapping,
                encoding=encoding,
                layout=layout,
                task=task,
                exclude=exclude,
                max_rejected=max_rejected,
            )
    for line in said:
        click.echo(line)


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
    """Say what files or folders hold, read as the pipeline would; nothing is changed. Exit 1 when one is refused."""
    import orjson

    from tuneline import inspection

    report = inspection.inspect(paths, inspection.as_in_project(encoding, layout, _mapping(columns), exclude))
    if as_json:
        click.echo(orjson.dumps(report, option=orjson.OPT_INDENT_2))
    else:
        for line in inspection.lines(report):
            click.echo(line)
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
        from tuneline import decisions, params, pipeline

    with pipeline.alone():
        decision = decisions.gate(params.load())
    for reason in decision.reasons:
        click.echo(reason)
    for step in decision.next_steps:
        click.echo(f"next: {step}")
    click.echo(f"gate: {decision.verdict}; report: {decision.page}")
    if decision.verdict == "failed":
        sys.exit(1)


@cli.command()
def register() -> None:
    """Register the candidate that the gate has let pass; a second call finds the same version."""
    _enter()
    with processes.importing():
        from tuneline import decisions, params, pipeline

    p = params.load()
    with pipeline.alone():
        registration = decisions.register(p)
    what = "registered" if registration.created else "is registered already"
    click.echo(f"{p.registry.model} version {registration.version} {what}")


@cli.command()
@click.argument("prompt")
@click.option("--version", "version", type=click.IntRange(min=1), help="A version's number.")
@click.option("--alias", default="champion", show_default=True, help="A name that people have given to a version.")
@click.option("--max-new-tokens", type=click.IntRange(min=1), help="By default evaluate.max_new_tokens of params.yaml.")
def generate(prompt: str, version: int | None, alias: str, max_new_tokens: int | None) -> None:
    r"""Answer PROMPT with a registered version; `\n` in it stands for a new line."""
    _enter()
    with processes.importing():
        from tuneline import params
        from tuneline.registry import tracking, versions

    p = params.load()
    tracker = tracking.connect()
    number = versions.resolve(tracker, p.registry.model, version=str(version) if version else None, alias=alias)
    folder = versions.fetch(tracker, p.registry.model, number)
    # Loads torch and transformers: seconds that an answer needs and an error does not.
    with processes.importing():
        from tuneline.evaluation import generation
        from tuneline.training import models

    models.use_threads(p.compute.threads)
    model, tokenizer = models.load(folder)
    pieces = generation.stream(
        model,
        tokenizer,
        prompt.replace("\\n", "\n"),
        mode=models.mode(folder),
        max_new_tokens=max_new_tokens or p.evaluate.max_new_tokens,
    )
    for piece in pieces:
        click.echo(piece, nl=False)
    click.echo()


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
        from tuneline import preview as previews
        from tuneline.training import models

    models.use_threads(p.compute.threads)
    made = previews.of(p, rows)
    for line in previews.lines(
        made, coloured=bool(sys.stdout and sys.stdout.isatty()) and not os.environ.get("NO_COLOR")
    ):
        click.echo(line)
    if html:
        previews.write_page(made, html)
        click.echo(f"\n{html}: every token with its id and whether it is learnt")


@cli.command()
def doctor() -> None:
    """Say what this machine has and which values of compute it recommends; exit 1 when something is broken."""
    from tuneline import doctor as doctors

    if doctors.ENV_FILE.is_file():
        _enter()
    found = doctors.examine()
    for finding in found:
        click.echo(f"{'broken: ' if finding.is_broken else ''}{finding.text}")
    if any(finding.is_broken for finding in found):
        sys.exit(1)


@cli.command()
@click.option("--mlflow-port", default=5000, show_default=True)
@click.option("--prefect-port", default=4200, show_default=True)
def ui(mlflow_port: int, prefect_port: int) -> None:
    """Serve the MLflow UI and the Prefect UI on loopback until Ctrl-C."""
    _enter()
    from tuneline import services

    services.serve(mlflow_port, prefect_port, click.echo)


@cli.command("exec", context_settings={"ignore_unknown_options": True})
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def execute(command: tuple[str, ...]) -> None:
    """Run COMMAND in the project's environment, as in: tuneline exec -- prefect worker start --pool tuneline."""
    _enter()
    try:
        os.execvp(command[0], command)
    except OSError as error:
        raise SetupError(f"{command[0]}: cannot be run: {error.strerror}") from None


def _enter() -> None:
    from tuneline import environment

    environment.enter()


def main() -> None:
    """The entry point."""
    processes.run(lambda: cli(prog_name="tuneline"))
