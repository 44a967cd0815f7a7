"""`tuneline generate`: answers to one prompt or to many, in their order."""

import io
import json
import sys

import pytest
from registered import VERSIONS, Shell, table

from tuneline import params
from tuneline.commands.ask import answer_files
from tuneline.evaluation import generation
from tuneline.modeling import models
from tuneline.registry import tracking, versions
from tuneline.terminal import visible

PLAIN, CHAT = (["generate", "--version", str(VERSIONS[kind])] for kind in ("plain", "chat"))


def answered(mode: str, *prompts: generation.Prompt) -> list[str]:
    """The registered model's answer to each prompt, computed one by one."""
    number = str(VERSIONS[mode])
    folder = versions.fetch_version(tracking.connect(), params.load().registry.model, number)
    model, tokenizer = models.load(folder)
    return [
        generation.generate(model, tokenizer, [prompt], mode=mode, max_new_tokens=6, batch_size=1)[0]
        for prompt in prompts
    ]


def test_a_prompt_is_answered_and_stderr_names_the_version(shell: Shell) -> None:
    ran = shell.run(*PLAIN, "a\\nb")
    assert ran.exit_code == 0, ran.stderr
    assert ran.stdout == answered("plain", "a\nb")[0] + "\n"
    assert ran.stderr == "asked version 4 answers\n"


@pytest.mark.parametrize("arguments", [[], ["-"]])
def test_standard_input_is_one_prompt(arguments: list[str], shell: Shell) -> None:
    ran = shell.run(*PLAIN, *arguments, stdin="def area(width, height):\n    return\n")
    assert ran.stdout == answered("plain", "def area(width, height):\n    return")[0] + "\n"


def test_many_prompts_are_answered_in_order(shell: Shell) -> None:
    prompts = ["word " * (1 + number * 5 % 7) + str(number) for number in range(30)]
    shell.write(
        "prompts.jsonl", "".join(json.dumps({"id": i, "prompt": text}) + "\n" for i, text in enumerate(prompts))
    )
    ran = shell.run(*PLAIN, "--input", "prompts.jsonl", "--output", "answers.jsonl")
    assert ran.exit_code == 0, ran.stderr
    rows = [json.loads(line) for line in (shell.root / "answers.jsonl").read_text().splitlines()]
    assert [row["id"] for row in rows] == list(range(30))
    assert [row["answer"] for row in rows] == answered("plain", *prompts)
    assert list(rows[0]) == ["source", "id", "prompt", "answer"]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("asked.csv", "question\nWhere is it?\nWho is there?\n"),
        ("asked.csv", "question,answer\nWhere is it?,\nWho is there?,Nobody.\n"),
        ("asked.txt", "Where is it?\nWho is there?\n"),
        ("asked.jsonl", '{"n": 1, "ask": "Where is it?"}\n{"n": 2, "ask": "Who is there?"}\n'),
    ],
)
def test_the_prompt_is_found_with_and_without_an_answer(name: str, data: str, shell: Shell) -> None:
    shell.write(name, data)
    named = ["--column", "prompt=ask"] if "ask" in data.split('"') else []
    ran = shell.run(*PLAIN, "--input", name, *named)
    assert ran.exit_code == 0, ran.stderr
    assert [row["answer"] for row in table(ran.stdout)] == answered("plain", "Where is it?", "Who is there?")


