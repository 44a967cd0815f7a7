"""What a model was made from, according to the files of DVC in a commit."""

from typing import Any

from tuneline.pipeline.graph import Output, Recorded

VALUES = {
    "paths": {"clean": "data/clean", "finetuned": "models/finetuned", "reports": "reports"},
    "data": {"raw": "raw"},
}


def entry(path: str, md5: str = "a" * 32) -> dict[str, Any]:
    return {"path": path, "hash": "md5", "md5": md5}


def recorded(locked: dict[str, Any], pointers: dict[str, Any] | None = None, in_git: tuple[str, ...] = ()) -> Recorded:
    stages = {
        "sample": {"outs": ["data/raw/sample"]},
        "prepare": {"deps": ["${data.raw}", "data/mixture"], "outs": ["${paths.clean}"]},
        "finetune": {
            "deps": ["${paths.clean}", "src/code"],
            "outs": ["${paths.finetuned}"],
            "metrics": [{"${paths.reports}/metrics.json": {"cache": False}}],
        },
    }
    return Recorded(stages, locked, VALUES, pointers or {}, in_git)


LOCKED = {
    "prepare": {
        "deps": [entry("data/raw/mine", "1" * 32 + ".dir"), entry("data/mixture"), entry("src/data")],
        "outs": [entry("data/clean")],
    },
    "finetune": {
        "deps": [entry("data/clean"), entry("src/code")],
        "outs": [entry("models/finetuned"), entry("reports/metrics.json")],
    },
}
IN_GIT = ("src/code/a.py", "src/data/b.py", "data/mixture/README.md", "dvc.lock")


def test_a_set_under_dvc_is_an_input_and_what_git_holds_is_not() -> None:
    pointers = {
        "data/raw/mine.dvc": {"outs": [entry("mine", "2" * 32 + ".dir")]},
        "data/raw/other.dvc": {"outs": [entry("other")]},
        "data/mixture/more.dvc": {"outs": [entry("more", "3" * 32)]},
    }
    found = recorded(LOCKED, pointers, IN_GIT)
    assert found.stage_names() == ["prepare", "finetune"]
    assert found.inputs() == [
        Output("data/raw/mine", "2" * 32 + ".dir", "data/raw/mine.dvc"),
        Output("data/mixture/more", "3" * 32, "data/mixture/more.dvc"),
    ]
    assert [(one.path, one.is_cached) for one in found.outputs()] == [
        ("data/clean", True),
        ("models/finetuned", True),
        ("reports/metrics.json", False),
    ]


def test_a_set_without_a_dvc_file_is_known_by_what_dvc_lock_says_of_it() -> None:
    assert recorded(LOCKED, {}, IN_GIT).inputs() == [Output("data/raw/mine", "1" * 32 + ".dir", "prepare")]


def test_the_output_of_a_stage_is_no_input() -> None:
    locked = {
        **LOCKED,
        "sample": {"outs": [entry("data/raw/sample")]},
        "prepare": {**LOCKED["prepare"], "deps": [entry("data/raw/sample")]},
    }
    found = recorded(locked, {}, IN_GIT)
    assert found.stage_names() == ["sample", "prepare", "finetune"]
    assert found.inputs() == []
