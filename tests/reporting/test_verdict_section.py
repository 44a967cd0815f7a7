"""The numbers and sentences at the top of the report."""

import pytest

from tuneline.reporting import charts, verdict_section

EVALUATION = {
    "candidate": {"accuracy": 0.9},
    "slices": {"channel": {"chat": {"rows": 40, "accuracy": 0.8}}},
    "gaps": {"channel": {"accuracy": 0.1}},
}


@pytest.mark.parametrize(
    ("metric", "slice_", "value"),
    [
        ("accuracy", "", 0.9),
        ("accuracy", "channel=chat", 0.8),
        # A rule about every slice has no single number, and its difference is not one.
        ("accuracy", "channel", None),
        ("accuracy", "channel=fax", None),
        ("gap:accuracy:channel", "", 0.1),
    ],
)
def test_the_large_number_is_the_candidates_value(metric: str, slice_: str, value: float | None) -> None:
    difference = charts.Difference(metric, "its base", -0.03, -0.04, -0.02, 0.0, slice=slice_)
    [picture] = verdict_section.pictures(EVALUATION, [difference])
    assert picture.value == value


def test_a_failed_model_leaves_a_champion_where_there_is_one() -> None:
    assert verdict_section.consequence({"verdict": "failed", "champion": None}) == "It is not registered."
    text = verdict_section.consequence({"verdict": "failed", "champion": {"version": "1"}})
    assert text == "It is not registered. The champion stays the same."
