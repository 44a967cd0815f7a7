"""A version loaded by MLflow's own client: it answers as `generate` and `predict` do, and refuses changed files."""

import json
import os
import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import mlflow
import mlflow.artifacts
import numpy as np
import pandas as pd
import pytest
from fastapi.testclient import TestClient
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from mlflow.pyfunc import PyFuncModel, scoring_server
from registered import MODEL, VERSIONS, Shell

from tuneline.core import files
from tuneline.errors import BrokenVersionError, SignatureError
from tuneline.proofs import keys, signatures
from tuneline.registry import mlmodel, tracking, version_files, versions
from tuneline.registry.version_files import MLMODEL

TALK = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Where is it?"}]
PROMPTS = ["Where is my parcel?", "把一个字符串倒过来。", "word " * 20, 'def f(x):\n    """', "a"]


@pytest.fixture
def elsewhere(shell: Shell, tmp_path: Path) -> Iterator[Shell]:
    """The registry of the project, used from a folder without params.yaml."""
    os.chdir(tmp_path)
    yield shell
    os.chdir(shell.root)


@cache
def load(kind: str) -> PyFuncModel:
    """The loaded version of a kind; answering changes nothing in it."""
    return mlflow.pyfunc.load_model(f"models:/{MODEL}/{VERSIONS[kind]}")


