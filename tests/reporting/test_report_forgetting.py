"""The part of the page about what a model has forgotten and memorised."""

from pathlib import Path

import pyarrow as pa
import pytest

from tuneline import params
from tuneline.core import files
from tuneline.evaluation import results
from tuneline.evaluation.intervals import Interval
from tuneline.evaluation.probes import copied_text, probe_table
from tuneline.evaluation.probes.probe_table import CANARIES, COPIED, Probed
from tuneline.reporting import forgetting_section

SPAN = "one two three four five six seven eight <script> nine"
EVALUATION = {"candidate": {"copied_share": 0.5, "canary_exposure": 3.0}, "base": {"copied_share": 0.0}}


def keys(count: int) -> dict[str, list[str]]:
    return {name: [f"{name}{row}" for row in range(count)] for name in ("id", "source", "cluster")}


@pytest.fixture
def reports(tmp_path: Path) -> Path:
    trained = [("train.jsonl:7", f"before {SPAN} after"), ("train.jsonl:8", "mail one@example.com now")]
    copies = [copied_text.find_copies([SPAN, text, ""], trained) for text in (SPAN, "other words")]
    canary = {"nll": [1.0, 5.0, 2.0, 3.0], "exposure": [1.58, 0.0, None, None]}
    planted = pa.table(keys(4) | {"planted": [True, True, False, False]})
    probed = {
        COPIED: Probed(
            pa.table(keys(3)),
            {name: copied_text.score_table(one) for name, one in zip(("candidate", "reference"), copies, strict=True)},
        ),
        CANARIES: Probed(planted, {"candidate": pa.table(canary)}),
    }
    files.write_parquet(tmp_path / "probes.parquet", probe_table.to_table(probed))
    about = {
        "copied": {"answers": 3, "searched": 2, "of": 5, "characters": 1234},
        "canaries": {"planted": 2, "references": 2},
    }
    files.write_json(tmp_path / "probes.json", {"absent": {"general": "there is no general text"}, **about})
    versus = {"base": {"copied_share": Interval(0.5, 0.25, 0.75, 12), "canary_exposure": "it was not measured"}}
    files.write_json(tmp_path / "intervals.json", results.intervals_json(versus))
    return tmp_path


def test_the_section_has_values_reasons_and_the_longest_spans(reports: Path) -> None:
    found = forgetting_section.read(reports, EVALUATION)
    assert found is not None
    lines = {line.metric: line for group in found.groups for line in group.lines}
    assert list(lines) == ["canary_exposure", "copied_share"]
    assert (lines["copied_share"].candidate, lines["copied_share"].base) == (0.5, 0.0)
    assert lines["copied_share"].difference == Interval(0.5, 0.25, 0.75, 12)
    assert lines["canary_exposure"].difference is None
    assert found.absent == (("Bits per byte of general text", "there is no general text"),)
    [span] = found.spans
    assert (span.text, span.units, span.answer, span.origin) == (SPAN, 10, "source0", "train.jsonl:7")
    assert found.copied_by_references is not None
    assert found.highest == 1


def test_an_evaluation_without_probes_has_no_section(tmp_path: Path) -> None:
    assert forgetting_section.read(tmp_path, EVALUATION) is None
    files.write_json(tmp_path / "probes.json", {"absent": {}})
    files.write_parquet(tmp_path / "probes.parquet", probe_table.to_table({}))
    files.write_json(tmp_path / "intervals.json", {})
    assert forgetting_section.read(tmp_path, EVALUATION) is None


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_page_escapes_what_a_model_has_copied(reports: Path, language: params.Language) -> None:
    from tuneline.reporting.report import Report, render

    found = forgetting_section.read(reports, EVALUATION)
    evaluation = EVALUATION | {"rows": 3, "groups": 3}
    page = render(Report("a-model", "sft", evaluation, forgetting=found, language=language))
    assert "<script>" not in page
    assert "seven eight &lt;script&gt; nine" in page
    assert ("Forgetting and memorisation" if language == "en" else "遗忘与记忆") in page
