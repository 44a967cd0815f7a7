"""What is wrong with a history, from its runs as literal values."""

from dataclasses import replace

import pytest

from tuneline.registry import chain, history
from tuneline.registry.chain import Chain, Entry, Head
from tuneline.registry.history import History
from tuneline.registry.runs import LogExperiment, LogRun

STEPS = ((None, "1"), ("1", "2"), ("2", "3"), ("3", "1"))


def made() -> list[LogRun]:
    """The run that starts a history, and the runs of four entries."""
    runs, previous = [LogRun("r0", {"start": "here"}, {}, False, 0.0)], ""
    for number, (before, after) in enumerate(STEPS, 1):
        values = {"number": str(number), "time": f"2026-10-0{number}", "action": "verified", "alias": "champion"}
        values |= {"from": before or "", "to": after or "", "previous": previous}
        values = {key: value for key, value in values.items() if value}
        previous = chain.content_digest(values)
        runs[-1] = replace(runs[-1], params={**runs[-1].params, "next": f"r{number} {previous}"})
        runs.append(LogRun(f"r{number}", {**values, "sha256": previous}, {}, False, float(number)))
    return runs


def head(runs: list[LogRun], number: int) -> Head:
    return Head(number, runs[number].params["sha256"], "the registered model writer")


def texts(found: Chain) -> list[str]:
    return [problem.text for problem in found.problems]


def edited(run: LogRun, **values: str) -> LogRun:
    return replace(run, params={**run.params, **values})


def test_a_sound_chain_has_no_problem() -> None:
    runs = made()
    found = chain.walk(list(reversed(runs)), [head(runs, 4), head(runs, 2)])
    assert [(entry.number, entry.before, entry.after) for entry in found.entries] == [
        (1, None, "1"),
        (2, "1", "2"),
        (3, "2", "3"),
        (4, "3", "1"),
    ]
    assert (found.problems, found.unfinished, found.end) == ([], [], runs[4])


@pytest.mark.parametrize("values", [{"to": "9"}, {"who": "nobody"}, {"time": "2020"}, {"previous": "0"}, {"new": "1"}])
def test_an_edited_entry_is_named(values: dict[str, str]) -> None:
    runs = made()
    runs[2] = edited(runs[2], **values)
    [told] = texts(chain.walk(runs))
    assert told.startswith("entry 2 was edited in MLflow's store")
    # With the matching digest it is not what entry 1 says about entry 2.
    runs[2] = edited(runs[2], sha256=chain.content_digest(runs[2].params))
    assert texts(chain.walk(runs))[0].startswith("entry 2 was edited in MLflow's store")
    # With the matching digest there too, it is not what entry 3 or a tag says.
    runs[1] = edited(runs[1], next=f"r2 {runs[2].params['sha256']}")
    assert any(text.startswith("entry 3 does not follow this entry 2") for text in texts(chain.walk(runs)))
    replaced = "entry 2 was replaced, or the tag of the registered model writer was edited"
    assert any(text.startswith(replaced) for text in texts(chain.walk(runs, [head(made(), 2)])))


def test_a_deleted_entry_is_named_and_read_all_the_same() -> None:
    runs = made()
    runs[3] = replace(runs[3], is_deleted=True)
    found = chain.walk(runs)
    assert len(found.entries) == 4
    assert [(problem.text[:34], problem.deleted_run) for problem in found.problems] == [
        ("entry 3 was deleted in MLflow (run", "r3")
    ]


@pytest.mark.parametrize(
    ("gone", "told"),
    [
        ([1], "entry 1 is gone"),
        ([0, 1], "entry 1 is gone"),
        ([2], "entry 2 is gone"),
        ([2, 3], "entries 2 to 3 are gone"),
        ([4], "entry 4 is gone"),
        ([1, 2, 3, 4], "entries 1 to 4 are gone"),
        ([0, 1, 2, 3, 4], "entries 1 to 4 are gone"),
    ],
)
def test_an_entry_that_is_gone_is_named_and_the_rest_is_read(gone: list[int], told: str) -> None:
    runs = made()
    left = [run for number, run in enumerate(runs) if number not in gone]
    found = chain.walk(left, [head(runs, 4)])
    [problem] = texts(found)
    assert problem.startswith(told)
    assert [entry.number for entry in found.entries] == [number for number in range(1, 5) if number not in gone]
    # The next entry is chained to the last that is known.
    assert (found.number, found.sha256) == (4, runs[4].params["sha256"])
    assert found.end == (left[-1] if left else None)


def test_entries_exchanged_in_the_store_are_named() -> None:
    runs = made()
    runs[1] = edited(runs[1], next=runs[2].params["next"])
    runs[3] = edited(runs[3], next=f"r2 {runs[2].params['sha256']}")
    runs[2] = edited(runs[2], next=f"r4 {runs[4].params['sha256']}")
    assert [text.split(":")[0].split(",")[0] for text in texts(chain.walk(runs))] == [
        "entry 2 is gone",
        "entry 2 stands after entry 3",
        "entry 3 is gone",
    ]


def test_a_circle_of_entries_ends() -> None:
    runs = made()
    runs[4] = edited(runs[4], next=f"r2 {runs[2].params['sha256']}")
    assert texts(chain.walk(runs))[0].startswith("entry 5 is gone")


