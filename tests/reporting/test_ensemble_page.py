"""The page of an ensemble: what the intervals say, in both languages, and that it loads and runs nothing."""

import re
from dataclasses import replace

from tuneline.evaluation.intervals import Interval
from tuneline.reporting import ensemble_page
from tuneline.reporting.ensemble_page import EnsemblePage, Mixed, Rows, Weights

NAMES = ("version 3", "version 4", "equal weights", "fitted weights")
EQUAL, FITTED = NAMES[2:]


def loss(low: float, high: float) -> dict[str, Interval | str]:
    return {"token_loss": Interval((low + high) / 2, low, high, 40), "bits_per_byte": "it is not defined on these rows"}


PAGE = EnsemblePage(
    model="<b>writer</b>",
    versions=("3", "4"),
    groups=40,
    rows=(Rows("test", 312, 18, 1), Rows("validation", 150, 0, 0)),
    weights=Weights((0.25, 0.75), 2.1234, 2.2, 1e-9),
    metrics={name: {"token_loss": 2.0 + place / 10, "perplexity": 7.0} for place, name in enumerate(NAMES)},
    mixtures=(EQUAL, FITTED),
    differences=[
        *(Mixed(EQUAL, name, loss(-0.2, 0.1)) for name in NAMES[:2]),
        *(Mixed(FITTED, name, loss(-0.4, -0.2)) for name in NAMES[:2]),
        Mixed(FITTED, EQUAL, loss(-0.1, 0.1)),
    ],
    remarks=("<i>a remark</i>",),
)


def text_of(page: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", page.split("</style>")[1]))


def test_the_page_shows_all_that_was_measured() -> None:
    page = ensemble_page.render(PAGE, "en")
    text = text_of(page)
    assert "Together the versions are better than each of them" in text
    assert "ensemble of versions 3 + 4" in text
    assert "Measured on 312 test rows of 40 groups that no member was trained on." in text
    # The improvement, so that it is above zero where the loss is lower.
    assert "Token loss against version 4 +0.300 +0.200 to +0.400" in text
    assert "Bits per byte: it is not defined on these rows" in text
    assert "version 3 0.250 version 4 0.750" in text
    assert "2.1234 , against 2.2000 with equal weights" in text or "2.1234, against 2.2000 with equal weights" in text
    assert "test 312 18 1" in text
    assert "&lt;b&gt;writer&lt;/b&gt;" in page
    assert "&lt;i&gt;a remark&lt;/i&gt;" in page
    assert not re.search(r"<script|<link|<img|https?://", page)


def test_the_title_says_what_the_intervals_say() -> None:
    def titled(*bounds: tuple[float, float]) -> str:
        differences = [Mixed(FITTED, name, loss(*one)) for name, one in zip(NAMES, bounds, strict=False)]
        page = ensemble_page.render(replace(PAGE, differences=differences), "en")
        found = re.search("<h1>(.*)</h1>", page)
        assert found
        return found[1]

    assert titled((-2, -1), (-2, -1)) == "Together the versions are better than each of them"
    assert titled((-2, -1), (1, 2)) == "Together the versions are worse than one of them alone"
    assert titled((-2, -1), (-1, 1)) == "It is not shown that the versions are better together than each of them"
    assert titled() == "The test rows are too few for an interval"


def test_without_fitted_weights_the_title_is_about_equal_weights() -> None:
    metrics = {name: PAGE.metrics[name] for name in NAMES[:3]}
    page = replace(PAGE, weights=None, metrics=metrics, mixtures=(EQUAL,), differences=PAGE.differences[:2])
    text = text_of(ensemble_page.render(page, "en"))
    assert "It is not shown that the versions are better together" in text
    assert "No weights were fitted" in text


def test_the_page_is_there_in_chinese() -> None:
    text = text_of(ensemble_page.render(PAGE, "zh"))
    assert "几个版本合起来比其中每一个都好" in text
    assert "相对第 4 版" in text
    assert "拟合权重的平均" in text
    assert not re.search(r"[A-Za-z]{2,}", re.sub("&lt;.*?&gt;|&nbsp;|writer|a remark|token|tuneline.*", "", text))
