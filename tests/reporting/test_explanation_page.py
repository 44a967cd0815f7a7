"""The page of an explanation: what it says, in both languages, and that texts stay texts."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_contrast import ENOUGH_FOR_TEXT, channels, ratio, themes

from tuneline import reporting
from tuneline.evaluation.intervals import Interval
from tuneline.explanation.attention import Attention
from tuneline.explanation.attributions import Gradients
from tuneline.explanation.deciding_words import LabelWords, WordEffect
from tuneline.explanation.deletion import Deletion, Removal, Versus
from tuneline.explanation.explain import Explanation, RowsExplanation, RowsVersus
from tuneline.explanation.nearest_rows import Nearest, Neighbour
from tuneline.reporting import explanation_page

CSS = (Path(reporting.__file__).parent / "explanation.css").read_text("utf-8")
SHARES = np.array([0, 0.5, 1])


def removal(*values: float) -> Removal:
    return Removal(np.array(values), float(np.trapezoid(values, SHARES)))


def versus(low: float, high: float, method: str = "integrated gradients") -> Versus:
    return Versus(method, removal(0.9, 0.2, 0.1), (low + high) / 2, low, high, 38)


DELETION = Deletion(
    SHARES, removal(0.9, 0.6, 0.1), np.array([0.9, 0.3, 0.1]), np.array([0.9, 0.8, 0.1]), 40, (versus(0.1, 0.3),)
)
LABEL = Explanation(
    kind="label",
    text="坏 <b>x</b> 好",
    label="好",
    is_given=True,
    answer="",
    answer_tokens=(),
    shown=0.9,
    others=(("好", 0.9), ("坏", 0.1)),
    words=("坏", " <b>", "好"),
    tokens=5,
    baseline="<|e|>",
    gradients=Gradients(np.array([-0.5, 0.25, 2.0]), 2.0, 0.25, 32),
    occlusion=np.array([[-0.25, 0.0, 1.5]]),
    attention=Attention(np.array([[0.2, 0.3, 0.1]]), np.eye(3), np.array([0.4])),
    deletion=DELETION,
)
ANSWER = replace(
    LABEL,
    kind="answer",
    label="",
    answer="<i>是</i>",
    answer_tokens=("<i>", "\n"),
    occlusion=np.array([[-0.25, 0.0, 1.5], [0.1, 0.2, 0.3]]),
    others=(),
)
NEAREST = Nearest((Neighbour("行.txt:3", "<u>", "好", 0.5, True),), 12)
ROWS = RowsExplanation(
    kind="label",
    labels=(LabelWords("<s>", 9, (WordEffect("<u>", 3, 0.5, 0.1),), (WordEffect("好", 3, -0.5, 0.1),), 4, 3),),
    texts=9,
    cut=1,
    incomplete=2,
    largest_error=0.5,
    shares=SHARES,
    random=removal(0.9, 0.6, 0.1),
    methods=(RowsVersus("attention", removal(0.9, 0.5, 0.1), Interval(0.1, -0.1, 0.3, 9)),),
    measured=8,
    baseline="<|e|>",
)


def visible(page: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", page[page.index("<body>") :]))


def test_a_label_is_explained() -> None:
    page = explanation_page.render("m version 3", LABEL, NEAREST, "en")
    for said in (
        "The model gives this text the label with a probability of 90.0 %.",
        "better than random orders",
        "The effects sum up to +1.7500; the outputs of the text and of the baseline differ by +1.7500.",
        "Integrated gradients: better than random orders for this text (area 0.350 against 0.550; 38 of 40 random",
        "of 12 training rows",
        "cosine 0.500",
        "40 % goes to other tokens",
    ):
        assert said in visible(page), said
    # The largest effect has the full colour, the others their share; the way is not told by colour alone.
    assert re.findall(r'class="w (\w+)( strong)?" style="--share:([\d.]+)%"', page)[:3] == [
        ("down", "", "25.0"),
        ("up", "", "12.5"),
        ("up", " strong", "100.0"),
    ]


@pytest.mark.parametrize(
    ("deletion", "mark", "warning"),
    [
        (DELETION, "better than random orders", ""),
        (replace(DELETION, methods=(versus(-0.1, 0.3),)), "not better than random orders", "do not read the colours"),
        (replace(DELETION, methods=(versus(-0.3, -0.1),)), "worse than random orders", "do not read the colours"),
        (None, "faithfulness not measured", "The text is too short to measure"),
    ],
)
def test_the_page_says_first_whether_it_can_be_trusted(deletion: Deletion | None, mark: str, warning: str) -> None:
    page = explanation_page.render("m version 3", replace(LABEL, deletion=deletion), NEAREST, "en")
    head = visible(page[: page.index("<nav")])
    assert mark in head
    assert warning in head
    assert ("do not" in head or "too short" in head) == bool(warning)


def test_a_sum_that_is_not_complete_is_told() -> None:
    incomplete = replace(LABEL, gradients=Gradients(np.array([-0.5, 0.25, 2.0]), 9.0, 0.25, 512))
    assert "The sum is not complete to 0.001, so do not trust single effects." in visible(
        explanation_page.render("m", incomplete, NEAREST, "en")
    )


def test_a_model_without_attention_and_rows_that_are_gone_have_a_sentence() -> None:
    page = visible(explanation_page.render("m", replace(LABEL, attention=None), "they are nowhere", "en"))
    assert "This architecture gives no attention weights." in page
    assert "The training rows could not be compared: they are nowhere" in page


@pytest.mark.parametrize("language", ["en", "zh"])
def test_texts_of_data_and_models_stay_texts(language: str) -> None:
    pages = [
        explanation_page.render("<q>", LABEL, NEAREST, language),  # type: ignore[arg-type]
        explanation_page.render("<q>", ANSWER, NEAREST, language),  # type: ignore[arg-type]
        explanation_page.render_rows("<q>", ROWS, 20, language),  # type: ignore[arg-type]
    ]
    for page in pages:
        assert not re.search(r"<(b|i|u|s|q)>|<\|e\|>", page)
        assert "&lt;q&gt;" in page
        assert not re.search(r"<script|src=|url\(|@import", page)


def test_the_page_is_chinese_if_the_report_is() -> None:
    for found in (
        LABEL,
        ANSWER,
        replace(LABEL, kind="number", label=""),
        replace(LABEL, is_given=False, deletion=None),
    ):
        page = explanation_page.render("模型", found, NEAREST, "zh")
        assert 'lang="zh-Hans"' in page
        assert english(page) == []
    page = explanation_page.render_rows("模型", ROWS, 20, "zh")
    assert english(page) == []
    assert english(explanation_page.render_rows("模型", replace(ROWS, methods=(), measured=0), 20, "zh")) == []


def english(page: str) -> list[str]:
    own = r"&lt;.*?&gt;|tuneline [\d.]+\w*|token|nat\b|Gauss-Legendre|Jain|Wallace|Wiegreffe|Pinter|&#\d+;|F1|txt"
    return re.findall(r"[A-Za-z]{2,}", re.sub(own, "", visible(page)).replace("&nbsp;", " "))


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_words_can_be_read_on_every_colour(theme: str) -> None:
    colours = {name: channels(value) for name, value in themes()[theme].items()}
    tones = re.findall(r"^\.(?:up|down) \{.*var\(--(\w+)\) calc\(([\d.]+) \* var\(--share\)\)", CSS, re.MULTILINE)
    assert [tone for tone, _ in tones] == ["accent", "unsure"]
    for tone, strongest in tones:
        for step in range(101):
            share = float(strongest) * step / 100
            ground = [share * a + (1 - share) * b for a, b in zip(colours[tone], colours["card"], strict=True)]
            assert ratio(colours["ink"], ground) >= ENOUGH_FOR_TEXT, (tone, step)
