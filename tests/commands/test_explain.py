"""`tuneline explain`: a page about an output of a registered version. What computes needs the extra `explain`."""

import hashlib
import importlib.util
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from registered import MAX_LENGTH, VERSIONS, Shell

from tuneline import params
from tuneline.commands.ask.served_version import Served, serve
from tuneline.core import files
from tuneline.errors import DataError, ModelError
from tuneline.pipeline import objects

HAS_LIBRARY = importlib.util.find_spec("captum") is not None


def needs_captum(test: Callable[..., None]) -> Any:
    """Skip a test where the extra is not installed; `make test-slow` runs it."""
    return pytest.mark.slow(pytest.mark.skipif(not HAS_LIBRARY, reason="captum is not installed")(test))


ATTACK = '<script>alert(1)</script> "</style>'


def arguments(kind: str, *more: str) -> tuple[str, ...]:
    return "explain", "--version", str(VERSIONS[kind]), *more


class Page(HTMLParser):
    """The elements and the visible text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.text = ""
        self._hidden = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self._hidden = tag == "style"
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        self._hidden = False

    def handle_data(self, data: str) -> None:
        self.text += "" if self._hidden else data


def explained(shell: Shell, *more: str) -> tuple[str, Page]:
    ran = shell.run(*more)
    assert ran.exit_code == 0, (ran.stderr, ran.exception)
    path = ran.stdout.splitlines()[-1]
    return ran.stdout, Page((shell.root / path).read_text("utf-8"))


@pytest.mark.skipif(HAS_LIBRARY, reason="captum is installed")
def test_without_the_library_a_sentence_says_so_before_anything_is_fetched(shell: Shell) -> None:
    for asked in (("explain", "--version", "99", "a"), ("explain", "--test")):
        ran = shell.run(*asked)
        assert ran.exit_code == 1
        assert ran.stderr.count("\n") == 1
        assert "needs Captum" in ran.stderr
        assert "make setup EXTRAS=explain" in ran.stderr


def test_options_that_do_not_fit_together_are_refused(shell: Shell) -> None:
    for asked in (("--test", "a"), ("--test", "--label", "x"), ("--test", "--answer", "x")):
        ran = shell.run("explain", *asked)
        assert (ran.exit_code, "leave out PROMPT" in ran.stderr) == (2, True)
    ran = shell.run("explain", "a", "--output", "nowhere/page.html")
    assert (ran.exit_code, "nowhere is not a folder" in ran.stderr) == (1, True)


@needs_captum
@pytest.mark.parametrize("kind", ["classifier", "several", "regression", "plain", "chat"])
def test_each_kind_of_version_is_explained(kind: str, shell: Shell) -> None:
    said, page = explained(shell, *arguments(kind, "Where is it, and why?"))
    # The weights of these models are random and large, so the sum is not complete for each; either is said.
    assert re.search(r"^completeness: the effects sum up to .* after \d+ steps: (complete|NOT complete)", said, re.M)
    assert "faithfulness of integrated gradients" in said
    assert f"asked version {VERSIONS[kind]}" in page.text
    assert "complete to 0.001" in page.text
    assert ("The sum is not complete" in page.text) == ("NOT complete" in said)
    assert "its dvc.lock names no data/clean" in page.text
    assert ("Each token of the answer" in page.text) == (kind in ("plain", "chat"))


@needs_captum
def test_the_champion_is_explained_by_default_and_the_page_is_the_same_again(shell: Shell) -> None:
    first, _ = explained(shell, "explain", "Where is it?")
    path = shell.root / first.splitlines()[-1]
    before = path.read_bytes()
    second, page = explained(shell, "explain", "--alias", "champion", "Where is it?")
    assert (first, path.read_bytes()) == (second, before)
    assert "asked version 1" in page.text


@needs_captum
@pytest.mark.parametrize("kind", ["classifier", "plain"])
def test_what_a_person_writes_is_text_on_the_page(kind: str, shell: Shell) -> None:
    more = ["--answer", ATTACK] if kind == "plain" else []
    shell.write("out/.keep", "")
    _, page = explained(shell, *arguments(kind, ATTACK[:20], *more, "--output", "out/page.html"))
    assert "<script>" in page.text
    assert page.tags.count("style") == 1
    assert not {"script", "img", "link", "iframe"} & set(page.tags)
    assert all(link.startswith("#") for link in page.links)


@needs_captum
def test_another_label_and_another_answer_can_be_asked_about(shell: Shell) -> None:
    probabilities = []
    for label in ("refund", "delivery", "praise"):
        said, _ = explained(shell, *arguments("classifier", "Where is it?", "--label", label))
        assert said.startswith(f"label: {label}, probability ")
        probabilities.append(float(said.splitlines()[0].rsplit(" ", 1)[1]))
    assert sum(probabilities) == pytest.approx(1, abs=2e-3)
    said, page = explained(shell, *arguments("plain", "Where?", "--answer", "Here."))
    assert said.startswith("answer: 'Here.'")
    assert "The answer that was asked about" in page.text


@needs_captum
def test_a_short_text_is_not_compared_with_random_orders(shell: Shell) -> None:
    said, page = explained(shell, *arguments("classifier", "parcel"))
    assert "faithfulness: not measured" in said
    assert "faithfulness not measured" in page.text


@needs_captum
@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (arguments("classifier", ""), "the text is empty"),
        (arguments("plain", " \\n "), "the text is empty"),
        (arguments("plain", "\u0001"), "the text is empty"),
        (arguments("classifier", "word " * 50), f"tokens, and the model sees {MAX_LENGTH} of them at once"),
        (arguments("plain", "word " * 50), "and the model sees 63 of them at once; give a shorter prompt"),
        (arguments("plain", "a", "--answer", "word " * 50), "give a shorter prompt, or a shorter answer"),
        (arguments("classifier", "a", "--label", "refnd"), "has no such label; did you mean refund?"),
        (arguments("classifier", "a", "--label", "?"), "its labels: refund, delivery, praise"),
        (arguments("regression", "a", "--label", "x"), "gives no labels"),
        (arguments("classifier", "a", "--answer", "x"), "writes no answers"),
        (arguments("plain", "--test"), "--test explains labels or numbers; use: tuneline explain --version 4 PROMPT"),
        (arguments("classifier", "--test"), "its test rows cannot be read: its dvc.lock names no data/clean"),
        (("explain", "--version", "99", "a"), "99"),
        (("explain", "--version", str(10**30), "a"), str(10**30)),
        (("explain", "--alias", "chalenger", "a"), "chalenger"),
    ],
)
def test_bad_input_is_a_sentence(asked: tuple[str, ...], expected: str, shell: Shell) -> None:
    ran = shell.run(*asked)
    assert (ran.exit_code, expected in ran.stderr) == (1, True), (ran.stderr, ran.exception)
    assert ran.stdout == ""
    assert ran.stderr.count("\n") == 1


def put(content: bytes, end: str = "") -> str:
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest() + end
    path = objects.place(Path(".dvc/cache/files/md5"), md5)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return md5


def with_rows(kind: str, rows: dict[str, list[str]]) -> tuple[params.Params, Served]:
    """A version whose rows, of train and test, are in DVC's cache."""
    p = params.load()
    served = serve(p, version=VERSIONS[kind], alias="")
    folder = Path(f"work/{kind}")
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(served.folder, folder)
    table = pa.table({"id": [str(at) for at in range(len(rows["text"]))], "cluster": rows["text"], **rows})
    files.write_parquet(Path("work/part.parquet"), table)
    md5 = put(Path("work/part.parquet").read_bytes())
    listing = [{"relpath": f"{split}/part-00000.parquet", "md5": md5} for split in ("train", "test", "validation")]
    outs = [{"path": p.paths.clean, "hash": "md5", "md5": put(json.dumps(listing).encode(), ".dir")}]
    (folder / "dvc.lock").write_text(json.dumps({"stages": {"prepare": {"outs": outs}}}))
    return p, replace(served, folder=folder)


