"""The page of an explanation: one HTML file in the colours of the report. It loads and runs nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

import tuneline
from tuneline import params
from tuneline.explanation import explain
from tuneline.explanation.attributions import TOLERANCE, Gradients
from tuneline.explanation.deciding_words import LabelWords, WordEffect
from tuneline.explanation.deletion import FEWEST_WORDS, Deletion, Removal, State, Versus
from tuneline.explanation.explain import Explanation, RowsExplanation, RowsVersus
from tuneline.explanation.explained_output import Kind
from tuneline.explanation.nearest_rows import CANDIDATES, Nearest
from tuneline.reporting import charts, report
from tuneline.reporting.filters import number, short, signed

FOLDER = "explanations"
"""The folder of these pages, in the folder of the reports."""
_METHODS = {
    explain.GRADIENTS: "Integrated gradients",
    explain.OCCLUSION: "Occlusion",
    explain.ATTENTION: "Attention",
}
_OPEN_WORDS = 10
_MOST_WORDS = 100
_MOST_ROWS, _MOST_COLUMNS = 24, 24
# A word with this share of the largest effect gets a line besides its colour.
_STRONG = 40.0
_MARKS: dict[State | None, tuple[str, str]] = {
    "better": ("better", "better than random orders"),
    "unsure": ("unsure", "not better than random orders"),
    "worse": ("worse", "worse than random orders"),
    None: ("unsure", "faithfulness not measured"),
}
_LIMITS = (
    "An attribution says what this model uses in this text. It does not say whether that is right, nor what would "
    "happen with other texts."
)


@dataclass(frozen=True)
class Coloured:
    """A word, cell or bar with the colour of its value."""

    text: str
    value: float
    way: Literal["up", "down", ""]
    share: float
    """Of the largest value, in percent."""

    @property
    def is_strong(self) -> bool:
        """Whether it is marked by more than its colour."""
        return self.share >= _STRONG


@dataclass(frozen=True)
class HeatRow:
    """A row of a table with colours."""

    name: str
    cells: tuple[Coloured, ...]


@dataclass(frozen=True)
class Heat:
    """A table with colours."""

    columns: tuple[str, ...]
    rows: tuple[HeatRow, ...]


@dataclass(frozen=True)
class Bar:
    """A word with the bar of its effect and two numbers."""

    word: str
    way: Literal["up", "down", ""]
    share: float
    first: str
    second: str


@dataclass(frozen=True)
class Line:
    """A deletion curve."""

    number: int
    method: str
    points: str
    area: float


@dataclass(frozen=True)
class Plot:
    """Deletion curves as coordinates in percent."""

    lines: tuple[Line, ...]
    random: str
    random_area: float
    band: str
    x: tuple[charts.Tick, ...]
    y: tuple[charts.Tick, ...]

    @property
    def summary(self) -> str:
        """The areas, for who does not see the picture."""
        return "; ".join(f"{line.method} {line.area:.3f}" for line in self.lines)


def render(name: str, found: Explanation, nearest: Nearest | str, language: params.Language) -> str:
    """The page of one output as HTML. Every text from data or a model is escaped.

    Args:
        name: of the model and its version.
        found: the explanation.
        nearest: the nearest training rows, or why they could not be compared.
        language: of the page.
    """
    methods = found.deletion.methods if found.deletion else ()
    words = found.words
    effects = found.occlusion.sum(axis=0)
    values = found.gradients.words
    picked = sorted(range(len(words)), key=lambda at: -abs(values[at]))[:_MOST_WORDS]
    largest = max(np.abs(values).max(), 1e-12)
    rows = [
        Bar(
            words[at].strip() or words[at],
            _way(values[at]),
            _share(values[at], largest),
            signed(float(values[at])),
            signed(float(effects[at])),
        )
        for at in picked
    ]
    page = {
        "name": name,
        "title": _title(found),
        "lead": _lead(found),
        "unit": _UNITS[found.kind],
        "texts": [
            {
                "title": "Integrated gradients",
                "note": _completeness(found.gradients),
                "words": _coloured(words, values),
            },
            {"title": "Occlusion", "note": _OCCLUSION, "words": _coloured(words, effects)},
        ],
        "labels": (),
        "answer": found.answer,
        "answer_title": "The model's answer" if found.is_given else "The answer that was asked about",
        "rows": rows,
        "open": _OPEN_WORDS,
        **_answer_table(found),
        "faithful": _faithful(found),
        "plot": _plot(found.deletion.shares, found.deletion.random, methods, found.deletion)
        if found.deletion
        else None,
        "verdicts": [_verdict(one, found.deletion) for one in methods if found.deletion],
        "strips": charts.strips(
            [_difference(one.method, one.gain, one.low, one.high) for one in methods], common_scale=True
        ),
        **_mark(methods[0].state if methods else None, _FOR_TEXT),
        **_attention(found),
        **_neighbours(nearest),
        "facts": _facts(found),
        "method": [
            _baseline(found.baseline),
            f"The gradients were taken at {found.gradients.steps} points of the straight line from the embeddings of "
            "the baseline to those of the text (Gauss-Legendre quadrature); the points are doubled until the sum is "
            "complete.",
            _LIMITS,
        ],
    }
    return _render(page, language)


def render_rows(name: str, found: RowsExplanation, rows: int, language: params.Language) -> str:
    """The page of many texts as HTML.

    Args:
        name: of the model and its version.
        found: the explanation.
        rows: test rows of which these texts are a sample, or all.
        language: of the page.
    """
    facts = [
        _fact("Texts explained", number(found.texts), f"of {rows:,} test rows"),
        _fact(
            "Largest error of a sum",
            f"{found.largest_error:.1e}",
            f"{found.incomplete:,} texts are not complete to {TOLERANCE:g}",
        ),
        _fact("Texts with deletion curves", number(found.measured)),
    ]
    page = {
        "name": name,
        "title": "The words that decide" if found.kind == "label" else "The words that move the number",
        "lead": f"Over {found.texts:,} test texts, each word's attributions to the output that the model gives were "
        "added up.",
        "unit": _UNITS_OF_ROWS[found.kind],
        "texts": (),
        "labels": [_label(one) for one in found.labels],
        "answer": "",
        "answer_table": None,
        "faithful": _ROWS_FAITHFUL if found.methods else _TOO_SHORT,
        "plot": _plot(found.shares, found.random, found.methods, None) if found.methods else None,
        "verdicts": [_rows_verdict(one, found) for one in found.methods],
        "strips": charts.strips(
            [
                _difference(one.method, one.gain.difference, one.gain.low, one.gain.high)
                for one in found.methods
                if one.gain.low is not None and one.gain.high is not None
            ],
            common_scale=True,
        ),
        **_mark(found.methods[0].state if found.methods else None, _FOR_TEXTS),
        "facts": facts,
        "method": [
            _baseline(found.baseline),
            "The effect of a word is the mean of its attributions over the texts that have it; words are sorted by the "
            "sum of their attributions. Upper and lower case count as the same word.",
            *(
                [f"The model did not see the end of {found.cut:,} texts, which are longer than it was trained on."]
                if found.cut
                else []
            ),
            _LIMITS,
        ],
    }
    return _render(page, language)


def _render(page: dict[str, Any], language: params.Language) -> str:
    template = report.templates(language).get_template("explanation.html.jinja")
    return template.render(
        page=page, language=report.HTML_LANGUAGES[language], methods=_METHODS, version=tuneline.__version__
    )


_UNITS: dict[Kind, str] = {
    "label": "The effects are in log odds of the label: +0.7 doubles the odds, −0.7 halves them.",
    "number": "The effects are in units of the number.",
    "answer": "The effects are in nats of the answer's log likelihood: +0.7 doubles the probability of the whole "
    "answer.",
}
_UNITS_OF_ROWS: dict[Kind, str] = {
    "label": "For each label, over the texts that the model gives it: how much a word raises or lowers the log odds of "
    "the label in a text, on average, ± its standard error. +0.7 doubles the odds.",
    "number": "How much a word raises or lowers the number in a text, on average, ± its standard error.",
    "answer": "",
}
_OCCLUSION = (
    "By how much the output falls if the word is replaced by the baseline token. These effects need not add up."
)
_TOO_SHORT = f"A text needs at least {FEWEST_WORDS} words, so that its order can be compared with random orders."
_ROWS_FAITHFUL = (
    "Words are taken out of each text in the order of an attribution, and the output is watched: the picture shows its "
    "mean (up) by the share of words that are gone (across). The same is done in random orders. The gain is the mean "
    "area under the random curves minus that under the attribution's; its 95 % interval is from a paired bootstrap "
    "over groups of rows."
)
_FOR_TEXT = (
    "Its integrated gradients are not better than random orders here, so do not read the colours as reasons.",
    "The text is too short to measure whether the colours are faithful.",
)
_FOR_TEXTS = (
    "The integrated gradients are not better than random orders over these texts, so do not read the words as reasons.",
    "The texts are too short to measure whether the attributions are faithful.",
)


def _baseline(token: str) -> str:
    return (
        f"Integrated gradients and occlusion compare with the baseline token {token} in the place of each word. "
        "Another baseline gives other numbers. The deletion curves do not use it: they take words out of the text."
    )


def _mark(state: State | None, warnings: tuple[str, str]) -> dict[str, str]:
    name, words = _MARKS[state]
    warning = "" if state == "better" else warnings[1] if state is None else warnings[0]
    return {"state": name, "mark": words, "warning": warning}


def _title(found: Explanation) -> str:
    if found.kind == "label":
        return f"What speaks for {short(found.label)}"
    return "What the answer rests on" if found.kind == "answer" else f"What makes the number {number(found.shown)}"


def _lead(found: Explanation) -> str:
    if found.kind == "number":
        return "The model gives this text a number. The colours show which words raise it and which lower it."
    share = f"{100 * found.shown:.1f} %"
    if found.kind == "answer":
        return (
            f"A token of the answer has a probability of {share} (the geometric mean). The colours show which words of "
            "the prompt make the answer likelier."
        )
    if found.is_given:
        return f"The model gives this text the label with a probability of {share}."
    if found.others[0][0] == found.label:
        return f"The label has a probability of {share}; the model gives the text no label."
    return f"The label has a probability of {share}; the model gives the text the label {short(found.others[0][0])}."


def _completeness(gradients: Gradients) -> str:
    said = (
        f"The effects sum up to {signed(gradients.total, 4)}; the outputs of the text and of the baseline differ by "
        f"{signed(gradients.difference, 4)}."
    )
    if gradients.is_complete:
        return said
    return f"{said} The sum is not complete to {TOLERANCE:g}, so do not trust single effects."


def _facts(found: Explanation) -> list[dict[str, str]]:
    gradients = found.gradients
    return [
        _fact("Sum of the attributions", signed(gradients.total, 4)),
        _fact("Difference of the outputs", signed(gradients.difference, 4), "text minus baseline"),
        _fact(
            "Error of the sum",
            f"{gradients.error:.1e}",
            f"complete to {TOLERANCE:g}" if gradients.is_complete else f"not complete to {TOLERANCE:g}",
        ),
        _fact("Words", number(len(found.words)), f"{found.tokens:,} tokens with special tokens"),
    ]


def _fact(name: str, value: str, note: str = "") -> dict[str, str]:
    return {"name": name, "value": value, "note": note}


def _coloured(words: Sequence[str], values: np.ndarray) -> list[Coloured]:
    largest = max(float(np.abs(values).max()), 1e-12)
    return [
        Coloured(word, float(value), _way(value), _share(value, largest))
        for word, value in zip(words, values, strict=True)
    ]


def _way(value: float) -> Literal["up", "down", ""]:
    return "up" if value > 0 else "down" if value < 0 else ""


def _share(value: float, largest: float) -> float:
    return round(100 * abs(float(value)) / largest, 1)


def _heat(names: Sequence[str], columns: Sequence[str], values: np.ndarray) -> Heat:
    """A table of [rows, columns]."""
    largest = max(float(np.abs(values).max()), 1e-12)
    rows = [
        HeatRow(name, tuple(Coloured("", float(value), _way(value), _share(value, largest)) for value in line))
        for name, line in zip(names, values, strict=True)
    ]
    return Heat(tuple(columns), tuple(rows))


def _largest_words(weights: np.ndarray) -> list[int]:
    """The words with the largest weights, in the order of the text."""
    return sorted(np.argsort(-weights, kind="stable")[:_MOST_ROWS].tolist())


def _answer_table(found: Explanation) -> dict[str, Any]:
    if found.kind != "answer":
        return {"answer_table": None}
    rows = _largest_words(np.abs(found.occlusion).sum(axis=0))
    columns = found.answer_tokens[:_MOST_COLUMNS]
    table = _heat(
        [_named(found.words[at]) for at in rows],
        [_named(token) for token in columns],
        found.occlusion[: len(columns), rows].T,
    )
    cut = len(found.words) > len(rows) or len(found.answer_tokens) > len(columns)
    shown = (
        f"{len(rows)} of {len(found.words):,} words and {len(columns)} of {len(found.answer_tokens):,} tokens of the "
        "answer are shown: the words with the largest effects, and the first tokens."
    )
    return {"answer_table": table, "answer_cut": shown if cut else ""}


def _named(token: str) -> str:
    """A token as the name of a row or column; white space has a sign."""
    return token.strip() or token.replace("\n", "⏎").replace(" ", "␣") or "∅"


def _attention(found: Explanation) -> dict[str, Any]:
    attention = found.attention
    if attention is None:
        return {"attention": None}
    rows = _largest_words(attention.words)
    names = [_named(found.words[at]) for at in rows]
    layers = attention.read[:, rows].T * 100
    kept = f"{100 * attention.kept.mean():.0f} %"
    note = (
        "Percent of the attention that each word gets from the positions that give the output, by layer (columns), as "
        f"a mean over the heads. {kept} goes to other tokens: special tokens, the chat template and the answer itself."
    )
    between = attention.between[np.ix_(rows, rows)] * 100
    return {
        "attention": _heat(names, [str(layer + 1) for layer in range(len(attention.read))], layers),
        "attention_note": note,
        "between": _heat(names, names, between),
    }


def _neighbours(nearest: Nearest | str) -> dict[str, Any]:
    if isinstance(nearest, str):
        return {"neighbours": (), "rows_note": f"The training rows could not be compared: {nearest}"}
    note = (
        "The rows with the largest cosine of mean hidden states (last layer) to the text, among the "
        f"{CANDIDATES} rows, of {nearest.compared:,} training rows, whose mean token embeddings are nearest; the mean "
        "of the rows is taken away first. A similar row need not have caused the output. What looks like a secret is "
        "masked."
    )
    return {"neighbours": nearest.rows, "rows_note": note}


def _faithful(found: Explanation) -> str:
    if found.deletion is None:
        return _TOO_SHORT
    watched = {"label": "its probability", "number": "the number", "answer": "the probability of the answer"}[
        found.kind
    ]
    return (
        f"Words are taken out of the text, those with the highest attribution first, and {watched} is watched: the "
        "picture shows it (up) by the share of words that are gone (across). If an attribution is faithful, its curve "
        f"falls faster than those of {found.deletion.orders} random orders, of which the band holds the middle 95 %. "
        "The gain is the area under a random curve minus that under the attribution's, with the middle 95 % over the "
        "random orders."
    )


def _verdict(one: Versus, deletion: Deletion) -> str:
    mine, theirs, verdict = number(one.removal.area), number(deletion.random.area), _MARKS[one.state][1]
    return (
        f"{_METHODS[one.method]}: {verdict} for this text (area {mine} against {theirs}; {one.beaten} of "
        f"{deletion.orders} random orders have a larger area)."
    )


def _rows_verdict(one: RowsVersus, found: RowsExplanation) -> str:
    mine, theirs, verdict = number(one.removal.area), number(found.random.area), _MARKS[one.state][1]
    if one.gain.low is None or one.gain.high is None:
        return f"{_METHODS[one.method]}: the texts have too few groups for an interval (area {mine} against {theirs})."
    return f"{_METHODS[one.method]}: {verdict} over these texts (area {mine} against {theirs})."


def _difference(method: str, gain: float, low: float, high: float) -> charts.Difference:
    return charts.Difference(method, "random orders", gain, low, high, None)


def _label(one: LabelWords) -> dict[str, Any]:
    largest = max((abs(word.mean) for word in (*one.raising, *one.lowering)), default=1.0)
    return {
        "label": one.label,
        "texts": one.texts,
        "rare": one.rare,
        "fewest": one.fewest,
        "raising": [_word_bar(word, largest) for word in one.raising],
        "lowering": [_word_bar(word, largest) for word in one.lowering],
    }


def _word_bar(word: WordEffect, largest: float) -> Bar:
    mean = f"{signed(word.mean, 2)} ± {number(word.error, 2)}"
    return Bar(word.word, _way(word.mean), _share(word.mean, largest), mean, number(word.texts))


def _plot(
    shares: np.ndarray, random: Removal, methods: Sequence[Versus | RowsVersus], deletion: Deletion | None
) -> Plot:
    bands = [] if deletion is None else [deletion.random_low, deletion.random_high]
    curves = [random.output, *bands, *(one.removal.output for one in methods)]
    low, high = min(float(one.min()) for one in curves), max(float(one.max()) for one in curves)
    if high - low < 1e-9:
        low, high = low - 0.5, high + 0.5
    room = 0.05 * (high - low)
    low, high = low - room, high + room

    def place(value: float) -> float:
        return round(100 - 100 * (value - low) / (high - low), 2)

    def line(values: np.ndarray) -> str:
        return " ".join(f"{100 * share:g},{place(value):g}" for share, value in zip(shares, values, strict=True))

    band = ""
    if bands:
        back = [f"{100 * share:g},{place(value):g}" for share, value in zip(shares[::-1], bands[1][::-1], strict=True)]
        band = f"{line(bands[0])} {' '.join(back)}"
    numbers = {method: place for place, method in enumerate(_METHODS)}
    return Plot(
        lines=tuple(
            Line(numbers[one.method], _METHODS[one.method], line(one.removal.output), one.removal.area)
            for one in methods
        ),
        random=line(random.output),
        random_area=random.area,
        band=band,
        x=tuple(charts.Tick(float(share), f"{share} %") for share in (0, 25, 50, 75, 100)),
        y=tuple(charts.Tick(place(value), f"{value:g}") for value in charts.ticks(low, high)),
    )