def by_command(shell: Shell, command: str, kind: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The answers of the command to the rows of a file."""
    here = Path.cwd()
    os.chdir(shell.root)
    shell.write("asked.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    version = str(VERSIONS[kind])
    ran = shell.run(command, "--version", version, "--input", "asked.jsonl", "--format", "jsonl")
    os.chdir(here)
    assert ran.exit_code == 0, ran.stderr
    return [json.loads(line) for line in ran.stdout.splitlines()]


@pytest.mark.parametrize(
    ("command", "kind", "column", "values"),
    [
        ("generate", "plain", "prompt", PROMPTS),
        ("generate", "plain", "text", PROMPTS),
        ("generate", "chat", "prompt", PROMPTS),
        ("generate", "chat", "messages", [TALK, TALK[1:], [*TALK, {"role": "assistant", "content": "There."}]]),
        ("predict", "classifier", "text", PROMPTS),
        ("predict", "several", "text", PROMPTS),
        ("predict", "regression", "text", PROMPTS),
    ],
)
def test_the_answers_are_those_of_the_command(
    command: str, kind: str, column: str, values: list[Any], elsewhere: Shell
) -> None:
    frame = pd.DataFrame({column: values, "other": range(len(values))}, index=range(10, 10 + len(values)))
    answers = load(kind).predict(frame)
    wanted = by_command(elsewhere, command, kind, [{column: value} for value in values])
    assert list(answers.index) == list(frame.index)
    assert list(answers["error"]) == [None] * len(values)
    for name in answers.columns.drop("error"):
        assert list(answers[name]) == [row[name] for row in wanted]


def test_a_predicting_model_takes_the_column_prompt_too(elsewhere: Shell) -> None:
    model = mlflow.pyfunc.load_model(f"models:/{MODEL}@champion")
    texts, prompts = (model.predict(pd.DataFrame({name: PROMPTS})) for name in ("text", "prompt"))
    pd.testing.assert_frame_equal(texts, prompts)


def test_a_single_prompt_is_answered_as_on_the_command_line(elsewhere: Shell) -> None:
    answer = load("plain").predict(pd.DataFrame({"prompt": ["a\nb"]}))["answer"][0]
    os.chdir(elsewhere.root)
    assert elsewhere.run("generate", "--version", str(VERSIONS["plain"]), "a\\nb").stdout == f"{answer}\n"


def test_conversations_of_arrays_are_those_of_lists(elsewhere: Shell) -> None:
    model = load("chat")
    arrays = pd.DataFrame({"messages": [np.array(TALK, dtype=object), json.dumps(TALK)]})
    assert list(model.predict(arrays)["answer"]) == [model.predict(pd.DataFrame({"messages": [TALK]}))["answer"][0]] * 2


def test_a_row_that_cannot_be_used_has_the_reason_and_no_answer(elsewhere: Shell) -> None:
    answers = load("classifier").predict(pd.DataFrame({"text": ["Where?", " ", None]}))
    assert answers["label"].notna().tolist() == [True, False, False]
    assert answers["error"][0] is None
    assert answers["error"][1].startswith("empty: ")
    assert answers["error"][2]


def test_the_length_of_an_answer_can_be_set(elsewhere: Shell) -> None:
    model, frame = load("plain"), pd.DataFrame({"prompt": ["Where is it?"]})
    whole, short = model.predict(frame)["answer"][0], model.predict(frame, params={"max_new_tokens": 1})["answer"][0]
    assert len(short) < len(whole)
    assert whole.startswith(short)
    with pytest.raises(MlflowException, match="leaves no room for a prompt"):
        model.predict(frame, params={"max_new_tokens": 64})


@pytest.mark.parametrize(
    ("kind", "frame", "message"),
    [
        ("plain", pd.DataFrame({"question": ["a"]}), "the input has no column prompt or text; name the column that"),
        ("plain", pd.DataFrame({"prompt": ["a"], "text": ["b"]}), "has the columns prompt and text; keep only"),
        ("plain", pd.DataFrame({"prompt": pd.Series([], dtype=str)}), "the input has no rows; give at least one"),
        ("plain", pd.DataFrame({"prompt": ["a", 2]}), "row 2 of the input: prompt is int, not text; convert the"),
        ("plain", pd.DataFrame({"prompt": ["a", b"b"]}), "row 2 of the input: prompt is bytes, not text; convert"),
        ("classifier", pd.DataFrame({"text": ["", " "]}), "none of the 2 rows can be used: empty: "),
        ("chat", pd.DataFrame({"messages": [[]]}), "the only row of the frame cannot be used: "),
    ],
)
def test_a_refusal_is_one_sentence(kind: str, frame: pd.DataFrame, message: str, elsewhere: Shell) -> None:
    with pytest.raises(MlflowException, match=message) as caught:
        load(kind).predict(frame)
    assert "\n" not in caught.value.message


def test_mlflow_itself_refuses_a_column_of_numbers(elsewhere: Shell) -> None:
    with pytest.raises(MlflowException, match="Incompatible input types for column prompt"):
        load("plain").predict(pd.DataFrame({"prompt": [1, 2]}))


def test_a_lone_surrogate_is_refused(elsewhere: Shell) -> None:
    """MLflow itself refuses it first, with pandas' error."""
    model = load("classifier")._model_impl
    with pytest.raises(MlflowException, match=r"has a text with the lone surrogate '\\ud800', which is not Unicode"):
        model.predict(pd.DataFrame({"text": ["\ud800"]}, dtype=object))


def test_a_scoring_server_answers_and_refuses(elsewhere: Shell) -> None:
    client = TestClient(scoring_server.init(load("classifier")))
    asked = {"dataframe_split": {"columns": ["text"], "data": [["Where is my parcel?"], [""]]}}
    first, second = client.post("/invocations", json=asked).json()["predictions"]
    assert first["label"] in ("refund", "delivery", "praise")
    assert first["error"] is None
    assert second["label"] is None
    lines = client.post("/invocations", content="text\nWhere is my parcel?\n12\n", headers={"Content-Type": "text/csv"})
    assert lines.json()["predictions"][0] == first
    assert lines.json()["predictions"][1]["error"] is None
    talk = TestClient(scoring_server.init(load("chat")))
    answer = load("chat").predict(pd.DataFrame({"messages": [TALK]}))["answer"][0]
    for given in ({"inputs": [{"messages": TALK}]}, {"dataframe_records": [{"messages": TALK}]}):
        assert talk.post("/invocations", json=given).json()["predictions"] == [{"answer": answer, "error": None}]
    refused = client.post("/invocations", json={"dataframe_records": [{"review": "a"}]})
    assert refused.status_code == 400
    assert "the input has no column text or prompt" in refused.json()["message"]


@pytest.mark.parametrize("kind", VERSIONS)
def test_mlflow_reads_flavour_signature_and_example(kind: str, elsewhere: Shell) -> None:
    folder = Path(mlflow.artifacts.download_artifacts(f"models:/{MODEL}/{VERSIONS[kind]}"))
    assert f"  python_function:\n    loader_module: {mlmodel.LOADER}\n" in (folder / MLMODEL).read_text()
    read = Model.load(str(folder / MLMODEL))
    assert read.flavors["python_function"]["loader_module"] == "tuneline.pyfunc"
    assert read.signature is not None
    model = load(kind)
    answers = model.predict(model.input_example)
    assert list(answers.columns) == read.signature.outputs.input_names()
    assert answers["error"][0] is None
    assert not [path for path in folder.rglob("*") if path.suffix in (".py", ".pkl", ".bin")]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("model.safetensors", "model.safetensors has the sha256 [0-9a-f]{12}… instead of"),
        ("config.json", "config.json has the sha256"),
        ("params.yaml", "params.yaml has the sha256"),
        ("-tokenizer.json", "tokenizer.json is missing"),
        ("+adapter_config.json", "adapter_config.json was added"),
        ("+deep/weights.pkl", "deep/weights.pkl was added"),
        ("-MLmodel", "MLmodel does not name the files"),
    ],
)
def test_changed_files_are_refused(change: str, reason: str, elsewhere: Shell, tmp_path: Path) -> None:
    from tuneline import pyfunc

    folder = tmp_path / "copy"
    shutil.copytree(mlflow.artifacts.download_artifacts(f"models:/{MODEL}/1"), folder)
    path = folder / change.lstrip("+-")
    if change.startswith("-"):
        path.unlink()
    elif change.startswith("+"):
        path.parent.mkdir(exist_ok=True)
        path.write_text("{}")
    else:
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)
    with pytest.raises(BrokenVersionError, match=reason):
        pyfunc._load_pyfunc(str(folder))


