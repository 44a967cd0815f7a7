"""The page in Chinese: every text of templates, sections and the gate has a translation with the same holes."""

import ast
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import get_args

import jinja2
import pytest

from tuneline import reporting
from tuneline.behaviour.check_results import CheckResult, Expectation
from tuneline.data.records.labelled_by import LabelledBy
from tuneline.evaluation import comparison
from tuneline.evaluation.intervals import Interval, Measures
from tuneline.evaluation.slices import Slice, SlicedColumn
from tuneline.gate import behaviour_rule, budget_words, decision, next_steps, spending
from tuneline.gate.noise_floor import NoiseFloor
from tuneline.gate.spending import Use
from tuneline.params import Rule, Task
from tuneline.params.gate import METRICS
from tuneline.reporting import catalogue
from tuneline.reporting.behaviour_section import behaviour_of

FOLDER = Path(reporting.__file__).parent
ENTRIES = catalogue.read_entries(catalogue.path_of("zh"))
CHINESE = catalogue.read("zh")
TEMPLATES = sorted([*FOLDER.glob("*.jinja"), *FOLDER.parent.glob("search/*.jinja")])
SECTIONS = sorted([*FOLDER.glob("*_section.py"), FOLDER / "report.py", *FOLDER.glob("*_page.py")])
# They write sentences that the page shows.
SOURCES = [
    FOLDER.parent / name
    for name in ("evaluation/comparison.py", "gate/decision.py", "gate/next_steps.py", "gate/slice_rules.py")
]
ADD = "add it to src/tuneline/reporting/zh.po"
# Parts of sentences, which other texts of the module hold in a hole.
PARTS = {
    "report.py": {", which leaves out {} of the tokens to train on", "{} of {} training rows ({})"},
    "comparison_section.py": {"; on the {} rows that it was not trained on", "as good"},
    "calibration_section.py": {"{}: it is too sure of itself.", "{}: it may be surer of itself."},
    "data_section.py": {
        "1 test row has an answer",
        "{} test rows have answers",
        "1 {} row repeats",
        "{} {} rows repeat",
    },
    "samples_section.py": {
        "its likeliest token at each step.",
        "The first half of a test text, its second half, and how each model continues the first half. Each model "
        "writes ",
        "right: the chosen answer gained more than the rejected answer",
        "wrong: the chosen answer did not gain more than the rejected answer",
        ", {} % sure",
        "{} Each model writes {}",
    },
    "verdict_section.py": {"no better"},
    "without_section.py": {"the same training without {}"},
    # What is put together of these is in the tests of reasons and next steps below.
    "decision.py": {
        "is {} (95 % interval of the improvement {})",
        "is not compared: {}.",
        "could not be compared with {}: {}.",
        "could not be compared with {}: the difference is not a finite number.",
        ", also at the {} of this comparison",
        "{}; the interval is above {}{}.",
        "{}; the interval is not above {}.",
        "no {} exists yet",
    },
    "next_steps.py": {
        "Train longer: raise finetune.num_train_epochs (now {})",
        "{}; the validation loss was still falling at the end.",
        "Fine-tuning has made the model better than its base in {}: these intervals are above zero.",
        " The numbers do not show it for {}.",
        "{} It is worse in {}.",
        " and base.builtin.max_length",
        "Few long rows decide the likelihood: the largest {} of {} test rows hold {} of the bytes. Leave long rows out "
        "of the data, or raise {}, if the model does not see them whole.",
    },
    "slice_rules.py": {
        " This holds after Holm's correction for {} slices.",
        " Among {} slices this may be chance: after Holm's correction it is not decided.",
        "It also fails",
        "It is also undecided",
    },
}


def template_texts() -> Iterator[tuple[str, str]]:
    """Template and text, of every text that a template marks."""
    environment = jinja2.Environment(extensions=["jinja2.ext.i18n"], trim_blocks=True, lstrip_blocks=True)
    environment.install_null_translations(newstyle=True)  # type: ignore[attr-defined]
    for template in TEMPLATES:
        for _, _, message in environment.extract_translations(template.read_text("utf-8")):  # type: ignore[attr-defined]
            yield template.name, message if isinstance(message, str) else message[0]


