"""Asks a model what the checks ask. The model comes from its folder, with its own tokenizer, template and mode."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedConfig

from tuneline.behaviour import judge
from tuneline.behaviour.check_file import AnyCheck, Checks, LabelCheck, NumberCheck, WritingCheck
from tuneline.behaviour.check_results import CheckResult, Expectation
from tuneline.data.records import label_codec
from tuneline.encoding.examples import CHAT, REGRESSION
from tuneline.errors import ModelError, one_line
from tuneline.evaluation import generation, predictions
from tuneline.evaluation.generation import Answer, LoadedModel
from tuneline.evaluation.score_table import ModelToScore
from tuneline.modeling import models
from tuneline.modeling.model_folder import stored_mode
from tuneline.params import Params, Task
from tuneline.progress import Progress


@dataclass(frozen=True)
class Limits:
    """How a model is asked."""

    batch_size: int
    max_new_tokens: int
    """Most tokens of an answer; a check with `max_tokens` sees one more than that, if it is more."""
    max_length: int
    """Most tokens of a text that gets a label or a number."""

    @classmethod
    def of(cls, p: Params) -> "Limits":
        """The limits that the params set."""
        return cls(p.evaluate.batch_size, p.evaluate.max_new_tokens, p.finetune.max_length)


def ask(folder: Path, checks: Checks, task: Task, limits: Limits, name: str) -> list[CheckResult]:
    """Ask the model in a folder, and judge its answers. Without checks for the task nothing is loaded.

    Args:
        folder: of the model.
        checks: the content of data/checks.yaml.
        task: whose checks are asked.
        limits: how the model is asked.
        name: of the model, for its progress lines.

    Raises:
        ModelError: the folder does not hold a model that can be loaded, or it is of another task.
    """
    asked = checks.of_task(task)
    if not asked:
        return []
    mode = stored_mode(folder)
    is_writing = isinstance(asked[0], WritingCheck)
    if is_writing == (mode in ("classification", REGRESSION)) or isinstance(asked[0], NumberCheck) != (
        mode == REGRESSION
    ):
        raise ModelError(f"the mode of the model is {mode}, which does not fit the checks of task {task}")
    if is_writing:
        loaded = generation.load(ModelToScore(folder, name, limits.max_length))
        return _ask_for_text(loaded, asked, checks.refusals or [], limits, name)
    return _ask_about_texts(folder, asked, limits, name)


def _ask_for_text(
    loaded: LoadedModel, checks: Sequence[Any], refusals: Sequence[str], limits: Limits, name: str
) -> list[CheckResult]:
    wordings = [(place, wording) for place, check in enumerate(checks) for wording in check.wordings()]
    most = {place: max(limits.max_new_tokens, (check.max_tokens or 0) + 1) for place, check in enumerate(checks)}
    answers: dict[int, list[Answer]] = {place: [] for place in range(len(checks))}
    problems: dict[int, str] = {}
    cut: set[int] = set()
    with Progress(f"{name}: behaviour checks", always=True) as progress:
        done = 0
        for limit in sorted(set(most.values())):
            group = [(place, wording) for place, wording in wordings if most[place] == limit]
            usable, encoded = [], []
            for place, wording in group:
                try:
                    ids, is_cut = _encode(loaded, wording, limit)
                except ModelError as error:
                    problems.setdefault(place, one_line(error))
                    continue
                usable.append(place)
                encoded.append(ids)
                if is_cut:
                    cut.add(place)
            found = generation.answer_encoded(
                loaded.model,
                loaded.tokenizer,
                encoded,
                mode=loaded.mode,
                max_new_tokens=limit,
                batch_size=limits.batch_size,
                progress=lambda made, _, before=done: progress(before + made, len(wordings)),
            )
            for place, answer in zip(usable, found, strict=True):
                answers[place].append(answer)
                if not answer.is_defined:
                    problems.setdefault(place, generation.NOT_FINITE)
            done += len(group)
            progress(done, len(wordings))
    return [
        _result(
            place,
            check,
            problems.get(place),
            lambda check=check, place=place: judge.judge_text(check, answers[place], refusals),
            answers[place][0].text if answers[place] else None,
            _note(answers[place], is_cut=place in cut),
        )
        for place, check in enumerate(checks)
    ]


def _encode(loaded: LoadedModel, wording: Any, most: int) -> tuple[list[int], bool]:
    """The ids of a prompt, and whether its beginning was cut."""
    if not isinstance(wording, str) and loaded.mode != CHAT:
        raise ModelError(
            "the model was trained on prompts as written, not on conversations; write prompt, not messages"
        )
    [ids], cut = generation.encode_prompts(
        loaded.model, loaded.tokenizer, [wording], mode=loaded.mode, max_new_tokens=most
    )
    return ids, bool(cut)


def _note(answers: Sequence[Answer], *, is_cut: bool) -> str:
    notes = ["the beginning of what was asked was cut, because the model does not see so many tokens"] if is_cut else []
    if answers and not answers[0].has_ended:
        notes.append(f"cut after {answers[0].tokens} tokens: the model has not ended its answer")
    return "; ".join(notes)


def _ask_about_texts(folder: Path, checks: Sequence[Any], limits: Limits, name: str) -> list[CheckResult]:
    model, tokenizer = models.load_classifier(folder)
    length = min(limits.max_length, generation.context_length(model, limits.max_length))
    texts = [text for check in checks for text in check.wordings()]
    encoded, cut = predictions.encode(tokenizer, texts, length)
    with Progress(f"{name}: behaviour checks", always=True) as progress:
        found = predictions.outputs(
            model,
            encoded,
            pad=models.pad_token_id(tokenizer),
            batch_size=limits.batch_size,
            progress=progress,
        )
    judge_rows = _number_judge(found) if isinstance(checks[0], NumberCheck) else _label_judge(found, model.config)
    results, start = [], 0
    for place, check in enumerate(checks):
        rows = range(start, start := start + len(check.wordings()))
        # The largest of values that are not numbers would be the first: a label that the model does not give.
        problem = None if np.isfinite(found[rows]).all() else generation.NOT_FINITE
        judged, answer = ([], "") if problem else judge_rows(check, rows)
        note = f"the end was cut after {length} tokens" if set(rows) & set(cut) else ""
        results.append(_result(place, check, problem, lambda judged=judged: judged, answer, note))
    return results


JudgeRows = Callable[[Any, range], tuple[list[Expectation], str]]
"""Check, the rows of its wordings -> what is met, and the answer to the first as a person reads it."""


def _number_judge(found: np.ndarray) -> JudgeRows:
    def judge_rows(check: NumberCheck, rows: range) -> tuple[list[Expectation], str]:
        numbers = found[rows, 0].tolist()
        return judge.judge_numbers(check, numbers), f"{numbers[0]:.6g}"

    return judge_rows


def _label_judge(found: np.ndarray, config: PreTrainedConfig) -> JudgeRows:
    names, several = predictions.label_names(config)
    labels, sure = predictions.labels(found, names, several=several)

    def judge_rows(check: LabelCheck, rows: range) -> tuple[list[Expectation], str]:
        given = [label_codec.decode(labels[row], multi_label=several) for row in rows]
        answer = f"{', '.join(given[0]) or 'no label'} ({100 * sure[rows[0]]:.0f} % sure)"
        return judge.judge_labels(check, given, names), answer

    return judge_rows


def _result(
    place: int,
    check: AnyCheck,
    problem: str | None,
    judged: Callable[[], list[Expectation]],
    answer: str | None,
    note: str,
) -> CheckResult:
    return CheckResult(
        number=place + 1,
        name=check.name,
        severity=check.severity,
        asked=check.asked,
        answer=None if problem else answer,
        expectations=() if problem else tuple(judged()),
        problem=problem,
        note="" if problem else note,
    )
