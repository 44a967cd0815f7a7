"""`tuneline pseudolabel`: rows that a registered classifier is sure of become a training set, and nothing leaks."""

import json
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from projects import entered
from recipe_samples import words
from registered import LABELS, MODEL, VERSIONS, Shell
from using import empty_project

from tuneline import params
from tuneline.commands import pseudolabel
from tuneline.core import files
from tuneline.data.mapping import raw_set
from tuneline.data.reading import readers
from tuneline.data.reading.raw_rows import Options
from tuneline.data.records import labelled_by
from tuneline.data.records.record_form import RecordForm
from tuneline.errors import DataError
from tuneline.params import editing
from tuneline.registry import cards, versions

__all__ = ["empty_project"]

RULE = {"metric": "accuracy", "direction": "higher", "versus": "baseline", "margin": 0.0}
TEXTS = [words(f"text {n}", 12) for n in range(60)]


@pytest.fixture
def place(tmp_path: Path, root: Path, store: Path, empty_project: Path) -> Iterator[Shell]:
    """A project whose raw set has the labels of the registered classifier."""
    folder = tmp_path / "labelled project"
    shutil.copytree(empty_project, folder)
    shutil.copytree(root / "mlflow", folder / "mlflow")
    shutil.copyfile(root / "params.yaml", folder / "params.yaml")
    with entered(folder, MLFLOW_TRACKING_URI=f"sqlite:///{store}/mlflow.db"):
        values = {"task": "classification", "gate.rules": [RULE], "data.split.group_by": "customer"}
        editing.set_values(Path("params.yaml"), values)
        for split, seed in (("train", "a"), ("validation", "b"), ("test", "c")):
            write_clean(split, [words(f"{seed} {n}", 12) for n in range(9)], LABELS)
        files.write_json(Path("data/clean/dataset.json"), RecordForm("classification").as_json() | {"mixture": {}})
        yield Shell(folder)


def write_clean(split: str, texts: list[str], labels: list[str]) -> None:
    names = [f"{split} {n}" for n in range(len(texts))]
    of_rows = [labels[n % len(labels)] for n in range(len(texts))]
    table = pa.table({"id": names, "cluster": names, "text": texts, "label": of_rows})
    files.write_parquet(Path(f"data/clean/{split}/part-00000.parquet"), table)


def texts_file(place: Shell, texts: list[str] = TEXTS, name: str = "new.jsonl") -> str:
    rows = [{"review": text, "customer": f"c{n % 7}", "note": "x"} for n, text in enumerate(texts)]
    return str(place.write(name, "".join(json.dumps(row) + "\n" for row in rows)))


def labelled(place: Shell, *more: str) -> dict[str, Any]:
    ran = place.run("pseudolabel", *more, "--json")
    assert ran.exit_code == 0, (ran.stderr, ran.exception)
    return json.loads(ran.stdout)


def refused(place: Shell, *more: str) -> str:
    ran = place.run("pseudolabel", *more)
    assert ran.exit_code == 1, (ran.stdout, ran.exception)
    assert not Path("data/mixture").exists()
    return ran.stderr