def prose(path: Path) -> Iterator[str]:
    """The texts of a module that look like words for people, with {} for what is filled in."""
    tree = ast.parse(path.read_text("utf-8"))
    nodes = list(ast.walk(tree))
    unseen = {id(part) for node in nodes if isinstance(node, ast.JoinedStr) for part in node.values}
    unseen |= {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    for node in nodes:
        if isinstance(node, ast.JoinedStr):
            text = "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in unseen:
            text = re.sub(r"\{\w+\}", "{}", node.value)
        else:
            continue
        # A sentence, or a title of several words.
        if re.search(r"[A-Za-z]{2,} [A-Za-z]{2,}", text.replace("{}", "")):
            yield text


def is_translated(text: str) -> bool:
    """Whether some entry fits a text, in any context."""
    filled = text.replace("{}", "⟦7⟧")
    contexts = {entry.context for entry in ENTRIES}
    return any(CHINESE.say(filled, context) != filled for context in contexts)


def test_every_text_of_a_template_is_translated() -> None:
    known = {entry.text for entry in ENTRIES if not entry.context and entry.translation}
    missing = {f"{template}: {text}" for template, text in template_texts() if text not in known}
    assert missing == set(), ADD


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.name)
def test_a_template_marks_all_its_words(template: Path) -> None:
    source = template.read_text("utf-8")
    source = re.sub(r"\{#.*?#\}|\{%-? trans.*?endtrans %\}|\{%.*?%\}|\{\{.*?\}\}", "", source, flags=re.DOTALL)
    named = re.findall(r'(?:aria-label|title|alt|data-name)="[^"]*[A-Za-z]{2}[^"]*"', source)
    words = re.findall(r"[A-Za-z]{2,}", re.sub(r"<[^>]*>", "", source))
    assert [*named, *words] == [], f"write {{% trans %}}…{{% endtrans %}} around them, and {ADD}"


@pytest.mark.parametrize("module", [*SECTIONS, *SOURCES], ids=lambda path: path.name)
def test_every_sentence_of_a_section_is_translated(module: Path) -> None:
    parts = PARTS.get(module.name, set())
    missing = [text for text in prose(module) if text not in parts and not is_translated(text)]
    assert missing == [], f"{ADD}, with a name in each hole"


def test_metrics_and_models_are_translated() -> None:
    def missing(names: list[str], context: str) -> list[str]:
        known = {entry.text for entry in ENTRIES if entry.context == context}
        return [name for name in names if name not in known]

    assert missing([metric.name for metric in METRICS.values()], "metric") == []
    assert missing([name for name, _ in comparison.MODELS.values()], "model") == []
    assert missing([note for _, note in comparison.MODELS.values()], "note") == []


def test_a_translation_has_the_holes_and_the_tags_of_its_text() -> None:
    for entry in ENTRIES:
        for what in (r"\{\w+\}", r"%\(\w+\)s", r"</?\w+>", r"%%", r"`[^`]+`", r"&\w+;"):
            assert sorted(re.findall(what, entry.text)) == sorted(re.findall(what, entry.translation)), entry.text


def test_no_entry_is_there_twice() -> None:
    keys = [(entry.context, entry.text) for entry in ENTRIES]
    assert sorted(keys) == sorted(set(keys))


def rule(**changed: object) -> Rule:
    values: dict[str, object] = {"metric": "bits_per_byte", "direction": "lower", "versus": "base", "margin": 0.0}
    return Rule.model_validate(values | changed)


def english(text: str) -> list[str]:
    """Words of a sentence that are not Chinese: names of keys, files and metrics may stay."""
    names = r"`[^`]*`|base\.source: hub|[\w/]+[._/][\w./]+|git diff|dvc params diff|TF-IDF|chrF|YAML|F1|champion|token"
    return re.findall(r"[A-Za-z]{2,}", re.sub(names, "", text))


