"""Where the losses of training and validation part: the step, and a sentence about it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import dropwhile, pairwise
from statistics import mean, median
from typing import Any, Literal

Points = Sequence[tuple[int, float]]
"""Steps, each with the loss that was measured at it."""

FEWEST = 4
"""Measurements of validation that show how much they scatter."""
_LAST = 3
# Above the best value by more than so many times their scatter, and by more than a hundredth of it. Of curves that fall
# to a level and scatter around it, at most 4 % seem to rise then, with 4 to 40 measurements.
_SCATTERS = 4.0
# The turn of a curve counts as scatter where there are few measurements: a rise in each of the last three needs less.
_SCATTERS_OF_STEADY = 3.0
_SHARE = 0.01
# The scatter of second differences is the root of 6 times that of the points; the median of the absolute values of a
# normal distribution is 0.6745 times its standard deviation.
_MEDIAN_OF_SECOND_DIFFERENCES = 0.6745 * 6**0.5


@dataclass(frozen=True)
class Course:
    """How the losses of training and validation go on from the best measurement of validation."""

    kind: Literal["memorises", "unstable", "together", "few"]
    best: int
    """The step of the lowest loss of validation."""
    measurements: int
    held_out: tuple[float, float] = (0.0, 0.0)
    """The loss of validation at that step, and the mean of the last three measurements."""
    learned: tuple[float, float] = (0.0, 0.0)
    """The loss of training at that step and at the end, each the mean of up to three logged losses."""

    @property
    def mark(self) -> int | None:
        """The step from which the losses part; None where they do not."""
        return self.best if self.kind in ("memorises", "unstable") else None


def course_of(learned: Points, held_out: Points) -> Course | None:
    """What the losses of a training show.

    The loss of validation rises if the mean of the last three measurements is above the best one by more than four
    times their scatter, or three times if it has risen in each of the three, and by more than 1 % of it. The
    scatter is that of the second differences, so that a steady fall or rise does not count as scatter.

    Args:
        learned: the losses of training.
        held_out: the losses of validation.

    Returns:
        None without measurements of validation, or without losses of training.
    """
    if not held_out or not learned:
        return None
    values = [value for _, value in held_out]
    place = values.index(min(values))
    best, after = held_out[place], values[place + 1 :]
    count = len(values)
    if count < FEWEST:
        return Course("few", best[0], count)
    bends = [abs(a - 2 * b + c) for a, b, c in zip(values, values[1:], values[2:], strict=False)]
    scatter = median(bends) / _MEDIAN_OF_SECOND_DIFFERENCES
    end = mean(after[-_LAST:]) if after else best[1]
    is_steady = len(after) >= _LAST and all(a < b for a, b in pairwise(values[-_LAST - 1 :]))
    least = (_SCATTERS_OF_STEADY if is_steady else _SCATTERS) * scatter
    if end - best[1] <= max(least, _SHARE * abs(best[1])):
        return Course("together", best[0], count)
    before = [value for step, value in learned if step <= best[0]] or [learned[0][1]]
    since = [value for step, value in learned if step > best[0]]
    if len(after) < _LAST or not since:
        return Course("few", best[0], count)
    of_training = mean(before[-_LAST:]), mean(since[-_LAST:])
    kind = "memorises" if of_training[1] < of_training[0] else "unstable"
    return Course(kind, best[0], count, (best[1], end), of_training)


def read(lines: Sequence[tuple[int, Mapping[str, float]]]) -> Course | None:
    """What the table of a training shows (training.csv, base.csv)."""
    # A warm-up begins with the rate 0: these are measurements of weights before training.
    trained = list(dropwhile(lambda line: line[1].get("learning_rate") == 0, lines))
    losses = [[(step, values[name]) for step, values in trained if name in values] for name in ("loss", "eval_loss")]
    return course_of(*losses)


def sentence(course: Course | None, accounts: Mapping[str, Any], section: str = "finetune") -> str:
    """A sentence about the course of a training; empty without a course.

    Args:
        course: see there.
        accounts: of training.json or base.json, with `best_step` if the best weights were kept.
        section: the section of params.yaml that decides.
    """
    if course is None:
        return ""
    step, count = course.best, course.measurements
    if course.kind == "few" and count < FEWEST:
        return (
            f"Too few measurements of validation to say whether the losses part: {count} instead of {FEWEST} or more. "
            f"A lower {section}.eval_steps gives more."
        )
    if course.kind == "few":
        return (
            f"The validation loss is lowest at step {step:,}, too near to the end to say whether the losses part there."
        )
    if course.kind == "together":
        return (
            f"The losses do not part: that of validation is lowest at step {step:,} and does not rise after it by more "
            "than its measurements scatter."
        )
    kept, (low, high), (first, last) = _kept(course, accounts, section), course.held_out, course.learned
    if course.kind == "unstable":
        return (
            f"From step {step:,} on both losses rise, that of validation from {low:.3f} to {high:.3f}: the training is "
            f"not stable; a lower {section}.learning_rate or a longer warm-up may help. {kept}"
        )
    return (
        f"From step {step:,} on the validation loss rises ({low:.3f} to {high:.3f}) while the training loss falls "
        f"({first:.3f} to {last:.3f}): the model memorises. {kept}"
    )


def _kept(course: Course, accounts: Mapping[str, Any], section: str) -> str:
    kept = accounts.get("best_step")
    if not isinstance(kept, int):
        return f"The last weights were kept; {section}.early_stopping_patience keeps the best ones."
    if kept == course.best:
        return f"The weights of step {kept:,} were kept."
    return f"The weights of step {kept:,} were kept, which are the best by the measure that decides."
