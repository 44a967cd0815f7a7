"""The page of a search: every trial is on it, nothing is loaded, and no text becomes markup."""

from tuneline.evaluation.intervals import Interval
from tuneline.gate.spending import Budget
from tuneline.params import Language
from tuneline.search import pictures, search_page
from tuneline.search.against_default import Compared
from tuneline.search.objective import Objective, objective_of
from tuneline.search.result import Result, best_of
from tuneline.search.search_page import Page
from tuneline.search.space import Dimension, Space

RATE, EPOCHS, OPTIM = "finetune.learning_rate", "finetune.num_train_epochs", "finetune.optim"
SPACE = Space(
    space={
        RATE: Dimension(low=1e-4, high=1e-2, log=True),
        EPOCHS: Dimension(low=1, high=5),
        OPTIM: Dimension(values=["adamw_torch", "<script>alert(1)</script>"]),
    }
)


def result(number: int, loss: float | None, rate: float, state: str = "done", note: str = "") -> Result:
    values = {RATE: rate, EPOCHS: 1 + number, OPTIM: "adamw_torch"}
    return Result(number, state, values, loss, {1: 4.0}, note)  # pyright: ignore[reportArgumentType]


EVAL_LOSS = Objective("eval_loss", None)
RESULTS = [
    result(0, 3.0, 1e-3),
    result(1, 2.0, 1e-2),
    result(2, 2.9, 1e-4, "pruned"),
    result(3, None, 1e-4, "failed", "<b>the loss</b> is not finite"),
]


def page(compared: Compared | None = None, language: Language = "en", objective: Objective = EVAL_LOSS) -> str:
    best = best_of(RESULTS)
    importance = {RATE: 0.75, EPOCHS: 0.25}
    return search_page.render(
        Page("m", "search", SPACE, RESULTS, best, importance, compared, 4, 1, 2, objective), language
    )


def test_the_best_trial_is_the_lowest_that_ended_and_the_first_of_equals() -> None:
    equal = [result(0, 2.0, 1e-3), result(1, 2.0, 1e-2), result(2, 1.0, 1e-2, "pruned")]
    assert best_of(equal) == equal[0]
    assert best_of(equal[2:]) is None


def test_a_line_runs_through_the_values_of_its_trial() -> None:
    found = pictures.parallel(SPACE.space, RESULTS, 1)
    assert found is not None
    assert [axis.x for axis in found.axes] == [0, 33.33, 66.67, 100]
    lines = {line.number: line for line in found.lines}
    # The rate 1e-3 is in the middle of the logarithmic scale; the worst loss is at the top of the last axis.
    assert lines[0].points == "0.0,150.0 333.3,300.0 666.7,300.0 1000.0,0.0"
    assert (lines[0].kind, lines[1].kind, lines[2].kind) == ("default", "best", "pruned")
    assert found.lines[-1].number == 1


def test_the_page_says_what_was_found_and_escapes_every_text() -> None:
    text = page()
    assert "Trial 1 has eval_loss 2.0000; today's values have 3.0000" in text
    assert "2 of 4 trials ended. 1 was stopped early because the others were better at that point. 1 failed." in text
    assert "<script" not in text
    assert "&lt;b&gt;the loss&lt;/b&gt; is not finite" in text
    assert "http" not in text.replace("http-equiv", "")
    assert "was not compared" in text


def test_a_comparison_shows_improvements_to_the_right_and_its_place_in_the_ledger() -> None:
    budget = Budget(number=3, position=3, level=0.025, left=0.01, first_groups=10, groups=10)
    measures = {"bits_per_byte": Interval(-0.2, -0.3, -0.1, 40), "chrf": "no answer was scored"}
    text = page(Compared(1, 0, 467, measures, budget))
    assert "+0.1000 to +0.3000" in text
    assert "comparison 3 in the ledger" in text
    assert "no answer was scored" in text


def test_the_page_is_in_the_language_of_the_report() -> None:
    text = page(language="zh")
    assert '<html lang="zh' in text
    assert "试验 1 的 eval_loss 为 2.0000；当前取值为 3.0000" in text
    assert "1 个因同一时刻不如其他试验而提前停止。" in text


def test_with_folds_the_page_names_the_metric_and_their_number() -> None:
    assert objective_of("sft", None).label == "eval_loss"
    of_labels = objective_of("classification", 5)
    assert (of_labels.label, of_labels.loss(0.75), of_labels.value(0.25)) == (
        "1 - accuracy (mean of 5 folds)",
        0.25,
        0.75,
    )
    assert objective_of("regression", 2).loss(0.75) == 0.75
    text = page(objective=of_labels)
    assert "Trial 1 has 1 - accuracy (mean of 5 folds) 2.0000; today's values have 3.0000" in text
    assert "measured on the rows of a fold that it has not seen" in text
    assert "试验 1 的 1 - accuracy (5 折的平均) 为 2.0000" in page(language="zh", objective=of_labels)
