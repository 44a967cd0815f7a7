"""`tuneline pseudolabel`: label texts with a registered classifier, and make those that are sure training rows."""

import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import orjson
from pydantic import ValidationError

from tuneline import params
from tuneline.commands.ask.inputs import Input, InputRow, options_for, read_path, text_finder, windows
from tuneline.commands.ask.served_version import Served
from tuneline.commands.use import erased_source
from tuneline.commands.use.open_set import ReadingArguments
from tuneline.core import files
from tuneline.data.mapping import raw_set
from tuneline.data.preparing.near_rows import near_rows
from tuneline.data.preparing.text import cleaning
from tuneline.data.preparing.text.row_keys import SHORT
from tuneline.data.records import label_codec, labelled_by
from tuneline.data.records.labelled_by import LabelledBy
from tuneline.data.records.record_form import DATASET_FILE, RecordForm, read_form
from tuneline.errors import DataError, ModelError
from tuneline.evaluation import generation, predictions
from tuneline.modeling import models
from tuneline.params import editing
from tuneline.pipeline import repro
from tuneline.progress import Progress
from tuneline.registry import versions

ROWS_FILE = "pseudo-labels.jsonl"
BELOW, UNDEFINED, REPEATED = "below-confidence", "not-finite", "repeated"
EQUAL, NEAR = "equal", "near"
_ECE = "ece"
_AT_ONCE = 1_024
_OWN = ("text", "label", "confidence")
_NEEDS = {
    "sft": "a written answer has no confidence that is measured, so no row could be chosen",
    "language-modeling": "plain text needs no labels: mix it in as it is (`tuneline use PATH --mix 0.5`)",
    "regression": "a predicted number comes without a confidence, so no row could be chosen",
    "preference": "two answers per prompt are compared, and a new text has none",
}
"""Why a task has no pseudo-labels."""
_BOUNDS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)


class OfLabel(TypedDict):
    """Of a label: rows that were kept and predicted, the mean confidence of those kept, and its training rows."""

    kept: int
    predicted: int
    confidence: float | None
    """None if no row was kept."""
    trained: int


