"""The report in a browser: its summary fits on one screen, and no part is wider than a phone."""

import re
import subprocess
from pathlib import Path

import pyarrow as pa
import pytest
from test_attack_page import BROWSER, FLAGS

from tuneline import params
from tuneline.core import files
from tuneline.gate import decision
from tuneline.reporting import report

pytestmark = [pytest.mark.slow, pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")]

SCREENS = {"phone": (390, 844), "narrow": (320, 1_100), "desktop": (1280, 800)}
MODEL = "answers-to-customers-2026"
EVALUATION = {
    "rows": 3238,
    "groups": 367,
    "bytes": 240000,
    "tokens": 81000,
    "answers": 200,
    "candidate": {"token_loss": 3.1, "bits_per_byte": 1.51, "perplexity": 22.2, "chrf": 21.5},
    "base": {"token_loss": 3.9, "bits_per_byte": 1.9, "perplexity": 49.4, "chrf": 9.0},
    "unigram": {"token_loss": 6.0, "bits_per_byte": 2.9, "perplexity": 403.4},
    "copy": {"chrf": 12.0},
    "versus_base": {
        "token_loss": {"difference": -0.8, "low": -0.9, "high": -0.7},
        "bits_per_byte": {"difference": -0.39, "low": -0.42, "high": -0.36},
        "chrf": {"difference": 12.5, "low": 11.0, "high": 14.0},
    },
}


def rule(metric: str, versus: str, verdict: decision.RuleVerdict, improvement: float) -> decision.Decision:
    reason = f"{metric} is worse than the {versus}'s."
    bounds = (improvement, improvement - 0.1, improvement + 0.1)
    return decision.Decision(metric, "lower", versus, 0.0, *bounds, verdict, reason)


@pytest.fixture(params=["en", "zh"])
def page(request: pytest.FixtureRequest, tmp_path: Path, params_text: str) -> Path:
    """A page with the longest headline, long words and every part."""
    (tmp_path / "params.yaml").write_text(params_text, "utf-8")
    p = params.load(tmp_path / "params.yaml")
    reports = tmp_path / "reports"
    files.write_json(reports / "evaluation.json", EVALUATION)
    champion = {"version": 12, "rows": 3000, "token_loss": 3.2, "bits_per_byte": 1.6, "perplexity": 24.5, "chrf": 20.0}
    rules = [
        rule("bits_per_byte", "base", "failed", -0.4),
        rule("chrf", "champion", "failed", -0.4),
        rule("bits_per_byte", "champion", "undecided", 0.05),
        rule("bits_per_byte", "baseline", "passed", 0.4),
    ]
    gate = decision.Verdict("failed", tuple(rules)).as_dict() | {"champion": champion, "next_steps": ["x" * 300]}
    files.write_json(reports / "gate.json", gate)
    long = "0123456789abcdef" * 30
    row = {"source": f"{long}:7", "prompt": long, "reference": long, "base_text": long, "candidate_text": long}
    files.write_parquet(reports / "rows.parquet", pa.Table.from_pylist([row | {"id": str(at)} for at in range(9)]))
    counted = {
        "set": f"data/raw/{long}",
        "rows_in": 12,
        "rows_out": 10,
        "rows": {"train": 8, "validation": 1, "test": 1},
    }
    labels = {f"{long}{at}": {"train": 4, "test": 1} for at in range(9)}
    files.write_json(reports / "prepare.json", {"raw": counted | {"dropped": {"near-duplicate": 2}, "labels": labels}})
    files.write_text(reports / "training.csv", "step,loss,eval_loss\n10,4.0,\n20,3.0,3.5\n")
    changed = {
        "report": params.Report.model_validate({"language": request.param}),
        "registry": p.registry.model_copy(update={"model": MODEL}),
    }
    lineage = {"tuneline.model_sha256": "0" * 64}
    made = report.assemble(reports, p.model_copy(update=changed), lineage=lineage, params_file=tmp_path / "params.yaml")
    html = report.render(made)
    # The page itself runs nothing; here it opens its folded parts and tells its own size to the page around it.
    told = """<script>
    const [screen_, state] = window.name.split(" ");
    for (const part of document.querySelectorAll("details")) part.open = state === "open";
    const summary = Math.ceil(document.getElementById("top").getBoundingClientRect().bottom);
    parent.postMessage([window.name, document.documentElement.scrollWidth, summary].join(), "*");
    </script>"""
    html = re.sub(r"<meta http-equiv[^>]*>", "", html)
    (tmp_path / "page.html").write_text(html.replace("</body>", f"{told}</body>"), "utf-8")
    return tmp_path


def test_the_summary_fits_on_one_screen_and_no_part_is_wider(page: Path) -> None:
    # A frame can be narrower than a window of the browser.
    frames = [
        f'<iframe name="{screen} {state}" src="page.html" width="{width}" height="{height}" style="border:0"></iframe>'
        for screen, (width, height) in SCREENS.items()
        for state in ("closed", "open")
    ]
    around = page / "around.html"
    heard = "<script>onmessage = (event) => { document.title += event.data + ';'; }</script>"
    around.write_text(f"<!doctype html><title></title>{heard}{''.join(frames)}", "utf-8")
    assert BROWSER
    command = [
        BROWSER,
        *FLAGS,
        f"--user-data-dir={page / 'browser'}",
        "--hide-scrollbars",
        "--virtual-time-budget=9000",
    ]
    done = subprocess.run(
        [*command, "--dump-dom", around.as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    found = re.findall(r"(\w+) (\w+),(\d+),(\d+);", done.stdout)
    assert len(found) == len(frames), done.stdout[:2000]
    for screen, state, wide, summary in found:
        width, height = SCREENS[screen]
        assert int(wide) == width, (screen, state)
        assert int(summary) <= height, (screen, state)
