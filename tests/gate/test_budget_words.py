from tuneline.gate.budget_words import needed_groups, sentences
from tuneline.gate.spending import Use, budget


def test_the_first_comparison_says_when_new_rows_are_due() -> None:
    [standing, due] = sentences(budget([], 400), 400)
    assert standing == (
        "This is comparison 1 with a champion of this model, and its rules versus the champion pass at 95 %, so that "
        "over all comparisons the chance of a promotion without an improvement stays below 5 %; of these, 5.00 % are "
        "left."
    )
    assert due == (
        "New test rows are due after 3 more comparisons that do not pass; 400 groups of test rows that no comparison "
        "has used open the next part of the budget, which begins at 98.3 %."
    )


def test_a_later_comparison_asks_for_the_rows_that_give_the_power_of_the_first() -> None:
    later = budget([Use(passed=False, groups=400)] * 11, 440)
    [standing, due] = sentences(later, 440)
    assert "This is comparison 12 with a champion" in standing
    assert "pass at 99.982 %" in standing
    assert needed_groups(later) == 1072
    assert due == (
        "New test rows are due: an improvement must be 1.6 times as large as in the first comparison to be found; "
        "1,072 groups of test rows would find what the first found, and there are 440. 360 groups of test rows that no "
        "comparison has used open the next part of the budget, which begins at 98.3 %."
    )
    # Three times as many rows need not come at once.
    grown = budget([Use(passed=False, groups=400)] * 3 + [Use(passed=False, groups=800)] * 3, 1400)
    assert grown.position == 14
    assert sentences(grown, 1400)[1].startswith("New test rows are not due for more than 1,000 comparisons")


def test_a_test_set_that_has_grown_much_is_not_due_for_long() -> None:
    grown = budget([Use(passed=False, groups=50)], 5000)
    assert sentences(grown, 5000)[1] == (
        "New test rows are not due for more than 1,000 comparisons that do not pass; 1,400 groups of test rows that no "
        "comparison has used open the next part of the budget, which begins at 99.50 %."
    )
