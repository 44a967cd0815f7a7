import re
from collections.abc import Callable
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tuneline import params
from tuneline.behaviour import check_results
from tuneline.behaviour.check_results import CheckResult, Expectation
from tuneline.core import files
from tuneline.fusion.merging.merge_recipe import Parent, Recipe
from tuneline.reporting import data_section, report

EVIL = '<script>alert("x")</script><img src=x onerror=alert(1)> & "quoted" \'single\''
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
RULE = {
    "metric": "bits_per_byte",
    "direction": "lower",
    "versus": "base",
    "margin": 0.0,
    "improvement": 0.39,
    "low": 0.36,
    "high": 0.42,
    "verdict": "passed",
    "reason": "Bits per byte is better than the base's by 0.3900 (95 % interval of the improvement +0.3600 to "
    "+0.4200); the interval is above zero.",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """All reports, with hostile text in every text of data or a model."""
    files.write_json(tmp_path / "evaluation.json", EVALUATION)
    files.write_json(tmp_path / "gate.json", {"verdict": "passed", "rules": [RULE], "champion": None})
    answers = {"base_text": EVIL, "candidate_text": f"candidate {EVIL}", "base_chrf": 1.0, "candidate_chrf": 2.0}
    rows = [{"id": f"r{row}", "source": EVIL, "prompt": EVIL, "reference": EVIL, **answers} for row in range(30)]
    rows.append(rows[0] | {"id": "not answered", "base_text": None, "candidate_text": None})
    files.write_parquet(tmp_path / "rows.parquet", pa.Table.from_pylist(rows))
    for name in ("training.csv", "base.csv"):
        files.write_text(
            tmp_path / name,
            "step,tokens,loss,learning_rate,grad_norm,eval_loss\n10,9,4.0,0.1,1,\n20,18,3.0,0.1,1,3.5\n",
        )
    files.write_json(
        tmp_path / "training.json", {"parameters": 1234567, "steps": 480, "tokens": 99, "fingerprint": "f"}
    )
    counted = {"set": EVIL, "rows_in": 12, "rows_out": 10, "rows": {"train": 8, "validation": 1, "test": 1}}
    found = {
        "dropped": {"duplicate": 2},
        "near_duplicates": {"threshold": 0.7, "pairs_compared": 9, "largest_bucket_bounded": True},
        "largest_clusters": [{"kept": f"{EVIL}:1", "dropped": 2}],
        "secrets": {"email": 3, "phone": 0},
        "labels": {EVIL: {"train": 4, "test": 1}, "ham": {"train": 4, "validation": 1}},
        "placeholders": {"rows": 1, "first": [f"{EVIL}:2: {{{{name}}}}"]},
        "warnings": [EVIL],
    }
    files.write_json(tmp_path / "prepare.json", {"raw": counted | found, "leaks": 0})
    files.write_text(tmp_path / "data_docs_raw" / "data-raw-mine&more.html", "made by another test")
    return tmp_path


@pytest.fixture
def page(folder: Path, values: params.Params) -> Callable[..., str]:
    def make(**more: Any) -> str:
        return report.render(report.assemble(folder, values, params_file=folder / "none.yaml", **more))

    return make


@pytest.fixture
def values(tmp_path_factory: pytest.TempPathFactory, params_text: str) -> params.Params:
    path = tmp_path_factory.mktemp("params") / "params.yaml"
    path.write_text(params_text, "utf-8")
    return params.load(path)


class Elements(HTMLParser):
    """The tags of a page with their attributes, its text, and the tags that were not closed."""

    VOID = frozenset({"meta", "link", "br", "img", "input", "hr", "wbr"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_texts_of_data_and_models_are_escaped(page: Callable[..., str]) -> None:
    html = page(lineage={"tuneline.git_commit": EVIL}, champion_texts={"r0": EVIL})
    elements = Elements(html)
    assert elements.open == []
    names = {name for name, _ in elements.tags}
    assert not names & {"script", "img", "iframe", "object", "embed", "link", "base", "form"}
    assert not [attribute for _, attributes in elements.tags for attribute in attributes if attribute.startswith("on")]
    # Eight samples with source, prompt, reference, base and candidate; one answer of the champion; the name, cluster,
    # label, placeholder and warning of the set; one line of the lineage.
    assert "".join(elements.text).count('<script>alert("x")</script>') == 8 * 5 + 7


def test_the_page_loads_nothing(page: Callable[..., str]) -> None:
    html = page(lineage={"tuneline.git_commit": "abc"})
    assert not re.search(r"https?://|//[a-z]|url\(|@import|src=(?!x )", html)
    # The only links that leave the page are to pages of Great Expectations.
    assert re.findall(r'href="([^#"][^"]*)"', html) == ["data_docs_raw/data-raw-mine%26more.html"]
    assert "default-src 'none'" in html


def test_the_same_reports_give_the_same_page(page: Callable[..., str]) -> None:
    assert page() == page()


@pytest.mark.parametrize(
    ("verdict", "sentence"),
    [
        (
            "passed",
            "The new docstring-writer is good enough: on text it has never seen, it meets every rule against its base.",
        ),
        (
            "failed",
            "The new docstring-writer is not good enough: on text it has never seen, it fails a rule against its base.",
        ),
        ("undecided", "The test rows are too few to decide whether the new docstring-writer is good enough."),
    ],
)
def test_the_verdict_comes_first(verdict: str, sentence: str, folder: Path, page: Callable[..., str]) -> None:
    rule = RULE | {"verdict": verdict}
    files.write_json(folder / "gate.json", {"verdict": verdict, "rules": [rule], "champion": None})
    html = page()
    assert sentence in html
    assert (
        html.index(sentence) < html.index("Bits per byte is better than the base&#39;s") < html.index("<h2>The numbers")
    )


def test_the_champion_is_in_the_table_and_in_the_picture(folder: Path, page: Callable[..., str]) -> None:
    champion = {"version": 7, "rows": 3000, "token_loss": 3.2, "bits_per_byte": 1.6, "perplexity": 24.5, "chrf": 20.0}
    rules = [RULE, RULE | {"versus": "champion", "margin": -0.01, "low": 0.02, "improvement": 0.03, "high": 0.04}]
    files.write_json(folder / "gate.json", {"verdict": "passed", "rules": rules, "champion": champion})
    html = page(champion_texts={"r0": "what the champion says"})
    assert "its base and version 7" in html
    assert "version 7, the current champion; on the 3,000 rows that it was not trained on" in html
    assert "Bits per byte against the champion: improvement 0.030, interval 0.020 to 0.040" in html
    assert html.count("what the champion says") == 1


def test_the_contents_lead_to_every_part(page: Callable[..., str]) -> None:
    elements = Elements(page(lineage={"tuneline.git_commit": "abc"}))
    anchors = [attributes["id"] for tag, attributes in elements.tags if tag in ("header", "section")]
    links = [href[1:] for tag, attributes in elements.tags if (href := attributes.get("href") or "").startswith("#")]
    # One link skips the summary, one leads back to the top.
    assert links == [anchors[1], *anchors[1:], anchors[0]]
    assert anchors == ["top", "rules", "numbers", "samples", "training", "data", "lineage"]


def test_the_page_can_be_read_by_ear_and_used_by_keyboard(page: Callable[..., str]) -> None:
    html = page(lineage={"tuneline.git_commit": "abc"})
    tags = Elements(html).tags
    levels = [int(tag[1]) for tag, _ in tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels)), levels
    ids = [attributes["id"] for _, attributes in tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    pictures = [attributes for tag, attributes in tags if tag == "svg"]
    assert all(one.get("aria-label") if one.get("role") == "img" else one.get("aria-hidden") for one in pictures)
    assert all("scope" in attributes for tag, attributes in tags if tag == "th")
    # What scrolls is reachable by the Tab key and has a name.
    scrolled = [attributes for _, attributes in tags if "scroll" in (attributes.get("class") or "").split()]
    assert scrolled
    assert all(one.get("tabindex") == "0" and one.get("aria-label") and one.get("role") == "region" for one in scrolled)
    assert html.count("<details>") == html.count("<details><summary>")


def test_the_summary_shows_the_numbers_of_the_most_serious_rules(folder: Path, page: Callable[..., str]) -> None:
    champion = {"version": 7, "rows": 3000, "token_loss": 3.2, "bits_per_byte": 1.6, "chrf": 20.0}
    than_champion = RULE | {"versus": "champion", "verdict": "failed", "improvement": -0.2, "low": -0.3, "high": -0.1}
    rules = [RULE, RULE | {"metric": "chrf", "direction": "higher", "verdict": "undecided"}, than_champion]
    files.write_json(folder / "gate.json", {"verdict": "failed", "rules": rules, "champion": champion})
    html = page()
    summary = " ".join("".join(Elements(html[html.index("<header") : html.index("</header>")]).text).split())
    assert "Rules: 1 failed, 1 undecided, 1 passed." in summary
    first, second, third = (
        "Bits per byte against the champion failed 1.510 −0.200 (−0.300 to −0.100)",
        "chrF against the base undecided 21.5 +12.5 (+11.0 to +14.0)",
        "Bits per byte against the base passed 1.510 +0.390 (+0.360 to +0.420)",
    )
    assert summary.index(first) < summary.index(second) < summary.index(third)


def test_the_page_in_chinese_keeps_what_comes_from_data(folder: Path, values: params.Params) -> None:
    chinese = values.model_copy(update={"report": params.Report(language="zh")})
    made = report.assemble(folder, chinese, params_file=folder / "none.yaml", champion_texts={"r0": EVIL})
    html = report.render(made)
    assert '<html lang="zh-Hans">' in html
    assert "新的 docstring-writer 达标：在从未见过的文本上，与其基座模型相比，它满足全部规则。" in html
    elements = Elements(html)
    assert elements.open == []
    assert not {name for name, _ in elements.tags} & {"script", "img"}
    # As many as on the English page without lineage.
    assert "".join(elements.text).count('<script>alert("x")</script>') == 8 * 5 + 6
    # All other words are names: of metrics, files, splits and models.
    text = re.sub(re.escape(EVIL), "", " ".join(elements.text[elements.text.index("docstring-writer") :]))
    # A long label is cut within its own text.
    assert set(re.findall(r"[A-Za-z]{2,}(?: [A-Za-z]{2,})+", text)) <= {"Great Expectations", "img src"}


def test_long_parts_are_folded_and_the_page_stays_small(folder: Path, values: params.Params) -> None:
    text = "<字>" * 300
    row = {"source": "a", "prompt": text, "reference": text, "base_text": text, "candidate_text": text}
    rows = [row | {"id": f"r{number}"} for number in range(600)]
    files.write_parquet(folder / "rows.parquet", pa.Table.from_pylist(rows))
    many = values.model_copy(update={"evaluate": values.evaluate.model_copy(update={"samples": 600})})
    html = report.render(report.assemble(folder, many, params_file=folder / "none.yaml"))
    assert len(html.encode()) < 2_000_000
    samples = html[html.index("<h2>Answers side by side") :]
    assert samples[: samples.index("<details>")].count("<article") == 2
    kept = html.count("<article")
    assert 50 < kept < 600
    assert f"{kept - 2} more rows</summary>" in html
    assert f"and {600 - kept} more rows in <code>rows.parquet</code>" in html


def test_parts_of_missing_files_are_left_out(tmp_path: Path, values: params.Params) -> None:
    empty = tmp_path / "empty"
    files.write_json(empty / "evaluation.json", EVALUATION | {"versus_base": {}})
    html = report.render(report.assemble(empty, values, params_file=empty / "none.yaml"))
    assert Elements(html).open == []
    assert "The numbers" in html
    for title in (
        "How sure",
        "Answers side by side",
        "How it was trained",
        "What became of every row",
        "Where it comes from",
    ):
        assert title not in html


def test_a_page_without_chrf_does_not_explain_it(folder: Path, page: Callable[..., str]) -> None:
    evaluation = {
        name: {metric: number for metric, number in value.items() if metric != "chrf"}
        if isinstance(value, dict)
        else value
        for name, value in EVALUATION.items()
    }
    files.write_json(folder / "evaluation.json", evaluation)
    (folder / "rows.parquet").unlink()
    assert "chrF" not in page()


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        (
            {"unigram": {"bits_per_byte": 1.5, "token_loss": 1.0, "perplexity": 2.7}},
            "Word frequencies alone predict the test rows better (Bits per byte 1.500 against 1.510)",
        ),
        (
            {"unigram": {"bits_per_byte": 1.51, "token_loss": 3.1, "perplexity": 22.2}},
            "Word frequencies alone predict the test rows as well (Bits per byte 1.510 against 1.510)",
        ),
        (
            {"copy": {"chrf": 30.0}},
            "Copying the prompt scores a higher chrF (chrF 30.0 against 21.5)",
        ),
    ],
)
def test_the_page_warns_of_a_baseline_that_is_as_good(
    changed: dict[str, Any], sentence: str, folder: Path, page: Callable[..., str]
) -> None:
    assert sentence not in page()
    files.write_json(folder / "evaluation.json", EVALUATION | changed)
    assert sentence in page()


def test_the_page_shows_what_was_found_in_the_data(folder: Path, page: Callable[..., str]) -> None:
    text = " ".join(" ".join(Elements(page()).text).split())
    for words in (
        "email addresses, kept and counted 3",
        "2 rows like it dropped",
        "not every pair was compared",
        "In 1 row, such as",
        "ham 4 1 0",
        "raw: data-raw-mine&more",
    ):
        assert words in text
    assert "phone numbers" not in text


def test_the_sets_of_a_mixture_are_shown_with_the_largest_share_first(folder: Path, page: Callable[..., str]) -> None:
    assert "What it was trained on" not in page()
    counted = files.read_json(folder / "training.json")
    one = {"weight": 1.0, "max_examples": None, "examples": 1200, "tokens": 3600, "supervised_tokens": 1234, "data": {}}
    counted["mixture"] = {
        "raw": one | {"shown": 1200, "share_of_tokens": 0.25},
        EVIL: one | {"weight": 0.5, "shown": 600, "share_of_tokens": 0.75},
    }
    files.write_json(folder / "training.json", counted)
    prepared = files.read_json(folder / "prepare.json")
    prepared["mixture"] = {EVIL: prepared["raw"] | {"set": "data/mixture/faq"}}
    files.write_json(folder / "prepare.json", prepared)
    html = page()
    table = html[html.index("What it was trained on") :]
    assert table.index("75.0 %") < table.index("25.0 %")
    assert all(f"<td>{number}</td>" in table for number in ("0.5", "1,200", "600", "1,234"))
    assert "data/mixture/faq" in html
    assert EVIL not in html


def test_the_variants_of_training_rows_are_counted_and_three_are_shown(
    folder: Path, page: Callable[..., str], params_text: str
) -> None:
    example = {"source": EVIL, "before": f"before {EVIL}", "after": f"after {EVIL}"}
    counts = {"rows_in": 1200, "rows_out": 1000, "dropped": {"unchanged": 190, "held-out": 10}, "examples": [example]}
    files.write_json(folder / "augmented" / "word_swap.json", counts)
    assert "Variants of training rows" not in page()
    noise = "  augment: {noise: {word_swap: {weight: 0.5, p: 0.1}, word_dropout: {weight: 0.5, p: 0.1}}}"
    path = folder / "params.yaml"
    path.write_text(params_text.replace("  augment: {}", noise), "utf-8")
    html = report.render(report.assemble(folder, params.load(path), params_file=folder / "none.yaml"))
    assert EVIL not in html
    text = " ".join(" ".join(Elements(html).text).split())
    for words in (
        "Variants of training rows: word_swap",
        "1,200 training rows, 1,000 variants, 200 dropped",
        "dropped: the same as, or nearly the same as, a row kept for testing 10",
        "→ after",
    ):
        assert words in text
    assert "word_dropout" not in text.split("Where it comes from")[0]


def test_many_labels_and_warnings_are_cut_and_counted(folder: Path, page: Callable[..., str]) -> None:
    data = files.read_json(folder / "prepare.json")
    data["raw"] |= {
        "labels": {f"label {number}": {"train": number} for number in range(30)},
        "warnings": [f"warning {number}" for number in range(10)],
        "secrets": {"email": 0},
    }
    data["overlap"] = {"max_overlap": 0.5, "kept_above_0.3": 7, "test_rows_with_an_answer_that_train_has": 2}
    files.write_json(folder / "prepare.json", data)
    html = page()
    assert "and 10 more labels" in html
    assert "and 2 more warnings" in html
    assert html.index("label 29") < html.index("label 10")
    assert "label 9<" not in html
    assert "None was found." in html
    assert "7 training rows repeat between 30% and 50% of a held-out row" in html
    assert "2 test rows have answers that training rows give to other prompts" in html


def test_equal_labels_in_train_and_test_are_not_reported_as_copied_answers(folder: Path, values: params.Params) -> None:
    overlap = {"max_overlap": 0.5, "kept_above_0.3": 1, "test_rows_with_an_answer_that_train_has": 98}
    assert data_section.overlap({"overlap": overlap}, has_answers=False) == [
        "1 training row repeats between 30% and 50% of a held-out row. Rows below data.max_overlap stay in training."
    ]
    assert len(data_section.overlap({"overlap": overlap}, has_answers=True)) == 2
    assert [task for task, shown in report.TASK_PAGES.items() if shown.has_answers] == ["sft"]


def test_the_headline_of_a_candidate_like_its_base_does_not_ask_for_rows(
    folder: Path, page: Callable[..., str]
) -> None:
    like = RULE | {"verdict": "undecided", "improvement": -0.01, "low": -0.02, "high": -0.001}
    files.write_json(folder / "gate.json", {"verdict": "undecided", "rules": [like, RULE], "champion": None})
    assert "is better than its base, but it is not so much worse that it fails." in page()
    files.write_json(
        folder / "gate.json", {"verdict": "undecided", "rules": [like | {"high": 0.001}], "champion": None}
    )
    assert "The test rows are too few to decide" in page()
    than_champion = like | {"versus": "champion", "margin": -0.005}
    gate = {"verdict": "undecided", "rules": [than_champion], "champion": {"version": "3", "rows": 9}}
    files.write_json(folder / "gate.json", gate)
    assert "is worse than version 3; the test rows are too few to decide whether it is worse than is" in page()


def test_a_base_that_was_not_measured_is_not_mentioned(folder: Path, page: Callable[..., str]) -> None:
    files.write_json(folder / "base.json", {"source": "builtin"})
    both = "Neither the base nor the candidate was trained on them."
    assert both in page()
    evaluation = files.read_json(folder / "evaluation.json")
    files.write_json(folder / "evaluation.json", {name: one for name, one in evaluation.items() if name != "base"})
    assert both not in page()
    assert "The candidate was not trained on them." in page()


def test_next_steps_come_before_the_numbers(folder: Path, page: Callable[..., str]) -> None:
    assert "What to do next" not in page()
    failed = [RULE | {"verdict": "failed", "versus": "baseline"}, RULE]
    steps = ["Set `finetune.num_train_epochs` to 3.", EVIL]
    gate = {"verdict": "failed", "rules": failed, "champion": None, "next_steps": steps}
    files.write_json(folder / "gate.json", gate)
    html = page()
    # The headline names only the rules that failed.
    assert "it fails a rule against the trivial baselines." in html
    assert html.index("What to do next") < html.index("Set <code>finetune.num_train_epochs</code> to 3.")
    assert html.index("to 3.") < html.index("<h2>The numbers")
    assert EVIL not in html


def test_the_pretraining_text_is_shown_only_if_a_base_was_made_from_the_user_s_own_set(
    folder: Path, values: params.Params
) -> None:
    data = files.read_json(folder / "prepare.json")
    data["pretraining"] = data["raw"] | {"set": "data/raw/python-text", "rows_out": 1234}
    files.write_json(folder / "prepare.json", data)
    files.write_json(folder / "base.json", {"source": "builtin"})

    def html(**changed: Any) -> str:
        p = values.model_copy(
            update={name: getattr(values, name).model_copy(update=one) for name, one in changed.items()}
        )
        return report.render(report.assemble(folder, p, params_file=folder / "none.yaml"))

    line = "The base was pretrained on data/raw/python-text (1,234 texts)."
    built_in = html()
    assert "<h3>data/raw/python-text</h3>" in built_in
    assert line not in built_in
    assert "Pretraining of the base" in built_in
    other = html(data={"raw": "data/raw/banking"})
    assert "<h3>data/raw/python-text</h3>" not in other
    assert line in other
    assert "<h3>data/raw/python-text</h3>" in html(data={"raw": "data/raw/banking", "pretraining": "data/raw/my-text"})
    files.write_json(folder / "base.json", {"source": "hub"})
    hub = html(base={"source": "hub", "input": "data/base.yaml"})
    assert "python-text" not in hub
    assert "Pretraining of the base" not in hub


def test_the_page_counts_training_rows_that_were_cut(folder: Path, page: Callable[..., str]) -> None:
    counted = files.read_json(folder / "training.json")
    counts = {"rows": 200, "rows_truncated": 10, "supervised_tokens": 750, "supervised_tokens_left_out": 250}
    files.write_json(folder / "training.json", counted | {"data": counts})
    sentence = (
        "10 of 200 training rows (5.0%) were longer than finetune.max_length and were cut, which leaves out 25.0% of "
        "the tokens"
    )
    assert sentence in page()
    files.write_json(folder / "training.json", counted | {"data": counts | {"rows_truncated": 0}})
    assert "longer than finetune.max_length" not in page()


def test_the_page_of_a_merged_model_says_how_it_was_merged(folder: Path, page: Callable[..., str]) -> None:
    parents = tuple(Parent(version, weight) for version, weight in (("3", 3.0), ("4", 1.0)))
    files.write_json(folder / "base.json", {"source": "merge", "merge": Recipe("linear", parents).as_json()})
    (folder / "training.csv").write_text("step,tokens,loss,learning_rate,grad_norm,eval_loss\n")
    files.write_json(folder / "training.json", {"steps": 0, "tokens": 0, "data": {"rows": 4, "rows_truncated": 2}})
    html = " ".join(page().split())
    assert (
        "Its weights were computed from those of the versions 3, 4 by linear, with the weights 0.75, 0.25. After the "
        "merge it was not trained."
    ) in html
    assert "were cut" not in html
    files.write_json(folder / "training.json", {"steps": 7, "tokens": 9})
    assert "After the merge" not in page()


def test_the_page_says_where_the_losses_part_and_what_was_not_trained(folder: Path, page: Callable[..., str]) -> None:
    few = page()
    assert "whether the losses part: 1 instead of 4 or more. A lower finetune.eval_steps gives more." in few
    assert 'class="parting"' not in few
    lines = [f"{step},9,{4 - step / 100},0.1,1,{3 + step / 100}" for step in range(100, 160, 10)]
    header = "step,tokens,loss,learning_rate,grad_norm,eval_loss"
    files.write_text(folder / "training.csv", "\n".join([header, *lines]) + "\n")
    counted = files.read_json(folder / "training.json") | {"best_step": 100, "stopped_early": True}
    regularised = {"frozen": 4321, "rates": {"embeddings": 0.25, "layer 0": 0.5, "head": 1.0}}
    files.write_json(folder / "training.json", counted | regularised)
    shown = page()
    assert "From step 100 on the validation loss rises (4.000 to 4.400)" in shown
    assert "The weights of step 100 were kept." in shown
    assert '<line class="parting" x1="0.0" x2="0.0"' in shown
    assert "4,321" in shown
    assert "embeddings 0.25, layer 0 0.5, head 1<" in shown


def test_prepare_json_of_an_older_version_can_be_shown(folder: Path, page: Callable[..., str]) -> None:
    data = files.read_json(folder / "prepare.json")
    data["raw"] = {key: data["raw"][key] for key in ("set", "rows_in", "rows_out", "rows", "dropped")}
    files.write_json(folder / "prepare.json", data)
    html = page()
    assert "12 rows in, 10 out, 2 dropped" in html
    assert "Secrets" not in html


def test_the_page_of_a_gate_does_not_read_an_old_gate_json(page: Callable[..., str], folder: Path) -> None:
    decided = {"verdict": "passed", "rules": [RULE], "champion": None}
    before = page()
    (folder / "gate.json").write_text("")
    assert page(gate=decided) == before


def test_behaviour_checks_are_shown_with_the_failed_first_and_everything_escaped(
    folder: Path, page: Callable[..., str]
) -> None:
    def result(number: int, severity: str, reason: str | None, answer: str | None = EVIL) -> CheckResult:
        expected = (Expectation(f"contains “{EVIL}”", reason),)
        return CheckResult(number, None, severity, f"{EVIL}\x1b[2J", answer, expected, note=EVIL)

    results = [
        result(1, "error", None),
        result(2, "warning", f"the answer contains “{EVIL}”"),
        result(3, "error", f"the answer contains “{EVIL}”", ""),
        CheckResult(4, "greets", "error", "Hello", problem=EVIL),
    ]
    files.write_json(folder / "checks.json", check_results.as_json("0" * 64, results))
    html = page()
    part = html[html.index('id="behaviour"') :]
    part = part[: part.index("</section>")]
    assert "<script>alert" not in html
    assert "onerror=alert(1)>" not in html
    assert "\x1b" not in html
    assert "Of the checks of data/checks.yaml, 1 of 3 of severity error and 0 of 1 of severity warning passed." in part
    order = [part.index(f"</span> {title}</th>") for title in ("3", "4 (greets)", "2", "1")]
    assert order == sorted(order)
    assert part.index("<details>") > order[2]
    assert "an empty answer" in part
    assert "not asked" in part
    Elements(html)
    (folder / "checks.json").unlink()
    assert 'id="behaviour"' not in page()