def test_the_model_sees_conversations_up_to_the_last_answer(shell: Shell) -> None:
    first = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Where is it?"}]
    more = [*first, {"role": "assistant", "content": "There."}, {"role": "user", "content": "Where?"}]
    rows = [
        {"messages": first},
        {"messages": [*first, {"role": "assistant", "content": "There."}]},
        {"messages": more},
        {"messages": []},
    ]
    shell.write("talks.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    ran = shell.run(*CHAT, "--input", "talks.jsonl", "--format", "jsonl")
    assert ran.exit_code == 0, ran.stderr
    made = [json.loads(line) for line in ran.stdout.splitlines()]
    of_first, of_more = answered(
        "chat", {"messages": first, "tools": []}, {"messages": [*more, first[1] | {"role": "assistant"}], "tools": []}
    )
    assert [row.get("answer") for row in made] == [of_first, of_first, of_more, None]
    assert "error" in made[3]
    assert "warning: 1 of 4 rows cannot be used" in ran.stderr


def test_an_instruction_with_its_input_is_one_turn_of_a_chat(shell: Shell) -> None:
    shell.write(
        "alpaca.jsonl", '{"instruction": "Translate.", "input": "Haus"}\n{"instruction": "Say hi.", "input": ""}\n'
    )
    ran = shell.run(*CHAT, "--input", "alpaca.jsonl")
    assert ran.exit_code == 0, ran.stderr
    assert [row["answer"] for row in table(ran.stdout)] == answered("chat", "Translate.\nHaus", "Say hi.")


def test_a_model_of_plain_prompts_refuses_conversations(shell: Shell) -> None:
    shell.write("talks.jsonl", '{"messages": [{"role": "user", "content": "Where?"}]}\n')
    ran = shell.run(*PLAIN, "--input", "talks.jsonl")
    assert ran.exit_code == 1
    assert ran.stderr.startswith("talks.jsonl: ")
    assert "conversations" in ran.stderr


def test_a_prompt_that_is_too_long_is_counted(shell: Shell) -> None:
    shell.write("long.jsonl", json.dumps({"prompt": "word " * 500}) + "\n" + '{"prompt": "a"}\n')
    ran = shell.run(*PLAIN, "--input", "long.jsonl")
    assert ran.exit_code == 0, ran.stderr
    assert "warning: 1 of 2 texts are longer than 58 tokens; the model did not see their beginning" in ran.stderr
    assert len(table(ran.stdout)) == 2


@pytest.mark.parametrize(
    ("arguments", "stdin", "message"),
    [
        (
            ["generate", "Where?"],
            None,
            "asked version 1 gives labels, not text; use: tuneline predict TEXT",
        ),
        (
            ["generate", "--version", "3", "a"],
            None,
            "gives numbers, not text; use: tuneline predict --version 3 TEXT",
        ),
        (PLAIN, "", "standard input is empty; give a PROMPT, or --input FILE"),
        (PLAIN, b"Gr\xfc\xdfe", "standard input is not utf-8: byte 2 is 0xfc; name its encoding with --encoding"),
        ([*PLAIN, "--encoding", "klingon"], "a", "encoding 'klingon': is not an encoding that Python knows"),
        ([*PLAIN, "--encoding", "rot13"], "a", "encoding 'rot13': is not an encoding that Python knows"),
        ([*PLAIN, "--max-new-tokens", "64", "a"], None, "max_new_tokens 64: leaves no room for a prompt"),
        ([*PLAIN, "--input", "no.jsonl"], None, "no.jsonl: no such file or folder"),
    ],
)
def test_every_refusal_is_one_line(arguments: list[str], stdin: str | bytes | None, message: str, shell: Shell) -> None:
    ran = shell.run(*arguments, stdin=stdin)
    assert ran.exit_code == 1
    assert message in ran.stderr
    assert "Traceback" not in ran.stderr
    assert ran.stdout == ""


def test_closed_standard_input_is_an_error(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    from tuneline.commands.ask import inputs
    from tuneline.errors import DataError

    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(DataError, match="standard input is closed; give it"):
        inputs.text_of_stdin("utf-8", "give it")


def test_answers_cannot_control_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    hostile = "\x1b]0;owned\x07red\x1b[31m \u202etxt.exe\x9b2J\r"
    for stream, shown in ((Terminal(), visible(hostile)), (io.StringIO(), hostile)):
        monkeypatch.setattr(sys, "stdout", stream)
        answer_files.show(hostile)
        assert stream.getvalue() == shown
    assert visible(hostile) == r"\x1b]0;owned\x07red\x1b[31m \u202etxt.exe\x9b2J\r"
    assert visible("a\tb\n家族 👩‍👧 می‌خواهم") == "a\tb\n家族 👩‍👧 می‌خواهم"
