"""Where the losses of training and validation part, and the sentence about it in both languages."""

from typing import Any

import numpy as np
import pytest

from tuneline.reporting import catalogue
from tuneline.reporting.overfitting_section import Course, course_of, read, sentence

FALLING = [(10, 3.0), (20, 2.5), (30, 2.0), (40, 1.6), (50, 1.3), (60, 1.1)]


def every_ten(*values: float) -> list[tuple[int, float]]:
    return [(10 * (number + 1), value) for number, value in enumerate(values)]


@pytest.mark.parametrize(
    ("held_out", "learned", "kind", "best"),
    [
        (every_ten(3.1, 2.8, 2.9, 3.1, 3.4, 3.8), FALLING, "memorises", 20),
        # The first measurement may be the best.
        (every_ten(2.8, 2.9, 3.1, 3.4, 3.7), FALLING, "memorises", 10),
        (every_ten(3.1, 2.8, 2.9, 3.1, 3.4, 3.8), [(10, 3.0), (20, 2.5), (40, 2.9), (60, 3.5)], "unstable", 20),
        (every_ten(3.1, 2.8, 2.6, 2.5, 2.45, 2.42), FALLING, "together", 60),
        # Stopped early: with few measurements, the turn of the curve is most of what looks like scatter.
        (every_ten(3.0, 2.5, 2.2, 2.3, 2.5, 2.7), FALLING, "memorises", 30),
        # The values scatter by as much as they rise.
        (every_ten(3.1, 2.8, 2.95, 2.82, 2.97, 2.85), FALLING, "together", 20),
        # A rise of less than a hundredth, however steady.
        (every_ten(3.1, 2.8, 2.801, 2.802, 2.803, 2.804), FALLING, "together", 20),
        (every_ten(3.1, 2.8, 3.0), FALLING, "few", 20),
        (every_ten(3.1, 2.8, 2.6, 2.4, 3.9), FALLING, "few", 40),
        # Nothing was learned after the best measurement that a log shows.
        (every_ten(2.8, 2.9, 3.1, 3.4, 3.7), [(10, 3.0)], "few", 10),
    ],
)
def test_where_the_losses_part(held_out: Any, learned: Any, kind: str, best: int) -> None:
    course = course_of(learned, held_out)
    assert course is not None
    assert (course.kind, course.best) == (kind, best)
    assert course.mark == (best if kind in ("memorises", "unstable") else None)


def test_the_numbers_of_the_sentence() -> None:
    course = course_of(FALLING, every_ten(3.1, 2.8, 2.9, 3.1, 3.4, 3.8))
    assert course is not None
    assert course.held_out == (2.8, pytest.approx((3.1 + 3.4 + 3.8) / 3))
    assert course.learned == (pytest.approx((3.0 + 2.5) / 2), pytest.approx((1.6 + 1.3 + 1.1) / 3))


@pytest.mark.parametrize("count", [4, 6, 10, 20, 40])
def test_scatter_is_seldom_called_a_rise_and_a_rise_is_found(count: int) -> None:
    generator = np.random.default_rng(count)
    place = np.arange(1, count + 1) / count
    steps = range(1, count + 1)
    falling = list(zip(steps, (4.0 - 2.0 * place).tolist(), strict=True))
    found = {"level": 0, "rise": 0}
    for _ in range(500):
        level = 3.0 + np.exp(-8 * place) + generator.normal(0.0, 0.06, count)
        # By twenty times the scatter, from a third of the way on.
        rise = level + 1.8 * np.clip(place - 1 / 3, 0.0, None)
        for name, values in (("level", level), ("rise", rise)):
            course = course_of(falling, list(zip(steps, values.tolist(), strict=True)))
            assert course is not None
            found[name] += course.kind == "memorises"
    assert found["level"] <= 15
    assert found["rise"] >= (450 if count >= 10 else 0)


def test_measurements_before_the_first_trained_step_do_not_count() -> None:
    lines = [(1, {"learning_rate": 0.0, "loss": 9.0, "eval_loss": 1.0})]
    lines += [(step, {"learning_rate": 0.1, "loss": loss, "eval_loss": 5.0 - loss}) for step, loss in FALLING]
    course = read(lines)
    assert course is not None
    assert (course.kind, course.best, course.measurements) == ("memorises", 10, 6)
    assert read([(1, {"loss": 1.0})]) is None


MEMORISES = Course("memorises", 400, 9, (2.5, 3.1), (2.2, 1.4))


@pytest.mark.parametrize(
    ("course", "accounts", "english", "chinese"),
    [
        (
            MEMORISES,
            {"best_step": 400},
            "From step 400 on the validation loss rises (2.500 to 3.100) while the training loss falls (2.200 to 1.400)"
            ": the model memorises. The weights of step 400 were kept.",
            "从第 400 步起验证损失上升（2.500 到 3.100），而训练损失下降（2.200 到 1.400）：模型在死记训练样本。"
            "保留的是第 400 步的权重。",
        ),
        (
            MEMORISES,
            {"best_step": 1200},
            "The weights of step 1,200 were kept, which are the best by the measure that decides.",
            "保留的是第 1,200 步的权重，按决定性的指标它们最好。",
        ),
        (
            MEMORISES,
            {},
            "The last weights were kept; finetune.early_stopping_patience keeps the best ones.",
            "保留的是最后的权重；设置 finetune.early_stopping_patience 可保留最好的权重。",
        ),
        (
            Course("unstable", 400, 9, (2.5, 3.1), (2.2, 2.4)),
            {"best_step": 400},
            "From step 400 on both losses rise, that of validation from 2.500 to 3.100: the training is not stable; a "
            "lower finetune.learning_rate or a longer warm-up may help. The weights of step 400 were kept.",
            "从第 400 步起两个损失都在上升，验证损失从 2.500 升到 3.100：训练不稳定；可以调小 finetune.learning_rate "
            "或延长预热。保留的是第 400 步的权重。",
        ),
        (
            Course("together", 1400, 9),
            {},
            "The losses do not part: that of validation is lowest at step 1,400 and does not rise after it by more "
            "than its measurements scatter.",
            "两条损失曲线没有分离：验证损失在第 1,400 步最低，此后的上升没有超出测量的波动。",
        ),
        (
            Course("few", 400, 3),
            {},
            "Too few measurements of validation to say whether the losses part: 3 instead of 4 or more. A lower "
            "finetune.eval_steps gives more.",
            "测量次数太少，无法判断两条损失曲线是否分离：验证集只测量了 3 次，需要 4 次。调小 finetune.eval_steps "
            "可以增加测量次数。",
        ),
        (
            Course("few", 400, 9),
            {},
            "The validation loss is lowest at step 400, too near to the end to say whether the losses part there.",
            "验证损失在第 400 步最低，离训练结束太近，无法判断两条曲线是否从那里分离。",
        ),
    ],
)
def test_the_sentence_in_both_languages(course: Course, accounts: dict[str, int], english: str, chinese: str) -> None:
    said = sentence(course, accounts)
    assert said.endswith(english)
    assert catalogue.read("zh").say(said).endswith(chinese)
    assert sentence(None, accounts) == ""
    if "finetune." in english:
        assert "base.builtin." in sentence(course, accounts, "base.builtin")