def test_sure_rows_become_a_set_of_the_mixture_that_names_its_version(place: Shell) -> None:
    path = texts_file(place)
    ran = place.run("predict", "--format", "jsonl", path)
    wanted = {row["review"]: row for row in map(json.loads, ran.stdout.splitlines())}
    sure = {text: row for text, row in wanted.items() if row["probability"] >= 0.6}
    assert 0 < len(sure) < len(TEXTS)
    found = labelled(place, path, "--confidence", "0.6", "--mix", "0.5")
    rows = [json.loads(line) for line in Path("data/mixture/pseudo/pseudo-labels.jsonl").read_text().splitlines()]
    assert {row["text"]: row["label"] for row in rows} == {text: row["label"] for text, row in sure.items()}
    assert all(row["confidence"] == pytest.approx(sure[row["text"]]["probability"], abs=1e-4) for row in rows)
    # A row keeps its group, so that `prepare` drops it where the group is held out.
    assert [*rows[0]] == ["text", "label", "confidence", "customer"]
    assert found["rows_in"] == len(TEXTS) == found["rows_out"] + sum(found["dropped"].values())
    assert {label: one["kept"] for label, one in found["labels"].items() if one["kept"]} == dict(
        Counter(row["label"] for row in rows)
    )
    assert sum(found["confidences"].values()) == len(rows)
    p = params.load()
    assert {name: one.weight for name, one in p.data.mixture.items()} == {"pseudo": 0.5}
    assert "md5" in Path("data/mixture/pseudo.dvc").read_text()
    by = labelled_by.read(Path("data/mixture/pseudo"))
    assert by is not None
    assert (by.model, by.version, by.confidence) == (MODEL, str(VERSIONS["classifier"]), 0.6)
    assert by.input_sha256 == files.sha256_path(Path(path))
    assert [*by.weights] == ["model.safetensors"]
    # `prepare` reads the rows as texts with labels; the provenance is no file with rows.
    plans = readers.plan(Path("data/mixture/pseudo"), Options())
    opened = raw_set.open_set(
        Path("data/mixture/pseudo"), plans, columns={}, record_types=("classification",), group_by=None, is_mixed=True
    )
    assert [plan.name for plan in opened.files] == ["pseudo-labels.jsonl"]
    # The next month's set takes the place of this one, and its weight stays.
    again = place.run("pseudolabel", path, "--confidence", "0.55")
    assert again.exit_code == 0, again.stderr
    assert again.stdout.endswith("next: make run\n")
    assert params.load().data.mixture["pseudo"].weight == 0.5


def test_a_text_may_get_several_labels(place: Shell) -> None:
    for split in ("train", "validation", "test"):
        write_clean(split, [words(f"{split} {n}", 12) for n in range(9)], [f'["{label}"]' for label in LABELS])
    form = RecordForm("classification", multi_label=True)
    files.write_json(Path("data/clean/dataset.json"), form.as_json() | {"mixture": {}})
    found = labelled(place, texts_file(place), "--confidence", "0.5", "--version", str(VERSIONS["several"]))
    rows = [json.loads(line) for line in Path("data/mixture/pseudo/pseudo-labels.jsonl").read_text().splitlines()]
    assert found["rows_out"] == len(rows) == len(TEXTS)
    counts = Counter(label for row in rows for label in row["label"])
    assert {label: one["kept"] for label, one in found["labels"].items()} == {one: counts[one] for one in LABELS}
    plans = readers.plan(Path("data/mixture/pseudo"), Options())
    opened = raw_set.open_set(
        Path("data/mixture/pseudo"), plans, columns={}, record_types=("classification",), group_by=None, is_mixed=True
    )
    assert opened.form == form


def test_rows_near_to_held_out_or_training_rows_are_dropped_and_counted(place: Shell) -> None:
    held, trained = words("c 1", 12), words("a 2", 12)
    near = f"{words('b 3', 12)} indeed"
    found = labelled(
        place,
        texts_file(place, [held.upper(), trained, near, TEXTS[0], f"{TEXTS[0]}!", TEXTS[1]]),
        "--confidence",
        "0.001",
        "--dry-run",
    )
    assert found["dropped"] == {"equal-test": 1, "equal-train": 1, "near-validation": 1, "repeated": 1}
    assert (found["rows_out"], found["written"]) == (2, False)
    assert not Path("data/mixture").exists()