def test_the_reasons_of_rules_are_translated() -> None:
    def measured(*numbers: float | None, groups: int = 90, other: str = "") -> Measures:
        difference, low, high = numbers
        assert difference is not None
        return {"bits_per_byte": Interval(difference, low, high, groups, other)}

    loss = {"margin": -0.01}
    of_value = rule(versus="value", value=1.5)
    cases: list[tuple[Rule, Measures | None]] = [
        (rule(), measured(-0.5, -0.6, -0.4)),
        (rule(versus="baseline"), measured(-0.5, -0.6, -0.4, other="unigram")),
        (rule(), measured(0.5, 0.4, 0.6)),
        (rule(margin=0.2), measured(-0.1, -0.3, 0.1)),
        (rule(**loss, versus="champion"), measured(0.005, 0.001, 0.02)),
        (rule(margin=0.5, fails_below=0.0), measured(-0.3, -0.4, -0.2)),
        (rule(), measured(0.0, 0.0, 0.0)),
        (rule(), measured(-0.5, None, None, groups=3)),
        (rule(versus="champion"), None),
        (of_value, measured(1.2, 1.1, 1.3)),
        (of_value, measured(1.8, 1.7, 1.9)),
        (rule(), {"bits_per_byte": "it was not measured"}),
        (of_value, {"bits_per_byte": "no answer was scored"}),
        (rule(), {}),
    ]
    for asked, measures in cases:
        reason = decision.decide([asked], {asked.versus: measures}).rules[0].reason
        assert english(CHINESE.say(reason, "reason")) == [], reason


def test_the_reasons_of_rules_about_slices_are_translated() -> None:
    good, bad, open_ = (-0.5, -0.6, -0.4), (0.5, 0.4, 0.6), (0.0, -0.1, 0.1)
    holds = "对 2 个切片作 Holm 校正后，这一结论仍然成立。"

    def reason(wanted: str, *parts: tuple[str | None, tuple[float, float, float]], level: float = 0.025) -> str:
        slices = [
            Slice(value, 90, 90, {}, {"champion": {"bits_per_byte": Interval(*numbers, 90)}})
            for value, numbers in parts
        ]
        columns = {
            "champion": {"language": SlicedColumn(tuple(slices), 3 + len(slices), {"sw": (4, 4), "fi": (99, 99)})}
        }
        asked = rule(versus="champion", slice=wanted)
        told = decision.decide([asked], {"champion": {}}, slices=columns, level=level).rules[0].reason
        said = CHINESE.say(told, "reason")
        assert english(re.sub(r"language|\b(zh|de|sw|fi|xx|source|Holm)\b", "", said)) == [], told
        return said

    assert reason("language=zh", ("zh", good)).startswith("每字节比特数在 language=zh 上比冠军模型好 0.5000")
    assert reason("language", ("zh", bad), ("de", good)).endswith(holds)
    assert reason("language", ("zh", bad), ("de", bad)).endswith(f"{holds}此外未通过的还有 language=de。")
    assert "此外未定的还有 language=de" in reason("language", ("zh", open_), ("de", open_))
    assert "个切片全部通过" in reason("language", ("zh", good), ("de", good), (None, good))
    assert "其余" in reason("language", (None, bad))
    for wanted in ("language=sw", "language=fi", "language=xx", "source", "language"):
        reason(wanted, *([("zh", good)] if wanted != "language" else []))
    assert "置信水平下同样如此" in reason("language", ("zh", good), level=0.004)
    assert "置信水平下，区间从" in reason("language", ("zh", (-0.5, -0.9, -0.01)), level=0.0001)


def test_which_version_has_labelled_a_set_is_translated() -> None:
    by = LabelledBy("reviews", "3", {}, 0.9, "")
    assert CHINESE.say(str(by)) == "由 reviews 第 3 版标注，置信度不低于 0.9"


