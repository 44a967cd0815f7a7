import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import mlflow
import pytest
from click.testing import CliRunner, Result
from projects import ROOT, entered

from tuneline import environment
from tuneline.cli import cli
from tuneline.commands import history_table
from tuneline.commands.history_table import Told
from tuneline.errors import RegistryError
from tuneline.registry import history, tracking
from tuneline.registry.chain import Entry, Problem
from tuneline.registry.history import History

FIRST = Entry(1, "2026-10-01T08:00:00.000+00:00", "verified", "champion", None, "1", "ann@desk", "", {}, "", "a")
PAST = History(
    (
        FIRST,
        replace(FIRST, number=2, time="2026-10-02T08:00:00.000+00:00", action="moved", before="1", after="2", who="?"),
        replace(
            FIRST,
            number=3,
            time="2026-10-02T08:00:20.000+00:00",
            action="undone",
            before="2",
            after="1",
            reason="gate: chrF is worse",
        ),
    )
)


def test_the_table_has_the_newest_entry_first() -> None:
    assert list(history_table.lines(Told("writer", PAST, {"champion": "1"}), alias="champion", limit=2)) == [
        "writer: version 1 is champion, "
        "verified (it got the alias back at 2026-10-02 08:00:20 UTC: gate: chrF is worse)",
        "time (UTC)           who       action  alias     from → to  reason",
        "2026-10-02 08:00:20  ann@desk  undone  champion  2 → 1      gate: chrF is worse",
        "2026-10-02 08:00:00  ?         moved   champion  1 → 2",
        "1 older entry: --limit 3 shows all",
    ]


@pytest.mark.parametrize(
    ("at", "told"),
    [
        (
            "2026-10-01T07:59",
            "no version is known to have been champion; the history begins at 2026-10-01 08:00:00",
        ),
        ("2026-10-01T10:00+02:00", "version 1 was champion, verified (at 2026-10-01 08:00:00 UTC by ann@desk)"),
        ("2026-10-02 08:00:10", "version 2 was champion, not verified (set at 2026-10-02 08:00:00 UTC by ?)"),
        ("2026-10-03", "version 1 was champion, verified (it got the alias back at 2026-10-02 08:00:20 UTC: gate:"),
    ],
)
def test_the_champion_at_a_time(at: str, told: str) -> None:
    [line] = history_table.at_lines(Told("writer", PAST, {}), alias="champion", at=history_table.moment(at))
    assert told in line


@pytest.mark.parametrize("at", ["yesterday", "2026-13-01", "9999-12-31T23:59-05:00"])
def test_what_is_not_a_time_is_refused(at: str) -> None:
    with pytest.raises(RegistryError, match=r"is not a time; write it like 2026-10-03T12:00"):
        history_table.moment(at)


def test_a_champion_that_the_history_does_not_know_is_told() -> None:
    [first, *_] = history_table.lines(Told("writer", PAST, {"champion": "3"}), alias="champion", limit=9)
    assert first == (
        "writer: version 3 is champion now, and the history does not say so yet; verify it with: tuneline verify"
    )
    assert list(history_table.lines(Told("writer", History(), {}), alias="champion", limit=9)) == [
        "writer: no version is champion",
        "the history is empty: no alias has moved since it is kept",
    ]


def test_an_alias_on_a_version_without_a_number_is_shown() -> None:
    assert next(history_table.lines(Told("writer", History(), {"champion": ""}), alias="champion", limit=9)) == (
        "writer: no version is champion"
    )


def test_damage_comes_first() -> None:
    broken = replace(PAST, found=(Problem("gone 4 to 4", "entry 4 is gone: ask"),), unfinished=1)
    broken = replace(broken, accepted=(Problem("entry 2 edited", "entry 2 was edited; do not"),))
    shown = list(
        history_table.lines(Told("writer", broken, {"champion": "1"}, {1: "ada", 3: None}), alias="champion", limit=9)
    )
    assert shown[:4] == [
        "damaged: entry 4 is gone: ask",
        "accepted damage: entry 2 was edited",
        "note: 1 entry was begun and not finished; no version was moved by that",
        "unsigned: entry 3 does not count, because no key in mlflow/keys has signed a claim about it, and everyone who "
        "can write to MLflow can add such an entry; verify the version again with: tuneline promote 1; or, if you know "
        "that it is right, accept it with: tuneline history --accept REASON",
    ]


@pytest.fixture
def run(tmp_path: Path, store: Path, params_text: str) -> Iterator[Callable[..., Result]]:
    """The command line, in a project with a registered model that has one version."""
    mlflow.set_tracking_uri(f"sqlite:///{store}/mlflow.db")
    tracking.connect()
    model = tmp_path.name
    mlflow.MlflowClient().create_registered_model(model)
    mlflow.MlflowClient().create_model_version(model, "s3://nowhere")
    (tmp_path / environment.ENV_FILE).parent.mkdir()
    (tmp_path / environment.ENV_FILE).write_bytes((ROOT / environment.ENV_FILE).read_bytes())
    (tmp_path / "params.yaml").write_text(params_text.replace("model: docstring-writer", f"model: {model}"), "utf-8")
    with entered(tmp_path, MLFLOW_TRACKING_URI=f"sqlite:///{store}/mlflow.db"):
        yield lambda *arguments: CliRunner().invoke(cli, arguments)


def test_the_command_shows_the_history_and_fails_if_it_is_damaged(run: Callable[..., Result], tmp_path: Path) -> None:
    tracker, model = tracking.connect(), tmp_path.name
    mlflow.MlflowClient().set_registered_model_alias(model, "champion", "1")
    entry = history.append(
        tracker, model, action="verified", alias="champion", after="1", reason="\x1b[2J", evidence={"claim.jsonl": b""}
    )
    shown = run("history")
    assert shown.exit_code == 0
    assert f"{model}: version 1 is champion, verified" in shown.output
    assert "\x1b" not in shown.output
    answer = json.loads(run("history", "--json", "--at", datetime.now(UTC).isoformat()).output)
    assert (answer["version"], answer["state"], answer["entry"]["sha256"]) == ("1", "verified", entry.sha256)
    for at, message in (("2100-01-01", "is in the future"), ("2026-13-01", "is not a time")):
        wrong = run("history", "--at", at)
        assert (wrong.exit_code, message in wrong.output) == (2, True)
    tracker.delete_log_run(entry.run_id)
    damaged = run("history")
    assert damaged.exit_code == 1
    assert damaged.output.startswith("damaged: entry 1 was deleted in MLflow (run ")
    assert run("history", "--accept", " ").exit_code == 1
    assert "the history names this damage" in run("history", "--accept", "a slip").output
    assert run("history").exit_code == 0