def test_with_public_keys_only_what_they_have_signed_is_loaded(
    elsewhere: Shell, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tuneline import pyfunc

    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
    keys.create("ada")
    key = keys.signing_key()
    assert key
    folder = tmp_path / "copy"
    shutil.copytree(mlflow.artifacts.download_artifacts(f"models:/{MODEL}/1"), folder)
    monkeypatch.setenv(pyfunc.PUBLIC_KEYS, str(tmp_path / "none"))
    with pytest.raises(SignatureError, match="does not exist; name the file of a public key"):
        pyfunc._load_pyfunc(str(folder))
    monkeypatch.setenv(pyfunc.PUBLIC_KEYS, os.pathsep)
    with pytest.raises(SignatureError, match="TUNELINE_PUBLIC_KEYS=:: names no public key"):
        pyfunc._load_pyfunc(str(folder))
    monkeypatch.setenv(pyfunc.PUBLIC_KEYS, str(keys.TRUSTED.absolute()))
    with pytest.raises(SignatureError, match="is not signed"):
        pyfunc._load_pyfunc(str(folder))
    signatures.sign(folder, key)
    assert pyfunc._load_pyfunc(str(folder))
    # The digests in MLmodel can be exchanged with the files, and the signature cannot.
    mlmodel_file = folder / MLMODEL
    mlmodel_file.write_text(mlmodel_file.read_text() + "\n")
    with pytest.raises(SignatureError, match="MLmodel: was changed since it was signed"):
        pyfunc._load_pyfunc(str(folder))


def test_descriptions_that_were_written_later_are_no_change(elsewhere: Shell, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(mlflow.artifacts.download_artifacts(f"models:/{MODEL}/1"), folder)
    for name in {*version_files.DESCRIPTIONS} - {MLMODEL}:
        (folder / name).write_text("{}")
    mlmodel.check_files(folder)


def test_loading_leaves_the_version_sound(shell: Shell) -> None:
    """MLflow writes a file into the folder in its own store."""
    tracker = tracking.connect()
    folder = tracker.local_folder(MODEL, "1")
    assert folder is not None
    mlflow.pyfunc.load_model(f"models:/{MODEL}/1")
    assert (folder / version_files.ADDED_BY_MLFLOW[0]).is_file()
    assert versions.find_damage(tracker, MODEL, "1") is None
    assert versions.registered_sha256(tracker, MODEL, "1") != files.sha256_path(folder)
