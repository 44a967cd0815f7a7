"""What people see: no password, and nothing from data that steers their terminal or forges a line."""

import io
import os
import pickle
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from tuneline import terminal
from tuneline.errors import DataError


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://user:sekrit@host:5000/x", "http://user:***@host:5000/x"),
        ("postgresql+psycopg2://u:p%40ss@db/a?b=c: no", "postgresql+psycopg2://u:***@db/a?b=c: no"),
        ("'https://ghp_0123@github.com/a/b.git'", "'https://***@github.com/a/b.git'"),
        ("ssh://git@host/a and s3://bucket/a@b", "ssh://git@host/a and s3://bucket/a@b"),
        ("http://127.0.0.1:5000/models@2 of a@b.example", "http://127.0.0.1:5000/models@2 of a@b.example"),
        ("sqlite:////home/a:b@c/mlflow.db", "sqlite:////home/a:b@c/mlflow.db"),
        ("https://s3.example/x?X-Amz-Signature=abc&part=2", "https://s3.example/x?X-Amz-Signature=***&part=2"),
        ("two: http://a:b@c, http://d:e@f", "two: http://a:***@c, http://d:***@f"),
    ],
)  # fmt: skip
def test_passwords_in_addresses_are_masked(text: str, shown: str) -> None:
    assert terminal.masked(text) == shown


def test_secrets_of_the_environment_are_masked_in_every_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "correct horse")
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "tuneline:0123456789")
    monkeypatch.setenv("DATABASE", "postgresql://u:p@s/s@db/x")
    monkeypatch.setenv("HF_HUB_DISABLE_IMPLICIT_TOKEN", "false")
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "a")
    said = "correct horse, 0123456789 and postgresql://u:p@s/s@db/x are false"
    assert terminal.masked(said) == "***, *** and postgresql://u:***@db/x are false"


def test_a_name_from_data_cannot_control_the_terminal_or_begin_a_line() -> None:
    name = "\x1b[2Ja\nerror: forged\r\u202e\x9b31mb"
    shown = r"column \x1b[2Ja\nerror: forged\r\u202e\x9b31mb"
    assert terminal.safe_line(f"column {name}") == shown
    error = DataError(f"column {name}", "the second problem")
    assert error.problems == (shown, "the second problem")
    assert str(error).count("\n") == 1
    assert pickle.loads(pickle.dumps(error)).problems == error.problems


def test_everything_that_a_process_prints_is_made_safe(monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        "import sys, warnings; from tuneline import terminal; terminal.guard(); terminal.guard()\n"
        "print('a\\x1b[2Jb', 'http://u:sekrit@h')\n"
        "warnings.warn('http://u:sekrit@h')\n"
        "print('\\x1b[2J', file=terminal.unguarded(sys.stdout))\n"
        "raise ValueError('\\x1b]0;title\\x07 http://u:sekrit@h')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout == "a\\x1b[2Jb http://u:***@h\n\x1b[2J\n"
    assert "ValueError: \\x1b]0;title\\x07 http://u:***@h" in done.stderr
    assert "sekrit" not in done.stderr
    # Of a log's colours only a terminal is told, and nothing else that begins as they do.
    screen = io.StringIO()
    screen.isatty = lambda: True  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setattr(sys, "stderr", screen)
    terminal.guard(colours=True)
    print("\x1b[31mred\x1b[0m\x1b[2J", file=sys.stderr)
    assert screen.getvalue() == "\x1b[31mred\x1b[0m\\x1b[2J\n"


def test_each_state_of_the_progress_bar_of_a_library_is_one_line() -> None:
    code = (
        "import time; from tuneline import terminal; terminal.guard(); from tqdm import tqdm\n"
        "for _ in tqdm(range(40), desc='Fetching'): time.sleep(0.01)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"TQDM_MININTERVAL": "10"},
        capture_output=True,
        text=True,
        check=True,
    )
    nothing, first, last = done.stderr.splitlines()
    assert (nothing, first[:14], last[:14]) == ("", "Fetching:   0%", "Fetching: 100%")


def test_a_name_from_data_is_shortened() -> None:
    path = "/" + "/".join(["a" * 61] * 8)
    error = DataError(f"{path}: has no column '{'x' * 100_000}', which --column names; {path} stays")
    assert str(error) == f"{path}: has no column '{'x' * 179}…{'x' * 18}', which --column names; {path} stays"
    assert terminal.safe_line(f"password://u:{'p' * 600}@h") == "password://u:***@h"
    assert terminal.shortened("as it is") == "as it is"


def test_a_program_that_controls_its_terminal_still_does_and_its_secrets_are_masked(tmp_path: Path) -> None:
    script = tmp_path / "bin" / "tool"
    script.parent.mkdir()
    (script.parent / "beside.py").write_text("WORD = 'beside'")
    script.write_text(
        "import sys, beside\n"
        "print(beside.WORD, sys.argv[1:], sys.stdout.isatty(), __name__)\n"
        "print('\\x1b[2Kat http://me:hunter2pass@prefect.example', input('name? '), flush=True)\n"
        "sys.exit(3)\n"
    )
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "tuneline.terminal", str(script), "--a", "b c"]
    with subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave) as process:
        os.close(slave)
        os.write(master, b"Ann\n")
        assert process.wait(30) == 3
    said = os.read(master, 10_000).decode()
    os.close(master)
    assert "beside ['--a', 'b c'] True __main__" in said
    assert "name? " in said
    assert "\x1b[2Kat http://me:***@prefect.example Ann" in said