def test_the_calibration_error_stands_next_to_the_threshold(place: Shell) -> None:
    ran = place.run("pseudolabel", texts_file(place), "--confidence", "0.6", "--dry-run")
    assert "the threshold is 0.6; the calibration error of this version is not known" in ran.stdout
    assert "nothing is written (--dry-run)" in ran.stdout
    by = labelled_by.LabelledBy(MODEL, "3", {}, 0.9, "")
    of_label: dict[str, pseudolabel.OfLabel] = {
        "praise": {"kept": 1, "predicted": 2, "confidence": 0.95, "trained": 3},
        "refund": {"kept": 0, "predicted": 1, "confidence": None, "trained": 1},
    }
    known = pseudolabel.PseudoLabels(by, 0.031, 120, "a", 2, {}, of_label, {}, 0, [{}])
    said = [*pseudolabel.lines(known)]
    assert said[1:3] == [
        "  praise: 1 labelled (100%; of the training rows 75%), of 2 predicted, mean confidence 0.950",
        "  refund: 0 labelled (0%; of the training rows 25%), of 1 predicted",
    ]
    assert said[-1] == (
        "  calibration: the threshold is 0.9; on average the confidence of its 120 test rows differs by 0.031 (ece) "
        "from the share that is right, and of other texts it may differ more"
    )


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ("sft", "task sft has no pseudo-labels: a written answer has no confidence that is measured"),
        ("regression", "task regression has no pseudo-labels: a predicted number comes without a confidence"),
    ],
)
def test_other_tasks_are_refused_with_the_reason(place: Shell, task: str, said: str) -> None:
    rule = {"sft": RULE | {"metric": "chrf"}, "regression": RULE | {"metric": "mae", "direction": "lower"}}[task]
    editing.set_values(Path("params.yaml"), {"task": task, "gate.rules": [rule]})
    assert said in refused(place, texts_file(place))


def test_bad_input_is_refused_in_sentences_and_nothing_is_written(place: Shell) -> None:
    path = texts_file(place)
    both = refused(place, path, "--confidence", "1.5", "--name", "pretraining", "--mix", "0")
    assert "--confidence: 1.5 is not a probability above 0 and up to 1" in both
    assert "data/mixture/pretraining: is not a valid name" in both
    assert "--mix: 0: input should be greater than 0" in both
    assert "--confidence: 0 is not" in refused(place, path, "--confidence", "0")
    assert "--confidence: nan is not" in refused(place, path, "--confidence", "nan")
    assert f"{MODEL} version 3 gives numbers, not labels" in refused(place, path, "--version", "3")
    assert f"{MODEL} version 4 gives text, not labels" in refused(place, path, "--version", "4")
    assert f"{MODEL} version 2 gives several labels to a text" in refused(place, path, "--version", "2")
    assert "no version is candidate yet" in refused(place, path, "--alias", "candidate")
    assert "no such file or folder" in refused(place, "absent.jsonl")
    assert "has no rows" in refused(place, str(place.write("empty.jsonl", "")))
    unclear = str(place.write("unclear.csv", "a,b\none two three,four\nfive six,seven\n"))
    assert "name the column that holds the text, for example --column text=" in refused(place, unclear)
    none = refused(place, path, "--confidence", "1")
    found = re.search(
        r"no row is left of 60 \(below-confidence 60\); lower --confidence \(the highest confidence below it is "
        r"(0\.\d{4})\), or give other texts",
        none,
    )
    assert found is not None, none
    write_clean("train", TEXTS[:9], ["refund", "delivery", "returns"])
    wrong = refused(place, path)
    assert "its labels are not those of data/clean/train: only it has 'praise' and it lacks 'returns'" in wrong
    write_clean("train", TEXTS[:9], LABELS)
    # The registered versions name this group as one that they were trained on.
    seen = pa.table({"id": ["x", "y"], "cluster": ["a", "b"], "text": ["t", "u"], "label": LABELS[:2]})
    files.write_parquet(Path("data/clean/test/part-00000.parquet"), seen)
    assert "was trained on 1 of the 2 test rows or on rows of their groups" in refused(place, path)
    shutil.rmtree("data/clean")
    assert "data/clean: does not hold clean data yet" in refused(place, path)