def test_what_a_person_adds_to_the_experiment_is_no_entry() -> None:
    runs = made()
    copy = replace(runs[4], id="copy")
    invented = edited(replace(runs[4], id="invented"), number="5", to="9", next="nowhere")
    found = chain.walk([*runs, copy, LogRun("other", {}, {}, False, 9.0)], [head(runs, 4)])
    assert (len(found.entries), found.problems) == (4, [])
    assert [run.id for run in found.unfinished] == ["copy", "other"]
    assert len(chain.walk([*runs, invented], [head(runs, 4)]).entries) == 4


def test_a_history_that_somebody_put_beside_the_real_one_is_named() -> None:
    runs, other = made(), [replace(run, id=f"x{run.id}", began=-1.0) for run in made()[:4]]
    for number in range(3):
        values = dict(other[number].params, next=f"x{other[number].params['next']}")
        other[number] = replace(other[number], params=values)
    for both in ([*runs, *other], [*other, *runs]):
        told = texts(chain.walk(both, [head(runs, 4)]))
        assert any("claims to be the start of this history" in text for text in told)
        assert any("this history has another entry in its place" in text for text in told)


@pytest.mark.parametrize("number", ["9" * 5000, "9" * 12, "1٣"])
def test_a_number_that_no_history_reaches_does_not_stop_the_next_entry(number: str) -> None:
    runs = made()
    values = {**runs[4].params, "number": number, "next": "x x"}
    foreign = replace(runs[4], id="foreign", params={**values, "sha256": chain.content_digest(values)})
    runs[4] = edited(runs[4], next=f"foreign {foreign.params['sha256']}")
    found = chain.walk([*runs, foreign])
    assert found.problems
    assert found.number in (5, 6)


def test_a_tag_with_a_number_that_no_history_reaches_is_a_problem_and_not_used() -> None:
    found = chain.walk(made(), [Head(10**12, "x", "version 1")])
    assert texts(found) == [
        "the tag of version 1 names an entry 1000000000000, which this history cannot have: it was edited in MLflow; "
        f"{chain.REMEDY}"
    ]
    assert found.number == 4


@pytest.mark.parametrize("param", ["evidence", "accepts"])
def test_a_param_that_nests_too_deep_says_nothing(param: str) -> None:
    runs = made()
    runs[4] = edited(runs[4], **{param: "[" * 5900})
    found = chain.walk(runs)
    assert texts(found)[0].startswith("entry 4 was edited")
    assert (found.entries[3].evidence, found.entries[3].accepts) == ({}, ())


@pytest.mark.parametrize(
    ("taken", "free"),
    [((), "next"), (("next",), "next.2"), (("next.2",), "next"), (("next", "next.3"), "next.2"), (("next.0",), "next")],
)
def test_a_link_that_somebody_wrote_does_not_stop_the_next_entry(taken: tuple[str, ...], free: str) -> None:
    runs = made()
    runs[4] = edited(runs[4], **dict.fromkeys(taken, "somewhere else"))
    assert chain.free_link(runs[4]) == free
    assert len(chain.walk(runs).entries) == 4


def test_a_deleted_experiment_is_one_problem() -> None:
    runs = [replace(run, is_deleted=True) for run in made()]
    [told] = texts(chain.walk(runs, [], LogExperiment("7", "writer-history", is_deleted=True)))
    assert told.startswith("the experiment writer-history, which holds the history, was deleted in MLflow")


def past(*steps: tuple[str, str | None, str | None]) -> History:
    entries = [
        Entry(number, f"2026-10-0{number}T00:00", action, "champion", before, after, "me", "", {}, "", "")
        for number, (action, before, after) in enumerate(steps, 1)
    ]
    return History(tuple(entries))


def test_who_had_the_alias_when() -> None:
    found = past(
        ("verified", None, "1"),
        ("moved", "1", "2"),
        ("undone", "2", "1"),
        ("reproduced", None, "9"),
        ("overridden", "1", "3"),
        ("rolled back", "3", "1"),
        ("removed", "1", None),
    )
    standings = [history.champion_at(found, "champion", f"2026-10-0{day}T00:00") for day in range(1, 8)]
    assert [(one.version, one.state) for one in standings] == [
        ("1", "verified"),
        ("2", "moved"),
        ("1", "undone"),
        ("1", "undone"),
        ("3", "overridden"),
        ("1", "rolled back"),
        (None, "removed"),
    ]
    assert history.champion_at(found, "champion", "2020").entry is None
    assert history.champion_at(found, "challenger", "2030").entry is None


def test_the_last_verified_version_is_the_one_that_was_kept() -> None:
    steps = [("verified", None, "1"), ("moved", "1", "2"), ("undone", "2", "1"), ("overridden", "1", "3")]
    kept = [history.last_verified(past(*steps[:count]), "champion") for count in range(5)]
    assert kept == [None, "1", "1", "1", "3"]
    assert history.last_verified(past(*steps, ("removed", "3", None)), "champion") is None
    assert history.last_verified(past(*steps), "challenger") is None


def test_a_rollback_takes_away_what_came_after() -> None:
    three = [("verified", None, "1"), ("verified", "1", "2"), ("verified", "2", "3")]
    assert history.earlier_versions(past(), "champion") == []
    assert history.earlier_versions(past(*three), "champion") == ["1", "2"]
    assert history.earlier_versions(past(*three, ("rolled back", "3", "2")), "champion") == ["1"]
    assert history.earlier_versions(past(*three, ("rolled back", "3", "1")), "champion") == []
    # After the alias was removed, a rollback brings back the last version that had it.
    assert history.earlier_versions(past(*three, ("removed", "3", None)), "champion") == ["1", "2", "3"]
