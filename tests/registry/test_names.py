"""Names are checked before they reach MLflow: no alias that it cannot have, and no filter that says something else."""

from pathlib import Path

import mlflow
import pytest
from click.testing import CliRunner

from tuneline import params
from tuneline.cli import cli
from tuneline.errors import ParamsError, RegistryError
from tuneline.registry import names
from tuneline.registry.tracking import Tracker

HOSTILE = ("x' or name = 'other", 'x" OR 1=1', "x`", "x\\", "x\n", "x\x00", "\u202ex")


@pytest.mark.parametrize("alias", ["champion", "v", "v1a", "best-of_2026", "生产", "a" * 255])
def test_an_alias_of_letters_digits_and_dashes_is_allowed(alias: str) -> None:
    assert names.alias_problem(alias) is None


@pytest.mark.parametrize("alias", ["", "a b", "champion\n", "a/b", "a:b", "../a", "a" * 256, "a\x1b[31m", *HOSTILE])
def test_any_other_alias_is_refused_in_one_short_line(alias: str) -> None:
    problem = names.alias_problem(alias)
    assert problem is not None
    assert problem.isprintable()
    assert len(problem) < 250


def test_a_number_is_no_alias() -> None:
    assert names.alias_problem("v3") == (
        "v3 is no alias, because MLflow keeps such names for numbers; write: --version 3"
    )


@pytest.mark.parametrize("command", [["generate", "x"], ["predict", "x"], ["history"], ["promote", "1"]])
def test_the_command_line_refuses_it_before_it_asks_mlflow(command: list[str]) -> None:
    done = CliRunner().invoke(cli, [*command, "--alias", "champion' --"])
    assert done.exit_code == 1
    assert done.stderr.startswith('--alias: "champion\' --" cannot be an alias; an alias has 1 to 255 letters')


@pytest.mark.parametrize("text", HOSTILE)
def test_a_filter_of_mlflow_cannot_be_changed_by_a_value(text: str) -> None:
    assert names.quoted("docstring-writer") == "'docstring-writer'"
    with pytest.raises(RegistryError, match="was not written by tuneline"):
        names.quoted(text)


@pytest.mark.parametrize("value", HOSTILE[:4])
def test_tags_find_exactly_the_versions_that_have_them(tracker: Tracker, tmp_path: Path, value: str) -> None:
    client = mlflow.MlflowClient()
    for name in (tmp_path.name, f"{tmp_path.name}-other"):
        client.create_registered_model(name)
        client.create_model_version(name, "s3://nowhere", tags={"a": "1", "b": value})
        client.create_model_version(name, "s3://nowhere", tags={"a": "1"})
    assert tracker.find_versions(tmp_path.name, {"a": "1"}) == ["1", "2"]
    assert tracker.find_versions(tmp_path.name, {"a": "1", "b": value}) == ["1"]


@pytest.mark.parametrize("name", ["a-history", "A-HISTORY"])
def test_a_model_is_not_named_as_the_history_of_another(tmp_path: Path, params_text: str, name: str) -> None:
    file = tmp_path / "params.yaml"
    file.write_text(params_text.replace("model: docstring-writer", f"model: {name}"), "utf-8")
    with pytest.raises(ParamsError, match="must not end with -history"):
        params.load(file)
