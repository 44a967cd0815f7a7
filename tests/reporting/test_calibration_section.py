import numpy as np
import pyarrow as pa
import pytest

from tuneline.reporting.calibration_section import calibration_of


def table(sure: list[float], right: list[bool], *, multi_label: bool = False) -> pa.Table:
    count = len(sure)
    given = ["a" if one else "b" for one in right]
    return pa.table(
        {
            "id": [str(row) for row in range(count)],
            "text": ["t"] * count,
            "label": ["a"] * count,
            "multilabel": [multi_label] * count,
            "candidate_label": given,
            "candidate_probability": sure,
        }
    )


def test_the_reliability_curve_has_a_dot_for_every_bin_with_rows() -> None:
    found = calibration_of(table([0.9] * 16 + [0.5] * 4, [True] * 12 + [False] * 4 + [True] * 2 + [False] * 2))
    assert found is not None
    assert [(one.rows, one.probability, one.accuracy) for one in found.bins] == [
        (4, 0.5, 0.5),
        (16, pytest.approx(0.9), 0.75),
    ]
    assert [(point.x, point.y, point.width) for point in found.points] == [(50.0, 50.0, 11.0), (90.0, 25.0, 22.0)]
    assert [(tick.place, tick.label) for tick in found.ticks][-1] == (100.0, "1")
    assert found.error == pytest.approx(16 / 20 * 0.15)
    assert found.sentence == (
        "The candidate gives its labels a probability of 82.0% on average, and 70.0% are right: it is too sure of "
        "itself."
    )


@pytest.mark.parametrize(("sure", "ends"), [(0.3, "it may be surer of itself."), (0.5, "and 50.0% are right.")])
def test_a_sentence_says_whether_it_is_as_sure_as_it_may_be(sure: float, ends: str) -> None:
    found = calibration_of(table([sure] * 20, (np.arange(20) % 2 == 0).tolist()))
    assert found is not None and found.sentence.endswith(ends)


def test_rows_of_several_labels_have_no_curve() -> None:
    assert (
        calibration_of(table([0.5] * 4, [True] * 4, multi_label=True).set_column(2, "label", pa.array(['["a"]'] * 4)))
        is None
    )