def test_what_the_gate_says_of_twins_leaks_and_the_ledger_is_translated() -> None:
    asked = [rule(versus="champion", margin=margin, beyond_twins=True) for margin in (0.0, 0.01, -0.01)]
    asked = [rule(versus="champion"), *asked]
    for gain in (0.5, 0.1):
        for twins in (1, 2):
            noise = NoiseFloor(twins, {"bits_per_byte": 0.2})
            measures = {"champion": {"bits_per_byte": Interval(-gain, -gain - 0.05, -gain + 0.05, 90)}}
            for one in decision.decide(asked, measures, noise=noise).rules:
                assert english(CHINESE.say(one.reason, "reason")) == [], one.reason
    [lacking] = decision.decide(asked[1:2], measures).rules
    assert english(CHINESE.say(lacking.reason, "reason")) == []
    for problem in (
        "the candidate has no number for 3 of the test rows",
        "the candidate was trained on 2 of the 60 test rows or on rows of their groups; make the clean data again "
        "with: .venv/bin/dvc repro -f prepare",
        "the candidate, or a version that it was merged from, was trained on 2 of the 60 test rows or on rows of their "
        "groups; merge versions that were trained with this split (data.split)",
        "a version that the candidate was merged from was trained on near duplicates of 3 of the 60 test rows; merge "
        "versions that were trained on today's rows",
    ):
        assert (
            english(re.sub(r"\.venv/bin/dvc repro -f prepare|data\.split", "", CHINESE.say(problem, "problem"))) == []
        )
    for count, groups in ((0, 440), (2, 440), (11, 440), (1, 40_000)):
        place = spending.budget([Use(passed=False, groups=400)] * count, groups)
        for sentence in budget_words.sentences(place, groups):
            assert english(CHINESE.say(sentence)) == [], sentence


def test_every_sentence_has_one_translation() -> None:
    asked = [(entry.context, re.sub(r"\{\w+\}|%\(\w+\)s", "{}", entry.text)) for entry in ENTRIES]
    assert sorted({one for one in asked if asked.count(one) > 1}) == []


def test_the_reasons_of_behaviour_checks_are_translated() -> None:
    good = CheckResult(1, None, "error", "?", "!", (Expectation("refuses", None),))
    bad = replace(good, number=2, expectations=(Expectation("refuses", "it does not"),))
    warned = replace(good, severity="warning")
    for results in ([good], [good, good], [good, bad], [good, warned], [bad, warned]):
        decided = behaviour_rule.decide(results)
        assert decided
        assert set(english(CHINESE.say(decided.reason, "reason"))) <= {"error", "warning"}, decided.reason
        shown = behaviour_of(results)
        assert shown
        said = CHINESE.say(shown.summary)
        assert set(english(said)) <= {"error", "warning"}, said
    assert english(CHINESE.say(behaviour_rule.remark([replace(bad, severity="warning")]))) in ([], ["warning"])


