"""Renders the Data Docs of Great Expectations: the pages of a validation.

The library interprets values and column names as markup, names each run by the clock and loads pictures from its
makers' server. Here all text is escaped first, the same results give the same bytes, and the pictures are removed.
Style and scripts still come from a CDN: without a network the pages are plain but readable.
"""

import datetime
import html
import re
from collections.abc import Mapping, Sequence
from typing import Any

import great_expectations as gx
from great_expectations.core.expectation_validation_result import (
    ExpectationSuiteValidationResult,
    ExpectationValidationResult,
)
from great_expectations.core.run_identifier import RunIdentifier
from great_expectations.expectations.expectation_configuration import ExpectationConfiguration
from great_expectations.expectations.metadata_types import FailureSeverity
from great_expectations.render.renderer.page_renderer import ValidationResultsPageRenderer
from great_expectations.render.view.view import DefaultJinjaPageView

_NO_TIME = datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC)
_TIMES = re.compile(r"(?: / )?2000-01-01T00:00:00(?:\.0+)?(?:Z|\+00:00)?")
_NUMBER = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_PICTURE = re.compile(
    r"<img\b[^>]*great-expectations-web-assets[^>]*>|url\('[^']*great-expectations-web-assets[^']*'\)"
)
_SHOWN_ROWS = 20
_SEVERITIES = {"error": FailureSeverity.CRITICAL, "warning": FailureSeverity.WARNING}


def pages(sets: Sequence[Mapping[str, Any]], run: str) -> dict[str, str]:
    """Return the pages of a validation: file name -> page, one page per set.

    Args:
        sets: as in validate_raw.json: a name, and the outcome of each expectation.
        run: name of the validation on the pages.
    """
    return {re.sub(r"[^\w.-]+", "-", f"{validated['set']}.html"): _page(validated, run) for validated in sets}


def _page(validated: Mapping[str, Any], run: str) -> str:
    results = [_result(outcome) for outcome in validated["expectations"]]
    held, number = sum(bool(result.success) for result in results), len(results)
    found = ExpectationSuiteValidationResult(
        success=held == number,
        results=results,
        suite_name=html.escape(validated["set"]),
        statistics={
            "evaluated_expectations": number,
            "successful_expectations": held,
            "unsuccessful_expectations": number - held,
            "success_percent": 100.0 * held / number if number else None,
        },
        meta={"run_id": RunIdentifier(run, _NO_TIME), "great_expectations_version": gx.__version__},
    )
    page = DefaultJinjaPageView().render(ValidationResultsPageRenderer().render(found))
    numbers: dict[str, str] = {}
    page = _NUMBER.sub(lambda match: numbers.setdefault(match.group(), str(len(numbers))), page)
    return _TIMES.sub("", _PICTURE.sub("", page))


def _result(outcome: Mapping[str, Any]) -> ExpectationValidationResult:
    kwargs = dict(outcome["kwargs"])
    if "column" in kwargs:
        kwargs["column"] = _escaped(kwargs["column"])
    result: dict[str, Any] = {}
    if outcome["observed"] is not None:
        result["observed_value"] = _escaped(outcome["observed"])
    if outcome["rows"]:
        share = 100.0 * outcome["unexpected"] / outcome["rows"]
        result |= {
            "element_count": outcome["rows"],
            "missing_count": 0,
            "unexpected_count": outcome["unexpected"],
            "unexpected_percent": share,
            "unexpected_percent_total": share,
            "unexpected_percent_nonmissing": share,
            "partial_unexpected_list": [
                html.escape(f"{row['source']}: {row['value']}") for row in outcome["first"][:_SHOWN_ROWS]
            ],
        }
    message = outcome["message"]
    return ExpectationValidationResult(
        success=outcome["success"],
        expectation_config=ExpectationConfiguration(
            type=outcome["type"], kwargs=kwargs, severity=_SEVERITIES[outcome["severity"]]
        ),
        result=result,
        exception_info={
            "raised_exception": bool(message),
            "exception_message": message,
            "exception_traceback": "",
        },
    )


def _escaped(value: Any) -> Any:
    """Return a value with all its texts escaped."""
    if isinstance(value, str):
        return html.escape(value)
    if isinstance(value, dict):
        return {_escaped(name): _escaped(inner) for name, inner in value.items()}
    return [_escaped(inner) for inner in value] if isinstance(value, list) else value
