"""Labels and values of slices that look like code: page, gate, model card, and names of metrics show or refuse them."""

import re
from pathlib import Path

import pytest
from hostile_names import NAMES
from test_report import Elements
from test_report_tasks import classified, sliced_page, values

from tuneline import params
from tuneline.evaluation.intervals import Interval
from tuneline.evaluation.slices import Slice, SlicedColumn
from tuneline.gate import decision, explanation
from tuneline.gate.explanation import Counts
from tuneline.params import Rule
from tuneline.reporting import catalogue, markdown

__all__ = ["values"]

SHOWN = [name for name in NAMES if name]
CHINESE = catalogue.read("zh")


def is_safe(html: str) -> None:
    """The page has no tag of a name, no control character, and its tags are closed."""
    elements = Elements(html)
    assert elements.open == []
    names = {name for name, _ in elements.tags}
    assert not names & {"b", "script", "img"}
    assert not re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]", html)
    assert "49" not in "".join(text for text in elements.text if "7 * 7" in text)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_page_shows_hostile_labels(tmp_path: Path, values: params.Params, language: params.Language) -> None:
    html = classified(SHOWN, values.model_copy(update={"report": params.Report(language=language)}), tmp_path)
    is_safe(html)
    text = "".join(Elements(html).text)
    for shown in ("{0} {metric} {slice}", "%s %(count)s %d 100%", "<b>bold</b>", "`code` ``two``", "a|b|c"):
        assert shown in text
    assert len(html) < 2_000_000


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("name", SHOWN[:12])
def test_a_page_shows_hostile_slices(
    tmp_path: Path, values: params.Params, language: params.Language, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("test_report_tasks.EVIL", name)
    html = sliced_page(tmp_path, values, {"slice": f"shop={name}"}, report=params.Report(language=language))
    is_safe(html)


@pytest.mark.parametrize("name", SHOWN)
def test_sentences_of_the_gate_hold_hostile_names(name: str) -> None:
    of_slice = Rule.model_validate(
        {"metric": "accuracy", "direction": "higher", "versus": "champion", "margin": 0.0, "slice": f"shop={name}"}
    )
    of_label = Rule.model_validate(
        {"metric": f"recall:{name}", "direction": "higher", "versus": "champion", "margin": 0.0}
    )
    interval = Interval(0.1, 0.05, 0.15, 90)
    columns = {
        "champion": {"shop": SlicedColumn((Slice(name, 90, 90, {}, {"champion": {"accuracy": interval}}),), 1, {})}
    }
    verdict = decision.decide([of_slice, of_label], {"champion": {f"recall:{name}": interval}}, slices=columns)
    for rule, one in zip([of_slice, of_label], verdict.rules, strict=True):
        assert one.verdict == "passed"
        assert name[:60] in one.reason
        assert len(one.reason) < 400
        assert CHINESE.say(one.reason, "reason") != one.reason
        shown = markdown.escape(one.reason)
        assert "\n" not in shown
        assert "\x1b" not in shown
        [explained] = explanation.explain([rule], [one], {"champion": Counts(90, 90)})
        assert name[:60] in explained
