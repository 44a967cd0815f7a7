"""The form of records as dataset.json stores it, and several labels as one text."""

from pathlib import Path

import pytest

from tuneline.core import files
from tuneline.data.records import label_codec
from tuneline.data.records.record_form import RecordForm, read_form
from tuneline.errors import UnreadableFileError

FORMS = [
    RecordForm("prompt-completion"),
    RecordForm("messages"),
    RecordForm("preference", conversational=True),
    RecordForm("classification", multi_label=True),
    RecordForm("regression"),
]


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_a_form_is_read_as_it_was_written(form: RecordForm, tmp_path: Path) -> None:
    files.write_json(tmp_path / "dataset.json", form.as_json() | {"rows": {"train": 1}})
    assert read_form(tmp_path) == form


def test_a_description_without_a_key_is_refused_with_the_remedy(tmp_path: Path) -> None:
    files.write_json(tmp_path / "dataset.json", {"record_type": "text", "conversational": False})
    with pytest.raises(UnreadableFileError, match=r"dataset.json: lacks 'multi_label'; .*`make run`"):
        read_form(tmp_path)


def test_forms_are_described_for_people() -> None:
    assert [str(form) for form in FORMS] == [
        "prompt-completion",
        "messages",
        "preference of messages",
        "classification with several labels",
        "regression",
    ]


@pytest.mark.parametrize("labels", [(), ("a",), ('"b"', "a"), ("[1]", "中")])
def test_several_labels_are_read_as_they_were_written(labels: tuple[str, ...]) -> None:
    assert label_codec.decode(label_codec.encode(reversed(labels)), multi_label=True) == labels


@pytest.mark.parametrize("label", ["a", "[1]", '["a"]', "[", ""])
def test_a_single_label_is_itself(label: str) -> None:
    assert label_codec.decode(label, multi_label=False) == (label,)
