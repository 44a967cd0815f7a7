"""The technical documentation: known facts are filled in, the rest is left to people, and data keep to their cells."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from made_up_facts import CASES, HOSTILE, facts_of

from tuneline import params, terminal
from tuneline.evaluation.intervals import Interval
from tuneline.proofs import annex_iv
from tuneline.reporting import markdown


@pytest.mark.parametrize("name", CASES)
def test_every_task_has_all_sections_and_open_points(name: str, tmp_path: Path) -> None:
    text = annex_iv.document(facts_of(CASES[name], tmp_path))
    assert [line[3] for line in text.splitlines() if line.startswith("## ")] == list("123456789")
    assert f"**{text.count(annex_iv.OPEN)} points are open:**" in text
    assert "| train | 3 |" in text
    assert "0.25 to 0.75" in text


def test_a_hostile_label_stays_in_its_cell(tmp_path: Path) -> None:
    text = annex_iv.document(facts_of(CASES["labels"], tmp_path))
    assert "<script>" not in re.sub(r"(`+)[^\n]*?\1", "", text)
    assert not any(line.startswith("# head") for line in text.splitlines())
    assert "\u202e" not in text
    for line in text.splitlines():
        if line.startswith("|") and "evil" in line:
            assert re.sub(r"\\\|", "", line).count("|") in (3, 5), line


def test_gaps_between_groups_are_stated(tmp_path: Path) -> None:
    facts = facts_of(CASES["labels"], tmp_path)
    gaps = {"gap:accuracy:a|b": Interval(0.125, 0.05, 0.2, 40), "gap:ece:a|b": "fewer than two slices are large enough"}
    text = annex_iv.document(replace(facts, measures={**facts.measures, "value": gaps}))
    assert "| Gap in Accuracy between slices of a\\|b | 0.125 | 0.05 to 0.2 |" in text
    assert "Gap in" not in annex_iv.document(facts)


def test_variants_of_training_rows_are_stated(tmp_path: Path) -> None:
    facts = facts_of(CASES["numbers"], tmp_path)
    augment = params.Augment(noise={"word_swap": params.Noise(weight=0.5, p=0.1)})
    p = facts.p.model_copy(update={"data": facts.p.data.model_copy(update={"augment": augment})})
    assert "variants of training rows" not in annex_iv.document(facts)
    assert "| `word_swap` | `data.augment.noise.word_swap` | 0.5 |" in annex_iv.document(replace(facts, p=p))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain words", "plain words"),
        ("# head", "\\# head"),
        ("1. one", "1\\. one"),
        ("- item", "\\- item"),
        ("a | b", "a \\| b"),
        ("[x](https://example.org)", "\\[x\\](https\\://example.org)"),
        ("<b>&amp;", "\\<b\\>\\&amp;"),
        ("line\nbreak", "line\\\\nbreak"),
        ("\x1b[31m", "\\\\x1b\\[31m"),
    ],
)
def test_text_is_shown_as_it_is(text: str, shown: str) -> None:
    assert markdown.escape(text) == shown
    assert markdown.unescape(shown) == terminal.visible(text).replace("\n", "\\n")


@pytest.mark.parametrize(("name", "shown"), [("a", "`a`"), ("a`b", "``a`b``"), ("`", "`` ` ``"), ("a|b", "`a\\|b`")])
def test_a_name_is_shown_as_code(name: str, shown: str) -> None:
    assert markdown.code(name) == shown


def test_hostile_text_has_no_line_of_its_own() -> None:
    assert "\n" not in markdown.escape(HOSTILE) + markdown.code(HOSTILE)