@dataclass(frozen=True)
class PseudoLabels:
    """What was labelled, kept and dropped."""

    by: LabelledBy
    ece: float | None
    """The calibration error of the version on its test rows; None if it is not known."""
    test_rows: int | None
    path: str
    """Of the set."""
    rows_in: int
    dropped: Mapping[str, int]
    """Reason -> rows."""
    labels: Mapping[str, OfLabel]
    confidences: Mapping[str, int]
    """Interval of the confidence -> kept rows."""
    cut: int
    """Texts whose end the model did not see."""
    rows: Sequence[Mapping[str, Any]]
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The values for JSON, without the rows."""
        found = {name: value for name, value in asdict(self).items() if name not in ("rows", "by")}
        return {"labelled_by": self.by.as_json(), **found, "rows_out": len(self.rows)}


def check(p: params.Params, confidence: float, name: str, weight: float | None) -> Path:
    """The folder of the set that is to be made.

    Args:
        p: the params.
        confidence: the least probability of a label.
        name: of the set.
        weight: the weight in data.mixture that is asked for, if any.

    Raises:
        DataError: the task has no pseudo-labels, or a value or the name cannot be used; all problems.
    """
    problems = []
    if p.task != "classification":
        problems.append(f"task {p.task} has no pseudo-labels: {_NEEDS[p.task]}")
    if not 0.0 < confidence <= 1.0:
        problems.append(f"--confidence: {confidence:g} is not a probability above 0 and up to 1; 0.9 is usual")
    target = Path(p.paths.mixture) / name
    if not raw_set.is_mixture_name(name):
        problems.append(f"{target}: {raw_set.BAD_NAME}; give another with --name")
    elif not target.exists() and target.with_name(f"{name}.dvc").exists():
        problems.append(
            f"{target}: is under DVC and not here; fetch it with: .venv/bin/dvc pull {target}.dvc; or give another name"
        )
    elif target.exists() and not _is_made_here(target):
        problems.append(
            f"{target}: exists, and holds no pseudo-labels that would be replaced, or other files beside them; give "
            "another --name"
        )
    problems += [
        f"{target}: {name} is also the name of {key} in {params.PARAMS_FILE}; give another with --name"
        for variant, key, _ in p.data.augment.variants()
        if variant == name
    ]
    if weight is not None:
        try:
            params.MixtureSet(weight=weight)
        except ValidationError as error:
            problems.append(f"--mix: {weight:g}: {error.errors()[0]['msg'].lower()}")
    if problems:
        raise DataError(*problems)
    return target


def _is_made_here(target: Path) -> bool:
    """Whether a folder holds what this command has written, and nothing else; a broken description counts too."""
    own = {labelled_by.FILE, ROWS_FILE}
    return target.is_dir() and labelled_by.FILE in (names := {path.name for path in target.iterdir()}) and names <= own


def check_version(p: params.Params, served: Served) -> tuple[RecordForm, Counter[str]]:
    """The form of today's clean rows, and how many training rows each label has.

    Raises:
        ModelError: the version gives no labels, or other labels than the training rows have, or has seen test rows.
        BrokenVersionError: the version does not say which rows it was trained on.
        DataError: there are no clean rows yet, or they are of another task.
    """
    if served.mode != "classification":
        what = "numbers" if served.predicts else "text"
        raise ModelError(f"{served.name} gives {what}, not labels; give a classifier with --version or --alias")
    clean = Path(p.paths.clean)
    if not (clean / DATASET_FILE).is_file():
        raise DataError(f"{clean}: does not hold clean data yet; run `make run`, or `dvc repro prepare`, first")
    form = read_form(clean, p.task)
    written = files.read_parquet(clean / "train", ["label"])["label"].to_pylist()
    today = Counter(one for label in written for one in label_codec.decode(label, multi_label=form.multi_label))
    names, several = _labels_of(served)
    if several != form.multi_label:
        raise ModelError(
            f"{served.name} gives {'several labels' if several else 'one label'} to a text, and {clean} holds {form}; "
            "give a version that was trained on such rows"
        )
    if set(names) != today.keys():
        only_old, only_new = sorted(set(names) - today.keys()), sorted(today.keys() - set(names))
        differs = [f"only it has {', '.join(map(repr, only_old))}"] if only_old else []
        differs += [f"it lacks {', '.join(map(repr, only_new))}"] if only_new else []
        raise ModelError(
            f"{served.name}: its labels are not those of {clean}/train: {' and '.join(differs)}; give a version that "
            "was trained on today's labels"
        )
    test = files.read_parquet(clean / "test", ["id", "cluster"])
    trained = versions.version_train_rows(served.folder)
    unseen = versions.unseen_rows(trained, test["id"].to_pylist(), test["cluster"].to_pylist())
    if leaked := test.num_rows - len(unseen):
        raise ModelError(
            f"{served.name} was trained on {leaked:,} of the {test.num_rows:,} test rows or on rows of their groups; "
            "its labels would tell what the next model is measured on; give a version that was trained with today's "
            "split (data.split)"
        )
    return form, today


def _labels_of(served: Served) -> tuple[list[str], bool]:
    config = files.read_object(served.folder / "config.json", "id2label")
    by_output = {int(place): str(label) for place, label in config["id2label"].items()}
    several = config.get("problem_type") == "multi_label_classification"
    return [by_output[place] for place in sorted(by_output)], several


def pseudolabel(
    p: params.Params,
    served: Served,
    path: Path,
    arguments: ReadingArguments,
    target: Path,
    metrics: Mapping[str, float],
    *,
    confidence: float,
) -> PseudoLabels:
    """Label the texts at `path`, and choose the rows of which the version is sure. Writes nothing.

    Args:
        p: the params.
        served: the version.
        path: a file or a folder.
        arguments: how the command line wants it read.
        target: the folder of the set, from `check`.
        metrics: of the version.
        confidence: the least probability of a label.

    Raises:
        DataError: the file cannot be read, its columns are not clear, too many rows cannot be used, or none is left.
        ModelError: the version cannot be loaded, or gives other labels than the training rows have.
    """
    form, today = check_version(p, served)
    options = options_for(p, path, arguments)
    with erased_source.left_out(path, options) as (readable, returned):
        given = read_path(readable, options, text_finder(arguments.columns, served.columns), shown=str(path))
        dropped: Counter[str] = Counter()
        sure, predicted, cut, highest = _sure(p, served, given, confidence, dropped, form)
    weights = {file.name: files.sha256_file(file) for file in sorted(served.folder.glob("*.safetensors"))}
    by = LabelledBy(p.registry.model, served.version, weights, confidence, files.sha256_path(path))
    rows_in = len(sure) + dropped.total()
    _refuse_unusable(path, rows_in, dropped, p.data.max_rejected_fraction)
    _drop_repeated(sure, dropped)
    _drop_known(p, target.name, sure, dropped)
    if not sure:
        lower = f"lower --confidence (the highest confidence below it is {highest:.4f}), or " if dropped[BELOW] else ""
        raise DataError(f"{path}: no row is left of {rows_in:,} ({_reasons(dropped)}); {lower}give other texts")
    column = p.data.split.group_by
    kept = [_row(row, label, probability, column, form) for row, label, probability in sure]
    of_label: dict[str, list[float]] = {label: [] for label in today}
    for _, label, probability in sure:
        for one in label_codec.decode(label, multi_label=form.multi_label):
            of_label[one].append(probability)
    return PseudoLabels(
        by,
        metrics.get(_ECE),
        int(metrics["rows"]) if "rows" in metrics else None,
        target.as_posix(),
        rows_in,
        dict(sorted(dropped.items())),
        {
            label: {
                "kept": len(found),
                "predicted": predicted[label],
                "confidence": round(float(np.mean(found)), 4) if found else None,
                "trained": today[label],
            }
            for label, found in of_label.items()
        },
        _intervals([probability for *_, probability in sure], confidence),
        cut,
        kept,
        (*returned, *given.notes),
    )


_Sure = list[tuple[InputRow, str, float]]
"""Row, its label as the clean splits hold it, and the probability."""


def _sure(
    p: params.Params, served: Served, given: Input, confidence: float, dropped: Counter[str], form: RecordForm
) -> tuple[_Sure, Counter[str], int, float]:
    """The rows of which the version is sure, how often it gave each label, the number of texts that were cut, and the
    highest confidence among the rows of which it is not sure.
    """
    models.use_threads(p.compute.threads)
    model, tokenizer = models.load_classifier(served.folder)
    names, several = predictions.label_names(model.config)
    length = min(served.max_length, generation.context_length(model, served.max_length))
    pad, size = models.pad_token_id(tokenizer), p.evaluate.batch_size
    sure: _Sure = []
    predicted: Counter[str] = Counter()
    cut = done = 0
    highest = 0.0
    with Progress("pseudolabel", always=True, to=sys.stderr) as progress:
        for window in windows(given.rows(), _AT_ONCE):
            dropped.update(row.problem.partition(":")[0] for row in window if row.problem)
            usable = [row for row in window if not row.problem]
            encoded, is_cut = predictions.encode(tokenizer, [str(row.content) for row in usable], length)
            cut += len(is_cut)
            found = predictions.outputs(model, encoded, pad=pad, batch_size=size)
            finite = np.flatnonzero(np.isfinite(found).all(axis=1)).tolist()
            dropped[UNDEFINED] += len(usable) - len(finite)
            labels, probabilities = predictions.labels(found[finite], names, several=several)
            for place, label, probability in zip(finite, labels, probabilities.tolist(), strict=True):
                predicted.update(label_codec.decode(label, multi_label=form.multi_label))
                if probability >= confidence:
                    sure.append((usable[place], label, probability))
                else:
                    dropped[BELOW] += 1
                    highest = max(highest, probability)
            done += len(window)
            progress.update(done)
    for reason in [reason for reason, count in dropped.items() if not count]:
        del dropped[reason]
    return sure, predicted, cut, highest


def _refuse_unusable(path: Path, rows: int, dropped: Mapping[str, int], most: float) -> None:
    """Raise DataError if too many rows cannot be read, as `prepare` does."""
    reasons = {reason: count for reason, count in sorted(dropped.items()) if reason not in (BELOW, UNDEFINED)}
    raw_set.check_rejected(str(path), rows, sum(reasons.values()), reasons, (), most)


def _drop_repeated(sure: _Sure, dropped: Counter[str]) -> None:
    """Drop all rows of a text but the first."""
    first = dict.fromkeys(_key(str(row.content)) for row, *_ in sure)
    seen = set(first)
    kept = [one for one in sure if (key := _key(str(one[0].content))) in seen and not seen.discard(key)]
    if len(kept) < len(sure):
        dropped[REPEATED] += len(sure) - len(kept)
        sure[:] = kept


def _drop_known(p: params.Params, name: str, sure: _Sure, dropped: Counter[str]) -> None:
    """Drop rows that equal, or nearly equal, a held-out row or a row that is trained already."""
    for split, texts in _known(p, name):
        if not sure or not texts:
            continue
        keys = set(map(_key, texts))
        kinds = [EQUAL if _key(str(row.content)) in keys else "" for row, *_ in sure]
        if p.data.near_duplicates is not None:
            rows = [(str(row.content),) for row, *_ in sure]
            near = near_rows(rows, [(text,) for text in texts if text.strip()], p.data.near_duplicates)
            kinds = [kind or (NEAR if is_near else "") for kind, is_near in zip(kinds, near.tolist(), strict=True)]
        dropped.update(f"{kind}-{split}" for kind in kinds if kind)
        sure[:] = [one for one, kind in zip(sure, kinds, strict=True) if not kind]


def _known(p: params.Params, name: str) -> Iterator[tuple[str, list[str]]]:
    """The texts of the held-out and of the training rows; those of the set of this name are about to be replaced."""
    clean = Path(p.paths.clean)
    for split in ("test", "validation", "train"):
        yield split, files.read_parquet(clean / split, ["text"])["text"].to_pylist()
    described = files.read_object(clean / DATASET_FILE, "mixture")["mixture"]
    for other in sorted(p.data.mixture.keys() & described.keys() - {name}):
        yield f"mixture-{other}", files.read_parquet(clean / described[other]["path"], ["text"])["text"].to_pylist()


def _key(text: str) -> str:
    key = cleaning.key(text)
    return cleaning.bare(key) if len(key) <= SHORT else key


def _row(row: InputRow, label: str, probability: float, column: str | None, form: RecordForm) -> dict[str, Any]:
    """A training row. It keeps its group, so that it is not trained if its group is held out."""
    names = label_codec.decode(label, multi_label=form.multi_label)
    made: dict[str, Any] = {"text": row.content, "label": list(names) if form.multi_label else label}
    made["confidence"] = round(probability, 6)
    return made | ({column: _group(row.values[column])} if column in row.values and column not in _OWN else {})


def _group(value: Any) -> str | None:
    """The value as `prepare` compares it with the groups of the raw set; JSON has no decimals and no such integers."""
    return None if value is None or isinstance(value, list | dict | bytes) else str(value)


def _intervals(probabilities: Sequence[float], confidence: float) -> dict[str, int]:
    bounds = [confidence, *(one for one in _BOUNDS if one > confidence), 1.0]
    counts, _ = np.histogram(probabilities, np.array([*bounds[:-1], np.nextafter(1.0, 2.0)]))
    named = (f"{low:g} to {high:g}" for low, high in pairwise(bounds))
    return {name: int(count) for name, count in zip(named, counts.tolist(), strict=True)}


def write(p: params.Params, found: PseudoLabels, *, weight: float | None) -> list[str]:
    """Write the set, add it to DVC, and name it in params.yaml if a weight is given.

    Args:
        p: the params.
        found: from `pseudolabel`.
        weight: how often each row comes in an epoch; None: data.mixture stays as it is.

    Returns:
        Lines that say what was written.

    Raises:
        PipelineError: DVC's own message.
    """
    target = Path(found.path)
    with files.atomic_folder(target) as temporary:
        lines = b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in found.rows)
        (temporary / ROWS_FILE).write_bytes(lines)
        counts = {"rows_in": found.rows_in, "rows_out": len(found.rows), "dropped": dict(found.dropped)}
        files.write_json(temporary / labelled_by.FILE, found.by.as_json() | counts)
    repro.add_to_dvc(target)
    written = [f"{target}: {len(found.rows):,} rows written and added to DVC ({target}.dvc)"]
    if weight is None:
        if target.name in p.data.mixture:
            return [*written, "next: make run"]
        example = f"data.mixture: {{{target.name}: {{weight: 0.5}}}}"
        return [*written, f"it is not trained yet; to train it, set in {params.PARAMS_FILE}, for example: {example}"]
    mixture = {other: settings.model_dump(exclude_unset=True) for other, settings in p.data.mixture.items()}
    value = mixture | {target.name: mixture.get(target.name, {}) | {"weight": weight}}
    editing.set_values(Path(params.PARAMS_FILE), {"data.mixture": value})
    params.load()
    written += [f"{params.PARAMS_FILE}: data.mixture: {editing.written(value)}"]
    if not any(target.name in p.left_out(f"{params.WITHOUT}{name}") for name in p.report.without):
        example = f"report: {{without: {{no_{target.name}: [{target.name}]}}}}"
        written += [f"to have the report say whether the set helps, add to {params.PARAMS_FILE}: {example}"]
    return [*written, "next: make run"]


def _reasons(dropped: Mapping[str, int]) -> str:
    return ", ".join(f"{reason} {count:,}" for reason, count in sorted(dropped.items())) or "none dropped"


def lines(found: PseudoLabels) -> Iterator[str]:
    """What was found, in lines."""
    yield from found.notes
    kept = len(found.rows)
    yield f"{found.rows_in:,} rows in, {kept:,} labelled ({kept / found.rows_in:.0%}), {found.rows_in - kept:,} not"
    for reason, count in found.dropped.items():
        yield f"  {count:,}: {reason}"
    if found.cut:
        yield f"  the end of {found.cut:,} texts was cut; they are labelled by their beginning"
    total, trained = len(found.rows), sum(one["trained"] for one in found.labels.values())
    for label, one in found.labels.items():
        yield (
            f"  {label}: {one['kept']:,} labelled ({one['kept'] / total:.0%}; of the training rows "
            f"{one['trained'] / max(1, trained):.0%}), of {one['predicted']:,} predicted"
            + ("" if one["confidence"] is None else f", mean confidence {one['confidence']:.3f}")
        )
    yield "  confidence: " + ", ".join(f"{name}: {count:,}" for name, count in found.confidences.items())
    if missing := [label for label, one in found.labels.items() if not one["kept"]]:
        yield f"  warning: no row for {', '.join(missing)}; training on this set makes these labels rarer"
    yield _calibration(found)


def _calibration(found: PseudoLabels) -> str:
    at = f"the threshold is {found.by.confidence:g}"
    if found.ece is None:
        return f"  calibration: {at}; the calibration error of this version is not known, so a confidence may be wrong"
    rows = "" if found.test_rows is None else f" of its {found.test_rows:,} test rows"
    return (
        f"  calibration: {at}; on average the confidence{rows} differs by {found.ece:.3f} (ece) from the share that is "
        "right, and of other texts it may differ more"
    )