def test_a_set_that_people_have_labelled_is_not_replaced(place: Shell) -> None:
    files.write_text(Path("data/mixture/mine/a.jsonl"), '{"text": "a", "label": "praise"}\n')
    ran = place.run("pseudolabel", texts_file(place), "--name", "mine")
    assert ran.exit_code == 1
    assert "data/mixture/mine: exists, and holds no pseudo-labels that would be replaced" in ran.stderr
    shutil.rmtree("data/mixture/mine")
    Path("data/mixture/mine.dvc").write_text(f"outs:\n- {{md5: {'a1' * 16}.dir, hash: md5, path: mine}}\n")
    away = place.run("pseudolabel", texts_file(place), "--name", "mine")
    assert "data/mixture/mine: is under DVC and not here; fetch it with: .venv/bin/dvc pull data/mixture/mine.dvc" in (
        away.stderr
    )


def test_a_damaged_provenance_is_told(tmp_path: Path) -> None:
    files.write_text(tmp_path / labelled_by.FILE, "{}")
    with pytest.raises(
        DataError,
        match=r"does not say which version has labelled the set; make the set",
    ):
        labelled_by.read(tmp_path)


def test_the_lineage_says_which_version_has_labelled_a_set(place: Shell) -> None:
    by = labelled_by.LabelledBy(MODEL, "3", {"model.safetensors": "ab"}, 0.9, "cd")
    described = {"pseudo": {labelled_by.KEY: by.as_json()}, "idle": {labelled_by.KEY: by.as_json()}, "mine": {}}
    files.write_json(Path("data/clean/dataset.json"), {"mixture": described})
    editing.set_values(Path("params.yaml"), {"data.mixture": {"pseudo": {"weight": 1.0}, "mine": {"weight": 1.0}}})
    p = params.load()
    labelled = versions.workspace_labelled_sets(p)
    assert labelled == {"pseudo": by}
    tag = cards.first_tags(p, "passed", labelled)["2 data"]
    assert tag.endswith(f"mine (mixed in), pseudo (mixed in, labelled by {MODEL} version 3 from confidence 0.9 on)")


def test_groups_are_written_as_prepare_compares_them_whatever_their_type(place: Shell) -> None:
    groups = [Decimal("1.50"), 10**17, None]
    for n, group in enumerate(groups):
        texts = TEXTS[n::3]
        files.write_parquet(Path(f"new/{n}.parquet"), pa.table({"review": texts, "customer": [group] * len(texts)}))
    huge = "".join(f'{{"review": "{words(f"huge {n}", 12)}", "customer": {10**30}}}\n' for n in range(20))
    Path("new/huge.jsonl").write_text(huge)
    labelled(place, "new", "--confidence", "0.4")
    rows = [json.loads(line) for line in Path("data/mixture/pseudo/pseudo-labels.jsonl").read_text().splitlines()]
    assert {row["customer"] for row in rows} == {*(str(group) for group in groups[:2]), None, str(10**30)}


def test_a_set_with_other_files_and_the_name_of_a_variant_are_refused(place: Shell) -> None:
    path = texts_file(place)
    mine = place.write("data/mixture/mine/rows.csv", "text,label\n")
    place.write("data/mixture/mine/.provenance.json", "{}")
    ran = place.run("pseudolabel", path, "--name", "mine")
    assert (
        "data/mixture/mine: exists, and holds no pseudo-labels that would be replaced, or other files beside"
        in ran.stderr
    )
    assert mine.exists()
    editing.set_values(Path("params.yaml"), {"data.augment": {"noise": {"word_swap": {"weight": 0.5, "p": 0.1}}}})
    before = Path("params.yaml").read_bytes()
    ran = place.run("pseudolabel", path, "--name", "word_swap", "--mix", "0.5")
    assert "word_swap is also the name of data.augment.noise.word_swap in params.yaml; give another" in ran.stderr
    assert Path("params.yaml").read_bytes() == before
    assert ran.exit_code == 1


@pytest.mark.parametrize("command", ["pseudolabel", "inspect", "use"])
def test_a_link_that_leads_to_itself_is_one_sentence(place: Shell, command: str) -> None:
    Path("loop.csv").symlink_to("loop.csv")
    ran = place.run(command, "loop.csv")
    assert isinstance(ran.exception, SystemExit), ran.exception
    assert ran.exit_code == 1
    assert "loop.csv" in ran.output