def test_next_steps_are_translated() -> None:
    situations = [
        next_steps.Situation("sft", source, 1.0, 0.001, rows, 120, training)
        for source in ("builtin", "hub")
        for rows in (100, 10_000)
        for training in ({}, {"best_step": 99, "steps": 100})
    ]
    bounds = {"chrf": (1.0, 2.0), "exact_match": (1.0, 2.0), "bits_per_byte": (-1.0, 1.0), "token_f1": (-0.2, -0.1)}
    compared = {name: {"low": low, "high": high} for name, (low, high) in bounds.items()}
    large = {"largest_rows": 3, "largest_share_of_bytes": 0.43}
    situations += [replace(one, evaluation=large) for one in situations]
    for left_out in ("", "token_f1", "bits_per_byte"):
        kept = {name: one for name, one in compared.items() if name != left_out}
        situations.append(replace(situations[0], evaluation={"versus_base": kept}))
    bounds = [(-0.5, -0.6, -0.4), (0.1, -0.1, 0.3), (-0.02, -0.04, -0.001), (None, None, None)]
    told = set()
    for metric in ("bits_per_byte", "chrf", "general_bits_per_byte", "canary_exposure"):
        for versus in ("base", "baseline", "champion", "value"):
            for kind in ("failed", "undecided"):
                for numbers in bounds:
                    for margin in (0.0, -0.05):
                        improvement, low, high = numbers
                        one = decision.Decision(metric, "lower", versus, margin, improvement, low, high, kind, "")
                        for rule in (one, replace(one, slice="language=zh")):
                            verdict = decision.Verdict(kind, (rule,))
                            told |= {step for at in situations for step in next_steps.next_steps(verdict, at)}
    failed = decision.Verdict("failed", (behaviour_rule.unmade("x"),))
    for task in get_args(Task):
        told |= set(next_steps.next_steps(failed, replace(situations[0], task=task)))
    told.add(next_steps.remark_on_champion(["chrf"], {"chrf": 40.0}, {"chrf": 10.0, "rows": 200}))
    assert len(told) > 15
    assert {step: left for step in told if (left := english(CHINESE.say(step)))} == {}, ADD


def test_what_stands_in_a_hole_is_translated_in_its_context() -> None:
    entries = [
        catalogue.Entry("{metric} is {size} against {other}.", "{other}：{metric} {size}。"),
        catalogue.Entry("the base", "基座", "other"),
        catalogue.Entry("{other}, {other2}", "{other}、{other2}", "other"),
        catalogue.Entry("the base", "别的"),
    ]
    say = catalogue.Catalogue(entries).say
    assert say("chrF is 3 against the base, the base.") == "基座、基座：chrF 3。"
    assert say("the base") == "别的"
    # What is data stays as it is, also if it looks like a hole.
    assert say("{other} is <b> against {size}.") == "{size}：{other} <b>。"
    assert say("nothing fits") == "nothing fits"
    assert say("chrF is  against the base") == "chrF is  against the base"


def test_a_space_stands_between_chinese_and_latin() -> None:
    assert CHINESE.say("against TF-IDF") == "相对 TF-IDF"
    assert CHINESE.say("against the base") == "相对基座模型"
    reason = "chrF is better than the base's by 6.39 (95 % interval of the improvement +4.70 to +8.09); "
    assert CHINESE.say(f"{reason}the interval is above zero.", "reason").startswith("chrF 比基座模型好 6.39（")


def test_a_hole_may_hold_what_stands_after_it() -> None:
    text = (
        "TF-IDF, a linear model of the words, is better (Macro F1 0.864 against 0.793). It is trained in seconds and "
    )
    text += "runs on any machine, so the candidate is not yet worth its cost."
    assert "更好（宏平均 F1 0.864 对 0.793）" in CHINESE.say(text)
    text = "The test rows are too few to decide whether the new a good enough. is good enough."
    assert CHINESE.say(text) == "测试样本太少，无法判定新的 a good enough. 是否达标。"


def test_a_hostile_text_takes_no_time() -> None:
    text = "The new " + "; on the, and ); is (95 % interval" * 20_000
    assert CHINESE.say(text) == text
    assert CHINESE.say(text[:4_000]) == text[:4_000]
    lists = "The new x is good enough: on text it has never seen, it meets every rule against " + "a, b and c, " * 200
    assert CHINESE.say(f"{lists}.") != lists
    nested = "Bits per byte on a=b is better than the base's by 1. It also fails on c. Of this gain, " * 40
    assert CHINESE.say(nested, "reason")


def test_a_line_that_is_not_of_a_catalogue_is_refused(tmp_path: Path) -> None:
    (tmp_path / "xx.po").write_text('msgid "a"\nmsgstr b\n', "utf-8")
    with pytest.raises(ValueError, match="msgstr b"):
        catalogue.read_entries(tmp_path / "xx.po")
