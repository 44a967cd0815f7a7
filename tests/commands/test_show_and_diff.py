"""`tuneline show` and `tuneline diff` as commands: numbers or aliases, text or JSON."""

import json

import pytest
from registered import Shell


def test_show_takes_a_number_or_an_alias(shell: Shell) -> None:
    by_alias, by_number = (shell.run("show", name) for name in ("champion", "1"))
    assert by_alias.exit_code == 0, by_alias.stderr
    assert by_alias.stdout == by_number.stdout
    assert by_alias.stdout.startswith("asked version 1 (champion), registered ")
    assert "Accuracy 1.0000" in by_alias.stdout
    found = json.loads(shell.run("show", "champion", "--json").stdout)
    assert (found["version"], found["aliases"]) == ("1", ["champion"])
    assert found["numbers"][0]["metric"] == "accuracy"


def test_diff_compares_two_versions(shell: Shell) -> None:
    told = shell.run("diff", "champion", "2")
    assert told.exit_code == 0, told.stderr
    assert told.stdout.startswith("asked: from version 1 to version 2\n")
    assert "Accuracy was 1.0000, is 1.0000 (the same)" in told.stdout
    assert json.loads(shell.run("diff", "1", "2", "--json").stdout)["after"] == "2"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["show", "99"], "asked version 99: is not in the registry at"),
        (["show", "production"], "asked: no version is production yet"),
        (["show", "champoin"], "asked: no version is champoin yet; did you mean champion? (registered: 1, 2"),
        (["diff", "1", "Champion"], "asked version 1 has the alias champion, but"),
    ],
)
def test_a_refusal_is_one_line(arguments: list[str], message: str, shell: Shell) -> None:
    ran = shell.run(*arguments)
    assert (ran.exit_code, ran.stdout) == (1, "")
    assert message in ran.stderr
    assert len(ran.stderr.splitlines()) == 1