TEXTS = [
    f"{word} parcel {other} and {word}" for word in ("red", "blue", "lost") for other in ("came", "is", "was", "a")
]
ROWS = {"text": TEXTS, "label": ["refund"] * 12, "source": [f"rows.csv:{at}" for at in range(12)]}


@needs_captum
@pytest.mark.parametrize("kind", ["classifier", "several", "regression"])
def test_the_words_that_decide_are_added_up_over_the_test_rows(kind: str, shell: Shell) -> None:
    from tuneline.commands import explain

    p, served = with_rows(kind, ROWS)
    *said, path = explain.explain_test(p, served, rows=200, output=None)
    page = Page(Path(path).read_text("utf-8"))
    assert path == f"reports/explanations/v{VERSIONS[kind]}-test.html"
    assert "of 12 test rows" in page.text
    assert "parcel" in page.text
    assert any(
        re.fullmatch(r"completeness: largest error .* over 12 texts; \d+ are not complete", line) for line in said
    )
    assert any(line.startswith("faithfulness of integrated gradients: ") for line in said)
    *_, sampled = explain.explain_test(p, served, rows=4, output=None)
    assert "too few groups for an interval" in Page(Path(sampled).read_text("utf-8")).text


@needs_captum
def test_similar_training_rows_are_on_the_page(shell: Shell) -> None:
    from tuneline.commands import explain

    p, served = with_rows("classifier", ROWS)
    *_, path = explain.explain_text(p, served, TEXTS[3], label=None, answer=None, max_new_tokens=None, output=None)
    text = Page(Path(path).read_text("utf-8")).text
    assert "of 12 training rows" in text
    assert "rows.csv:3 · cosine 1.000 · the same text" in text


@needs_captum
def test_no_test_rows_and_blank_test_rows(shell: Shell) -> None:
    from tuneline.commands import explain

    p, served = with_rows("classifier", {"text": [], "label": [], "source": []})
    with pytest.raises(DataError, match="have no test rows"):
        explain.explain_test(p, served, rows=5, output=None)
    p, served = with_rows("classifier", {"text": ["", "a", " "], "label": ["x"] * 3, "source": ["s"] * 3})
    *_, path = explain.explain_test(p, served, rows=5, output=None)
    assert "at least 3 words" in Page(Path(path).read_text("utf-8")).text
    p, served = with_rows("plain", ROWS)
    with pytest.raises(ModelError, match="writes text"):
        explain.explain_test(p, served, rows=5, output=None)
