"""Data Docs from merged results: the same bytes again, and all text is escaped."""

from typing import Any

from tuneline.data.validation import data_docs

EVIL = "<script>alert('x')</script> $column ${v}"


def outcome(**more: Any) -> dict[str, Any]:
    one = {
        "type": "expect_column_values_to_match_regex",
        "kwargs": {"column": "text", "regex": "<b>"},
        "severity": "error",
        "success": False,
        "rows": 100,
        "unexpected": 2,
        "observed": None,
        "message": "",
        "first": [{"source": f"{EVIL}:1", "value": EVIL}, {"source": "a:2", "value": None}],
    }
    return one | more


SETS = [
    {
        "set": "data/raw/mine <i>",
        "expectations": [
            outcome(),
            outcome(success=True, unexpected=0, first=[], severity="warning"),
            outcome(type="expect_column_mean_to_be_between", kwargs={"column": "text"}, rows=0, first=[], observed=7),
            outcome(
                type="expect_column_distinct_values_to_be_in_set",
                kwargs={"column": EVIL, "value_set": [EVIL]},
                rows=0,
                unexpected=0,
                first=[],
                observed=[EVIL],
            ),
            outcome(message=f"The column {EVIL} does not exist.", rows=0, unexpected=0, first=[]),
            outcome(
                type="expect_select_column_values_to_be_unique_within_record",
                kwargs={"column_list": ["chosen", "rejected"]},
                first=[{"source": "a:1", "value": {"chosen": EVIL, "rejected": EVIL}}],
            ),
        ],
    },
    {"set": "data/clean", "expectations": []},
]


def test_data_docs_show_results_and_escape_all_text() -> None:
    pages = data_docs.pages(SETS, "validate_raw")
    assert list(pages) == ["data-raw-mine-i-.html", "data-clean.html"]
    page = pages["data-raw-mine-i-.html"]
    assert "<script>alert" not in page
    assert page.count("&lt;/script&gt; $column ${v}") >= 3
    assert "a:2: None" in page
    assert "<b>" not in page
    assert "<i>" not in page.replace("<i></i>", "")


def test_the_same_results_give_the_same_data_docs_without_pictures() -> None:
    first, second = (data_docs.pages(SETS, "validate_raw") for _ in range(2))
    assert first == second
    assert not any("great-expectations-web-assets" in page or "2000-01-01" in page for page in first.values())
