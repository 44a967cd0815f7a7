"""What a search cannot be started with is said before anything runs."""

import socket
from pathlib import Path

import pytest

from tuneline import params
from tuneline.core import files
from tuneline.errors import ParamsError, SetupError, UnreadableFileError
from tuneline.params import Params, editing
from tuneline.search import options, record, space
from tuneline.search.options import Options
from tuneline.search.record import Record


@pytest.fixture
def p(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, params_text: str) -> Params:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(options, "find_spec", lambda name: object())
    Path("params.yaml").write_text(params_text, "utf-8")
    return params.load()


def test_a_missing_library_is_one_sentence_with_the_command(p: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(options, "find_spec", lambda name: None)
    with pytest.raises(SetupError) as raised:
        Options(20).check(p)
    assert raised.value.problems == (
        "Optuna and Prefect's runner for Dask are not installed; a search needs them: make setup EXTRAS=search",
    )


@pytest.mark.parametrize("name", ["", "../other", "A", "a b", "-a", "a" * 41])
def test_a_name_that_could_be_a_path_is_refused(p: Params, name: str) -> None:
    with pytest.raises(ParamsError, match="must be lower-case letters"):
        Options(20, name=name).check(p)


@pytest.mark.parametrize(
    "address",
    [
        *("host", "tcp://host", "http://host:1", "tcp://host:x", "file:///etc/passwd", "tcp://host name:8786"),
        # No name of a host: a part is too long or empty, the bracket has no end, and the sign stands for `a/b`.
        *(f"tcp://{'x' * 64}:8786", "tcp://a..b:8786", "tcp://[::1:8786", "tcp://a\u2100b:8786", "tcp://xn--a\u0301:1"),
    ],
)
def test_an_address_that_is_not_a_cluster_is_refused(p: Params, address: str) -> None:
    with pytest.raises(ParamsError, match="must be the address of a Dask cluster"):
        Options(20, scheduler=address).check(p)


def test_a_cluster_that_does_not_answer_is_named(p: Params) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(SetupError, match=r"does not answer .* start it with: dask scheduler"):
            Options(20, scheduler=address).check(p)


def test_trials_do_not_share_a_gpu(p: Params) -> None:
    editing.set_values(Path("params.yaml"), {"compute.device": "cuda"})
    with pytest.raises(ParamsError, match="would share the GPU"):
        Options(20, workers=2).check(params.load())


def test_another_space_is_refused_with_the_keys_that_differ(p: Params) -> None:
    Path("data").mkdir()
    space.FILE.write_text("seed: 1\nspace:\n  finetune.learning_rate: {low: 0.001, high: 0.01}\n", "utf-8")
    begun = Record("search", "h", "s", "i", space.read(p).model_dump(), {})
    space.FILE.write_text("seed: 2\nspace:\n  finetune.learning_rate: {low: 0.001, high: 0.02}\n", "utf-8")
    with pytest.raises(ParamsError) as raised:
        record.check_space(begun, space.read(p))
    (problem,) = raised.value.problems
    assert "was begun with another space (finetune.learning_rate, seed); restore it, or begin a new one" in problem


def test_without_a_search_there_is_nothing_to_apply(p: Params) -> None:
    Path("data").mkdir()
    space.FILE.write_text("space:\n  finetune.learning_rate: {low: 0.001, high: 0.01}\n", "utf-8")
    with pytest.raises(ParamsError, match="has no trial that ended; run: tuneline search --trials 20"):
        options.apply_best(Options(0), p, space.read(p))


@pytest.mark.parametrize(
    "changed",
    [{"evil": 1}, {"name": "../x"}, {"head": "--help"}, {"space": [1]}, {"space": {}}, {"default": 3}, {"is_begun": 2}],
)
def test_a_record_that_no_search_has_written_is_one_sentence(p: Params, changed: dict[str, object]) -> None:
    Path("data").mkdir()
    space.FILE.write_text("space:\n  finetune.learning_rate: {low: 0.001, high: 0.01}\n", "utf-8")
    commits = {"head": 40 * "a", "snapshot": 40 * "b"}
    whole = {"name": "search", **commits, "identity": "i", "space": space.read(p).model_dump(), "default": {}}
    files.write_json(Path("work/search/search/search.json"), whole)
    assert record.read("search") is not None
    files.write_json(Path("work/search/search/search.json"), whole | changed)
    with pytest.raises(UnreadableFileError, match="is not what the search 'search' has written; begin it anew with"):
        record.read("search")
