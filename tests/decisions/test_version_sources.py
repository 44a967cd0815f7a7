"""What is missing of all that a version was made from is said with the remedy."""

import shutil
from pathlib import Path

import pytest
from source_project import run

from tuneline import git, params
from tuneline.decisions import source_commit, sources
from tuneline.params import Params
from tuneline.pipeline import graph
from tuneline.registry import version_files, versions
from tuneline.registry.lineage import Lineage
from tuneline.registry.runs import Dataset
from tuneline.registry.tracking import NewVersion, Tracker


@pytest.fixture
def p(origin: Lineage, tmp_path: Path) -> Params:
    shutil.rmtree("work/hooks")
    text = Path("params.yaml").read_text()
    assert text.count("model: docstring-writer") == 1
    return params.load()


def registered(tracker: Tracker, p: Params, origin: Lineage, tags: dict[str, str]) -> str:
    """The number of a version of the model with these tags."""
    finetuned, reports = Path(p.paths.finetuned), Path(p.paths.reports)
    for path in (finetuned / "config.json", reports / "index.html"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    subject = versions.training_subject(
        p, fingerprint=p.registry.model, data_sha256="b", base_sha256="c", git={"git_commit": "2", "git_dirty": "false"}
    )
    run_id = tracker.ensure_run(subject, [])
    return tracker.create_version(
        NewVersion(
            model=p.registry.model,
            run_id=run_id,
            folder=finetuned,
            sha256=version_files.sha256(finetuned),
            tags=origin.tags() | tags,
            metrics={},
            dataset=Dataset("clean", "b", p.paths.clean, "test"),
            describe=lambda _: "a version",
        )
    )


def test_what_a_version_lacks_is_told_and_a_missing_ref_is_added(
    tracker: Tracker, p: Params, origin: Lineage, tmp_path: Path
) -> None:
    p = p.model_copy(update={"registry": p.registry.model_copy(update={"model": f"m-{tmp_path.name}"})})
    model = p.registry.model
    commit = source_commit.make(p, origin)
    first = registered(tracker, p, origin, {source_commit.TAG: commit})
    # A kill came before the ref was set.
    (unkept,) = sources.problems(p, tracker, first)
    assert unkept.endswith(f"git update-ref {source_commit.ref_name(model, first)} {commit}")
    assert source_commit.keep(tracker, model) == []
    assert git.refs_below(source_commit.REFS) == {source_commit.ref_name(model, first): commit}
    assert sources.problems(p, tracker, first) == []
    assert source_commit.keep(tracker, model) == []

    lost = registered(tracker, p, origin, {source_commit.TAG: "1" * 40})
    assert "is not in this clone; fetch it with: .venv/bin/tuneline pull" in sources.problems(p, tracker, lost)[0]
    forged = registered(tracker, p, origin, {source_commit.TAG: "--output=x"})
    assert "is not a sha of git ('--output=x')" in sources.problems(p, tracker, forged)[0]
    early = registered(tracker, p, origin, {})
    assert "it was registered before its sources were kept in git" in sources.problems(p, tracker, early)[0]
    assert source_commit.keep(tracker, model) == []
    assert len(git.refs_below(source_commit.REFS)) == 1

    blob = run("rev-parse", f"{commit}:src/tuneline/code.py")
    Path(f".git/objects/{blob[:2]}/{blob[2:]}").unlink()
    assert f"1 of its objects are missing ({blob})" in sources.problems(p, tracker, first)[0]


def test_a_commit_with_other_params_is_not_that_of_the_version(p: Params, origin: Lineage) -> None:
    commit = source_commit.make(p, origin)
    tags = origin.tags() | {source_commit.TAG: commit}
    assert sources.find(tags, "ref").commit == commit
    for name in ("params", "dvc_lock", "environment"):
        with pytest.raises(Exception, match=r"and the version was registered with 000000000000…"):
            sources.find(tags | {f"tuneline.{name}_sha256": "0" * 64}, "ref")


@pytest.mark.parametrize("content", ["stages: [", "- 1", "stages: {}\n", "", "stages: 3"])
def test_a_graph_that_cannot_be_read_is_told(p: Params, origin: Lineage, content: str) -> None:
    Path("dvc.yaml").write_text(content)
    tags = origin.tags() | {source_commit.TAG: source_commit.make(p, origin)}
    with pytest.raises(sources.PipelineError, match=r"dvc\.yaml"):
        sources.find(tags, "ref")


def test_files_of_dvc_with_another_shape_are_told(origin: Lineage) -> None:
    """A commit that came from another clone may hold anything."""
    whole = {name: Path(name).read_text() for name in ("dvc.yaml", "dvc.lock", "params.yaml")}
    last = list(graph.read_stages())[-1]
    for name, content in (
        ("dvc.lock", f"stages: {{{last}: [1]}}"),
        ("dvc.lock", f"stages: {{{last}: {{deps: [1]}}}}"),
        ("dvc.lock", f"stages: {{{last}: {{outs: 3}}}}"),
        ("dvc.lock", f"stages: {{{last}: {{deps: [{{}}]}}}}"),
        ("dvc.lock", f"stages: {{{last}: {{outs: [{{path: a, hash: md5, md5: {'1' * 32}}}]}}}}"),
        ("dvc.yaml", "stages: {a: 1}"),
        ("dvc.yaml", "stages: {a: {metrics: [{'${no.such}': {cache: false}}]}}"),
        ("params.yaml", "paths: 3"),
        ("params.yaml", "base: 3"),
    ):
        Path(name).write_text(content)
        run("add", "--force", *whole)
        run("commit", "--quiet", "--message", "work")
        commit = git.ask("rev-parse", "HEAD")
        with pytest.raises(sources.PipelineError, match=r"as DVC and tuneline write it"):
            sources.Source(commit, sources.read(commit)).downloaded_base()
        Path(name).write_text(whole[name])
